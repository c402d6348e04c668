"""Directions that are drawn, not fitted, and gradients cut down to them literally."""

import numpy as np

from emoc_tf.scoring import reference
from emoc_tf.scoring.sketches import cuts, fitting, sketch
from tests.scoring import literal


def small_stages_are_cut(monkeypatch):
    """Has every kind of cut happen in networks of a few parameters."""
    monkeypatch.setattr(cuts, "WHOLE_SIZE", 1)
    monkeypatch.setattr(cuts, "WHOLE_UNITS", 3)


def directions(spaces, share, seed=0):
    """Returns orthonormal directions of each space: all of them, or a share of at least one."""
    rng = np.random.default_rng(seed)
    made = []
    for own in spaces:
        bases = [np.linalg.qr(rng.normal(size=(size, size)))[0] for size in own]
        made.append(tuple(each[:, : max(1, round(share * len(each)))] for each in bases))
    return made


def use(monkeypatch, share):
    """Has sketches take drawn directions; returns a list of (cut, directions) as they are."""
    given = []

    def fit(changes, images, error, most, budget, seed):
        made = directions([cut.spaces for cut in changes.factors.cut], share)
        given[:] = zip(changes.factors.cut, made, strict=True)
        return fitting.Fit(made, [], 0.0)

    monkeypatch.setattr(sketch, "fit", fit)
    return given


def projector(model, given):
    """Returns (P, P), what cutting makes of a gradient in the order of trainable variables."""
    variables = model.trainable_variables
    starts = np.cumsum([0, *(np.prod(v.shape, dtype=int) for v in variables)])
    places = {v.path: slice(*starts[i : i + 2]) for i, v in enumerate(variables)}
    whole = np.eye(starts[-1])
    for cut, bases in given:
        stage = cut.layer.stage
        if cut.kind == "rows":
            index = []
            for variable in stage.parameters:
                where = places[variable.path]
                own = np.arange(where.start, where.stop).reshape(variable.shape)
                if variable is stage.kernel:
                    own = stage.kernel_rows(own).numpy()
                index.append(own.ravel())
            index = np.concatenate(index)
            whole[np.ix_(index, index)] = bases[0] @ bases[0].T
            continue
        own = places[stage.kernel.path]
        numbers = np.arange(own.start, own.stop).reshape(stage.kernel.shape)
        index = np.asarray(stage.kernel_rows(numbers)).ravel()  # (O, F) row by row
        inputs = bases[0] @ bases[0].T
        deltas = bases[1] @ bases[1].T if len(bases) == 2 else np.eye(stage.units)
        whole[np.ix_(index, index)] = np.kron(deltas, inputs)
    return whole


class Literal:
    """Gradients of some images and of a candidate's loss each, one pair at a time.

    Args:
        model: In float64.
        x: Reference images.
        candidates: Images.
        labels: One of each.
        output: What f is.
        regularizer: Whether ∇ω takes part.
    """

    def __init__(self, model, x, candidates, labels, output="logits", regularizer=True):
        self._model = model
        self._jacobians = literal.jacobians(model, x, output)
        self._plain = list(map(literal.gradient_function(model, False), candidates, labels))
        self._penalty = 0.0
        if regularizer:
            self._penalty = reference.gradient(model, candidates[0], labels[0]) - self._plain[0]

    def scores(self, given):
        """Returns (1/N) Σ ‖J(x) (Π g + ∇ω)‖₁ with Π the projector of `given`, see `use`."""
        cut = projector(self._model, given)
        steps = [self._penalty + cut @ plain for plain in self._plain]
        return np.array([np.mean([np.abs(j @ s).sum() for j in self._jacobians]) for s in steps])
