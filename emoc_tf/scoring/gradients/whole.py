"""Gradients of all layers together: as they are, and their lengths."""

from collections.abc import Callable

import tensorflow as tf

from emoc_tf.scoring.gradients import contractions
from emoc_tf.scoring.gradients.per_example import GradientFactors


class WholeGradients(GradientFactors):
    """Gradients whose layers are not kept apart; see `GradientFactors`."""

    @property
    def num_parameters(self) -> int:
        """P, of all trainable layers."""
        own = [each.parameters for each in self.plan if each.contraction != "generic"]
        return sum(own) + self._passes.other_size

    def rows(
        self, images: tf.Tensor, make_seeds: Callable[[tf.Tensor], tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the logits and the gradients of all layers side by side, (B, R, P).

        Args:
            images: As for `gradients`.
            make_seeds: As for `gradients`.
        """
        run = self._run(images, make_seeds, self._layers, True)
        parts = []
        for each in self._layers:
            own = contractions.merged_factors(each.stage, each.uses, run.taps, run.rows)
            parts += contractions.explicit_rows(each.stage, own)
        return run.logits, tf.concat(parts + self._passes.other_rows(images, run), -1)

    def squared_norms(
        self, images: tf.Tensor, make_seeds: Callable[[tf.Tensor], tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the logits and the squared lengths of the gradients of all layers, (B, R).

        Args:
            images: As for `gradients`.
            make_seeds: As for `gradients`.
        """
        run = self._run(images, make_seeds, self._layers, True)
        parts = []
        for each in self._layers:
            plan, own = each.plan, (each.stage, each.uses, run.taps, run.rows)
            factors = contractions.merged_factors(*own)
            parts.append(
                contractions.squared_norms(plan.contraction, each.stage, plan.positions, factors)
            )
        parts += [tf.reduce_sum(row * row, -1) for row in self._passes.other_rows(images, run)]
        return run.logits, tf.add_n(parts)
