"""What `reset` and `step` tell beside observation and reward."""

from collections.abc import ItemsView
from typing import Any

import numpy as np

from emoc_tf.exploration.outcome import StepOutcome


class Info(dict[str, Any]):
    """A dict whose arrays `json.dumps` writes as lists.

    Looked up, in copies and in pickles they are arrays; `items` alone, which encoders of JSON go
    through, has lists in their place. Gymnasium's vector environments go through it too and stack
    them to arrays again. `dict(info)` and `{**info}` are plain dicts of arrays.
    """

    def items(self) -> ItemsView[str, Any]:
        """Returns names and values, lists in place of arrays."""
        return {
            name: _Listed(value) if isinstance(value, np.ndarray) else value
            for name, value in super().items()
        }.items()

    def copy(self) -> "Info":
        """Returns another one with the same arrays."""
        return Info(self)

    def __or__(self, other: dict[str, Any]) -> "Info":
        return Info(dict(self) | dict(other))

    def __reduce__(self) -> tuple[Any, ...]:  # of pickles and copies; dict's goes through items
        return Info, (dict(self),)


class _Listed(list):
    """An array's values as a list, of which Gymnasium's vector environments make an array."""

    def __init__(self, array: np.ndarray) -> None:
        super().__init__(array.tolist())
        self.shape, self.dtype = array.shape, array.dtype

    @property
    def __class__(self) -> type:
        # They stack what is an instance of this with `shape` and `dtype`; encoders of JSON ask for
        # the real type first.
        return np.ndarray

    def __reduce_ex__(self, protocol: int) -> tuple[Any, ...]:
        return list, (list(self),)


# Told without test data even where there is no number.
_WITHOUT_TEST = ("test_accuracy", "known_accuracy", "novel_accuracy", "answer_accuracy")


def info_of(outcome: StepOutcome, mask: np.ndarray, tested: bool) -> Info:
    """Returns what is told of a step.

    Args:
        outcome: Whose fields are told, but for those without a value.
        mask: (M,) bool, which sets may be chosen.
        tested: Whether there are test data.
    """
    always = () if tested else _WITHOUT_TEST
    told = outcome.to_dict().items()
    fields = {name: value for name, value in told if value is not None or name in always}
    return Info(fields, action_mask=mask.astype(np.int8))
