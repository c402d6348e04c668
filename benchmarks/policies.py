"""What a choice of each policy costs at the size of the paper's protocol: seconds and memory.

    python benchmarks/policies.py --data_dir=DIR --output=policies.csv
    python benchmarks/policies.py --agents=random,min,p-wrong,bald  # random pixels

M = 1,000 candidate sets of K = 25 from a pool of N = 3,000 images, 1,000 of them labelled, and a
network with C outputs (`--classes`) after the protocol's pretraining. C = 10 is the protocol's
first query; with C = 20 all classes are known, with 50 images each.

A policy may trace the model at its first choice, so that this one is timed apart, and medians are
shown of those after it. Each policy runs in a process of its own, one after the other. Memory is
the most anonymous memory that the process held while it chose, beyond what it held before; it is
sampled, so short peaks may be missed, and what the allocator had kept free is used first.

Without `--data_dir` the images are random pixels, and the network is hardly trained: policies whose
work depends on the scores, as that of `emoc` does, take another time than on real images. The
machine should be idle.
"""

import csv
import dataclasses
import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table
from rich.text import Text

from emoc_tf.running.quiet import load_tensorflow

AGENTS = flags.DEFINE_list("agents", ["all"], "Policies; `all` stands for every registered one.")
CLASSES = flags.DEFINE_list("classes", ["10", "20"], "C, outputs of the networks, 1 to 20.")
CHOICES = flags.DEFINE_integer("choices", 3, "Choices after the first; their median is shown.", 1)
DATA_DIR = flags.DEFINE_string("data_dir", None, "tensorflow-datasets folder with CIFAR-100.")
OUTPUT = flags.DEFINE_string("output", None, "CSV file for the table.")

flags.register_validator(
    CLASSES,
    lambda texts: all(text.isdecimal() and 0 < int(text) <= ALL_CLASSES for text in texts),
    "expected integers from 1 to 20",
)

BASE = "emoc"  # what ratios are of
ALL_CLASSES = 20
LABELLED = 1000  # at the start, of all classes
HARDLY = 20  # iterations of pretraining on random pixels


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table; None where a policy failed, which `note` tells.

    Attributes:
        agent: The policy.
        classes: C, outputs of the network.
        first_seconds: Of the first choice, with tracing.
        seconds: Median of the choices after it.
        ratio: Of these seconds to those of `emoc` with as many classes; None without it.
        peak_megabytes: The most memory while it chose, beyond what there was before.
        note: How the policy failed.
    """

    agent: str
    classes: int
    first_seconds: float | None = None
    seconds: float | None = None
    ratio: float | None = None
    peak_megabytes: float | None = None
    note: str = ""


def settings(classes: int, data_dir: str | None) -> dict[str, Any]:
    """Returns how the paper's preset is changed for a network with so many outputs."""
    changes: dict[str, Any] = {
        "known_classes": classes,
        "novel_classes": ALL_CLASSES - classes,
        "initial_per_class": LABELLED // classes,
        "data_dir": data_dir,
    }
    return changes if data_dir else changes | {"pretrain_iterations": HARDLY}


def environment(classes: int, data_dir: str | None):
    """Returns the environment, without an episode yet."""
    from emoc_tf.config import ExplorationConfig
    from emoc_tf.data.images import ImageData
    from emoc_tf.envs import ActiveExplorationEnv

    config = ExplorationConfig.preset("paper", **settings(classes, data_dir))
    data = None
    if data_dir is None:
        rng, names = np.random.default_rng(0), tuple(map(str, range(ALL_CLASSES)))
        each = config.initial_per_class + config.pool_per_class, 10
        parts = []
        for count in each:
            labels = np.repeat(np.arange(ALL_CLASSES), count)
            images = rng.integers(256, size=(len(labels), 32, 32, 3), dtype=np.uint8)
            parts.append(ImageData(images, labels, names))
        data = tuple(parts)
    return ActiveExplorationEnv(config, data=data)


