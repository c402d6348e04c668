"""What a score is worth: scores of candidate sets against what learning these sets really changes.

EMOC ranks sets by a first-order estimate of the change of the model's outputs (Eq. 5). Here the
real learner learns a sample of sets, each from the same weights, with the label that the score
assumes and with the true one. A control learns old images only, in as many iterations.

A figure shows how each policy's scores correlate in rank with three things: the change of the
outputs, the change against the control, and the gain in accuracy. So it does for the share of novel
images, since a score may tell no more than whether a set is of a novel class. How well each score
tells that is in `novelty.csv`. `gate.csv` says which scores go with the change against the control
among known sets, and at least not against it among novel ones.

The same command resumes where it was stopped. Where nothing is left to do, it makes tables and
figure again from `changes.csv`, on any machine.

Example: python -m emoc_tf.experiments.true_change --sets=20 --seeds=0,1 --output_dir=out
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import flags
from rich.console import Console

from emoc_tf import ExplorationConfig, agents, streams
from emoc_tf.agents.agent import ScoringAgent
from emoc_tf.analysis import correlations, novelty
from emoc_tf.analysis.gate import gates
from emoc_tf.data.named import load
from emoc_tf.experiments import flags as shared
from emoc_tf.experiments.binary import run_binary
from emoc_tf.exploration.state import ExplorationState
from emoc_tf.records import examinations
from emoc_tf.records.record_folder import RecordFolder
from emoc_tf.records.run_record import make_output_dir
from emoc_tf.report import drawing
from emoc_tf.report.correlations import draw, table, to_rows
from emoc_tf.report.gate import gate_table, novelty_rows, novelty_table
from emoc_tf.running.console import say
from emoc_tf.running.grid import check_distinct
from emoc_tf.running.relearning import Start, check_settings
from emoc_tf.scoring.labels import most_likely_set_labels
from emoc_tf.storage import atomic, csv_files
from emoc_tf.storage.provenance import device, environment

SETS = flags.DEFINE_integer(
    "sets", 20, "Candidate sets of each initialisation.", correlations.MIN_SETS
)
ITERATIONS = flags.DEFINE_list(
    "iterations", ["1", "100", "1000"], "How long each set is learnt, in iterations."
)
SCORES = flags.DEFINE_list(
    "scores", ["emoc", "emoc-expected", "min", "1-vs-2"], "Policies whose scores are examined."
)
CONFIG, SEEDS, OUTPUT_DIR = shared.settings(), shared.seeds(), shared.output_dir()

CHANGES = "changes.csv"
# What decides its rows beside what decides runs.
SOURCE = ("emoc_tf.running.relearning", "emoc_tf.experiments.true_change")
# iterations = 0: one step along the gradient of the set alone, without momentum.
COLUMNS = (
    "seed", "set", "queried_class", "novel_share", "given_class", "true_label", "iterations",
    "output_change", "own_change", "accuracy_gain",
)  # fmt: skip


def scores_of(state: ExplorationState, sets: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Returns each policy's scores of some candidate sets, (sets, policies).

    Raises:
        ValueError: A policy does not score.
    """
    few = dataclasses.replace(
        state, candidates=state.candidates[sets], candidate_mask=state.candidate_mask[sets]
    )
    return np.stack([_scoring(name).score(few) for name in names], axis=1)


def _scoring(name: str) -> ScoringAgent:
    agent = agents.make(name)
    if not isinstance(agent, ScoringAgent):
        raise ValueError(f"scores: expected policies that score sets, got {name!r}")
    return agent


def examine(
    start: Start, seed: int, sets: np.ndarray, done: set, iterations: Sequence[int]
) -> Iterator[dict[str, float]]:
    """Yields a row of `COLUMNS` for each set, label and number of iterations not yet done.

    Args:
        start: The model.
        seed: Its seed.
        sets: Indices of candidate sets.
        done: (set, true label, iterations) that are there already.
        iterations: Numbers of SGD iterations.
    """
    state = start.state
    for choice in sets.tolist():
        indices = state.candidates[choice]
        indices = indices[indices >= 0]  # sets may be short
        column = int(most_likely_set_labels(start.logits, indices[None])[0])
        truth = start.true_labels[indices]
        predicted = np.full_like(truth, state.known_classes[column])
        row = {"seed": seed, "set": choice, "queried_class": int(np.bincount(truth).argmax())}
        row["novel_share"] = 1 - np.isin(truth, state.known_classes).mean()
        if (choice, 0, 0) not in done:
            row |= {"given_class": int(predicted[0]), "true_label": 0, "iterations": 0}
            change = start.step(choice, column)
            yield row | {"output_change": change, "own_change": change, "accuracy_gain": np.nan}
        for true_label, classes in enumerate((predicted, truth)):
            for count in iterations:
                if (choice, true_label, count) not in done:
                    row |= {"given_class": int(np.bincount(classes).argmax())}
                    row |= {"true_label": true_label, "iterations": count}
                    yield row | start.learn(choice, classes, count)


