"""Run records written as a run would write them."""

import numpy as np

from emoc_tf import ExplorationConfig
from emoc_tf.exploration.outcome import StepOutcome
from emoc_tf.records.run_folder import RunFolder

CONFIG = ExplorationConfig(data_dir="not recorded", max_steps=2)


def outcome(step, accuracy=0.5, discovered=0):
    first = step == 0
    return StepOutcome(
        step, 40 + 5 * step, accuracy, 0.75, 0.1, discovered, None if first else 3,
        None if first else 4, np.array([1.0, 1 / 3]),
    )  # fmt: skip


def write(
    path, agent="random", seed=0, config=CONFIG, accuracies=(0.4, 0.5, 0.7), rows=3, discovered=None
):
    """Returns the folder of a run with an accuracy a step."""
    folder = RunFolder(path, agent, seed, config)
    folder.claim()
    folder.start((4, 2))
    for step in range(rows):
        timings = {"selection_seconds": 0.5 * step, "training_seconds": 2.0, "step_seconds": 3.0}
        found = step if discovered is None else discovered[step]
        folder.write_step(
            outcome(step, float(accuracies[step]), found), 0.1 * step or None, timings
        )
    return folder
