"""How often the elimination chooses the exact best set, on three trained networks.

Three networks of the paper's protocol, trained for 1,000 and 4,000 iterations and through three
update steps, each score their 1,000 candidate sets on all of N reference images once. Then the
elimination is repeated on these values with one seed after another, which orders the reference
images, and its choices are compared with the exact best set.

    python benchmarks/selection.py --data_dir=DIR --output=selection.csv

It takes about ten minutes on two cores.
"""

import numpy as np
import states
from absl import app, flags

from emoc_tf.scoring import EMOCScorer
from emoc_tf.scoring.selection import select

DATA_DIR = flags.DEFINE_string("data_dir", None, "tensorflow-datasets folder with CIFAR-100.")
PRESET = flags.DEFINE_string("preset", "paper", "Settings of the exploration.")
REFERENCE = flags.DEFINE_integer("reference", 1000, "N, reference images.", 1)
REPETITIONS = flags.DEFINE_integer("repetitions", 100, "Seeds of the elimination.", 1)
CONFIDENCE = flags.DEFINE_float("confidence", 0.95, "As in select_set.", 0, 1)
OUTPUT = flags.DEFINE_string("output", None, "CSV file for the table.")
# Other roots than those of the networks that the elimination was made with.
FIRST = 100
# Root of the episode, changes of the preset, update steps before the choice.
NETWORKS = [
    (FIRST, {}, 0),
    (FIRST + 1, {"pretrain_iterations": 4000}, 0),
    (FIRST + 2, {}, 3),
]


def measure(root: int, changes: dict, steps: int) -> dict[str, object]:
    """Returns a line of the table: one network, many draws."""
    state = states.explored(PRESET.value, root, changes, steps, REFERENCE.value, DATA_DIR.value)
    count = len(state.reference)
    pairs, weights = EMOCScorer(state.model)._pairs_of_sets(
        state.reference, state.images, state.sets, "set", None, None
    )
    known = pairs.sample(np.arange(count), np.arange(weights.shape[1]))
    scores = weights @ known.changes.mean(axis=0)
    sample = states.Known(known).sample
    first, second = np.sort(np.unique(scores))[[-1, -2]]
    found = [
        select(sample, weights, count, CONFIDENCE.value, seed) for seed in range(REPETITIONS.value)
    ]
    chosen = scores[[selection.index for selection in found]]
    used = [selection.rounds[-1].references for selection in found]
    return {
        "network": root,
        "outputs": state.model.output_shape[-1],
        "pairs": weights.shape[1],
        "gap to the second set": 1 - second / first,
        "exact choices": float(np.mean(chosen == first)),
        "greatest loss": float((1 - chosen / first).max()),
        "pairs evaluated": float(np.mean([s.pairs_evaluated / s.pairs for s in found])),
        "reference images, median": float(np.median(used)),
        "reference images, mean": float(np.mean(used)),
    }


def main(_: list[str]) -> None:
    """Measures all networks and shows the table."""
    states.show([measure(*network) for network in NETWORKS], OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