def _left(
    rows: np.ndarray, seeds: Sequence[int], iterations: Sequence[int], sets: int
) -> list[int]:
    """Returns the seeds that have not all rows of so many sets."""
    wanted = {(0, 0), *((label, count) for label in (0, 1) for count in iterations)}
    seed_at, set_at, *variant_at = map(COLUMNS.index, ("seed", "set", "true_label", "iterations"))
    left = []
    for seed in seeds:
        own = rows[rows[:, seed_at] == seed]
        there = [own[np.all(own[:, variant_at] == variant, axis=1), set_at] for variant in wanted]
        if any(len(np.unique(found)) < sets for found in there):
            left.append(seed)
    return left


def _line(row: dict[str, float]) -> str:
    label = "true" if row["true_label"] else "assumed"
    gain = "" if np.isnan(row["accuracy_gain"]) else f"  accuracy {row['accuracy_gain']:+.4f}"
    return (
        f"seed {row['seed']}  set {row['set']}  {label} label  {row['iterations']} iterations  "
        f"output change {row['output_change']:.4g}, its own {row['own_change']:.4g}{gain}"
    )


def main(argv: list[str]) -> None:
    """Examines the sets and draws the figure."""
    shared.check_no_arguments(argv)
    config, seeds, names = CONFIG(), SEEDS(), SCORES.value
    if not all(text.isdecimal() and int(text) > 0 for text in ITERATIONS.value):
        raise ValueError(f"iterations: expected integers above 0, got {ITERATIONS.value}")
    check_settings(config)
    iterations = [int(text) for text in ITERATIONS.value]
    check_distinct("iterations", iterations)
    check_distinct("scores", names)
    for name in names:
        _scoring(name)
    console, folder = Console(), RecordFolder(Path(OUTPUT_DIR.value))
    make_output_dir(folder.path)
    header = [*COLUMNS, *names]
    told = {
        "configuration": config.record(), "scores": names, "environment": environment(*SOURCE),
    }  # fmt: skip
    with folder.alone():
        rows = examinations.rows_there(folder, CHANGES, header, told)
        left = _left(rows, seeds, iterations, SETS.value)
        if left:
            say(console, device())
            examinations.begin(folder, CHANGES, header, told, rows, SOURCE)
            _work(config, left, iterations, rows, folder, console)
        names = show(folder.path, console)
    say(console, f"Written into {folder.path}: {', '.join(names)}")


def show(folder: Path, console: Console) -> list[str]:
    """Makes and prints figure and tables of a folder's changes; returns the names of the files."""
    found = correlations.read(folder / CHANGES, len(COLUMNS))
    areas, gate = novelty.read(folder / CHANGES, len(COLUMNS)), gates(found)
    written = [path.name for path in drawing.save(draw(found), folder / "correlations")]
    files = {"correlations.csv": to_rows(found), "novelty.csv": novelty_rows(areas)}
    if gate:
        files["gate.csv"] = to_rows(gate)
    for name, rows in files.items():
        atomic.write_text(folder / name, csv_files.text(rows))
    console.print(table(found))
    console.print(novelty_table(areas))
    if gate:
        console.print(gate_table(gate))
    return [*written, *files]


def _work(
    config: ExplorationConfig,
    seeds: Sequence[int],
    iterations: Sequence[int],
    rows: np.ndarray,
    folder: RecordFolder,
    console: Console,
) -> None:
    """Writes the rows that are not there yet."""
    data, names = load(config.dataset, config.data_dir), SCORES.value
    identity = [COLUMNS.index(name) for name in ("set", "true_label", "iterations")]
    for seed in seeds:
        start = Start(config, data, seed)
        possible = np.flatnonzero(start.state.candidate_mask)
        rng = streams.generator(seed, 0, "sets to examine")
        sets = rng.permutation(possible)[: SETS.value]
        scores = dict(zip(sets.tolist(), scores_of(start.state, sets, names), strict=True))
        done = {tuple(row[identity].astype(int)) for row in rows if row[0] == seed}
        for row in examine(start, seed, sets, done, iterations):
            folder.write(row | dict(zip(names, scores[row["set"]], strict=True)))
            say(console, _line(row))


if __name__ == "__main__":
    run_binary(main)
