"""The model of one episode: made, pretrained, updated, grown, evaluated."""

import hashlib
import warnings
from collections.abc import Mapping
from typing import Any, Protocol

import keras
import numpy as np

from emoc_tf import streams
from emoc_tf.config import ExplorationConfig
from emoc_tf.data import views
from emoc_tf.models import checks, forks, forward, graphs, structure
from emoc_tf.models.first_model import first_model
from emoc_tf.models.learner import Learner, diverged
from emoc_tf.models.own_learner import LearnerLike, LearnerMaker, OwnLearner
from emoc_tf.models.trained_part import Elsewhere, TrainedPart


class SharedWeights(Protocol):
    """Where pretrained weights lie that several episodes share."""

    def get(self, key: str) -> Mapping[str, np.ndarray] | None:
        """Returns the arrays that `put` was given with this key; None if there are none.

        Raises:
            ValueError: There are others, or they cannot be used.
        """

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keeps arrays; the key is a hash of all that they depend on."""


class EpisodeModel:
    """A Keras model with its learner. It knows columns of its output, but no classes.

    What a frozen prefix of the model computes is computed once an image, see `TrainedPart`.

    Args:
        config: The settings.
        own: What `copy_own` returned; None builds `config.network`.
        images: (n_pool, H, W, channels), all that may ever be trained on, as the model takes them:
            a float32 array, or anything with `len`, `shape`, `dtype` and indexing by integer
            arrays.
        root: Of the episode; weights, new units and mini-batches descend from it.
        num_outputs: C, where `set_arrays` is to bring the weights of a model that has grown; None
            for a model from its beginning.
        num_known: C at the beginning; None: `config.known_classes`. With 0 the model has one output
            that stands for nothing yet.
        make_learner: Makes the learner, see `LearnerLike`; None for `Learner`.
        elsewhere: What predicts in place of this process, see `Elsewhere`; None for nobody.

    Attributes:
        part: What is trained, and its inputs.

    Raises:
        ValueError: A learner of your own lacks something, or the images do not fit the model.
    """

    def __init__(
        self,
        config: ExplorationConfig,
        own: keras.Model | None,
        images: np.ndarray,
        root: int,
        num_outputs: int | None = None,
        num_known: int | None = None,
        make_learner: LearnerMaker | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        forks.check()
        self._config, self._root = config, root
        known = config.known_classes if num_known is None else num_known
        model = first_model(config, own, images.shape[1:], root, known)
        _check_integers(images, model)
        wanted, first = max(1, known if num_outputs is None else num_outputs), max(1, known)
        if wanted > first:
            model = structure.grow_head(model, wanted - first, self._rng_of_units(0, "new units"))
        elif wanted < first:
            model = structure.select_outputs(model, range(wanted))
        self._is_own = make_learner is not None
        self._elsewhere = elsewhere
        self.part = TrainedPart(model, images, elsewhere)
        self._learner: LearnerLike
        if make_learner is not None:
            self._learner = OwnLearner(make_learner, model, images)
        else:
            self._learner = Learner(
                model,
                images,
                learning_rate=config.learning_rate,
                momentum=config.momentum,
                batch_size=config.batch_size,
                old_fraction=config.old_fraction,
                optimizer=config.optimizer,
                weight_decay=config.weight_decay,
                part=self.part,
            )
        self._model = model
        self._compile()

    @property
    def model(self) -> keras.Model:
        """The Keras model, another one after each `change_outputs` that changes any."""
        return self._model

    def _compile(self) -> None:
        self._compiled = self.part.model
        self._forward = forward.compile_features(self._compiled)

    def pretrain(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        labelled: np.ndarray,
        shared: SharedWeights | None,
    ) -> None:
        """Trains on the initial images, or takes over what another episode of the root learnt.

        Args:
            images: (n_pool, H, W, channels), the pool's.
            labels: (n_pool,) columns of the output, −1 where unlabelled.
            labelled: Indices of the initial images.
            shared: Where weights are taken from, or put into; None for nowhere. With a learner of
                your own it is nowhere: what that depends on cannot be told from outside.

        Raises:
            ValueError: See `SharedWeights.get`.
            FloatingPointError: Training diverged.
        """
        shared = None if self._is_own else shared
        key = "" if shared is None else self._key(images, labels, labelled)
        found = None if shared is None else shared.get(key)
        if found is not None:
            self.set_arrays(found)
            return
        self._fit(0, self._config.pretrain_iterations, labels, labelled, None)
        if shared is not None:
            shared.put(key, self.get_arrays())

    def _key(self, images: np.ndarray, labels: np.ndarray, labelled: np.ndarray) -> str:
        """Returns a hash of all that pretrained weights depend on, besides versions and machine."""
        config = self._config
        settings: tuple = (
            self._root, config.pretrain_iterations, config.batch_size, config.learning_rate,
            config.momentum, config.weight_decay,
        )  # fmt: skip
        if config.optimizer != "sgd":  # its keys are those of old folders
            settings += (config.optimizer,)
        digest = hashlib.sha256(repr(settings).encode())
        size = forward.batch_of(images.shape)
        for start in range(0, len(labelled), size):
            rows = labelled[start : start + size]
            digest.update(views.read(images, rows).astype(np.float32, copy=False).tobytes())
        for array in (labels[labelled], *(v.numpy() for v in self.model.variables)):
            digest.update(array.tobytes())
        return digest.hexdigest()

    def update(
        self, step: int, labels: np.ndarray, old: np.ndarray, novel: np.ndarray | None
    ) -> None:
        """Learns the set of an update step, see `LearnerLike.train`; nothing from no image at all.

        Raises:
            FloatingPointError: Training diverged.
        """
        forks.check()
        self._fit(step, self._config.update_iterations, labels, old, novel)

    def _fit(
        self,
        step: int,
        iterations: int,
        labels: np.ndarray,
        old: np.ndarray,
        novel: np.ndarray | None,
    ) -> None:
        novel = novel if novel is not None and len(novel) else None
        if novel is None and not len(old):
            return
        seed = streams.device_seed(self._root, step, "mini-batches")
        try:
            self._learner.train(iterations, seed, labels, old, novel)
        except FloatingPointError as error:
            raise FloatingPointError(f"{_where(step)}: {error}") from error

    def begin(self, step: int, labels: np.ndarray, labelled: np.ndarray) -> None:
        """Trains for the first time, as in pretraining, in a later step.

        Raises:
            FloatingPointError: Training diverged.
        """
        forks.check()
        self._fit(step, self._config.pretrain_iterations, labels, labelled, None)

    def change_outputs(self, step: int, kept: list[int], new_units: int, purpose: str) -> None:
        """Keeps some outputs as they are, bit for bit, and adds others behind them.

        Args:
            step: The update step.
            kept: Columns that are kept, ascending.
            new_units: How many are added. Without any the model has one that stands for nothing.
            purpose: Names the stream of random numbers that new units are drawn from.
        """
        rng, count = self._rng_of_units(step, purpose), self.model.output_shape[-1]
        # One change after the other: learners tell by the shape what became of their outputs.
        if not kept:  # nothing is known yet, or any more
            units = max(1, new_units)
            self._replace(structure.grow_head(self.model, units, rng))
            self._replace(structure.select_outputs(self.model, range(count, count + units)))
            return
        if len(kept) < count:
            self._replace(structure.select_outputs(self.model, kept))
        if new_units:
            self._replace(structure.grow_head(self.model, new_units, rng))

    def _replace(self, model: keras.Model) -> None:
        self._model = model
        self.part.replace_model(model)
        self._learner.replace_model(model)
        self._compile()

    def _rng_of_units(self, step: int, purpose: str) -> np.random.Generator:
        return streams.generator(self._root, step, purpose)

    def predict(self, images: Any, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns features (n, features), the inputs of the head, and logits (n, C).

        Args:
            images: As the model takes them; the pool's, or others that are asked for at each step.
            rows: (n,) indices of those of them that are looked at; None for all.
        """
        self.part.look()
        if self.part.model is not self._compiled:
            self._compile()
        inputs = self.part.inputs_of(images)
        if rows is not None:
            inputs = views.ImageView(inputs, rows)
        if self._elsewhere is not None:
            return self._elsewhere.predict(self._compiled, inputs)
        return forward.in_batches(self._forward, inputs, self._compiled.inputs[0].dtype)

    def check_finite(self, step: int, *outputs: np.ndarray) -> None:
        """Raises `FloatingPointError` unless all outputs are finite numbers."""
        if not all(np.isfinite(output).all() for output in outputs):
            rate = None if self._is_own else self._config.learning_rate
            error = diverged("outputs that are not finite", rate)
            raise FloatingPointError(f"{_where(step)}: {error}")

    def warn_if_blind(self, step: int, features: np.ndarray) -> None:
        """Warns where all images give the same features, which no policy can tell apart."""
        if len(features) > 1 and (features == features[0]).all():
            warnings.warn(
                f"{_where(step)}: the network computes the same of all {len(features)} images; if "
                f"training did that, try learning_rate={self._config.learning_rate / 10:g}",
                stacklevel=4,
            )

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Returns weights, states of random layers and what the learner keeps, by name."""
        return self._learner.get_arrays()

    def moved(
        self, arrays: Mapping[str, np.ndarray], place: Mapping[int, int], count: int
    ) -> dict[str, np.ndarray]:
        """Returns arrays of `get_arrays` for images that lie elsewhere now; see `OwnLearner`."""
        own = isinstance(self._learner, OwnLearner)
        return self._learner.moved(arrays, place, count) if own else dict(arrays)

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes over what `get_arrays` returned; raises `ValueError` as `LearnerLike` does."""
        self._learner.set_arrays(arrays)


