"""What an actor does of a scorer's work: forward passes, and pieces of the scores of pairs."""

import collections
import functools
import warnings
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from scipy import sparse

from emoc_tf.cluster.connection import ray
from emoc_tf.models.forward import batch_of, compile_features, in_batches
from emoc_tf.models.trained_part import compile_prefix
from emoc_tf.scoring.blocks import Asked, Piece
from emoc_tf.scoring.checks import refusals
from emoc_tf.scoring.linear import LinearScores
from emoc_tf.scoring.pairs import PairScores
from emoc_tf.scoring.precision import tensor_float_32
from emoc_tf.scoring.ray_images import Receiver, Sent
from emoc_tf.scoring.ray_models import unpack
from emoc_tf.scoring.scorer import EMOCScorer

_KEPT = 4  # models, whose functions are traced


class SentModel(NamedTuple):
    """A model, as it is sent.

    Attributes:
        key: Told from those of all others.
        content: A reference to it, see `Packed`.
        weights_key: A hash of the weights that it has now.
        weights: A reference to these, as `get_weights` returns them.
    """

    key: str
    content: Any
    weights_key: str
    weights: Any


class Job(NamedTuple):
    """What the tasks of a call have in common, as it is sent.

    Attributes:
        model: The model.
        what: `"features"`: forward passes of the model, to the inputs of its head and logits;
            `"outputs"`: to what it gives; `"inputs"`: of its frozen prefix; `"logits"`: of what is
            behind that; `"pairs"`: scores.
        settings: Arguments of `EMOCScorer`; none for `"features"` and `"outputs"`.
        images: Images x'.
        reference: Images x of pairs.
        pairs: Image and label of each, and the groups that they are in.
        directions: Of a sketch; None for exact gradients.
    """

    model: SentModel
    what: str
    settings: dict[str, Any]
    images: Sent
    reference: Sent | None = None
    pairs: tuple[np.ndarray, np.ndarray, sparse.csr_array | None] | None = None
    directions: list[tuple[np.ndarray, ...]] | None = None


class Worker:
    """Does tasks; what those of a call have in common is made once.

    The first arguments of each method are the key of a job and a list with a reference to it.
    """

    def __init__(self) -> None:
        self._received = Receiver()
        self._models: collections.OrderedDict[str, _Model] = collections.OrderedDict()
        self._job: tuple[str | None, Any] = None, None
        self._at_hand: dict[str, tuple[Hashable, Any]] = {}
        self._tf32 = False

    def forward(self, key: str, job: list, batches: range) -> Any:
        """Returns outputs of forward passes for some images, `batch_of` them at a time.

        Args:
            key: See above.
            job: See above.
            batches: Which, one after the other.
        """
        function, images = self._open(key, job)
        size = batch_of(images.shape)
        rows = np.arange(batches.start * size, batches.stop * size)
        return function(images.take(rows[rows < len(images)]))

    def sums(self, key: str, job: list, part: int, batches: range) -> np.ndarray:
        """Returns `sums` of one of the `parts` of pairs, (batches, ...)."""
        pairs = self._open(key, job)
        rows, blocks = self._part(pairs, part)
        with tensor_float_32(self._tf32):
            return np.stack(list(pairs.sums(rows, blocks, batches)))

    def means_of(self, key: str, job: list, part: int, total: np.ndarray) -> np.ndarray:
        """Returns the means of one of the `parts` of pairs."""
        pairs = self._open(key, job)
        with np.errstate(invalid="ignore"):  # which is told by whoever asks
            return pairs.means_of(*self._part(pairs, part), total)

    def control(self, key: str, job: list, batches: range) -> list:
        """Checks reference images; returns a reference to what they give to the control variate.

        None is returned where that is too much to be held.
        """
        pairs = self._open(key, job)
        with tensor_float_32(self._tf32):
            parts = tf.nest.map_structure(lambda part: part.numpy(), pairs.control_parts(batches))
        return [ray().put(parts)] if parts else []

    def pieces(
        self, key: str, job: list, asked: list, control: list, slices: list[slice], portions: slice
    ) -> list[Piece]:
        """Returns pieces of what is asked for.

        Args:
            key: See above.
            job: See above.
            asked: A reference to an `Asked`.
            control: Batches of reference images and what `control` returned of them.
            slices: Of reference images.
            portions: Which of the gradients; all where they are kept.
        """
        pairs, found = self._open(key, job), []
        wanted, every = self._hold("asked", asked[0], lambda: _portions(pairs, asked[0]))
        with tensor_float_32(self._tf32):
            if wanted.control and slices[0].start == 0:
                self._hold("control", key, lambda: _take_control(pairs, control))
            for rows in slices:
                make = _jacobians(pairs, wanted, rows)
                kept = wanted.kept is not None
                own = make() if kept else self._hold("J", (asked[0], rows.start), make)
                found += pairs.pieces(wanted, rows, own, None if kept else every[portions])
        return found

    def fit(self, key: str, job: list) -> tuple:
        """Returns the directions of a sketch and its report."""
        pairs, scorer = self._open(key, job), self._at_hand["scorer"][1]
        with tensor_float_32(self._tf32):
            scorer._sketch.of(pairs.reference, pairs.images)
        return scorer._sketch.directions, scorer.sketch

    def _open(self, key: str, job: list) -> Any:
        """Returns pairs, or a function of images and images, of a job."""
        if self._job[0] != key:
            self._job, self._at_hand = (None, None), {}  # frees the memory before it is needed
            self._job = key, self._made(ray().get(job[0]))
        return self._job[1]

    def _made(self, job: Job) -> Any:
        model = self._model(job.model)
        if job.what in ("features", "outputs"):
            images = self._received.images(job.images, model.model)
            return functools.partial(model.predict, job.what), images
        scorer = model.scorer(job.settings)
        if job.what == "inputs":
            return scorer._part.prefix_outputs, self._received.images(job.images, model.model)
        images = self._received.images(job.images, scorer._part.model)
        if job.what == "logits":
            return scorer._part.unchecked_logits, images
        self._at_hand["scorer"] = None, scorer
        self._tf32 = job.settings["precision"] == "tf32"
        reference = self._received.images(job.reference, scorer._part.model)
        pairs = scorer._pairs(reference, images, *job.pairs)
        return pairs if job.directions is None else pairs.by(scorer._sketch.along(job.directions))

    def _model(self, sent: SentModel) -> "_Model":
        if sent.key not in self._models:
            self._models[sent.key] = _Model(sent)
            while len(self._models) > _KEPT:
                self._models.popitem(last=False)
        self._models.move_to_end(sent.key)
        self._models[sent.key].take_weights(sent)
        return self._models[sent.key]

    def _part(self, pairs: PairScores | LinearScores, part: int) -> tuple[np.ndarray, Any]:
        """Returns one of the `parts` of pairs, with its `blocks`."""

        def made() -> tuple[np.ndarray, Any]:
            rows = pairs.parts()[part]
            with tensor_float_32(self._tf32):
                return rows, pairs.blocks(rows)

        return self._hold("part", part, made)

    def _hold(self, name: str, key: Hashable, make: Callable[[], Any]) -> Any:
        """Returns what is at hand, made anew where that is something else."""
        if self._at_hand.get(name, (None,))[0] != key:
            self._at_hand.pop(name, None)
            self._at_hand[name] = key, make()
        return self._at_hand[name][1]


