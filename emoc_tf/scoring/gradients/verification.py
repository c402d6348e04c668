"""A check that the factors of each layer give the gradient that automatic differentiation gives.

Graphs can do what no rule foresees: an operation may use a layer's weights, a window may be placed
in a way of its own. A layer whose factors give another gradient is not trusted, nor is one whose
gradient tells nothing.
"""

from collections import Counter
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.models import draws
from emoc_tf.models.graphs import last_operation, trained_variables
from emoc_tf.scoring.gradients import contractions, local
from emoc_tf.scoring.gradients.layers import Probe
from emoc_tf.scoring.gradients.local import LocalStage
from emoc_tf.scoring.gradients.passes import Passes
from emoc_tf.scoring.gradients.stages import Factors, Stage

TOLERANCE, ROUNDING = 1e-3, 1e-5
SAME = 1e-4

Part = Stage | keras.Layer


class Verdict(NamedTuple):
    """What gives the right gradient.

    Attributes:
        stages: Of layers whose stages do, by the layer's id.
        local: Ids of the layers, seen as they are, that do.
        vectorised: Of each use of such a layer, whether examples can be taken at once.
    """

    stages: dict[int, list[Stage]]
    local: set[int]
    vectorised: dict[int, bool]


def verified(
    model: keras.Model,
    known: dict[int, list[Stage]],
    shown: Probe,
    passes: Passes,
    splits: bool,
) -> Verdict:
    """Returns which layers give the right gradient for random weights and images.

    Theirs come from the compiled passes that scores are made of. The weights are not the model's
    own: where these are 0, as those of a new head or of a gate often are, whatever lies behind
    them gives the same gradient. What gives none, or none that is finite, meets other weights and
    images; it is not trusted if none of them tells.

    Args:
        model: A functional model.
        known: Stages by layer id, see `layers.known_stages`.
        shown: The probe with these layers in view, see `layers.probe`.
        passes: Its passes.
        splits: Whether the probe ends at the head's input.

    Raises:
        ValueError: The model adds losses when it is called, which are no function of its weights,
            or what it gives of an image depends on those beside it.
    """
    stages = [stage for own in known.values() for stage in own]
    seen = [use.stage.layer for use in shown.uses if isinstance(use.stage, LocalStage)]
    parts: dict[int, Part] = {id(part): part for part in (*stages, *seen)}
    proved, wrong, silent, vectorised = set(), set(), set(), {}
    for draw in draws.DRAWS:
        right = _Right(model, draw, list(parts.values()))
        if right.is_finite:
            with right.scope():
                found = _Found(model, known, shown, passes, splits, right)
                _check_alone(model, draw, passes, found)
                for key in parts.keys() - wrong:
                    told = found.told(parts[key], right)
                    wrong |= {key} if told == "wrong" else set()
                    proved |= {key} if told == "right" else set()
                    silent |= {key} if told == "zero" and draw.weights == "fresh" else set()
            for use, fast in found.vectorised.items():
                vectorised[use] = fast and vectorised.get(use, True)
        if parts.keys() <= proved | wrong:
            break
    # No gradient at fresh weights either, as of what the next layer takes back: none is right.
    proved = (proved | silent) - wrong
    return Verdict(
        {layer: own for layer, own in known.items() if proved.issuperset(map(id, own))},
        {id(layer) for layer in seen} & proved,
        {
            use: vectorised.get(use, False)
            for use, each in enumerate(shown.uses)
            if isinstance(each.stage, LocalStage)
        },
    )


def same_outputs(model: keras.Model, graph: keras.Model) -> bool:
    """Returns whether another graph of a model's layers gives its logits, where they are finite.

    Seeds and gradients come from the graph: if it computes something else, such as without a mask,
    the gradients of all layers are wrong.

    Args:
        model: See `verified`, with weights and images drawn as there.
        graph: A model of the same inputs whose weights are the model's.
    """
    finite = 0
    for draw in draws.DRAWS:
        # Two, or a mix-up of images and times could not be seen. New ones for each: a layer that
        # returns what it gets leaves its mask on them.
        given = [
            tf.concat([draws.image(model, draw, seed) for seed in (0, 1)], 0)
            for _ in (model, graph)
        ]
        with keras.StatelessScope(draws.weights(model, draw), collect_losses=True):
            right, found = (
                np.asarray(each(images, training=False))
                for each, images in zip((model, graph), given, strict=True)
            )
        if np.isfinite(right).all():
            if not _norm(found - right) <= SAME * _norm(right):
                return False
            finite += 1
    return finite > 0


