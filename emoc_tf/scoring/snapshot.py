"""What compiled functions have of a model, besides the values of its weights."""

from typing import Any

import keras

from emoc_tf.models import forks
from emoc_tf.models.graphs import inner_layers
from emoc_tf.models.layer_state import states_in


class Snapshot:
    """What a scorer was made for, to be held against what the model is at each call.

    Args:
        model: A model that `check_model` accepts, before it is called.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._parts, self._states = _parts(model), _states(model)
        self._moving: set[tuple[int, str]] = set()

    def settle(self) -> None:
        """Takes the model as it is once the scorer is made.

        What layers of the user's note down as they are called is no change.
        """
        self._parts, before, self._states = _parts(self._model), self._states, _states(self._model)
        self._moving = _changed(before, self._states)

    def check(self) -> None:
        """Raises `ValueError` if the model has changed in more than the values of its weights."""
        forks.check()
        changed = [
            what
            for (what, before), (_, now) in zip(self._parts, _parts(self._model), strict=True)
            if not _same(before, now)
        ]
        if not changed and _changed(self._states, _states(self._model)) - self._moving:
            changed = ["settings of layers"]
        if changed:
            raise ValueError(
                f"model: expected the one that the scorer was made for, but its {changed[0]} "
                f"changed since; make a new EMOCScorer(model)"
            )


def _same(before: list[Any], now: list[Any]) -> bool:
    return len(before) == len(now) and all(
        one is other or (isinstance(one, str) and isinstance(other, str) and one == other)
        for one, other in zip(before, now, strict=True)
    )


def _changed(before: dict[Any, list[Any]], now: dict[Any, list[Any]]) -> set[Any]:
    """Returns the keys whose values are not the same, or are missing on one side."""
    keys = before.keys() | now.keys()
    return {key for key in keys if not _same(before.get(key, []), now.get(key, []))}


def _states(model: keras.Model) -> dict[tuple[int, str], list[Any]]:
    found: dict[tuple[int, str], list[Any]] = {}
    for layer in inner_layers(model):
        found.update(states_in(layer))
    return found


def _settings(regularizer: Any) -> str:
    try:
        return str(regularizer.get_config())
    except AttributeError:  # a function, or none
        return ""
    except NotImplementedError:  # one of the user's that is not saved
        return str(vars(regularizer))


def _parts(model: keras.Model) -> list[tuple[str, list[object]]]:
    layers, variables = inner_layers(model), model.trainable_variables
    regularizers = [variable.regularizer for variable in variables]
    inside = [each for layer in layers for each in layer._flatten_layers()]
    return [
        ("layers", [*model.outputs, *inside] if getattr(model, "inputs", None) else []),
        ("trainable weights", variables),
        ("activations", [getattr(layer, "activation", None) for layer in inside]),
        (
            "regularisers",
            [
                *regularizers,
                *map(_settings, regularizers),
                *(getattr(layer, "activity_regularizer", None) for layer in layers),
                str(len(model.losses)),
            ],
        ),
        (  # such a layer computes with constants that it made of its weights
            "adapted normalisation",
            [layer.mean for layer in layers if isinstance(layer, keras.layers.Normalization)],
        ),
    ]
