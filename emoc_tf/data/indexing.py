"""Indices into images that are no array."""

import operator
from typing import Any

import numpy as np


def positions(index: Any, count: int) -> np.ndarray | int:
    """Returns an index as NumPy takes it as an integer, or an array of them, in [0, count).

    Args:
        index: An integer, a slice, integers, or a mask (count,).
        count: How many images there are.

    Raises:
        IndexError: It is none of these, or out of range.
    """
    if isinstance(index, slice):
        return np.arange(count)[index]
    if not isinstance(index, bool | np.bool_ | tuple):
        try:
            return range(count)[operator.index(index)]
        except TypeError:
            pass
        chosen = np.asarray(index)
        if not chosen.size and chosen.dtype.kind == "f":  # an empty list
            chosen = chosen.astype(np.int64)
        if chosen.ndim and (chosen.dtype.kind in "iu" or chosen.dtype == bool):
            return np.arange(count)[chosen]
    raise IndexError(
        f"images: expected an integer, a slice, integers or a mask ({count},) as index, "
        f"got {index!r:.80}"
    )
