"""What a model was compiled with, against what it is trained with here."""

import warnings
from typing import Any

import keras

from emoc_tf.config import ExplorationConfig

_LOSSES = (
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    keras.losses.CategoricalCrossentropy(from_logits=True),
)


def warn_of_other_training(model: keras.Model, config: ExplorationConfig) -> None:
    """Warns if a compiled model would be trained otherwise by its own `fit`.

    Weights of classes are given to `fit`, not to `compile`, and cannot be seen here.

    Args:
        model: Compiled or not.
        config: With the optimizer that it is trained by, and its settings.
    """
    if not model.compiled:
        return
    ours, settings = _optimizer(config)
    loss = list(model.loss) if isinstance(model.loss, list | tuple) else [model.loss]
    weights = _loss_weights(model)
    others, ways = [], []
    if not _alike(model.optimizer, ours):
        others.append(f"optimizer {type(model.optimizer).__name__}")
        ways.append("optimizer= and learning_rate= choose another")
    if len(loss) != 1 or not any(_alike(loss[0], each) for each in _LOSSES):
        others.append(f"loss {', '.join(map(_name, loss))}")
    if weights is not None:
        others.append(f"loss_weights {weights}")
    if others:
        ways.append(
            "learner=emoc_tf.models.FitLearner.maker(model.optimizer, loss=...) trains by the "
            "model's own"
        )
        warnings.warn(
            f"model: it was compiled with {' and '.join(others)}, which is not used: it is trained "
            f"with {type(ours).__name__} ({settings}, of the configuration) on the plain "
            f"cross-entropy of its logits; {', '.join(ways)}",
            stacklevel=3,
        )


def warn_of_other_loss(model: keras.Model, stacklevel: int) -> None:
    """Warns if a model was compiled with another loss than the plain cross-entropy of its softmax.

    Whether it was to take logits or what a softmax made of them does not matter. Weights of classes
    are given to `fit`, not to `compile`, and cannot be seen here.

    Args:
        model: Compiled or not.
        stacklevel: Of the caller, as `warnings.warn` counts.
    """
    others = _other_losses(model)
    if others:
        warnings.warn(
            f"model: it was compiled with {' and '.join(others)}, which scores do not use: they "
            f"take the gradient of the plain cross-entropy of its softmax, as with loss="
            f"keras.losses.SparseCategoricalCrossentropy(from_logits=True)",
            stacklevel=stacklevel + 1,
        )


def _other_losses(model: keras.Model) -> list[str]:
    """Returns what of a model's loss is no plain cross-entropy, in words."""
    if not model.compiled or model.loss is None:
        return []
    loss = _flat_loss(model.loss)
    others = [] if len(loss) == 1 and _is_cross_entropy(loss[0]) else [_told(loss)]
    weights = _loss_weights(model)
    return others if weights is None else [*others, f"loss_weights {weights}"]


def _flat_loss(loss: Any) -> list[Any]:
    return [loss] if callable(loss) or isinstance(loss, str) else keras.tree.flatten(loss)


def _is_cross_entropy(loss: Any) -> bool:
    """Whether a loss is the cross-entropy with labels and images as they are, up to its mean."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    if loss in (
        keras.losses.sparse_categorical_crossentropy,
        keras.losses.categorical_crossentropy,
    ):
        return True
    plain = {type(each): each for each in _LOSSES}.get(type(loss))
    if plain is None:
        return False
    # How losses of images are added up, in what, and by whom a softmax is taken, is no matter.
    same = {"name", "from_logits", "reduction", "dtype", "axis", "fn"}
    settings, wanted = loss.get_config(), plain.get_config()
    return all(settings.get(key) == wanted[key] for key in wanted.keys() - same)


def _told(loss: list[Any]) -> str:
    smoothing = [getattr(each, "label_smoothing", 0) for each in loss]
    names = [
        f"{_name(each)} (label_smoothing={amount})" if amount else _name(each)
        for each, amount in zip(loss, smoothing, strict=True)
    ]
    return f"loss {', '.join(names)}"


def _loss_weights(model: keras.Model) -> Any:
    # Not from get_compile_config, which refuses losses that Keras cannot write down.
    return getattr(getattr(model, "_compile_config", None), "config", {}).get("loss_weights")


def _optimizer(config: ExplorationConfig) -> tuple[keras.optimizers.Optimizer, str]:
    """Returns Keras' twin of what is trained with, and its settings in words."""
    rate, momentum, decay = config.learning_rate, config.momentum, config.weight_decay
    told = f"learning_rate={rate}"
    if config.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum), f"{told}, momentum={momentum}"
    if config.optimizer == "adam":
        return keras.optimizers.Adam(rate), told
    return keras.optimizers.AdamW(rate, decay), f"{told}, weight_decay={decay}"


def uncompiled(model: keras.Model) -> keras.Model:
    """Returns a model with one input and one output on the same layers that is not compiled.

    Keras compiles the clone of a compiled model too, and fails where the loss is a function of the
    user's that it cannot read back.
    """
    if not model.compiled:
        return model
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def _alike(one: Any, other: Any) -> bool:
    """Returns whether two optimizers or losses differ in their names at most."""
    if type(one) is not type(other):
        return False
    return {**one.get_config(), "name": ""} == {**other.get_config(), "name": ""}


def _name(loss: Any) -> str:
    return str(getattr(loss, "name", None) or getattr(loss, "__name__", None) or loss)
