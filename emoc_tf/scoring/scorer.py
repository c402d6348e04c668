"""Exact EMOC scores in batches, from per-layer gradient factors."""

import functools

import keras
import numpy as np
import rich
import tensorflow as tf
from scipy import sparse
from scipy.special import softmax

from emoc_tf.models.checks import check_model, check_outputs
from emoc_tf.models.compiled import warn_of_other_loss
from emoc_tf.scoring.changes import OutputChanges, changes_of
from emoc_tf.scoring.checks import (
    MEMORY_BUDGET,
    check_confidence,
    check_labels,
    check_offsets,
    check_seed,
    check_set_settings,
    check_sets,
    check_settings,
)
from emoc_tf.scoring.expectation import Expectation
from emoc_tf.scoring.gradients.plans import LayerPlan, table_of
from emoc_tf.scoring.images import Images, check_images
from emoc_tf.scoring.labels import pairs_of_sets, used_images
from emoc_tf.scoring.linear import LinearScores
from emoc_tf.scoring.pairs import PairScores
from emoc_tf.scoring.precision import product_dtype, tensor_float_32
from emoc_tf.scoring.scored_part import ScoredPart
from emoc_tf.scoring.selection import Selection, best_of, select
from emoc_tf.scoring.sets import SetScores
from emoc_tf.scoring.sketches.selection import select_by_sketch
from emoc_tf.scoring.sketches.sketch import Sketch, SketchReport
from emoc_tf.scoring.snapshot import Snapshot


