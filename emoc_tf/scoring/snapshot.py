"""What compiled functions have of a model, besides the values of its weights."""

import keras

from emoc_tf.models import forks
from emoc_tf.models.graphs import inner_layers


class Snapshot:
    """What a scorer was made for, to be held against what the model is at each call.

    Args:
        model: A model that `check_model` accepts.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._parts = _parts(model)

    def check(self) -> None:
        """Raises `ValueError` if the model has changed in more than the values of its weights."""
        forks.check()
        for (what, before), (_, now) in zip(self._parts, _parts(self._model), strict=True):
            same = len(before) == len(now) and all(
                one is other or (isinstance(one, str) and one == other)
                for one, other in zip(before, now, strict=True)
            )
            if not same:
                raise ValueError(
                    f"model: expected the one that the scorer was made for, but its {what} changed "
                    f"since; make a new EMOCScorer(model)"
                )


def _parts(model: keras.Model) -> list[tuple[str, list[object]]]:
    layers, variables = inner_layers(model), model.trainable_variables
    regularizers = [variable.regularizer for variable in variables]
    return [
        ("layers", [*model.outputs, *layers] if getattr(model, "inputs", None) else []),
        ("trainable weights", variables),
        ("activations", [getattr(layer, "activation", None) for layer in layers]),
        (
            "regularisers",
            [
                *regularizers,
                *(str(each.get_config()) for each in regularizers if hasattr(each, "get_config")),
                *(getattr(layer, "activity_regularizer", None) for layer in layers),
                str(len(model.losses)),
            ],
        ),
        (  # such a layer computes with constants that it made of its weights
            "adapted normalisation",
            [layer.mean for layer in layers if isinstance(layer, keras.layers.Normalization)],
        ),
    ]
