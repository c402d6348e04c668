"""The model of one episode: made, pretrained, updated, grown, evaluated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from emoc_tf import first_model, networks, pretraining, streams
from emoc_tf.config import ExplorationConfig
from emoc_tf.learner import Learner
from emoc_tf.pool import Pool


class EpisodeModel:
    """A Keras model with its learner. It knows columns of its output, but no classes.

    Args:
        config: The settings.
        own: What `first_model.copy_own` returned; None builds `config.network`.
        images: (n_pool, H, W, channels) float32, all that may ever be trained on.
        root: Of the episode; weights, new units and mini-batches descend from it.
        num_outputs: C, where `set_arrays` is to bring the weights of a model that has grown; None
            for a model from its beginning.
    """

    def __init__(
        self,
        config: ExplorationConfig,
        own: keras.Model | None,
        images: np.ndarray,
        root: int,
        num_outputs: int | None = None,
    ) -> None:
        self._config, self._root = config, root
        model = first_model.make(config, own, images.shape[1:], root)
        units = (num_outputs or config.known_classes) - config.known_classes
        if units:
            model = networks.grow_head(model, units, self._rng_of_units(0))
        self._learner = Learner(
            model,
            images,
            learning_rate=config.learning_rate,
            momentum=config.momentum,
            batch_size=config.batch_size,
            old_fraction=config.old_fraction,
        )
        self._forward = networks.compile_features(model)

    @property
    def model(self) -> keras.Model:
        """The Keras model, another one after each `grow`."""
        return self._learner.model

    def pretrain(self, pool: Pool, path: Path | None, allow_mixed: bool) -> dict[str, Any] | None:
        """Trains on the initial images, or takes over what another episode of the root learnt.

        Args:
            pool: Whose initial images are labelled.
            path: Of an `.npz` file: read if it is there, otherwise written; None for none.
            allow_mixed: See `pretraining.read`.

        Returns:
            The environment that weights were read from, if it is another one.

        Raises:
            ValueError: See `pretraining.read`.
            FloatingPointError: Training diverged.
        """
        expected = ""
        if path:
            expected = pretraining.fingerprint(self._config, self._root, pool, self._learner)
        if path and path.exists():
            return pretraining.read(path, expected, self._learner, allow_mixed)
        self._fit(0, self._config.pretrain_iterations, pool.labels, pool.labelled, None)
        if path:
            pretraining.write(path, expected, self._learner)
        return None

    def update(self, step: int, labels: np.ndarray, old: np.ndarray, novel: np.ndarray) -> None:
        """Learns the set of an update step, see `Learner.train`.

        Raises:
            FloatingPointError: Training diverged.
        """
        self._fit(step, self._config.update_iterations, labels, old, novel)

    def _fit(
        self,
        step: int,
        iterations: int,
        labels: np.ndarray,
        old: np.ndarray,
        novel: np.ndarray | None,
    ) -> None:
        seed = streams.device_seed(self._root, step, "mini-batches")
        try:
            self._learner.train(iterations, seed, labels, old, novel)
        except FloatingPointError as error:
            raise FloatingPointError(f"{_where(step)}: {error}") from error

    def grow(self, step: int, units: int) -> None:
        """Adds outputs in an update step; the others stay as they are, bit for bit."""
        self._learner.replace_model(networks.grow_head(self.model, units, self._rng_of_units(step)))
        self._forward = networks.compile_features(self.model)

    def _rng_of_units(self, step: int) -> np.random.Generator:
        return streams.generator(self._root, step, "new units")

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns features (n, features), the inputs of the head, and logits (n, C)."""
        return networks.in_batches(self._forward, images)

    def check_finite(self, step: int, *outputs: np.ndarray) -> None:
        """Raises `FloatingPointError` unless all outputs are finite numbers."""
        if not all(np.isfinite(output).all() for output in outputs):
            error = self._learner.diverged("outputs that are not finite")
            raise FloatingPointError(f"{_where(step)}: {error}")

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Returns weights, states of random layers and momentum by name."""
        return self._learner.get_arrays()

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes over what `get_arrays` returned; raises `ValueError` as `Learner.set_arrays`."""
        self._learner.set_arrays(arrays)


def _where(step: int) -> str:
    return f"update step {step}" if step else "pretraining"
