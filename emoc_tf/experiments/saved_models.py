"""Runs that start from a model in a file."""

from emoc_tf.config import ExplorationConfig
from emoc_tf.data import named
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.exploration.drawing import distinct
from emoc_tf.models.files import load_model


def outputs(path: str) -> int:
    """Returns how many classes a model knows.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no model.
    """
    return load_model(path)[0].output_shape[-1]


def environment(path: str, config: ExplorationConfig) -> ActiveExplorationEnv:
    """Returns an environment in which episodes start from a model in a file.

    Args:
        path: Of the model, with the names of its classes beside it as `save_model` writes them.
        config: With `known_classes` as many as the model has.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no model, nobody tells its classes, or they are not the data set's.
    """
    model, names = load_model(path)
    if names is None:
        raise ValueError(
            f"model: expected the names of its classes beside {path}, got no such file; "
            f"emoc_tf.models.save_model writes both"
        )
    if len(names) != config.known_classes:
        raise ValueError(
            f"known_classes: expected {len(names)}, the classes of {path}, got "
            f"{config.known_classes}; it may be left out"
        )
    train, _ = named.load(config.dataset, config.data_dir)
    ids = {name: class_id for class_id, name in enumerate(distinct(train.class_names))}
    missing = [name for name in names if name not in ids]
    if missing:
        raise ValueError(
            f"model: expected one whose classes {config.dataset!r} has, got {path} with {missing}"
        )
    return ActiveExplorationEnv(config, model=model, model_classes=[ids[name] for name in names])
