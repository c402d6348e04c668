"""What scores will take, told from a short measurement before anything runs."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from emoc_tf.models.forward import ANY_SIZE
from emoc_tf.scoring.changes import OutputChanges

IMAGES = 8  # whose J and gradients are measured
PAIRS = 256  # that meet them: a product of few is slower by the pair


class Expectation:
    """Seconds that the parts of a scorer's work take, on this machine as it is now.

    Args:
        changes: The scorer's functions, of which some are traced by this.
        shape: Of an image, None where the model leaves a size open.
        memory_budget: Bytes that gradients may take.

    Attributes:
        jacobian: Seconds a reference image.
        gradient: Seconds a pair (x', y').
        change: Seconds a reference image and pair.
    """

    def __init__(
        self, changes: OutputChanges, shape: tuple[int | None, ...], memory_budget: int
    ) -> None:
        sizes = [ANY_SIZE if size is None else size for size in shape]
        count = max(1, min(IMAGES, memory_budget // 4 // changes.jacobian_bytes(tuple(sizes), 1)))
        numbers = np.random.default_rng(0).random((count, *sizes))
        images, labels = changes.tensor(numbers), np.zeros((count, 1), np.int32)
        jacobian, seconds = _measured(lambda: changes.jacobian(images))
        self.jacobian = seconds / count
        pairs, seconds = _measured(lambda: changes.gradients(images, labels))
        self.gradient = seconds / count
        many = max(1, min(PAIRS, memory_budget // 4 // changes.pair_bytes))
        rows = np.arange(many) % count
        pairs = tf.nest.map_structure(lambda part: tf.gather(part, rows), pairs)
        _, seconds = _measured(lambda: changes.changes(jacobian, pairs))
        self.change = seconds / (count * many)

    def seconds(self, num_reference: int, num_pairs: int) -> float:
        """Returns what the scores of some pairs take.

        Args:
            num_reference: N.
            num_pairs: (image, label) pairs.
        """
        gradients = self.jacobian * num_reference + self.gradient * num_pairs
        return gradients + self.change * num_reference * num_pairs


def _measured(function: Callable[[], Any]) -> tuple[Any, float]:
    """Returns what a function gives, and the seconds of its second call: the first one traces."""
    function()
    start = time.perf_counter()
    found = tf.nest.map_structure(lambda part: part[:], function())
    _ = [part[:1].numpy() for part in tf.nest.flatten(found)]
    return found, time.perf_counter() - start