class _Model:
    """A model that was received, and what was compiled for it.

    Attributes:
        model: The Keras model.
    """

    def __init__(self, sent: SentModel) -> None:
        self.model = unpack(ray().get(sent.content))
        self._weights_key: str | None = None
        self._scorers: dict[tuple, EMOCScorer] = {}
        self._compiled: dict[str, Callable] = {}

    def take_weights(self, sent: SentModel) -> None:
        """Gives the model the weights of a call."""
        if self._weights_key != sent.weights_key:
            self.model.set_weights(ray().get(sent.weights))
            self._weights_key = sent.weights_key

    def scorer(self, settings: dict[str, Any]) -> EMOCScorer:
        """Returns a scorer of the model."""
        key = tuple(settings.items())
        if key not in self._scorers:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # whoever asks was warned
                scorer = self._scorers[key] = EMOCScorer(self.model, **settings)
            scorer._part.check_masks = lambda *_: None  # whoever asks has looked at all images
        return self._scorers[key]

    def predict(self, what: str, images: Any) -> Any:
        """Returns features and logits, or outputs."""
        if what not in self._compiled:
            make = compile_features if what == "features" else compile_prefix
            self._compiled[what] = make(self.model)
        with refusals(images.name):
            return in_batches(self._compiled[what], images, self.model.inputs[0].dtype)


def _portions(pairs: PairScores, asked: Any) -> tuple[Asked, list[np.ndarray]]:
    """Returns what is asked for, and the portions of its gradients where they are not kept."""
    wanted: Asked = ray().get(asked)
    return wanted, [] if wanted.kept else list(pairs.portions(wanted.pairs))


def _jacobians(pairs: PairScores, asked: Asked, rows: slice) -> Callable[[], list]:
    return lambda: pairs.jacobians(asked, rows)


def _take_control(pairs: PairScores, control: list) -> None:
    """Gives pairs what their control variate is made of, wherever it was computed."""
    parts: list = []
    for batches, references in control:
        try:
            parts += ray().get(references[0]) if references else []
        except ray().exceptions.RayError:  # the actor that held it is gone
            parts += pairs.control_parts(batches)
    pairs.take_control(parts)
