"""What a step of the environment costs beside training and evaluation.

    python benchmarks/stepping.py [--data_dir=DIR] [--steps=5] [--output=out.csv]

Runs some steps of the presets (`paper` only with `--data_dir`) with the policy `random`, and
prints the share of a step's time that goes elsewhere: the posteriors and features of the pool
(one forward pass, which every policy scores with) and all the rest, which is the drawing of
candidate sets, the state, the observation, the reward and info. The first step is left out.
"""

import csv
import time

import numpy as np
from absl import app, flags

from emoc_tf import agents
from emoc_tf.config import ExplorationConfig
from emoc_tf.envs import ActiveExplorationEnv

DATA_DIR = flags.DEFINE_string("data_dir", None, "tensorflow-datasets folder with CIFAR-100.")
STEPS = flags.DEFINE_integer("steps", 5, "Steps that are timed.", 1)
OUTPUT = flags.DEFINE_string("output", None, "CSV file to write.")


def measure(config: ExplorationConfig, steps: int) -> dict[str, float]:
    """Returns median seconds of a step and of its parts."""
    env = ActiveExplorationEnv(config.replace(max_steps=steps + 1))
    agent = agents.make("random", seed=0)
    observation, _ = env.reset(seed=0)
    rows = []
    for _ in range(steps + 1):
        action = agent.act(observation, env.state)
        start = time.perf_counter()
        observation = env.step(action)[0]
        rows.append({"step": time.perf_counter() - start, **env.exploration.timings})
    parts = {name: float(np.median([row[name] for row in rows[1:]])) for name in rows[0]}
    timed = ("training_seconds", "evaluation_seconds", "prediction_seconds")
    rest = [row["step"] - sum(row[name] for name in timed) for row in rows[1:]]
    return {**parts, "rest": float(np.median(rest))}


def main(argv: list[str]) -> None:
    """Measures and prints."""
    presets = ["demo", *(["paper"] if DATA_DIR.value else [])]
    table = []
    for preset in presets:
        config = ExplorationConfig.preset(preset, data_dir=DATA_DIR.value)
        parts = measure(config, STEPS.value)
        posterior, rest = (parts[n] / parts["step"] for n in ("prediction_seconds", "rest"))
        table.append([preset, parts["step"], posterior, rest])
        print(
            f"{preset}: a step takes {parts['step']:.2f} s; posteriors {posterior:.1%}, all the "
            f"rest {rest:.1%} ({1e3 * parts['rest']:.0f} ms)"
        )
    if OUTPUT.value:
        with open(OUTPUT.value, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["preset", "step_seconds", "posteriors_share", "rest_share"])
            writer.writerows([name, *(f"{v:.4g}" for v in row)] for name, *row in table)


if __name__ == "__main__":
    app.run(main)
