"""The empirical neural tangent kernel of a model's summed outputs.

Θ(x, x') = ∇f̄(x)·∇f̄(x') with f̄ = Σ_c f_c / √C, which takes one backward pass an image. After
Mohamadi, Bae, Sutherland: A fast, well-founded approximation to the empirical neural tangent
kernel, ICML 2023.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.models.checks import check_model
from emoc_tf.scoring.checks import MEMORY_BUDGET, check_memory_budget, refusals
from emoc_tf.scoring.gradients.kept import Gradients, Pairs
from emoc_tf.scoring.gradients.per_example import GradientFactors
from emoc_tf.scoring.images import check_images
from emoc_tf.scoring.precision import tensor_float_32
from emoc_tf.scoring.snapshot import Snapshot

# Constants, never free memory: they decide the order of summation.
BATCH = 128
COLUMNS = 1024


class TangentKernel:
    """Inner products of images' gradients, from the factors of each layer.

    Args:
        model: As in `EMOCScorer`, but for one output and more; never changed. It is taken in
            inference mode, with the weights it has at each call.
        memory_budget: Bytes that gradients may take, above 0.

    Raises:
        ValueError: The model is of another kind, or there is no such budget.
    """

    def __init__(self, model: keras.Model, memory_budget: int = MEMORY_BUDGET) -> None:
        self._budget = check_memory_budget(memory_budget)
        check_model(model)
        self.model = model
        self._factors = GradientFactors(model)
        self._factors.warn(stacklevel=2)
        self._snapshot = Snapshot(model)
        self._input = tf.as_dtype(model.inputs[0].dtype)
        self._product = tf.function(self._trace_product, autograph=False, reduce_retracing=True)
        self._pairs = tf.function(self._trace_pairs, autograph=False, reduce_retracing=True)

    def gram_bytes(self, num_images: int, num_columns: int) -> int:
        """Returns what the kernel of so many images with some of them takes."""
        return num_images * num_columns * self._factors.dtype.size

    def gram(self, images: Any, columns: np.ndarray) -> np.ndarray:
        """Returns the kernel of all images with some of them, (n, k).

        Args:
            images: (n, ...) as the model takes them; they may lie elsewhere, see `EMOCScorer`.
            columns: (k,) different indices.

        Returns:
            Values in the precision that the model computes in: n · k numbers are held, and the
            gradients in parts.

        Raises:
            ValueError: Images that the model does not take, or gradients that are not finite.
        """
        self._snapshot.check()
        images = check_images(images, "images", self.model)
        others = np.setdiff1d(np.arange(len(images)), columns)
        order = np.concatenate([columns, others]).astype(np.int64)  # what mirrors comes first
        dtype = self._factors.dtype
        values = np.empty((len(order), len(columns)), dtype.as_numpy_dtype)
        one = self._factors.gradient_bytes(1, dtype, images.shape[1:])
        batch = max(1, min(BATCH, self._budget // 4 // one))
        most = max(1, min(COLUMNS, self._budget // 2 // self._factors.pair_bytes(dtype)))
        met = self._factors.change_bytes(min(most, len(columns)))
        batch = max(1, min(batch, self._budget // 4 // met))
        with tensor_float_32(False), refusals("images"):
            for start in range(0, len(columns), most):
                part = slice(start, min(start + most, len(columns)))
                pairs = self._pairs_of(images, order[part], batch)
                for first in range(start, len(order), batch):
                    rows = order[first : first + batch]
                    found = self._product(self._tensor(images, rows, batch), pairs)
                    values[rows, part] = found.numpy()[: len(rows)]
                later = order[part.stop : len(columns)]
                values[order[part], part.stop :] = values[later, part].T
        if not np.isfinite(values).all():
            raise ValueError("images: expected finite gradients, got others; gradients overflow")
        return values

    def _pairs_of(self, images: Any, rows: np.ndarray, batch: int) -> Pairs:
        parts = []
        for start in range(0, len(rows), batch):
            some = rows[start : start + batch]
            parts.append(self._pairs(self._tensor(images, some, batch)))
        # Only the last batch is padded.
        return tf.nest.map_structure(lambda *each: tf.concat(each, 0)[: len(rows)], *parts)

    def _tensor(self, images: Any, rows: np.ndarray, size: int) -> tf.Tensor:
        # The tail is padded: few shapes occur.
        padded = rows[np.minimum(np.arange(size), len(rows) - 1)]
        return tf.convert_to_tensor(images[padded], self._input)

    def _gradients(self, images: tf.Tensor) -> Gradients:
        def seeds(logits: tf.Tensor) -> tf.Tensor:
            return tf.ones_like(logits)[:, None] / np.sqrt(logits.shape[1])

        return self._factors.gradients(images, seeds, self._factors.dtype)

    def _trace_pairs(self, images: tf.Tensor) -> Pairs:
        return self._factors.prepare(self._gradients(images))

    def _trace_product(self, images: tf.Tensor, pairs: Pairs) -> tf.Tensor:
        return self._factors.change(self._gradients(images), pairs, {})[:, 0]
