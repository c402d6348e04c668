"""What settings are written as: texts on a command line, and values of other kinds."""

import json
import os
import re
from typing import Any

import numpy as np


def parse_value(text: str) -> Any:
    """Returns what a typed value stands for: JSON, Python's True, False and None, or the text."""
    names = {"none": "null", "None": "null", "True": "true", "False": "false"}
    try:
        return json.loads(names.get(text, text))
    except json.JSONDecodeError:
        return text


_RULE = re.compile(r"\s*(audit|right|no_new)\s*>?=\s*(\d+(?:\.\d*)?|\.\d+)\s*")


def stop_rules(text: str) -> list[tuple[str, float]]:
    """Returns the rules that a text names, any of which ends an episode.

    Args:
        text: Terms with commas between them: `audit=0.9` (audit accuracy reached), `right=3` (sets
            in a row whose answers the model had all right), `no_new=5` (sets in a row without a
            new class).

    Raises:
        ValueError: A term is something else, or its number is out of range.
    """
    rules = []
    for term in text.split(","):
        found = _RULE.fullmatch(term)
        name, value = (found[1], float(found[2])) if found else ("", 0.0)
        in_range = 0 < value <= 1 if name == "audit" else value >= 1 and value == int(value)
        if not found or not in_range:
            raise ValueError(
                f"stop_when: expected audit=SHARE, right=SETS or no_new=SETS, several with commas, "
                f"such as 'audit=0.9,no_new=5', got {text!r}"
            )
        rules.append((name, value))
    return rules


def class_ranges(classes: str) -> list[list[int]]:
    """Returns the first and last class id of each part of a text such as `0-49,60`."""
    return [[int(end) for end in part.split("-")] for part in classes.split(",")]


def plain(value: Any) -> Any:
    """Returns NumPy numbers, arrays of one number without axes, and paths as JSON values."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.longdouble):  # its `item` is one again
        return float(value)
    return value.item() if isinstance(value, np.generic) else value
