"""Output changes ‖J(x) g(x',y')‖₁ in batches, compiled once."""

import copy
import functools
from collections.abc import Callable, Hashable
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.models import structure, traces
from emoc_tf.models.graphs import functional, inner_layers
from emoc_tf.scoring.gradients.kept import Gradients, Pairs, Sums
from emoc_tf.scoring.gradients.per_example import GradientFactors
from emoc_tf.scoring.gradients.stages import Factors
from emoc_tf.scoring.residuals import residual, unseen_residual

# Weights that are kept beside functions that models share; a large model has functions of its own.
SHARED_PARAMETERS = 2_000_000

# A model of more layers runs in parts, its passes and what is made of them one after the other. To
# compile all of them into one function is faster by the call where a call is short, but takes
# longer than the calls do where there are many layers.
WHOLE_LAYERS = 100  # a ResNet-20 has 71, MobileNetV2 156


class OutputChanges:
    """Compiled functions of batches, traced once for any number of images and pairs.

    Args:
        model: As in `EMOCScorer`.
        output: `"logits"` or `"softmax"`, what f is.
        regularizer: Whether ∇ω is part of the gradients.
        dtype: Of the product of explicit gradients.
        shared: Whether the functions are traced for any model of the same architecture, see `of`.

    Attributes:
        num_classes: C.
        factors: The model's gradients.
        dtype: Of the product of explicit gradients.
    """

    def __init__(
        self,
        model: keras.Model,
        output: str,
        regularizer: bool,
        dtype: tf.DType,
        shared: bool = False,
    ) -> None:
        self.factors = GradientFactors(model, shared)
        self._in_parts = len(inner_layers(model)) > WHOLE_LAYERS
        self._model = model
        self._output = output
        self.num_classes = model.output_shape[-1]
        self._regularizer = regularizer and bool(model.losses)
        self.dtype = dtype
        image = functional(model).inputs[0]
        self._images = tf.TensorSpec(image.shape, image.dtype)
        self._variables = _values(model) if shared else None
        self._traced: dict[Hashable, Callable] = {}  # those of all models that share them
        if not self._in_parts:  # what cannot be traced is to fail here
            self._trace_gradients(1, False)
            _ = self.changes

    def of(self, model: keras.Model) -> Self:
        """Returns the same functions of another model with the same architecture."""
        other = copy.copy(self)
        for name in _LAZY:
            vars(other).pop(name, None)
        other._variables = _values(model)
        return other

    def _function(self, name: Hashable, function: Callable, *specs: Any) -> Callable:
        """Returns a function compiled, of the model's variables where they are shared."""
        if self._in_parts:
            return function
        variables = self._variables
        if name not in self._traced:
            self._traced[name] = self._trace(function, specs)
        traced = self._traced[name]
        return traced if variables is None else functools.partial(traced, variables)

    def _product(self, name: Hashable, function: Callable, *specs: Callable[[], Any]) -> Callable:
        """Returns a function of gradients compiled; in parts, once it is known what they are."""
        if not self._in_parts:
            return self._function(name, function, *(spec() for spec in specs))

        def product(*given: Any) -> tf.Tensor:
            if name not in self._traced:
                specs = tuple(self._specs_of(each) for each in given)
                self._traced[name] = self._trace(function, specs)
            return self._traced[name](*given)

        return product

    def _specs_of(self, given: Any) -> Any:
        """Returns specifications for other images, pairs and sets than those that are given."""
        return _open_specs(given)

    def _trace(self, function: Callable, specs: tuple) -> Callable:
        # Traced as it is: to translate its Python first would double the time.
        if self._variables is None:
            return tf.function(function, autograph=False).get_concrete_function(*specs)
        own = self._model.trainable_variables

        def of_any(variables: list[tf.Variable], *given: Any) -> Any:
            values = [tf.convert_to_tensor(variable) for variable in variables]
            with keras.StatelessScope(zip(own, values, strict=True)):
                return function(*given)

        traced = tf.function(of_any, autograph=False)
        return traced.get_concrete_function(self._variables, *specs)

    @functools.cached_property
    def jacobian(self) -> Callable[..., Gradients]:
        """Function of images (B, ...): J(x), a row for each output."""
        return self._function("jacobian", self._jacobian, self._images)

    @functools.cached_property
    def changes(self) -> Callable[..., tf.Tensor]:
        """Function of J of B images and `Pairs` of n: ‖J(x) g‖₁, (B, n)."""
        return self._product("changes", self._changes, self._jacobian_spec, self._pairs)

    @functools.cached_property
    def last(self) -> Callable[..., tuple[tf.Tensor, list[Factors]]]:
        """Function of images (B, ...): their logits and what the last dense layers have of J."""
        return self._function("last", self._last, self._images)

    @functools.cached_property
    def last_changes(self) -> Callable[..., tf.Tensor]:
        """Function of that and `Pairs` of n: ‖J(x) g‖₁ summed over these layers alone, (B, n)."""
        return self._product("last changes", self._last_changes, self._last_spec, self._pairs)

    @functools.cached_property
    def sum_changes(self) -> Callable[..., tf.Tensor]:
        """Function of J of B images and `Sums` of m sets: ‖J(x) Σ g‖₁, (B, m)."""
        return self._product("sum changes", self._changes, self._jacobian_spec, self._sums)

    @functools.cached_property
    def last_sum_changes(self) -> Callable[..., tf.Tensor]:
        """As `last_changes`, of `Sums`."""
        return self._product("last sum changes", self._last_changes, self._last_spec, self._sums)

    def _jacobian_spec(self) -> Gradients:
        self._function("jacobian", self._jacobian, self._images)
        return _open(self._traced["jacobian"].structured_outputs)

    def _last_spec(self) -> list[Factors]:
        self._function("last", self._last, self._images)
        return _open(self._traced["last"].structured_outputs)[1]

    def _pairs(self) -> Pairs:
        return _open(self._traced["gradients", 1, False].structured_outputs)

    def _sums(self) -> Sums:
        kinds = [contraction for contraction, _, _ in self.factors.factored]
        factored = [
            own
            if kind == "apply"
            else tuple(tf.TensorSpec([None, *part.shape], part.dtype) for part in own)
            for kind, own in zip(kinds, self._pairs().factored, strict=True)
        ]
        counts = tf.TensorSpec([None], self.factors.dtype)
        return Sums(self._pairs().explicit, factored, counts)

    def _trace_gradients(self, width: int, unseen: bool) -> Callable[..., Pairs]:
        """Returns the function of images and `width` labels each."""
        labels = tf.TensorSpec([None, width], tf.int32)
        gradients = functools.partial(self._gradients, unseen)
        return self._function(("gradients", width, unseen), gradients, self._images, labels)

    def gradients(self, images: tf.Tensor, labels: np.ndarray) -> Pairs:
        """Returns g(x',y') of images with L labels each, image by image.

        Args:
            images: (B, ...).
            labels: (B, L) columns, or C for a class without one, see `unseen_residual`; each L
                is traced once, and once more where there is a C.
        """
        unseen = bool((labels == self.num_classes).any())
        function = self._trace_gradients(labels.shape[1], unseen)
        return function(images, tf.constant(labels, tf.int32))

    @property
    def pair_bytes(self) -> int:
        """What the gradient of a pair takes."""
        return self.factors.pair_bytes(self.dtype)

    def gradient_bytes(self, shape: tuple[int, ...]) -> int:
        """About what a pair takes while the gradient of an image of a shape is computed."""
        return self.factors.gradient_bytes(1, self.dtype, shape)

    def jacobian_bytes(self, shape: tuple[int, ...], num_pairs: int) -> int:
        """About what a reference image takes while J is computed and meets `num_pairs` pairs."""
        jacobian = self.factors.gradient_bytes(self.num_classes, self.dtype, shape)
        return jacobian + self.factors.change_bytes(num_pairs)

    def tensor(self, images: np.ndarray) -> tf.Tensor:
        """Returns images as the model takes them."""
        return tf.convert_to_tensor(images, dtype=self._images.dtype)

    def _gradients(self, unseen: bool, images: tf.Tensor, labels: tf.Tensor) -> Pairs:
        def loss_seeds(logits: tf.Tensor) -> tf.Tensor:
            posterior, columns = tf.nn.softmax(logits), tf.unstack(labels, axis=1)
            seeds = [residual(posterior, column) for column in columns]
            if unseen:
                other = unseen_residual(logits)
                seeds = [
                    tf.where((column == self.num_classes)[:, None], other, seed)
                    for column, seed in zip(columns, seeds, strict=True)
                ]
            return tf.stack(seeds, 1)

        gradients = self.factors.gradients(images, loss_seeds, self.dtype, self._penalty_gradient())
        return self.factors.prepare(gradients)

    def _jacobian(self, images: tf.Tensor) -> Gradients:
        return self.factors.gradients(images, self._output_seeds, self.dtype)

    def _changes(self, jacobian: Gradients, pairs: Pairs) -> tf.Tensor:
        change = self.factors.change(jacobian, pairs, self._penalty_gradient())
        return tf.reduce_sum(tf.abs(change), axis=1)

    def _last(self, images: tf.Tensor) -> tuple[tf.Tensor, list[Factors]]:
        return self.factors.last_dense(images, self._output_seeds)

    def _last_changes(self, jacobian: list[Factors], pairs: Pairs) -> tf.Tensor:
        change = self.factors.last_change(jacobian, pairs, self._penalty_gradient())
        return tf.reduce_sum(tf.abs(change), axis=1)

    def _output_seeds(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns the rows of ∂f/∂logits, (B, C, C)."""
        if self._output == "logits":
            rows = tf.eye(self.num_classes, dtype=logits.dtype)
            return tf.tile(rows[None], [tf.shape(logits)[0], 1, 1])
        posterior = tf.nn.softmax(logits)
        # Row c is p_c·(e_c − p).
        rows = [
            -posterior[:, c, None] * residual(posterior, tf.fill(tf.shape(posterior)[:1], c))
            for c in range(self.num_classes)
        ]
        return tf.stack(rows, axis=1)

    def _penalty_gradient(self) -> dict[int, tf.Tensor]:
        """Returns ∇ω by variable id; empty without a regulariser."""
        if not self._regularizer:
            return {}
        find = self._penalty_gradients
        if self._in_parts:  # its operations are many and short
            if "penalty" not in self._traced:
                self._traced["penalty"] = self._trace(find, ())
            find = self._traced["penalty"]
        return {id(v): g for v, g in zip(self._model.trainable_variables, find(), strict=True)}

    def _penalty_gradients(self) -> list[tf.Tensor]:
        values = [variable.value for variable in self._model.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(values)
            penalty = tf.add_n(self._model.losses)
        return tape.gradient(penalty, values, unconnected_gradients="zero")


# What `of` makes anew: the functions of one model.
_LAZY = tuple(
    name
    for name, each in vars(OutputChanges).items()
    if isinstance(each, functools.cached_property)
)


def changes_of(
    model: keras.Model, output: str, regularizer: bool, dtype: tf.DType
) -> OutputChanges:
    """Returns the functions of a model; small ones of one architecture share them, see `traces`.

    Args:
        model: As in `EMOCScorer`, as for the following.
        output: See `OutputChanges`.
        regularizer: See `OutputChanges`.
        dtype: See `OutputChanges`.
    """
    architecture = traces.architecture(model)
    large = model.count_params() > SHARED_PARAMETERS or len(inner_layers(model)) > WHOLE_LAYERS
    if architecture is None or large:
        return OutputChanges(model, output, regularizer, dtype)
    # Plans and warnings name layers.
    names = tuple(layer.name for layer in inner_layers(model) if layer.weights)
    key = ("changes", architecture, names, output, regularizer, dtype)

    def trace() -> OutputChanges | None:
        # It holds a model, which is not to be that of somebody else.
        try:
            twin = structure.copy(model)
            same = traces.architecture(twin) == architecture
            return OutputChanges(twin, output, regularizer, dtype, True) if same else None
        except (MemoryError, tf.errors.ResourceExhaustedError):
            raise  # tells nothing about the model
        except Exception:  # such as a layer that is shared where no configuration tells
            return None

    shared = traces.once(key, trace)
    return OutputChanges(model, output, regularizer, dtype) if shared is None else shared.of(model)


def _values(model: keras.Model) -> list[tf.Variable]:
    return [variable.value for variable in model.trainable_variables]


def _open(structure):
    """Returns specifications of the same tensors for batches of any size."""
    return tf.nest.map_structure(
        lambda part: tf.TensorSpec([None, *part.shape[1:]], part.dtype), structure
    )


def _open_specs(given: Any) -> Any:
    """Returns specifications for other images, pairs and sets than those that are given."""
    if not isinstance(given, Sums):
        return _open(given)
    factored = [
        tuple(tf.TensorSpec([None, None, *part.shape[2:]], part.dtype) for part in parts)
        for parts in given.factored
    ]
    return Sums(_open(given.explicit), factored, _open(given.counts))
