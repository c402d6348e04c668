"""How long candidate sets of images that look alike take to build in a large pool.

    python benchmarks/samplers.py --images=100000 --features=1280

M = 1,000 sets of K = 25 images, by `minibatch-cluster` at the first step and at later ones, against
`cluster`, which begins anew at each. Features lie in as many heaps as there are classes, and
move a little from step to step, as a network's do. `CPU` are seconds of processor time of all
threads, `kept` MiB that the sampler adds to a checkpoint. `within` tells how alike the images of a
set are: their mean squared distance from the set's mean, relative to that of random sets. Seconds
want an idle machine, CPU seconds do not.
"""

import resource
import time

import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

from emoc_tf.exploration import candidates
from emoc_tf.exploration.candidates import SamplerInputs
from emoc_tf.registries import SAMPLERS

IMAGES = flags.DEFINE_integer("images", 100_000, "Waiting images.", 100)
FEATURES = flags.DEFINE_integer("features", 1280, "d, features of an image.", 1)
CLASSES = flags.DEFINE_integer("classes", 100, "Heaps that the features lie in.", 1)
STEPS = flags.DEFINE_integer("steps", 3, "Steps.", 1)
NAMES = flags.DEFINE_list("samplers", ["minibatch-cluster", "cluster"], "Which ones.")

NUM_SETS, SET_SIZE = 1000, 25


def scatter(features: np.ndarray, sets: np.ndarray) -> float:
    """Returns the mean squared distance of the images of sets, (M, K), from their set's mean."""
    return float(np.mean([features[row].var(axis=0).sum() for row in sets]))


def main(_: list[str]) -> None:
    """Measures the samplers and prints a table."""
    rng = np.random.default_rng(0)
    shape = IMAGES.value, FEATURES.value
    centres = rng.normal(size=(CLASSES.value, shape[1])).astype(np.float32)
    features = centres[rng.integers(CLASSES.value, size=shape[0])]
    features += rng.standard_normal(shape, np.float32)
    chance = scatter(features, rng.choice(shape[0], (200, SET_SIZE)))
    table = Table("sampler", "step", "seconds", "CPU", "kept", "within", "peak MiB")
    samplers = {name: candidates.named(name, None) for name in NAMES.value if name in SAMPLERS}
    for step in range(STEPS.value):
        for name, sampler in samplers.items():
            generator = np.random.default_rng(step)
            inputs = SamplerInputs(
                np.arange(shape[0]), None, features, None, SET_SIZE, NUM_SETS, generator, step,
                step=step,
            )  # fmt: skip
            start, cpu = time.perf_counter(), time.process_time()
            sets, mask = sampler(inputs)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            arrays = sampler.get_arrays() if hasattr(sampler, "get_arrays") else {}
            kept = sum(each.nbytes for each in arrays.values()) / 2**20
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            share = scatter(features, sets[mask]) / chance
            numbers = (f"{cpu:.1f}", f"{kept:.1f}", f"{share:.2f}", f"{peak:,.0f}")
            table.add_row(name, str(step), f"{seconds:.1f}", *numbers)
        features += 0.05 * rng.standard_normal(shape, np.float32)
    Console().print(table)


if __name__ == "__main__":
    app.run(main)
