"""The part of a model that scores depend on: what is trained, and what it gets of images."""

import keras
import numpy as np

from emoc_tf.models.forward import check_repeatable, compile_forward, in_batches
from emoc_tf.models.graphs import functional
from emoc_tf.models.kept_outputs import computed
from emoc_tf.models.known_bodies import known_body
from emoc_tf.models.prefix import split
from emoc_tf.models.trained_part import compile_prefix
from emoc_tf.scoring.checks import check_logits, refusals
from emoc_tf.scoring.gradients.per_example import GradientFactors
from emoc_tf.scoring.images import Images, check_images
from emoc_tf.scoring.linear import is_linear_layer
from emoc_tf.scoring.precision import tensor_float_32

SAME = 1e-3  # of two ways to the same logits, in float32


class ScoredPart:
    """A model from its first trainable layer on: frozen layers before it have no gradient.

    Args:
        model: One that `check_model` accepts.

    Raises:
        ValueError: As `check_repeatable`.

    Attributes:
        model: The part; the whole model where it has no frozen prefix.
        is_linear: Whether it is a linear layer alone.
        has_prefix: Whether frozen layers come before it.
    """

    def __init__(self, model: keras.Model) -> None:
        self._known = known_body(functional(model))  # held: a model that grew has it too
        check_repeatable(model)
        found = split(model)
        self.model = model if found is None else found.rest
        self.is_linear, self.has_prefix = is_linear_layer(self.model), found is not None
        self._prefix = (
            None
            if found is None
            else self._known.once(
                ("prefix", *map(id, found.parts)), lambda: compile_prefix(found.prefix)
            )
        )
        self._predict = compile_forward(self.model)

    def inputs(self, images: Images) -> Images:
        """Returns what the part gets of images, each computed once.

        Raises:
            ValueError: An output of the prefix is not finite.
        """
        if self._prefix is None:
            return images
        return check_images(self.prefix_outputs(images), images.name, self.model)

    def prefix_outputs(self, images: Images) -> np.ndarray:
        """Returns what the prefix gives of images, (n, ...)."""
        with tensor_float_32(False), refusals(images.name):
            return computed(self._prefix, images)

    def logits(self, inputs: Images) -> np.ndarray:
        """Returns (n, C) logits of what `inputs` returned, after checking that they are finite."""
        logits = self.unchecked_logits(inputs)
        check_logits(logits, inputs.name)
        return logits

    def unchecked_logits(self, inputs: Images) -> np.ndarray:
        """Returns (n, C) logits of what `inputs` returned."""
        with tensor_float_32(False), refusals(inputs.name):
            return in_batches(self._predict, inputs, self.model.inputs[0].dtype)

    def check_masks(self, factors: GradientFactors, *inputs: Images) -> None:
        """Checks that masks of your own hide what they hide in the model where it is taken apart.

        Factors are verified on drawn images, of which such a mask may hide nothing.

        Args:
            factors: Of the part.
            *inputs: What `inputs` returned.

        Raises:
            ValueError: The logits of an image are others.
        """
        for images in inputs if factors.own_masks else ():
            wanted = self.logits(images)
            with tensor_float_32(False), refusals(images.name):
                found = in_batches(factors.logits, images, self.model.inputs[0].dtype)
            scale = np.abs(wanted).max(axis=1, keepdims=True)  # of each image
            if not (np.abs(found - wanted) <= SAME * scale).all():
                raise ValueError(
                    f"{images.name}: expected the outputs that the model gives of them, got others "
                    f"from its layers taken apart: a mask of {', '.join(factors.own_masks)} is "
                    f"lost on the way; give it to the layers behind by mask= instead"
                )
