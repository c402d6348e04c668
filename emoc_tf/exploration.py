"""The active-exploration loop: query a candidate set, learn it, evaluate, draw new sets."""

import contextlib
import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from emoc_tf import candidates, checkpoint, networks, streams
from emoc_tf.config import ExplorationConfig
from emoc_tf.data import ImageData, load, read_only
from emoc_tf.episode import (
    Episode,
    check_data,
    check_known_ids,
    draw_episode,
    eligible_classes,
)
from emoc_tf.evaluation import StepOutcome, evaluate
from emoc_tf.learner import Learner
from emoc_tf.oracle import LabelOracle, Oracle, ask
from emoc_tf.pool import Pool
from emoc_tf.state import ExplorationState


class Exploration:
    """Owns pool, model, learner, oracle and evaluation of one episode at a time.

    Images of dtype uint8 are fed to the network as pixels 0–255 minus the mean image of the
    initial labelled images; images of a floating dtype are fed as they are.

    Args:
        config: The settings.
        data: Training and test part; None loads `config.dataset`.
        model: A functional or Sequential float32 model that ends in a linear Dense layer with
            `config.known_classes` units, which becomes the growing head. Each episode starts
            from a copy of it as it is now, so it is never changed. None builds
            `config.network`. ω is what its own regularisers say, not `config.weight_decay`.
        oracle: Who answers queries; None: the labels of `data`.
        model_classes: Class id of each output of `model`, for a model that is trained already.
            None draws the known classes at random, as suits an untrained one.

    Attributes:
        config: As given.
        class_names: Names of all classes of the data, by class id.
        initial_model: The copy of `model` that episodes start from; None without one.
        episode: Images and true labels of the current episode; not for agents.
        state: What agents may see.
        timings: Seconds of the parts of the last `reset` or `advance`.

    Raises:
        ValueError: Settings, data and model do not fit each other.
        FileNotFoundError: The data set is not there.
    """

    episode: Episode
    state: ExplorationState

    def __init__(
        self,
        config: ExplorationConfig,
        data: tuple[ImageData, ImageData] | None = None,
        model: keras.Model | None = None,
        oracle: Oracle | None = None,
        model_classes: Sequence[int] | None = None,
    ) -> None:
        for name, choices in (("sampler", candidates.SAMPLERS), ("network", networks.NETWORKS)):
            if getattr(config, name) not in choices:
                raise ValueError(
                    f"{name}: expected one of {sorted(choices)}, got {getattr(config, name)!r}"
                )
        if oracle is not None and not callable(getattr(oracle, "label", None)):
            raise ValueError(
                f"oracle: expected an object with label(indices, images), got {oracle!r}"
            )
        if model is not None:
            networks.check_model(model)
        self.config = config
        if data is None:
            self._train, self._test = load(config.dataset, config.data_dir)
        else:
            self._train, self._test = check_data(data)
        eligible = eligible_classes(config, self._train, self._test)
        self.class_names = self._train.class_names
        self.initial_model = self._check_own_model(model)
        self._model_classes = check_known_ids(model_classes, model is not None, config, eligible)
        self._given_oracle = oracle
        self._running = False
        self.timings: dict[str, float] = {}

    def _check_own_model(self, model: keras.Model | None) -> keras.Model | None:
        """Returns a copy that computes what the model computes."""
        if model is None:
            return None
        images = self._train.images[:1].astype(np.float32)
        networks.check_shapes(model, images.shape[1:], self.config.known_classes)
        copy = networks.copy(model)
        if not np.allclose(copy(images), model(images), rtol=1e-3, atol=1e-5, equal_nan=True):
            raise ValueError(
                "model: expected layers that keras.models.clone_model and get_weights copy whole, "
                "got a copy with other outputs"
            )
        return copy

    def reset(self, root: int, pretrained_path: str | Path | None = None) -> StepOutcome:
        """Starts an episode: draws classes and images, builds and pretrains the model.

        Args:
            root: At least 0; everything random in the episode is a function of it.
            pretrained_path: An `.npz` file for the pretrained weights: read if it is there,
                otherwise written after pretraining, so that several policies share one start.

        Raises:
            ValueError: The file belongs to another configuration, data, model or root.
            FloatingPointError: Training diverged.
        """
        config = self.config
        self._root, self._step, self.timings, self._running = root, 0, {}, False
        self.episode = draw_episode(
            config, self._train, self._test, root, known_ids=self._model_classes
        )
        self._known_classes = list(self.episode.classes[: config.known_classes])
        self._pool = Pool(self.episode.images)
        initial = np.arange(self.episode.num_initial)
        self._pool.label(initial, self._columns(self.episode.true_labels[initial]))
        given = self._given_oracle
        self._oracle = LabelOracle(self.episode.true_labels) if given is None else given
        self._learner = Learner(
            self._new_model(),
            self._pool.images,
            learning_rate=config.learning_rate,
            momentum=config.momentum,
            batch_size=config.batch_size,
            old_fraction=config.old_fraction,
        )
        self._compile_forward()
        with self._timed("training_seconds"):
            self._pretrain(Path(pretrained_path) if pretrained_path else None)
        return self._finish_step(None, None)

    def advance(self, choice: int) -> StepOutcome:
        """Labels one candidate set, learns it, evaluates, and draws the next candidate sets.

        Args:
            choice: Index of a set whose `state.candidate_mask` is True.

        Raises:
            RuntimeError: There is no episode, or its last step did not come to its end.
            ValueError: The set does not exist, or the oracle's answer is none; nothing has
                changed then.
            FloatingPointError: Training diverged.
        """
        if not self._running:
            raise RuntimeError(
                "advance: expected a call of reset first, since there is no episode or its last "
                "step was broken off"
            )
        mask = self.state.candidate_mask
        if not (0 <= choice < len(mask) and mask[choice]):
            raise ValueError(
                f"choice: expected the index of one of the {mask.sum()} candidate sets, "
                f"got {choice!r}"
            )
        indices = self.state.candidates[choice]
        raw_images = self.episode.raw_images[indices]
        classes = ask(self._oracle, indices, raw_images, self.episode.classes)
        # What breaks off from here on leaves pool, model and state at odds.
        self._running = False
        self._step, self.timings = self._step + 1, {}
        with self._timed("training_seconds"):
            self._discover(classes)
            old = self._pool.labelled
            self._pool.label(indices, self._columns(classes))
            self._fit(self.config.update_iterations, old, indices)
        return self._finish_step(choice, int(np.bincount(classes).argmax()))

    @property
    def running(self) -> bool:
        """Whether there is an episode and its last step came to its end."""
        return self._running

    @property
    def finished(self) -> bool:
        """Whether no candidate set can be formed any more."""
        return not self.state.candidate_mask.any()

    @property
    def _model(self) -> keras.Model:
        return self._learner.model

    def _columns(self, classes: np.ndarray) -> np.ndarray:
        """Returns the column of the model's output for each class id."""
        return np.array([self._known_classes.index(int(c)) for c in classes], np.int64)

    def _new_model(self) -> keras.Model:
        if self.initial_model is not None:
            model = networks.copy(self.initial_model)
            networks.seed_layers(model, streams.generator(self._root, 0, "random layers"))
            return model
        return networks.build(
            self.config.network,
            self._pool.images.shape[1:],
            self.config.known_classes,
            self.config.weight_decay,
            streams.generator(self._root, 0, "weights"),
        )

    def _fit(self, iterations: int, old: np.ndarray, novel: np.ndarray | None) -> None:
        seed = streams.device_seed(self._root, self._step, "mini-batches")
        self._learner.train(iterations, seed, self._pool.labels, old, novel)

    def _pretrain(self, path: Path | None) -> None:
        fingerprint = self._pretraining_fingerprint() if path else ""
        if path and path.exists():
            arrays = checkpoint.read_arrays(path)
            if str(arrays.pop("fingerprint", "")) != fingerprint:
                raise ValueError(
                    f"{path}: expected pretrained weights of this configuration and seed, got "
                    f"others; use another output folder"
                )
            self._learner.set_arrays(arrays)
            return
        self._fit(self.config.pretrain_iterations, self._pool.labelled, None)
        if path:
            arrays = {"fingerprint": np.array(fingerprint), **self._learner.get_arrays()}
            checkpoint.write_arrays(path, arrays)

    def _pretraining_fingerprint(self) -> str:
        """Returns a hash of all that pretrained weights depend on."""
        config = self.config
        settings = (
            self._root, config.pretrain_iterations, config.batch_size, config.learning_rate,
            config.momentum, config.weight_decay,
        )  # fmt: skip
        digest = hashlib.sha256(repr(settings).encode())
        initial = self._pool.labelled
        for array in (self._pool.images[initial], self._pool.labels[initial]):
            digest.update(array.tobytes())
        for variable in self._model.variables:
            digest.update(variable.numpy().tobytes())
        return digest.hexdigest()

    def _discover(self, classes: np.ndarray) -> None:
        """Grows the head by an output for each class not seen before, in order of appearance."""
        unknown = [int(c) for c in dict.fromkeys(classes) if int(c) not in self._known_classes]
        if unknown:
            rng = streams.generator(self._root, self._step, "new units")
            self._learner.replace_model(networks.grow_head(self._model, len(unknown), rng))
            self._known_classes.extend(unknown)
            self._compile_forward()

    def _compile_forward(self) -> None:
        self._forward = networks.compile_features(self._model)

    def _finish_step(self, choice: int | None, queried_class: int | None) -> StepOutcome:
        with self._timed("evaluation_seconds"):
            outcome = evaluate(
                self.episode,
                networks.in_batches(self._forward, self.episode.test_images)[1],
                self._known_classes,
                step=self._step,
                labelled=len(self._pool.labelled),
                chosen_set=choice,
                queried_class=queried_class,
            )
        with self._timed("prediction_seconds"):
            features, logits = networks.in_batches(self._forward, self._pool.images)
            probabilities = tf.nn.softmax(logits).numpy()
        with self._timed("candidate_seconds"):
            sets, mask = self._sample_candidates(features)
        self.state = ExplorationState(
            model=self._model,
            pool=self._pool.snapshot(),
            candidates=read_only(sets),
            candidate_mask=read_only(mask),
            probabilities=read_only(probabilities),
            features=read_only(features),
            known_classes=tuple(self._known_classes),
            step=self._step,
        )
        self._running = True
        return outcome

    def _sample_candidates(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        config, unlabelled = self.config, self._pool.unlabelled
        groups = np.empty(0, np.int64)
        if len(unlabelled):
            groups = candidates.SAMPLERS[config.sampler](
                candidates.GroupingInputs(
                    unlabelled=unlabelled,
                    true_labels=self.episode.true_labels,
                    features=features,
                    set_size=config.set_size,
                    rng=streams.generator(self._root, self._step, "groups"),
                )
            )
        rng = streams.generator(self._root, self._step, "candidates")
        return candidates.sample(
            rng, unlabelled, groups, config.num_candidate_sets, config.set_size
        )

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.timings[name] = time.perf_counter() - start
