"""What a step takes where the pool is larger than memory; `memory.py --images=N` runs it.

A pool of random blobs is written to a file and mapped. An environment is made of it as a task with
a few labels; its reset, a policy's choice and a step are measured, each with features and
posteriors of all images. Seconds and the anonymous memory of the process are shown: mapped pages of
the file, which the system takes back at any time, do not count.
"""

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from emoc_tf import Task, agents
from emoc_tf.config import ExplorationConfig
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.models.episode_model import EpisodeModel

CLASSES, KNOWN = 10, 4
ROOT = 0
SAMPLING_SECONDS = 0.01
WRITTEN_AT_ONCE = 500  # images
VARIANTS = 64  # of each class's blob, and of the noise


class Meter:
    """Measures parts of a program.

    Attributes:
        rows: Per part its name, seconds, and megabytes before, after and at most in between.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float, float, float]] = []

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measures what the context holds and prints a line."""
        before, peak, over = anonymous(), [anonymous()], threading.Event()

        def watch() -> None:
            while not over.wait(SAMPLING_SECONDS):
                peak[0] = max(peak[0], anonymous())

        thread = threading.Thread(target=watch)
        thread.start()
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            over.set()
            thread.join()
        after = anonymous()
        self.rows.append((name, seconds, before, after, max(peak[0], after)))
        print(
            f"{name:24} {seconds:8.2f} s   before {before:6.0f}   after {after:6.0f}   "
            f"peak {self.rows[-1][-1]:6.0f} MB",
            flush=True,
        )


def anonymous() -> float:
    """Returns the anonymous resident memory of this process in MB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError("/proc/self/status: expected a line RssAnon, as Linux has since 4.5")


def write_pool(path: Path, count: int, size: int) -> np.ndarray:
    """Writes (count, size, size, 3) uint8 images as .npy; returns (count,) classes.

    A class is a colour and a rough place of a blob, under noise.
    """
    rng = np.random.default_rng(ROOT)
    classes = rng.integers(CLASSES, size=count)
    colours = rng.uniform(-100, 100, (CLASSES, 3))
    places = rng.uniform(0.25, 0.75, (CLASSES, 2))
    grid = np.linspace(0, 1, size)
    blobs = np.empty((CLASSES, VARIANTS, size, size, 3), np.uint8)
    for c, variant in np.ndindex(CLASSES, VARIANTS):
        y, x = np.exp(-40 * (grid - (places[c] + rng.normal(0, 0.05, 2))[:, None]) ** 2)
        blobs[c, variant] = 100 + (y[:, None] * x)[..., None] * colours[c]
    noise = rng.integers(0, 50, (VARIANTS, size, size, 3), np.uint8)
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, size, size, 3))
    for start in range(0, count, WRITTEN_AT_ONCE):
        some = classes[start : start + WRITTEN_AT_ONCE]
        blob, ground = rng.integers(VARIANTS, size=(2, len(some)))
        images[start : start + len(some)] = blobs[some, blob] + noise[ground]
    images.flush()
    return classes


def measure(count: int, size: int, agent: str) -> list[tuple[str, float, float, float, float]]:
    """Returns `Meter.rows` of a step on a pool of images (count, size, size, 3)."""
    meter = Meter()
    config = ExplorationConfig(known_classes=KNOWN, novel_classes=CLASSES - KNOWN)
    with meter.part("a first small model"):
        small = np.zeros((8, 8, 8, 3), np.float32)
        first = EpisodeModel(config, None, small, ROOT)
        first.update(0, np.arange(8) % KNOWN, np.arange(8), None)
        first.predict(small)
    base = anonymous()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pool.npy"
        with meter.part("(writing the pool)"):
            classes = write_pool(path, count, size)
        step(meter, config, np.load(path, mmap_mode="r"), classes, agent)
    most = max(row[-1] for row in meter.rows[2:]) - base
    print(f"{count} images: at most {most:.0f} MB beyond the {base:.0f} MB of a small model")
    return meter.rows


class Labels:
    """Answers from labels.

    Args:
        classes: (n,) class of each image.
    """

    def __init__(self, classes: np.ndarray) -> None:
        self._classes = classes

    def label(self, indices: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Returns the classes of some images."""
        return self._classes[indices]


def step(
    meter: Meter, config: ExplorationConfig, images: np.memmap, classes: np.ndarray, agent: str
) -> None:
    """Measures a reset and a step of a task, whose parts the exploration times itself."""
    labels = np.full(len(images), -1)
    for c in range(KNOWN):
        labels[np.flatnonzero(classes == c)[: config.initial_per_class]] = c
    task = Task(images, labels, [f"class {c}" for c in range(CLASSES)])
    env = ActiveExplorationEnv(config, task=task, oracle=Labels(classes))
    with meter.part("reset"):
        observation, _ = env.reset(seed=ROOT)
    tell(env.exploration.timings)
    with meter.part(f"choice of {agent}"):
        choice = agents.make(agent, seed=0).act(observation, env.state)
    with meter.part("step"):
        _, _, _, _, info = env.step(choice)
    tell(env.exploration.timings)
    state = env.state
    shown = classes < KNOWN
    predicted = np.array(state.known_classes)[state.probabilities.argmax(axis=1)]
    right = (predicted == classes)[shown].mean()
    print(f"{info['labelled']} labelled, accuracy on {KNOWN} classes of the pool {right:.2f}")


def tell(timings: dict[str, float]) -> None:
    """Prints the parts of a reset or step."""
    print(
        "  "
        + ", ".join(f"{name.removesuffix('_seconds')} {s:.1f} s" for name, s in timings.items())
    )