def prepare(classes: int, data_dir: str | None, file: Path) -> str:
    """Writes a checkpoint of an episode's start, and returns in words what it was computed on."""
    load_tensorflow()
    from emoc_tf.storage.provenance import device

    env = environment(classes, data_dir)
    env.reset(seed=0)
    env.save().write(file)
    return device()


def measure(agent: str, classes: int, data_dir: str | None, file: Path, choices: int) -> Row:
    """Returns what a policy's choices cost; called in a process of its own."""
    load_tensorflow()
    from large_pool import Meter

    from emoc_tf import agents

    env = environment(classes, data_dir)
    observation, _ = env.reset(options={"checkpoint": file})
    state, policy, meter = env.state, agents.make(agent, seed=0), Meter()
    with meter.part(f"{agent}, C = {classes}"):
        policy.act(observation, state)
    seconds = []
    with meter.part("  after the first"):
        for i in range(choices):
            # Another step, so that nothing can be kept from the choice before but what is traced.
            other = dataclasses.replace(state, step=state.step + i + 1)
            start = time.perf_counter()
            policy.act(observation, other)
            seconds.append(time.perf_counter() - start)
    (_, first, before, _, _), _ = meter.rows
    peak = max(row[-1] for row in meter.rows) - before
    return Row(agent, classes, first, statistics.median(seconds), None, peak)


def alone(function, *arguments) -> Any:
    """Calls a function in a new process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def run(names: list[str], classes: int, folder: Path) -> list[Row]:
    """Returns the rows of all policies with a network of so many outputs."""
    file, rows = folder / f"{classes}.npz", []
    print(alone(prepare, classes, DATA_DIR.value, file), flush=True)
    for name in names:
        try:
            row = alone(measure, name, classes, DATA_DIR.value, file, CHOICES.value)
        except Exception as error:  # also a process that was killed; the others are measured
            row = Row(name, classes, note=f"{type(error).__name__}: {error}")
            print(f"{name}: {row.note}", flush=True)
        rows.append(row)
    base = next((row.seconds for row in rows if row.agent == BASE), None)
    return [
        dataclasses.replace(row, ratio=row.seconds / base) if base and row.seconds else row
        for row in rows
    ]


def show(rows: list[Row]) -> None:
    """Prints the table, and below it how policies failed."""
    table = Table("policy")
    for classes in dict.fromkeys(row.classes for row in rows):
        for head in ("first s", "s", f"/ {BASE}", "MB"):
            table.add_column(f"C = {classes}\n{head}", justify="right", no_wrap=True)
    for name in dict.fromkeys(row.agent for row in rows):
        cells = []
        for row in rows:
            if row.agent == name:
                numbers = row.first_seconds, row.seconds, row.ratio
                cells += ["–" if number is None else f"{number:.3g}" for number in numbers]
                cells.append("–" if row.peak_megabytes is None else f"{row.peak_megabytes:.0f}")
        table.add_row(Text(name), *cells)
    Console(width=110).print(table)
    for row in rows:
        if row.note:
            print(f"{row.agent}, C = {row.classes}: {row.note}")


def save(rows: list[Row], path: str) -> None:
    """Writes the table as CSV."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        names = [field.name for field in dataclasses.fields(Row)]
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            cells = dataclasses.asdict(row)
            writer.writerow({
                name: f"{cell:.4g}" if isinstance(cell, float) else cell
                for name, cell in cells.items()
            })  # fmt: skip


def main(_: list[str]) -> None:
    """Measures all policies and prints the table."""
    load_tensorflow()
    from emoc_tf import agents
    from emoc_tf.agents.registry import chosen

    names, rows = chosen(AGENTS.value), []
    for name in names:
        agents.make(name)  # an unknown one is refused before long work
    with tempfile.TemporaryDirectory() as folder:
        for text in CLASSES.value:
            rows += run(names, int(text), Path(folder))
            if OUTPUT.value:
                save(rows, OUTPUT.value)
    show(rows)


if __name__ == "__main__":
    app.run(main)