class EMOCScorer:
    """Scores candidates by their expected model output change.

    The score of x' under label y' is s(x',y') = (1/N) Σ_x ‖J(x) g(x',y')‖₁ (Eq. 4), with J the
    Jacobian of the output f and g the gradient of cross-entropy plus ω. The loss is the plain
    cross-entropy of the softmax, whatever the model was compiled with (a warning tells another):
    no label smoothing, no class weights. `scoring.reference` has the same written out literally.

    Images may be arrays, or lie elsewhere: a memory map, an `ImageView`, or anything with `shape`,
    `dtype` and indexing by an array of ascending integers is read some images at a time, and gives
    the bits that it would give as an array in memory.

    Args:
        model: A functional or Sequential `keras.Model` with one input that ends in a linear Dense
            layer with C units, one for each of at least two classes; the layer may lie in a nested
            model. It is scored in inference mode, whatever its calls record for `training`, with
            the weights it has at each call, and never changed. If anything else of it changes,
            such as which layers are trainable, the scorer says so at its next call.
        output: What f is: `"logits"`, or `"softmax"` of the logits. The loss is the same.
        regularizer: Whether ∇ω, the gradient of the sum of `model.losses`, is part of g.
        precision: Of the product of explicit gradients, in which nearly all time goes:
            `"float32"` (float64 for a model in float64); `"bfloat16"`, about twice as fast on
            some processors, half as fast (a warning says so) on others, scores within 5e-3,
            most within 5e-4; `"tf32"`, TensorFloat-32 in all products of gradients, on GPUs that
            have it. TensorFlow knows one switch for the whole process, which is set while scores
            are computed: on such a GPU, let no other thread compute meanwhile.
        memory_budget: Bytes that gradients may take, whatever N, n and C are; other budgets sum
            in another order and give other last digits.
        method: `"exact"`, or `"sketch"`, for networks that are trained whole: gradients are cut
            down to their principal directions, fitted on 128 images of each call, anew if weights
            or images are others. Scores are approximate, `sketch` tells how far. It pays with many
            pairs: the fit takes as long as J of some dozens of images does. A linear layer behind
            frozen ones is scored exactly, as it always is.
        sketch_size: Numbers that a pair's sketch may have; None for as many as leave out 5% of
            the gradients' energy, if the budget has room for them.
        seed: At least 0; of the images that directions are fitted on.

    Raises:
        ValueError: The model is of another kind, or another argument is out of range.
    """

    def __init__(
        self,
        model: keras.Model,
        output: str = "logits",
        regularizer: bool = True,
        precision: str = "float32",
        memory_budget: int = MEMORY_BUDGET,
        method: str = "exact",
        sketch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        check_settings(output, regularizer, precision, memory_budget, method, sketch_size, seed)
        dtype = tf.as_dtype(check_model(model).compute_dtype)
        check_outputs(model)
        self._snapshot = Snapshot(model)
        self._part = ScoredPart(model)
        self.model = model
        self._memory_budget = int(memory_budget)
        self._precision, self._output, self._regularizer = precision, output, bool(regularizer)
        warn_of_other_loss(model, stacklevel=2)
        self._dtype = product_dtype(precision, dtype, stacklevel=2)
        if not self._part.is_linear:  # which needs no gradients of batches
            self._changes.factors.warn(stacklevel=2)
        self._snapshot.settle()
        self._expected: Expectation | None = None
        self._sketch: Sketch | None = None  # what is linear is scored exactly at once
        if method == "sketch" and not self._part.is_linear:
            settings = self._memory_budget, sketch_size, int(seed)
            self._sketch = Sketch(self._part.model, self._changes, *settings)

    @functools.cached_property
    def _changes(self) -> OutputChanges:
        return changes_of(self._part.model, self._output, self._regularizer, self._dtype)

    @property
    def sketch(self) -> SketchReport | None:
        """The sketch of the last call and its measured error; None before and without sketches."""
        return None if self._sketch is None else self._sketch.report

    def plan(self) -> list[LayerPlan]:
        """Returns how each trainable layer's gradients are multiplied; sketched, once it was."""
        own = self._changes.factors if self._sketch is None else self._sketch
        return list(own.plan)

    def print_plan(self) -> None:
        """Prints `plan` as a table, and what the last call's sketch was like."""
        rich.print(table_of(self.plan()))
        if self.sketch is not None:
            rich.print(self.sketch.summary)

    def expected_seconds(self, num_reference: int, num_pairs: int) -> float:
        """Returns what N reference images and so many (image, label) pairs will take, about.

        It is told from a measurement of a few random images, made once; `select_set` takes less.
        """
        shape = self._part.model.inputs[0].shape[1:]
        if self._expected is None:
            changes = self._changes if self._sketch is None else self._sketch.usual
            self._expected = Expectation(changes, shape, self._memory_budget)
        return self._expected.seconds(num_reference, num_pairs)

    def scores(
        self, reference: np.ndarray, candidates: np.ndarray, labels: np.ndarray | None = None
    ) -> np.ndarray:
        """Returns the score of each candidate under one label (Eq. 4).

        Args:
            reference: (N, ...) images x, N > 0.
            candidates: (n, ...) images x', n > 0.
            labels: (n,) columns of the output; None means each candidate's most likely one.

        Returns:
            (n,) float64 scores, at least 0.

        Raises:
            ValueError: An input of the wrong shape, a label out of range, or an output that is
                not finite.
        """
        self._snapshot.check()
        reference = check_images(reference, "reference", self.model)
        candidates = check_images(candidates, "candidates", self.model)
        if labels is not None:
            labels = check_labels(labels, len(candidates), self.model.output_shape[-1])
        candidates = self._part.inputs(candidates)
        found = self._part.logits(candidates).argmax(axis=1)
        labels = found if labels is None else labels
        reference = self._part.inputs(reference)
        return self._means(self._pairs(reference, candidates, np.arange(len(labels)), labels))

    def expected_scores(self, reference: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Returns the scores expected over all labels, Σ_y p(y|x') s(x',y) (Eq. 2).

        Args:
            reference: (N, ...) images x.
            candidates: (n, ...) images x'.

        Returns:
            (n,) float64 scores. It takes C times the work of `scores`.
        """
        self._snapshot.check()
        reference = check_images(reference, "reference", self.model)
        candidates = self._part.inputs(check_images(candidates, "candidates", self.model))
        posterior = softmax(self._part.logits(candidates).astype(np.float64), axis=1)
        count, num_classes = posterior.shape
        image_of, label_of = np.divmod(np.arange(count * num_classes), num_classes)
        reference = self._part.inputs(reference)
        scores = self._means(self._pairs(reference, candidates, image_of, label_of))
        return (posterior * scores.reshape(count, num_classes)).sum(axis=1)

    def set_scores(
        self,
        reference: np.ndarray,
        images: np.ndarray,
        sets: np.ndarray,
        labels: str | np.ndarray = "set",
        set_weights: np.ndarray | None = None,
        unseen: np.ndarray | None = None,
    ) -> np.ndarray:
        """Returns the score of each candidate set, Δf(X') = Σ_{x'∈X'} s(x', ŷ) (Eq. 5).

        Args:
            reference: (N, ...) images x.
            images: (n, ...) images that the sets point into; only those in a set are scored.
            sets: (M, K) indices, −1 as padding; a set of padding alone scores 0.
            labels: `"set"`: one label for all of X', argmax_c Σ_{x'∈X'} log p(c|x'). `"image"`:
                each image's own most likely label. `"expected"`: Eq. 2 in place of Eq. 4.
                `"joint"`: the label of `"set"`, and the step that all of X' makes together,
                (1/N) Σ_x ‖J(x) Σ_{x'∈X'} g(x', ŷ)‖₁. Or (M,) integer columns, one a set.
            set_weights: (M,) finite numbers of at least 0 that the sets' scores are multiplied by,
                such as how likely a set is to be answered; None for 1.
            unseen: (M,) numbers π in [0, 1], how likely a set is of a class that has no output
                yet; None for 0. Its score is (1 − π) times that above, plus π times that under
                such a label: a new output, 0 for all images, takes part in the softmax of the
                loss, and the change of the outputs that are there is measured.

        Returns:
            (M,) float64 scores.

        Raises:
            ValueError: As for `scores`, or unknown `labels`, `set_weights` or `unseen`.
        """
        pairs, weights = self._pairs_of_sets(reference, images, sets, labels, set_weights, unseen)
        if pairs is None:
            return np.zeros(weights.shape[0])
        return weights @ self._means(pairs)

    def select_set(
        self,
        reference: np.ndarray,
        images: np.ndarray,
        sets: np.ndarray,
        labels: str | np.ndarray = "set",
        confidence: float | None = 0.95,
        seed: int = 0,
        set_weights: np.ndarray | None = None,
        unseen: np.ndarray | None = None,
        offsets: np.ndarray | None = None,
    ) -> Selection:
        """Returns the candidate set with the highest score, without scoring every pair.

        By correlated elimination, see `selection`. With one set far ahead a few dozen reference
        images do; sets that are nearly equal are compared on all of them.

        Args:
            reference: As in `set_scores`.
            images: As in `set_scores`.
            sets: As in `set_scores`; at least one that is not padding alone.
            labels: As in `set_scores`.
            confidence: Probability, over the seeds, that the chosen set is the one with the
                highest `set_scores`, in (0, 1), as far as t-tests on 32 or more reference images
                can tell: where a few among N carry the difference between sets, they may be
                missed. None evaluates all pairs. With `method="sketch"` most sets are dropped by
                sketches, on the premise that these err by as much in the best sets as in 16 drawn
                at random, and None chooses by sketched scores alone.
            seed: At least 0; orders the reference images. Equal seeds choose equally.
            set_weights: As in `set_scores`.
            unseen: As in `set_scores`.
            offsets: (M,) finite numbers that are added to the sets' scores, known beforehand;
                None for 0.

        Raises:
            ValueError: As for `set_scores`, or an argument is out of range.
        """
        confidence, seed = check_confidence(confidence), check_seed(seed)
        offsets = check_offsets(offsets, len(np.atleast_1d(sets)))
        pairs, weights = self._pairs_of_sets(reference, images, sets, labels, set_weights, unseen)
        if pairs is None:
            raise ValueError("sets: expected one that is not padding alone, got none")
        if confidence is None or pairs.costs_little:
            scores = weights @ self._means(pairs)
            scores = scores if offsets is None else scores + offsets
            return best_of(scores, len(pairs.reference) * weights.shape[1])
        most = self._memory_budget // 32  # two numbers of 8 bytes each: half of the budget
        how = weights, confidence, seed, most, offsets
        with tensor_float_32(self._precision == "tf32"):
            if self._sketch is not None:
                return select_by_sketch(pairs, self._sketch.apply(pairs), *how)
            return select(pairs.sample, weights, len(pairs.reference), *how[1:])

    def _pairs_of_sets(
        self,
        reference: np.ndarray,
        images: np.ndarray,
        sets: np.ndarray,
        labels: str | np.ndarray,
        set_weights: np.ndarray | None,
        unseen: np.ndarray | None,
    ) -> tuple[PairScores | LinearScores | None, sparse.csr_array]:
        """Returns the pairs in sets, groups of them if joint, None for none; and (M, pairs)."""
        self._snapshot.check()
        reference = check_images(reference, "reference", self.model)
        images = check_images(images, "images", self.model)
        sets = check_sets(sets, len(images))
        counts = len(sets), self.model.output_shape[-1]
        set_weights, unseen = check_set_settings(labels, set_weights, unseen, *counts)
        used, inside = used_images(sets)
        if not len(used):
            return None, sparse.csr_array((len(sets), 0))
        images = self._part.inputs(images.take(used))
        found = pairs_of_sets(self._part.logits(images), inside, labels, set_weights, unseen)
        reference = self._part.inputs(reference)
        return self._pairs(reference, images, *found[:2], found.groups), found.weights

    def _pairs(
        self, reference: Images, images: Images, image_of: np.ndarray, label_of: np.ndarray,
        groups: sparse.csr_array | None = None,
    ) -> PairScores | LinearScores:  # fmt: skip
        """Returns the scores of pairs, or of groups of them, that nobody has computed yet."""
        parts = reference, images, image_of, label_of
        if not self._part.is_linear:
            self._part.check_masks(self._changes.factors, reference, images)
        if groups is not None:
            return SetScores(self._changes, self._memory_budget, *parts, groups)
        if self._part.is_linear:
            return LinearScores(self._part.model, self._output, self._regularizer, *parts)
        return PairScores(self._changes, self._memory_budget, *parts)

    def _means(self, pairs: PairScores | LinearScores) -> np.ndarray:
        self._part.logits(pairs.reference)  # checked before the long work
        with tensor_float_32(self._precision == "tf32"):
            return (pairs if self._sketch is None else self._sketch.apply(pairs)).means()
