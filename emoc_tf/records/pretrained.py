"""Pretrained weights in a file, which the policies of a seed share."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emoc_tf.storage import checkpoint
from emoc_tf.storage.provenance import differences, environment


class PretrainedFile:
    """An `.npz` file of pretrained weights: written where there is none, otherwise read.

    Args:
        path: Of the file.
        allow_mixed: Take weights that another version, processor or thread count made.

    Attributes:
        made_in: The environment (see `storage.provenance`) that the weights were read from, if it
            is another one.
    """

    def __init__(self, path: str | Path, allow_mixed: bool = False) -> None:
        self._path, self._allow_mixed = Path(path), allow_mixed
        self.made_in: dict[str, Any] | None = None

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes weights with their key and with what they were made by."""
        made_by = json.dumps(environment())
        own = {"fingerprint": np.array(key), "environment": np.array(made_by)}
        checkpoint.write_arrays(self._path, own | dict(arrays))

    def get(self, key: str) -> Mapping[str, np.ndarray] | None:
        """Returns the weights; None if there is no file.

        Args:
            key: Of the weights that are meant.

        Raises:
            ValueError: The file is broken, belongs to another configuration, data, model or seed,
                or was made elsewhere.
        """
        remedy = "delete it and it is made again"
        if not self._path.exists():
            return None
        try:
            arrays = checkpoint.read_arrays(self._path)
        except ValueError as error:
            raise ValueError(f"{error}; {remedy}") from error
        if str(arrays.pop("fingerprint", "")) != key:
            raise ValueError(
                f"{self._path}: expected pretrained weights of this configuration and seed, got "
                f"others; use another output folder"
            )
        made_in = json.loads(str(arrays.pop("environment", "{}")))
        elsewhere = differences(made_in)
        if elsewhere and not self._allow_mixed:
            raise ValueError(
                f"{self._path}: expected pretrained weights that were made here, got others "
                f"({'; '.join(elsewhere)}); {remedy}, or allow mixed runs"
            )
        self.made_in = made_in if elsewhere else None
        return arrays
