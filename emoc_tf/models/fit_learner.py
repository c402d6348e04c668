"""A learner that trains by `keras.Model.fit`: any optimizer, callbacks, held-out answers."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from emoc_tf.data import views
from emoc_tf.models import graphs, structure
from emoc_tf.models.learner import check_arrays
from emoc_tf.models.own_learner import LearnerMaker

_UNSEEN, _TRAINED, _HELD_OUT = 0, 1, 2


class FitLearner:
    """Trains by `fit`, on old and novel images alike, each once an epoch; made by `maker`.

    The images labelled first and those of each query are split once, when they are first trained
    on. A held-out image is never trained on later, unless there is no other: then the first one is
    held out no more. Learnt is a function of the seed, of the weights and of what `get_arrays`
    returns. When the head changes, the optimizer starts anew, a schedule
    of its learning rate too. The model is trained as a part of another one that is compiled, so
    that it stays as it is.

    Args:
        model: The model to train, ending in logits.
        images: (n_pool, H, W, channels), an array or anything with `len`, `shape`, `dtype` and
            indexing by integer arrays; read a mini-batch at a time.
        **settings: See `maker`.

    Example:
        >>> from emoc_tf.envs import ActiveExplorationEnv
        >>> from emoc_tf.models import FitLearner
        >>> learner = FitLearner.maker("adam", epochs=5)
        >>> env = ActiveExplorationEnv(learner=learner, known_classes=2, novel_classes=1)
        >>> observation, info = env.reset(seed=0)
        >>> info["known_accuracy"] > 0.5
        True
    """

    def __init__(self, model: keras.Model, images: Any, **settings: Any) -> None:
        self._images, self._settings = images, settings
        self._roles = np.zeros(len(images), np.int8)
        self.replace_model(model)

    @classmethod
    def maker(
        cls,
        optimizer: Any = "adam",
        *,
        loss: Any = None,
        epochs: int | None = None,
        batch_size: int = 32,
        callbacks: Callable[[], Sequence[keras.callbacks.Callback]] | None = None,
        validation_split: float = 0.0,
        augmentation: keras.layers.Layer | None = None,
    ) -> LearnerMaker:
        """Returns a function that makes such learners, to be given as `learner`.

        Args:
            optimizer: A name, as Keras knows them, or an optimizer, such as that of a compiled
                model; its settings are taken, not its state.
            loss: Of columns (batch,) and logits (batch, C); None for the cross-entropy. What the
                model's regularisers say is added, as Keras does.
            epochs: At least 1; None for as many as make about the configuration's number of
                iterations. Where that is 0, nothing is trained in either case.
            batch_size: At least 1.
            callbacks: Returns new callbacks for each call of `fit`, such as
                `lambda: [keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True)]`.
            validation_split: The share of the images labelled so far that is held out, in [0, 1);
                callbacks see their loss and accuracy as `val_loss` and `val_accuracy`.
            augmentation: A layer that images pass through in training alone, such as
                `keras.Sequential([keras.layers.RandomFlip(), keras.layers.RandomRotation(0.1)])`.

        Raises:
            ValueError: A value is something else.
        """
        settings = {
            "optimizer": _check_optimizer(optimizer),
            "loss": _check_loss(loss),
            "epochs": epochs,
            "batch_size": batch_size,
            "callbacks": callbacks,
            "validation_split": validation_split,
            "augmentation": augmentation,
        }
        for name, value in (("epochs", epochs), ("batch_size", batch_size)):
            allowed = name == "epochs" and value is None
            if not allowed and (type(value) is not int or value < 1):
                raise ValueError(f"{name}: expected an integer of at least 1, got {value!r}")
        if not isinstance(validation_split, int | float) or not 0 <= validation_split < 1:
            raise ValueError(
                f"validation_split: expected a number in [0, 1), got {validation_split!r}"
            )
        if callbacks is not None and not callable(callbacks):
            raise ValueError(
                f"callbacks: expected a function that returns new ones, such as "
                f"lambda: [keras.callbacks.EarlyStopping(patience=3)], got {callbacks!r}"
            )
        if augmentation is not None and not isinstance(augmentation, keras.layers.Layer):
            raise ValueError(
                f"augmentation: expected a Keras layer, such as a keras.Sequential of some, got "
                f"{augmentation!r}"
            )
        return _Maker(cls, settings)

    def replace_model(self, model: keras.Model) -> None:
        """See `LearnerLike`."""
        self._model, settings = model, self._settings
        x = image = keras.Input(model.inputs[0].shape[1:], dtype=model.inputs[0].dtype)
        if (augmentation := settings["augmentation"]) is not None:
            x = augmentation(x)
            if augmentation.trainable_variables:
                raise ValueError(
                    f"augmentation: expected a layer without weights to train, got "
                    f"{augmentation.name!r} with {len(augmentation.trainable_variables)}; put it "
                    f"into the model, or set its trainable to False"
                )
        self._trainer = keras.Model(image, graphs.functional_input(model)(x))
        optimizer = settings["optimizer"]
        self._trainer.compile(
            type(optimizer).from_config(optimizer.get_config()),
            settings["loss"],
            metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
            jit_compile=False,
        )
        self._trainer.optimizer.build(self._trainer.trainable_variables)

    def train(
        self,
        iterations: int,
        seed: np.ndarray,
        labels: np.ndarray,
        old: np.ndarray,
        novel: np.ndarray | None = None,
    ) -> None:
        """See `LearnerLike`."""
        if not iterations:
            return
        used = np.union1d(old, () if novel is None else novel).astype(np.int64)
        rng = np.random.default_rng(np.asarray(seed, np.int32).view(np.uint32))
        self._split(used, rng)
        if (augmentation := self._settings["augmentation"]) is not None:
            structure.seed_layers(augmentation, rng)
        trained = self._batches(labels, used[self._roles[used] == _TRAINED], rng)
        held_out = self._batches(labels, used[self._roles[used] == _HELD_OUT], None)
        callbacks = self._settings["callbacks"]
        self._trainer.fit(
            trained,
            epochs=self._settings["epochs"] or max(1, round(iterations / len(trained))),
            shuffle=False,  # it shuffles itself, by the seed
            validation_data=held_out if len(held_out) else None,
            callbacks=None if callbacks is None else list(callbacks()),
            verbose=0,
        )

    def _batches(
        self, labels: np.ndarray, indices: np.ndarray, rng: np.random.Generator | None
    ) -> "_Batches":
        dtype, size = self._model.inputs[0].dtype, self._settings["batch_size"]
        return _Batches(self._images, dtype, labels, indices, size, rng)

    def _split(self, used: np.ndarray, rng: np.random.Generator) -> None:
        """Gives a role to the images that have none, so that the share held out is kept."""
        new = rng.permutation(used[self._roles[used] == _UNSEEN])
        wanted = int(self._settings["validation_split"] * len(used))
        missing = wanted - np.count_nonzero(self._roles[used] == _HELD_OUT)
        self._roles[new] = _TRAINED
        self._roles[new[: max(0, missing)]] = _HELD_OUT
        if not (self._roles[used] == _TRAINED).any():
            self._roles[used[:1]] = _TRAINED

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Returns the state of the optimizer, and which images are held out."""
        return {"roles": self._roles.copy()} | {
            name: variable.numpy() for name, variable in self._variables().items()
        }

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """See `LearnerLike`."""
        variables, roles = self._variables(), arrays.get("roles")
        check_arrays(variables, arrays)
        if roles is None or roles.shape != self._roles.shape:
            raise ValueError(
                f"roles: expected shape {self._roles.shape}, got "
                f"{None if roles is None else roles.shape}"
            )
        self._roles[:] = roles
        for name, variable in variables.items():
            variable.assign(arrays[name])

    def moved(
        self, arrays: Mapping[str, np.ndarray], place: Mapping[int, int], count: int
    ) -> dict[str, np.ndarray]:
        """Lets roles go with their images; see `LearnerLike`.

        Raises:
            ValueError: There are roles of fewer images than `place` names.
        """
        if (then := arrays.get("roles")) is None:  # which `set_arrays` says
            return dict(arrays)
        wanted = max(place, default=-1) + 1
        if then.ndim != 1 or len(then) < wanted:
            raise ValueError(
                f"roles: expected those of at least {wanted} images, got shape {then.shape}"
            )
        roles = np.full(count, _UNSEEN, np.int8)
        roles[list(place.values())] = then[list(place)]
        return {**arrays, "roles": roles}

    def _variables(self) -> dict[str, keras.Variable]:
        return {f"optimizer_{i}": v for i, v in enumerate(self._trainer.optimizer.variables)}


