"""What sketches of gradients lose and what they save, on networks of several kinds and states.

For each state of a network its candidate sets are scored exactly on some reference images, and by
sketches of several sizes: so many principal directions of each stage's inputs, or random ones, with
and without the deltas cut down too; and the sketch that the scorer finds itself. Then sets are
chosen again and again, with one order of the reference images after another, from the same values.

    python benchmarks/sketches.py --data_dir=DIR --output=sketches.csv

With `--data_dir` the networks are trained on CIFAR-100, in the paper's protocol; without, they are
random and see random images, which says little about real ones. `--networks` names the states:
`quick0`, `quick1`, ... are the paper's network from another seed each, after 1,000, 300 or 4,000
iterations and some update steps; `mobilenet0`, ... are MobileNetV2, and `resnet0`, ... a ResNet-20,
trained whole. `--seconds` measures time as well, exact and sketched in turns.
"""

import time
from collections.abc import Callable

import numpy as np
import states
from absl import app, flags
from rich.console import Console
from scipy import sparse, stats
from states import Known, State

from emoc_tf.scoring import EMOCScorer
from emoc_tf.scoring import selection as elimination
from emoc_tf.scoring.pairs import PairScores
from emoc_tf.scoring.selection import Sample
from emoc_tf.scoring.sketches import cuts, fitting
from emoc_tf.scoring.sketches.changes import SketchedChanges
from emoc_tf.scoring.sketches.directions import Spectrum
from emoc_tf.scoring.sketches.selection import select_by_sketch

DATA_DIR = flags.DEFINE_string("data_dir", None, "tensorflow-datasets folder with CIFAR-100.")
NETWORKS = flags.DEFINE_list("networks", ["quick0", "quick1", "quick2"], "States, see above.")
REFERENCE = flags.DEFINE_integer("reference", 256, "N, reference images.", 1)
LARGE_REFERENCE = flags.DEFINE_integer("large_reference", 64, "N of large networks.", 1)
POOL = flags.DEFINE_integer("pool", 1000, "Images that sets of large networks are made of.", 500)
PIXELS = flags.DEFINE_integer("pixels", 32, "Of MobileNetV2's images, a multiple of 32.", 32)
SETS = flags.DEFINE_integer("sets", 1000, "M, candidate sets.", 2)
DRAWS = flags.DEFINE_integer("draws", 100, "Orders of the reference images.", 1)
SKETCHES = flags.DEFINE_list(
    "sketches",
    ["last", "random:16", "4", "8", "16", "32", "16x32", "auto"],
    "Directions of a, `x` directions of the deltas; `last`: no sketch but the last dense layers.",
)
EPOCHS = flags.DEFINE_integer("epochs", 6, "Of MobileNetV2 and the ResNet-20.", 1)
SECONDS = flags.DEFINE_bool("seconds", False, "Measure time as well.")
OUTPUT = flags.DEFINE_string("output", None, "CSV file for the table.")

CONFIDENCE = 0.95
FIRST = 200  # root of the first episode
# Changes of the preset and update steps before the choice, in turns.
QUICK = [
    ({}, 0),
    ({"pretrain_iterations": 300}, 0),
    ({"pretrain_iterations": 4000}, 0),
    ({}, 2),
    ({"known_classes": 5}, 0),
]


def state_of(name: str) -> State:
    """Returns a state by its name."""
    kind, number = name.rstrip("0123456789"), int(name.lstrip("abcdefghijklmnopqrstuvwxyz") or 0)
    if kind == "quick":
        changes, steps = QUICK[number % len(QUICK)]
        changes = {**changes, "num_candidate_sets": SETS.value}
        return states.explored(
            "paper", FIRST + number, changes, steps, REFERENCE.value, DATA_DIR.value
        )
    sizes = LARGE_REFERENCE.value, POOL.value, SETS.value
    pixels = PIXELS.value if kind == "mobilenet" else 32
    return states.trained(kind, pixels, FIRST + number, EPOCHS.value, sizes, DATA_DIR.value)


def sketched(pairs: PairScores, state: State, name: str) -> tuple[np.ndarray, int, float]:
    """Returns output changes of all pairs by a sketch, its size and the energy left out."""
    every = np.arange(len(pairs.reference)), np.arange(pairs._count)
    scorer = EMOCScorer(state.model, method="sketch")
    if name == "auto":
        found = scorer._sketch.apply(pairs)
        told = scorer.sketch
        return found.sample(*every, control=False).changes, told.size, told.energy_left
    kind, _, shape = name.rpartition(":")
    counts = [int(count) for count in shape.split("x")]
    units = cuts.WHOLE_UNITS
    cuts.WHOLE_UNITS = units if len(counts) == 1 else 0
    try:
        base = SketchedChanges(pairs._changes)
        base._traced = pairs._changes._traced.setdefault(("sketches", len(counts)), {})
        images = pairs.images.take(np.arange(0, len(pairs.images), len(pairs.images) // 128))
        parts = fitting.spectra(base, images, 1 << 30, 0)
    finally:
        cuts.WHOLE_UNITS = units
    if kind == "random":
        parts = [
            part._replace(spectra=tuple(_random(own, seed) for own in part.spectra))
            for seed, part in enumerate(parts)
        ]
    counts = [*counts, 64]
    wanted = [
        [min(count, own.basis.shape[1]) for count, own in zip(counts, part.spectra, strict=False)]
        for part in parts
    ]
    fitted = fitting.fit_of(base, parts, wanted)
    changes = base.along(fitted.directions)
    values = pairs.by(changes).sample(*every, control=False).changes
    return values, changes.factors.explicit_size, fitted.energy_left


def _random(spectrum: Spectrum, seed: int) -> Spectrum:
    """Returns random directions in their place."""
    shape = spectrum.basis.shape
    basis, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=shape))
    return Spectrum(basis, np.linspace(0, shape[1] / shape[0], shape[1] + 1))