def _variables(part: Part) -> list[keras.Variable]:
    return part.parameters if isinstance(part, Stage) else trained_variables(part)


class _Right:
    """The gradients of some parts of a model for drawn weights and one image, and one seed.

    Attributes:
        image: (1, ...).
        seed: (1, C), of the logits.
        gradients: Of each variable, by its id; None where the logits do not depend on it.
        is_finite: Whether the logits are.
    """

    def __init__(self, model: keras.Model, draw: draws.Draw, parts: list[Part]) -> None:
        self.image = draws.image(model, draw)
        self._drawn = draws.weights(model, draw)
        own = {id(v): v for part in parts for v in _variables(part)}
        by_id = {id(variable): value for variable, value in self._drawn}
        values = [by_id[key] for key in own]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            with self.scope() as scope:
                logits = model(self.image, training=False)
        _check_losses(model, scope)
        self.is_finite = bool(np.isfinite(logits).all())
        self.seed = tf.constant(np.random.default_rng(0).normal(size=logits.shape), logits.dtype)
        found = tape.gradient(logits, values, output_gradients=self.seed)
        self.gradients = dict(zip(own, map(_dense, found), strict=True))

    def scope(self) -> keras.StatelessScope:
        """Returns a scope in which variables have the drawn values."""
        return keras.StatelessScope(self._drawn, collect_losses=True)

    def of(self, variable: keras.Variable) -> tf.Tensor:
        """Returns the gradient of a variable, 0 where the logits do not depend on it."""
        found = self.gradients[id(variable)]
        return tf.zeros(variable.shape, variable.dtype) if found is None else found


def _norm(tensor: tf.Tensor) -> float:
    return float(np.linalg.norm(np.asarray(tensor).ravel()))


def _dense(gradient: Any) -> tf.Tensor | None:
    return None if gradient is None else tf.convert_to_tensor(gradient)


