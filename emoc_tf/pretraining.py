"""Pretrained weights that the policies of a seed share through a file."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from emoc_tf.config import ExplorationConfig
from emoc_tf.learner import Learner
from emoc_tf.pool import Pool
from emoc_tf.storage import checkpoint
from emoc_tf.storage.provenance import differences, environment


def fingerprint(config: ExplorationConfig, root: int, pool: Pool, learner: Learner) -> str:
    """Returns a hash of all that pretrained weights depend on, besides versions and machine.

    Args:
        config: The settings.
        root: Of the episode.
        pool: Its images, of which the initial ones are labelled.
        learner: With the model before pretraining.
    """
    settings = (
        root, config.pretrain_iterations, config.batch_size, config.learning_rate,
        config.momentum, config.weight_decay,
    )  # fmt: skip
    digest = hashlib.sha256(repr(settings).encode())
    initial = pool.labelled
    for array in (pool.images[initial], pool.labels[initial]):
        digest.update(array.tobytes())
    for variable in learner.model.variables:
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()


def write(path: Path, expected: str, learner: Learner) -> None:
    """Writes the weights with their fingerprint and with what they were made by."""
    made_by = json.dumps(environment())
    arrays = {"fingerprint": np.array(expected), "environment": np.array(made_by)}
    checkpoint.write_arrays(path, arrays | learner.get_arrays())


def read(path: Path, expected: str, learner: Learner, allow_mixed: bool) -> dict[str, Any] | None:
    """Reads weights into the learner.

    Args:
        path: Of a file that `write` wrote.
        expected: The fingerprint of these weights.
        learner: Whose weights and momentum are replaced.
        allow_mixed: Take weights that another version, processor or thread count made.

    Returns:
        The environment that the weights were made in, if it is another one.

    Raises:
        ValueError: The file is broken, belongs to another configuration, data, model or root, or
            was made elsewhere; nothing has changed then.
    """
    mend = "delete it and it is made again"
    try:
        arrays = checkpoint.read_arrays(path)
    except ValueError as error:
        raise ValueError(f"{error}; {mend}") from error
    if str(arrays.pop("fingerprint", "")) != expected:
        raise ValueError(
            f"{path}: expected pretrained weights of this configuration and seed, got others; use "
            f"another output folder"
        )
    made_in = json.loads(str(arrays.pop("environment", "{}")))
    elsewhere = differences(made_in)
    if elsewhere and not allow_mixed:
        raise ValueError(
            f"{path}: expected pretrained weights that were made here, got others "
            f"({'; '.join(elsewhere)}); {mend}, or allow mixed runs"
        )
    learner.set_arrays(arrays)
    return made_in if elsewhere else None