def unexplained(exact: np.ndarray, control: np.ndarray) -> float:
    """Returns what part of the variance of differences between sets a control leaves, (m, M)."""
    leader = int(exact.mean(axis=0).argmax())
    one, other = (np.delete(v - v[:, [leader]], leader, axis=1) for v in (exact, control))
    one, other = (v - v.mean(axis=0) for v in (one, other))
    slope = (one * other).sum(axis=0) / np.maximum((other**2).sum(axis=0), 1e-30)
    return float((((one - slope * other) ** 2).sum(axis=0) / (one**2).sum(axis=0)).mean())


def left_after(exact: np.ndarray, control: np.ndarray, count: int) -> int:
    """Returns how many sets a first round on so many reference images would leave."""
    rows = np.random.default_rng(0).permutation(len(exact))[:count]
    shown = Sample(exact[rows], control[rows], control.mean(axis=0))
    leader = int(elimination._regression(shown)[0].argmax())
    level = (1 - CONFIDENCE) / (exact.shape[1] - 1)
    return int(elimination._undecided(shown, leader, len(exact), level).sum())


def draws(
    known: Sample, control: np.ndarray | None, weights: sparse.csr_array
) -> dict[str, object]:
    """Returns how the choices go, from known values, over many orders."""
    scores, total = weights @ known.changes.mean(axis=0), len(known.changes)
    chosen, shares = [], []
    for seed in range(DRAWS.value):
        if control is None:
            sample = Known(known).sample
            found = elimination.select(sample, weights, total, CONFIDENCE, seed)
        else:
            other = Known(Sample(control, control, control.mean(axis=0)))
            found = select_by_sketch(Known(known), other, weights, CONFIDENCE, seed, 1 << 26)
        chosen.append(scores[found.index])
        shares.append(found.pairs_evaluated / found.pairs)
    return {
        "exact choices": float(np.mean(np.array(chosen) == scores.max())),
        "greatest loss": float(1 - np.min(chosen) / scores.max()),
        "exact pairs": float(np.mean(shares)),
    }


def measure(name: str) -> list[dict[str, object]]:
    """Returns the lines of one state."""
    state = state_of(name)
    scorer = EMOCScorer(state.model)
    pairs, weights = scorer._pairs_of_sets(
        state.reference, state.images, state.sets, "set", None, None
    )
    known = pairs.sample(np.arange(len(state.reference)), np.arange(weights.shape[1]))
    exact = known.changes @ weights.T
    parameters = scorer._changes.factors.explicit_size
    rows = []
    for sketch in SKETCHES.value:
        if sketch == "last":
            values, size, energy = known.control, 0, np.nan
        else:
            values, size, energy = sketched(pairs, state, sketch)
        by_sketch = values @ weights.T
        means, right = by_sketch.mean(axis=0), exact.mean(axis=0)
        rows.append(
            {
                "state": name,
                "sketch": sketch,
                "numbers": size,
                "of": parameters,
                "energy left": energy,
                "error": float(
                    np.sqrt(np.square(values - known.changes).mean())
                    / np.sqrt(np.square(known.changes).mean())
                ),
                "unexplained": unexplained(exact, by_sketch),
                "left after 8/16/32": "/".join(
                    str(left_after(exact, by_sketch, count)) for count in (8, 16, 32)
                ),
                "rank correlation": float(stats.spearmanr(means, right).statistic),
                "loss by sketch": float(1 - right[means.argmax()] / right.max()),
                **draws(known, None if sketch == "last" else values, weights),
            }
        )
    if SECONDS.value:
        seconds(name, state)
    return rows


def seconds(name: str, state: State) -> None:
    """Prints seconds of scores and choices, exact and sketched in turns, after a first call."""
    scorers = {method: EMOCScorer(state.model, method=method) for method in ("exact", "sketch")}
    tasks: dict[str, Callable] = {
        "set_scores": lambda s: s.set_scores(state.reference, state.images, state.sets),
        "select_set": lambda s: s.select_set(state.reference, state.images, state.sets),
    }
    for task, call in tasks.items():
        best: dict[str, list[float]] = {}
        for _ in range(3):
            for method, scorer in scorers.items():
                if scorer._sketch is not None:
                    scorer._sketch._fitted_to = None  # the fit counts
                start, cpu = time.perf_counter(), time.process_time()
                call(scorer)
                took = [time.perf_counter() - start, time.process_time() - cpu]
                best[method] = np.minimum(best.get(method, took), took).tolist()
        wall, cpu = (best["exact"][i] / best["sketch"][i] for i in range(2))
        Console(width=200).print(name, task, best, f"ratio {wall:.2f}, of CPU seconds {cpu:.2f}")


def main(_: list[str]) -> None:
    """Measures all states and shows the table."""
    rows: list[dict[str, object]] = []
    for name in NETWORKS.value:  # each takes minutes: what there is is shown
        rows += measure(name)
        states.show(rows, OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
