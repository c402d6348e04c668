"""What the choice of a set takes with a large network that is trained whole, by sketches.

    python benchmarks/large_choice.py --data_dir=DIR

MobileNetV2 is trained on ten classes of CIFAR-100, enlarged to `--pixels`, and chooses one of M
sets of 25 images by `select_set` of `EMOCScorer(method="sketch")`. Told are seconds by the clock
and of all threads, the memory held, the share of pairs computed exactly, and for comparison what
the exact scores of all pairs would take, from a measurement of some of them. The first choice
holds compilation, as every choice after a discovery does; the later one does not.
"""

import resource
import time

import numpy as np
import states
from absl import app, flags

from emoc_tf.scoring import EMOCScorer

DATA_DIR = flags.DEFINE_string("data_dir", None, "tensorflow-datasets folder with CIFAR-100.")
PIXELS = flags.DEFINE_integer("pixels", 96, "Height and width, a multiple of 32.", 32)
REFERENCE = flags.DEFINE_integer("reference", 256, "N, reference images.", 1)
POOL = flags.DEFINE_integer("pool", 2000, "Images that sets are made of.", 500)
SETS = flags.DEFINE_integer("sets", 1000, "M, candidate sets.", 2)
EPOCHS = flags.DEFINE_integer("epochs", 6, "Of training.", 1)
ROOT = flags.DEFINE_integer("root", 300, "Of all random numbers.", 0)


def peak_mib() -> float:
    """Returns the most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(argv: list[str]) -> None:
    """Trains, chooses twice and prints."""
    del argv
    sizes = REFERENCE.value, POOL.value, SETS.value
    state = states.trained(
        "mobilenet", PIXELS.value, ROOT.value, EPOCHS.value, sizes, DATA_DIR.value
    )
    used = len(np.unique(state.sets))
    print(f"{state.sets.shape} sets of {used} images; {peak_mib():,.0f} MiB before", flush=True)
    scorer = EMOCScorer(state.model, method="sketch")
    for choice in ("first", "later"):
        wall, cpu = time.perf_counter(), time.process_time()
        found = scorer.select_set(state.reference, state.images, state.sets)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(
            f"{choice} choice: {wall:,.0f} s, {cpu:,.0f} CPU s, {peak_mib():,.0f} MiB; set "
            f"{found.index}, {found.pairs_evaluated / found.pairs:.2%} of {found.pairs:,} pairs",
            flush=True,
        )
        scorer._sketch._fitted_to = None  # weights are others at the next choice
    print(scorer.sketch.summary)
    exact = EMOCScorer(state.model)
    pairs = found.pairs // len(state.reference)
    seconds = exact.expected_seconds(len(state.reference), pairs)
    print(f"exact scores of all pairs: about {seconds:,.0f} s, {seconds / wall:.1f} times as long")


if __name__ == "__main__":
    app.run(main)
