"""A query policy that was learnt by acting: one small network scores each set by its features."""

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from emoc_tf.agents.agent import Agent
from emoc_tf.exploration.state import ExplorationState
from emoc_tf.models import forward

# Trained with the command in results/learned/README.md.
DEFAULT_PATH = Path(__file__).parent / "learned.keras"
_LARGEST = 5.0
_LARGEST_FILE = 2**24  # bytes; the network that comes with the package has 2**15
_MOST_UNITS = 4096  # of a layer or an input
# What a file may name; Keras would build, and run, whatever it names.
_ALLOWED = {
    "keras": {"DTypePolicy", "Functional", "Sequential"},
    "keras.src.models.functional": {"Functional"},
    "keras.layers": {"InputLayer", "Dense", "Reshape"},
    "keras.initializers": {
        "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "LecunNormal", "LecunUniform",
        "Ones", "RandomNormal", "RandomUniform", "TruncatedNormal", "Zeros",
    },
    "keras.regularizers": {"L1", "L2", "L1L2"},
    None: {"__keras_tensor__"},
}  # fmt: skip


def set_inputs(observation: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns what the network sees of each candidate set.

    Args:
        observation: Of the environment, with F features a set and P numbers of progress.

    Returns:
        (M, 2F + P) float32: the set's features; the same standardised over the sets that may be
        chosen, in [−5, 5]; and the progress. Rows of other sets are 0. Any number of sets will
        do, and their order makes no difference.
    """
    features, progress = observation["set_features"], observation["progress"]
    possible = observation["action_mask"].astype(bool)
    inputs = np.zeros((len(features), 2 * features.shape[1] + len(progress)), np.float32)
    if possible.any():
        shown = features[possible].astype(np.float64)
        # Where all sets are alike up to rounding, 0 is what is left of their differences.
        spread = np.maximum(shown.std(axis=0), 1e-4)
        relative = np.clip((shown - shown.mean(axis=0)) / spread, -_LARGEST, _LARGEST)
        rows = np.broadcast_to(progress, (len(shown), len(progress)))
        inputs[possible] = np.concatenate([shown, relative, rows], axis=1)
    return inputs


def build_network(num_inputs: int, seed: int = 0) -> keras.Model:
    """Returns a new network, (n, num_inputs) to (n,) scores; at first all scores are 0.

    Args:
        num_inputs: Columns of `set_inputs`.
        seed: Of the initial weights.
    """
    layers, settings = keras.layers, {"dtype": "float32"}  # whatever Keras is set to
    inputs = keras.Input((num_inputs,), name="set_inputs", dtype="float32")
    x = inputs
    for i in range(2):
        initializer = keras.initializers.GlorotUniform(seed=seed + i)
        x = layers.Dense(
            32, "tanh", kernel_initializer=initializer, name=f"hidden{i + 1}", **settings
        )(x)
    score = layers.Dense(1, kernel_initializer="zeros", name="score", **settings)(x)
    return keras.Model(
        inputs, layers.Reshape((), name="flat", **settings)(score), name="set_scores"
    )


def load_network(path: str | Path) -> keras.Model:
    """Returns a network that was saved as `.keras`.

    Nothing in the file is executed: it may name `Dense` and `Reshape` layers and their parts only.

    Raises:
        ValueError: The file holds something else.
        FileNotFoundError: There is no such file.
    """
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"path: expected a .keras file of a learnt policy, got {path!r}")
    if not Path(path).is_file():
        raise FileNotFoundError(f"path: expected a .keras file of a learnt policy, got {path}")
    try:
        _check_archive(path)
        network = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises what it meets: OSError, KeyError, TypeError, ...
        raise ValueError(
            f"path: expected a .keras file of a learnt policy, got {path} ({error})"
        ) from error
    tensors = (*getattr(network, "inputs", ()), *getattr(network, "outputs", ()))
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if [len(shape) for shape in shapes] != [2, 1]:
        raise ValueError(
            f"path: expected a network of (n, inputs) to (n,) scores, got shapes {shapes} in {path}"
        )
    return network


def _check_archive(path: str | Path) -> None:
    """Raises `ValueError` for an archive of anything but a small network of layers allowed."""
    with zipfile.ZipFile(path) as archive:
        names, size = set(archive.namelist()), sum(e.file_size for e in archive.infolist())
        if names != {"metadata.json", "config.json", "model.weights.h5"} or size > _LARGEST_FILE:
            raise ValueError(f"an archive with {len(names)} files of {size} bytes")
        _check_parts(json.loads(archive.read("config.json")))


def _check_parts(config: Any) -> None:
    """Raises `ValueError` if a configuration names what is not allowed, at any depth."""
    if isinstance(config, dict):
        if "class_name" in config:
            module, name = config.get("module"), config["class_name"]
            own = config.get("registered_name") not in (None, name)
            if own or not isinstance(name, str) or name not in _ALLOWED.get(module, ()):
                raise ValueError(f"it names {name!r} of {module!r}, which no learnt policy needs")
        for key in ("units", "batch_shape", "target_shape"):
            sizes = config.get(key)
            for size in sizes if isinstance(sizes, list) else [sizes]:
                if isinstance(size, int | float) and size > _MOST_UNITS:
                    raise ValueError(f"{key} of {size} is more than {_MOST_UNITS}")
    for part in config.values() if isinstance(config, dict) else config:
        if isinstance(part, dict | list):
            _check_parts(part)


class LearnedAgent(Agent):
    """Chooses the set that a learnt network scores highest; ties are broken at random, seeded.

    Args:
        seed: Breaks ties.
        path: A network that `train_agent` saved; None takes the one that comes with the package,
            learnt on CIFAR-100.

    Raises:
        ValueError: The file holds no such network.
        FileNotFoundError: There is no such file.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.LearnedAgent().act(observation, env.state)
        11
    """

    def __init__(self, seed: int = 0, *, path: str | None = None) -> None:
        super().__init__(seed)
        self._path = DEFAULT_PATH if path is None else path
        network = load_network(self._path)
        self.fingerprint = hashlib.sha256(Path(self._path).read_bytes()).hexdigest()
        self._num_inputs = network.inputs[0].shape[1]
        self._score = forward.compile_forward(network)

    def act(self, observation: Mapping[str, np.ndarray], state: ExplorationState) -> int:
        """Returns the index of the best candidate set.

        Raises:
            ValueError: No set can be chosen, or the network was made for other observations.
        """
        inputs = set_inputs(observation)
        if inputs.shape[1] != self._num_inputs:
            raise ValueError(
                f"path: expected a network of {inputs.shape[1]} inputs for this observation, got "
                f"one of {self._num_inputs} in {self._path}"
            )
        return self.best(self._score(inputs).numpy(), state)
