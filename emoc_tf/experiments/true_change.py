"""What a score is worth: scores of candidate sets against what learning these sets really changes.

EMOC ranks sets by a first-order estimate of the change of the model's outputs (Eq. 5). Here the
model of each initialisation is fine-tuned on a sample of sets by the real learner, each time from
the same weights, with the label the score assumes and with the true one, and the rank correlations
are drawn of each policy's scores with the change of the outputs, with the change against a control
that learnt old images only in the same iterations, and with the gain in accuracy.

The same command goes on where it was stopped.

Example: python -m emoc_tf.experiments.true_change --sets=20 --seeds=0,1 --output_dir=out
"""

import csv
import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import gymnasium as gym
import numpy as np
import tensorflow as tf
from absl import flags
from rich.console import Console

from emoc_tf import agents, checkpoint, drawing, networks, streams
from emoc_tf.agents.agent import ScoringAgent
from emoc_tf.config import ExplorationConfig
from emoc_tf.data import ImageData, load
from emoc_tf.environment import differences, environment
from emoc_tf.experiments import correlations, settings
from emoc_tf.experiments.binary import run_binary
from emoc_tf.experiments.grid_flags import check_no_arguments, seeds_from_flags
from emoc_tf.exploration import Exploration
from emoc_tf.results import make_output_dir, read_numbers
from emoc_tf.scoring.labels import most_likely_set_labels
from emoc_tf.state import ExplorationState

SETS = flags.DEFINE_integer("sets", 20, "Candidate sets of each initialisation.", 5)
ITERATIONS = flags.DEFINE_list("iterations", ["1", "100", "1000"], "SGD iterations to learn them.")
SCORES = flags.DEFINE_list(
    "scores", ["emoc", "emoc-expected", "min", "1-vs-2"], "Policies whose scores are examined."
)
flags.declare_key_flag("seeds")
flags.declare_key_flag("output_dir")
flags.adopt_module_key_flags(settings)

CHANGES, CONFIG = "changes.csv", "config.json"
# iterations = 0: one step along the gradient of the set alone, without momentum.
COLUMNS = (
    "seed", "set", "queried_class", "given_class", "true_label", "iterations", "output_change",
    "own_change", "accuracy_gain",
)  # fmt: skip


