"""Gradients of all layers together: as they are, and their lengths."""

from collections.abc import Callable

import tensorflow as tf

from emoc_tf.scoring.gradients import contractions, generic
from emoc_tf.scoring.gradients.per_example import GradientFactors


class WholeGradients(GradientFactors):
    """Gradients whose layers are not kept apart; see `GradientFactors`."""

    @property
    def num_parameters(self) -> int:
        """P, of all trainable layers."""
        return sum(each.parameters for each in self.plan)

    def rows(
        self, images: tf.Tensor, make_seeds: Callable[[tf.Tensor], tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the logits and the gradients of all layers side by side, (B, R, P).

        Args:
            images: As for `gradients`.
            make_seeds: As for `gradients`.
        """
        logits, seeds, found = self._factors(images, make_seeds, self._layers)
        parts = []
        for each, own in zip(self._layers, found, strict=True):
            parts += contractions.explicit_rows(each.stage, own)
        if self._generic:
            parts.append(generic.rows(self._model, self._generic, images, seeds))
        return logits, tf.concat(parts, -1)

    def squared_norms(
        self, images: tf.Tensor, make_seeds: Callable[[tf.Tensor], tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the logits and the squared lengths of the gradients of all layers, (B, R).

        Args:
            images: As for `gradients`.
            make_seeds: As for `gradients`.
        """
        logits, seeds, found = self._factors(images, make_seeds, self._layers)
        parts = []
        for each, own in zip(self._layers, found, strict=True):
            plan = each.plan
            parts.append(
                contractions.squared_norms(plan.contraction, each.stage, plan.positions, own)
            )
        if self._generic:
            rows = generic.rows(self._model, self._generic, images, seeds)
            parts.append(tf.reduce_sum(rows * rows, -1))
        return logits, tf.add_n(parts)
