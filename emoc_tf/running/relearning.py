"""One model of an episode, fine-tuned again and again on one candidate set or another."""

from typing import Self

import numpy as np
import tensorflow as tf

from emoc_tf import streams
from emoc_tf.config import ExplorationConfig
from emoc_tf.data.images import ImageData
from emoc_tf.exploration.loop import Exploration
from emoc_tf.models import forward


class GivenAnswer:
    """An oracle that answers what it is told to."""

    answer: np.ndarray

    def label(self, indices: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Returns the answer."""
        return self.answer


def check_settings(config: ExplorationConfig) -> None:
    """Raises `ValueError` where a set is not learnt among the same old images as its control."""
    if config.pseudo_labels is not None:
        raise ValueError(
            f"pseudo_labels: expected none, since which images are learnt beside a set depends on "
            f"the set, so that it has no control, got {config.pseudo_labels}"
        )


class Start:
    """The model of one initialisation, after pretraining or `at` a step, to be fine-tuned again.

    Args:
        config: Settings.
        data: Training and test part.
        seed: As of a run.

    Attributes:
        state: What policies see.
        arrays: Everything to resume from.
        accuracy: On the test images.
        logits: (n_pool, C) of the pool's images.

    Raises:
        ValueError: See `check_settings`.
    """

    def __init__(
        self, config: ExplorationConfig, data: tuple[ImageData, ImageData], seed: int
    ) -> None:
        check_settings(config)
        exploration = Exploration(config, data)
        exploration.reset(streams.root_of(seed))
        self._begin(config, data, exploration)

    @classmethod
    def at(
        cls,
        config: ExplorationConfig,
        data: tuple[ImageData, ImageData],
        exploration: Exploration,
    ) -> Self:
        """Returns the start at any step of an exploration, which is not to go on before the end.

        Args:
            config: Its settings.
            data: Its data.
            exploration: Between two steps.

        Raises:
            ValueError: See `check_settings`.
        """
        check_settings(config)
        start = cls.__new__(cls)
        start._begin(config, data, exploration)
        return start

    def _begin(
        self,
        config: ExplorationConfig,
        data: tuple[ImageData, ImageData],
        exploration: Exploration,
    ) -> None:
        self._oracle = GivenAnswer()
        self._explorations: dict[int, Exploration] = {}
        self._controls: dict[int, np.ndarray] = {}
        self._config, self._data = config, data
        self.accuracy = exploration.outcomes[-1].test_accuracy
        self.true_labels = exploration.episode.true_labels
        self.state, self.arrays = exploration.state, exploration.save()
        self.logits = _logits(self.state.model, self.state.reference)

    def learn(self, choice: int, classes: np.ndarray, iterations: int) -> dict[str, float]:
        """Fine-tunes on a candidate set under given labels.

        Args:
            choice: The set's index.
            classes: (K,) class ids.
            iterations: Of SGD.

        Returns:
            `output_change`: mean over the pool's images of ‖f(x; θ_after) − f(x; θ)‖₁, over the C
            outputs there were before. `own_change`: the same with the model in the place of
            f(x; θ) that learnt old images only, the same ones in the same iterations.
            `accuracy_gain`: on the test images.
        """
        after = self._learn(choice, classes, iterations, False)
        accuracy, after = after.outcomes[-1].test_accuracy, self._logits_of(after)
        if iterations not in self._controls:
            # Any set: with the label of a known class and no image of it drawn, nothing is left.
            known = np.full_like(classes, self.state.known_classes[0])
            control = self._learn(choice, known, iterations, True)
            self._controls[iterations] = self._logits_of(control)
        return {
            "output_change": _change(self.logits, after),
            "own_change": _change(self._controls[iterations], after),
            "accuracy_gain": accuracy - self.accuracy,
        }

    def right(self, choice: int | None) -> np.ndarray:
        """Returns which test images the model has right after an update, (n_test,) bool.

        Args:
            choice: The set that is learnt, under its true labels, in as many iterations as an
                update has; None for the control.
        """
        only_old = choice is None
        if only_old:
            choice = int(np.flatnonzero(self.state.candidate_mask)[0])
        indices = self.state.candidates[choice]
        classes = self.true_labels[indices[indices >= 0]]
        if only_old:
            classes = np.full_like(classes, self.state.known_classes[0])
        iterations = self._config.update_iterations
        exploration = self._learn(choice, classes, iterations, only_old)
        model = exploration.state.model
        logits = forward.in_batches(
            forward.compile_forward(model), exploration.episode.test_images, model.inputs[0].dtype
        )
        predicted = np.array(exploration.state.known_classes)[logits.argmax(axis=1)]
        return predicted == classes_of_test_images(exploration)

    def _logits_of(self, exploration: Exploration) -> np.ndarray:
        return _logits(exploration.state.model, self.state.reference)

    def _learn(
        self, choice: int, classes: np.ndarray, iterations: int, only_old: bool
    ) -> Exploration:
        """Returns the exploration after an update step."""
        if iterations not in self._explorations:
            config = self._config.replace(update_iterations=iterations)
            exploration = Exploration(config, self._data, oracle=self._oracle)
            self._explorations[iterations] = exploration
        exploration = self._explorations[iterations]
        exploration.restore(self.arrays, None, None)
        self._oracle.answer = classes
        exploration.advance(choice, learn_set=not only_old)
        return exploration

    def step(self, choice: int, column: int) -> float:
        """Takes one step along the gradient of a set's mean loss, and returns the output change."""
        model, indices = self.state.model, self.state.candidates[choice]
        images = self.state.pool.images[indices[indices >= 0]]  # sets may be short
        kept = model.get_weights()
        with tf.GradientTape() as tape:
            logits = model(tf.constant(images), training=False)
            labels = tf.fill([len(images)], column)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.add_n([tf.reduce_mean(losses), *model.losses])
        variables = [variable.value for variable in model.trainable_variables]
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(self._config.learning_rate * gradient)
        change = _change(self.logits, _logits(model, self.state.reference))
        model.set_weights(kept)
        return change


def classes_of_test_images(exploration: Exploration) -> np.ndarray:
    """Returns the class id of each test image of a simulated episode, (n_test,)."""
    ids = {name: i for i, name in reversed(list(enumerate(exploration.class_names)))}
    episode = exploration.episode
    return np.array([ids.get(name, -2) for name in episode.test_names])[episode.test_labels]


def _change(before: np.ndarray, after: np.ndarray) -> float:
    differences = after[:, : before.shape[1]].astype(np.float64) - before
    return float(np.abs(differences).sum(axis=1).mean())


def _logits(model, images: np.ndarray) -> np.ndarray:
    return forward.in_batches(forward.compile_forward(model), images)