class GivenAnswer:
    """An oracle that answers what it is told to."""

    answer: np.ndarray

    def label(self, indices: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Returns the answer."""
        return self.answer


class Start:
    """The model of one initialisation after pretraining, to be fine-tuned again and again.

    Args:
        config: Settings.
        data: Training and test part.
        seed: As of a run.

    Attributes:
        state: What policies see.
        arrays: Everything to go on from.
        accuracy: On the test images.
        logits: (n_pool, C) of the pool's images.
    """

    def __init__(
        self, config: ExplorationConfig, data: tuple[ImageData, ImageData], seed: int
    ) -> None:
        self._oracle = GivenAnswer()
        self._explorations: dict[tuple[int, bool], Exploration] = {}
        self._controls: dict[int, np.ndarray] = {}
        self._config, self._data = config, data
        root = streams.draw_root(gym.utils.seeding.np_random(seed)[0])
        exploration = Exploration(config, data)
        self.accuracy = exploration.reset(root).test_accuracy
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
        after, accuracy = self._learn(choice, classes, iterations, False)
        if iterations not in self._controls:
            # Any set: with the label of a known class and no image of it drawn, nothing is left.
            known = np.full_like(classes, self.state.known_classes[0])
            self._controls[iterations] = self._learn(choice, known, iterations, True)[0]
        return {
            "output_change": _change(self.logits, after),
            "own_change": _change(self._controls[iterations], after),
            "accuracy_gain": accuracy - self.accuracy,
        }

    def _learn(
        self, choice: int, classes: np.ndarray, iterations: int, only_old: bool
    ) -> tuple[np.ndarray, float]:
        """Returns the logits of the pool after an update step, and its test accuracy."""
        if (iterations, only_old) not in self._explorations:
            config = self._config.replace(update_iterations=iterations)
            if only_old:  # in float32 it is 1, which no uniform number reaches
                config = config.replace(old_fraction=float(np.nextafter(1.0, 0.0)))
            exploration = Exploration(config, self._data, oracle=self._oracle)
            self._explorations[iterations, only_old] = exploration
        exploration = self._explorations[iterations, only_old]
        exploration.restore(self.arrays, None, None)
        self._oracle.answer = classes
        outcome = exploration.advance(choice)
        return _logits(exploration.state.model, self.state.reference), outcome.test_accuracy

    def step(self, choice: int, column: int) -> float:
        """Takes one step along the gradient of a set's mean loss, and returns the output change."""
        model, images = self.state.model, self.state.pool.images[self.state.candidates[choice]]
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


def _change(before: np.ndarray, after: np.ndarray) -> float:
    differences = after[:, : before.shape[1]].astype(np.float64) - before
    return float(np.abs(differences).sum(axis=1).mean())


def _logits(model, images: np.ndarray) -> np.ndarray:
    return networks.in_batches(networks.compile_forward(model), images)


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
        column = int(most_likely_set_labels(start.logits, indices[None])[0])
        truth = start.true_labels[indices]
        predicted = np.full_like(truth, state.known_classes[column])
        row = {"seed": seed, "set": choice, "queried_class": int(np.bincount(truth).argmax())}
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


def _open(folder: Path, header: Sequence[str], told: dict) -> tuple[np.ndarray, TextIO]:
    """Returns the rows there are and the file to append to.

    Raises:
        ValueError: The folder holds rows of other settings.
    """
    if (folder / CONFIG).exists():
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        differing = [n for n in ("configuration", "scores") if found.get(n) != told[n]]
        differing += differences(found.get("environment", {}))
        if differing:
            raise ValueError(
                f"output_dir: expected a folder of the same settings, versions and machine, got "
                f"{folder}, which differs in {differing}"
            )
    else:
        checkpoint.write_text(folder / CONFIG, json.dumps(told, indent=2) + "\n")
    _, rows = read_numbers(folder / CHANGES)
    text = ",".join(header) + "\n"
    text += "".join(",".join(f"{v:.10g}" for v in row) + "\n" for row in rows)
    checkpoint.write_text(folder / CHANGES, text)  # without a line that was cut short
    return rows.reshape(-1, len(header)), open(folder / CHANGES, "a", encoding="utf-8")


def _line(row: dict[str, float]) -> str:
    label = "true" if row["true_label"] else "assumed"
    gain = "" if np.isnan(row["accuracy_gain"]) else f"  accuracy {row['accuracy_gain']:+.4f}"
    return (
        f"seed {row['seed']}  set {row['set']}  {label} label  {row['iterations']} iterations  "
        f"output change {row['output_change']:.4g}, its own {row['own_change']:.4g}{gain}"
    )


def main(argv: list[str]) -> None:
    """Examines the sets and draws the figure."""
    check_no_arguments(argv)
    config, seeds, names = settings.config_from_flags(), seeds_from_flags(), SCORES.value
    if not all(text.isdecimal() and int(text) > 0 for text in ITERATIONS.value):
        raise ValueError(f"iterations: expected integers above 0, got {ITERATIONS.value}")
    iterations = [int(text) for text in ITERATIONS.value]
    for name in names:
        _scoring(name)
    data, console = load(config.dataset, config.data_dir), Console()
    folder = Path(flags.FLAGS.output_dir)
    make_output_dir(folder)
    header = [*COLUMNS, *names]
    told = {"configuration": config.record(), "scores": names, "environment": environment()}
    rows, file = _open(folder, header, told)
    with file:
        writer = csv.writer(file, lineterminator="\n")
        for seed in seeds:
            start = Start(config, data, seed)
            possible = np.flatnonzero(start.state.candidate_mask)
            rng = streams.generator(seed, 0, "sets to examine")
            sets = rng.permutation(possible)[: SETS.value]
            scores = dict(zip(sets.tolist(), scores_of(start.state, sets, names), strict=True))
            done = {tuple(row[[1, 4, 5]].astype(int)) for row in rows if row[0] == seed}
            for row in examine(start, seed, sets, done, iterations):
                values = [*(row[name] for name in COLUMNS), *scores[row["set"]]]
                writer.writerow([f"{value:.10g}" for value in values])
                file.flush()
                os.fsync(file.fileno())
                console.print(_line(row), highlight=False, soft_wrap=True)
    found = correlations.read(folder / CHANGES, len(COLUMNS))
    checkpoint.write_text(folder / "correlations.csv", correlations.to_csv(found))
    written = drawing.save(correlations.draw(found), folder / "correlations")
    console.print(correlations.table(found))
    names = ", ".join(path.name for path in [*written, folder / "correlations.csv"])
    console.print(f"Written into {folder}: {names}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    run_binary(main)