@dataclasses.dataclass(frozen=True)
class _Maker:
    """Makes learners of the same settings; that which is called a learner by environments.

    Attributes:
        fingerprint: Equal for equal settings, in other processes too.
    """

    made: type[FitLearner]
    settings: dict[str, Any]
    fingerprint: str = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        told = [f"{name}={_told(value)}" for name, value in self.settings.items()]
        object.__setattr__(self, "fingerprint", f"{self.made.__qualname__}({', '.join(told)})")

    def __call__(self, model: keras.Model, images: Any) -> FitLearner:
        return self.made(model, images, **self.settings)


def _told(value: Any) -> str:
    """Returns what a setting is, without the names that Keras counts on."""
    if isinstance(value, keras.Model):
        return str([_told(layer) for layer in graphs.flat_layers(value)])
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if not hasattr(value, "get_config"):
        return repr(value)
    config = {name: each for name, each in value.get_config().items() if name != "name"}
    return f"{type(value).__module__}.{type(value).__qualname__}({config})"


class _Batches(keras.utils.PyDataset):
    """Mini-batches of some images with their labels, each image once; read as they are needed.

    Args:
        images: The pool's.
        dtype: That the model takes.
        labels: (n_pool,) columns.
        indices: (n,) which images.
        batch_size: How many at once.
        rng: Shuffles them before each epoch; None leaves them in their order.
    """

    def __init__(
        self,
        images: Any,
        dtype: str,
        labels: np.ndarray,
        indices: np.ndarray,
        batch_size: int,
        rng: np.random.Generator | None,
    ) -> None:
        super().__init__()
        self._images, self._dtype, self._rng = images, dtype, rng
        self._labels, self._indices, self._batch_size = labels, indices, batch_size
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self._indices) // self._batch_size)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        start = number * self._batch_size
        indices = self._indices[start : start + self._batch_size]
        images = views.read(self._images, indices).astype(self._dtype, copy=False)
        return images, self._labels[indices].astype(np.int32)

    def on_epoch_end(self) -> None:
        """Shuffles the images."""
        if self._rng is not None:
            self._indices = self._rng.permutation(self._indices)


def _check_optimizer(optimizer: Any) -> keras.optimizers.Optimizer:
    """Returns an optimizer; raises `ValueError` unless there is one of this name."""
    try:
        return keras.optimizers.get(optimizer)
    except (ValueError, TypeError):
        raise ValueError(
            f"optimizer: expected a Keras optimizer or the name of one, such as 'adam', got "
            f"{optimizer!r}"
        ) from None


def _check_loss(loss: Any) -> Any:
    """Returns a loss of columns and logits; raises `ValueError` for one of something else."""
    if loss is None:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    ours = "keras.losses.SparseCategoricalCrossentropy(from_logits=True)"
    if not callable(loss) or isinstance(loss, type):
        raise ValueError(f"loss: expected a Keras loss or a function, such as {ours}, got {loss!r}")
    config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
    one_hot = isinstance(loss, keras.losses.CategoricalCrossentropy)
    if one_hot or not config.get("from_logits", True):
        raise ValueError(
            f"loss: expected one of columns (batch,) and logits (batch, C), such as {ours}, got "
            f"{type(loss).__name__} of {'one-hot labels' if one_hot else 'probabilities'}"
        )
    return loss