def _where(step: int) -> str:
    return f"update step {step}" if step else "pretraining"


def copy_own(
    model: keras.Model, images: np.ndarray, num_classes: int, *others: np.ndarray
) -> keras.Model:
    """Returns a copy, which later changes of the model do not reach.

    Args:
        model: Functional or Sequential, ending in a linear Dense layer.
        images: (n, H, W, channels) of the data, n > 0.
        num_classes: C, the outputs that it has to have.
        *others: More images of the data.

    Returns:
        One that takes a tensor, not a list or dict of one.

    Raises:
        ValueError: The model does not fit, takes integers and the images are fractions, is random
            in inference mode too, or its copy computes something else.
    """
    checks.check_shapes(model, images.shape[1:], num_classes)
    for part in (images, *others):
        _check_integers(part, model)
    images = views.read(images, np.arange(min(2, len(images)))).astype(np.float32, copy=False)
    forward.check_repeatable(model, images)
    copy = graphs.unwrapped(structure.copy(model))
    if not isinstance(model, keras.Sequential):
        model, copy = graphs.functional_input(model), graphs.functional_input(copy)
    expected, found = model(images, training=False), copy(images, training=False)
    if not np.allclose(found, expected, rtol=1e-3, atol=1e-5, equal_nan=True):
        raise ValueError(
            "model: expected layers that keras.models.clone_model and get_weights copy whole, "
            "got a copy with other outputs"
        )
    return copy


def _check_integers(images: Any, model: keras.Model) -> None:
    """Raises `ValueError` unless images fit a model that takes integers."""
    if "float" not in model.inputs[0].dtype:
        for batch in views.batches(images, forward.batch_of(images.shape)):
            checks.check_integers(batch, "images", model)