class _Found:
    """What the passes give for one image and one seed.

    Attributes:
        uses: All.
        image: (1, ...).
        output: (1, ...) of the passes.
        vectorised: See `Verdict`; without uses of which this image does not tell.
    """

    def __init__(
        self,
        model: keras.Model,
        known: dict[int, list[Stage]],
        shown: Probe,
        passes: Passes,
        splits: bool,
        right: _Right,
    ) -> None:
        self.uses = uses = tuple(range(len(shown.uses)))
        values, seed = passes.values(), right.seed
        forward = passes.forward(uses, values, right.image)
        self.image, self.output = right.image, forward.output
        self._factors: dict[int, Factors] = {}
        gradient = seed
        if splits:
            head = last_operation(model)
            gradient = tf.matmul(seed, head.kernel, transpose_b=True)
            gradient = tf.cast(gradient, forward.output.dtype)
            for stage in known.get(id(head), []):
                inputs = tf.cast(forward.output, stage.compute_dtype)
                self._factors[id(stage)] = Factors(stage.factor(inputs, seed), seed[:, None, None])
        deltas = passes.backward(uses, forward.kept, gradient)
        taps = dict(zip(uses, forward.taps, strict=True))
        rows = [dict(zip(uses, deltas, strict=True))]
        # Of each variable of layers seen as they are, (size,), and how large its terms are.
        self._rows, self._terms, self.vectorised = Counter(), Counter(), {}
        by_stage: dict[int, list[int]] = {}
        # What has several rows for one image, such as its times, has no row for each of several.
        several = [
            use.stage
            for place, use in enumerate(shown.uses)
            if any(len(each) != 1 for each in tf.nest.flatten(taps[place]))
        ]
        self._several = {id(e.layer if isinstance(e, LocalStage) else e) for e in several}
        for place, use in enumerate(shown.uses):
            if not self._several.isdisjoint((id(use.stage), id(use.stage.layer))):
                continue
            if isinstance(use.stage, LocalStage):
                self._see(passes, values, place, use.stage, *taps[place], deltas[place])
            else:
                by_stage.setdefault(id(use.stage), []).append(place)
        for own in by_stage.values():
            stage = shown.uses[own[0]].stage
            self._factors[id(stage)] = contractions.merged_factors(stage, own, taps, rows)

    def _see(
        self,
        passes: Passes,
        values: list[tf.Tensor],
        place: int,
        stage: LocalStage,
        inputs: list[tf.Tensor],
        output: tf.Tensor,
        delta: tf.Tensor,
    ) -> None:
        """Adds the rows of a layer's use."""

        def every(fast: bool, *given: Any) -> list[tf.Tensor]:
            return passes.local_rows(place, fast, values, *given)

        agree = False if local.has_loop(stage, inputs) else local.agree(every, inputs, output)
        if agree is not None:
            self.vectorised[place] = agree
        found = every(bool(agree), inputs, delta[:, None])
        for variable, row in zip(trained_variables(stage.layer), found, strict=True):
            self._rows[id(variable)] += row[0, 0]
            self._terms[id(variable)] += _norm(row) + _norm(delta)

    def told(self, part: Part, right: _Right) -> Literal["right", "wrong", "zero", "not finite"]:
        """Returns whether a part gives the right gradient, and whether there is one."""
        if id(part) in self._several:
            return "wrong"
        tells = False
        for have, want, terms in self._compared(part, right):
            size = _norm(want)
            if not np.isfinite(size):
                return "not finite"
            allowed = TOLERANCE * size + ROUNDING * terms
            if not _norm(have - want) <= allowed:
                return "wrong"
            tells = tells or size > allowed
        # What the logits do not depend on has no gradient, whatever the weights are.
        never = all(right.gradients[id(variable)] is None for variable in _variables(part))
        return "right" if tells or never else "zero"

    def _compared(self, part: Part, right: _Right) -> Any:
        """Yields gradients as they are found, as they are right, and how large their terms are."""
        if not isinstance(part, Stage):
            for variable in trained_variables(part):
                key = id(variable)
                yield self._rows[key], tf.reshape(right.of(variable), [-1]), self._terms[key]
            return
        own = self._factors[id(part)]
        inputs = 1.0 if "int" in own.inputs.dtype.name else 1 + _norm(own.inputs)
        terms = inputs * _norm(own.deltas)
        wanted = {id(variable): right.of(variable) for variable in part.parameters}
        for row, want in zip(
            contractions.explicit_rows(part, own),
            contractions.direction_rows(part, wanted),
            strict=True,
        ):
            yield row[0, 0], want, terms


def _check_alone(model: keras.Model, draw: draws.Draw, passes: Passes, found: _Found) -> None:
    """Raises `ValueError` if what is found of an image is another beside a second one."""
    if model.inputs[0].shape[0] is not None:
        return
    pair = tf.concat([found.image, draws.image(model, draw, seed=1)], 0)
    beside = passes.forward(found.uses, passes.values(), pair).output
    if len(beside) != 2 or not _norm(beside[:1] - found.output) <= TOLERANCE * _norm(found.output):
        raise ValueError(
            "model: expected outputs of an image that follow from it alone, got others beside "
            "another image; keep what layers compute over a batch, such as its mean, as weights"
        )


def _check_losses(model: keras.Model, scope: keras.StatelessScope) -> None:
    if scope.losses:
        penalties = sum(v.regularizer is not None for v in model.trainable_variables)
        raise ValueError(
            f"model: expected losses of its weights alone, {penalties} regularisers, got "
            f"{penalties + len(scope.losses)} losses after a call; add_loss and activity "
            f"regularisers are no part of ω"
        )
