"""Differences between one policy and the others of a comparison, seed by seed.

    python benchmarks/paired_differences.py OUT --agent=learned [--output=out.csv]

For each other policy, from the run folders alone: mean paired difference of the normalised area
under the accuracy curve, of the final accuracy and of the classes found, each with a 95% bootstrap
interval (BCa, 10,000 resamples) and the p-value of Wilcoxon's signed-rank test, without correction
for the number of policies.
"""

import csv

import numpy as np
from absl import app, flags
from scipy import stats

from emoc_tf.results import RunRecord, read_runs
from emoc_tf.statistics import normalised_area

AGENT = flags.DEFINE_string("agent", None, "The policy to compare with the others.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "CSV file to write.")


def measures(run: RunRecord) -> dict[str, float]:
    """Returns what is compared of a run."""
    steps = run.steps
    return {
        "accuracy_area": normalised_area(steps["labelled"], steps["test_accuracy"]),
        "final_accuracy": steps["test_accuracy"][-1],
        "classes_found": steps["discovered_classes"][-1],
    }


def compare(differences: np.ndarray) -> tuple[float, float, float, float]:
    """Returns mean, ends of its interval, and Wilcoxon's p-value."""
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0]), float(differences[0]), float("nan")
    interval = stats.bootstrap(
        (differences,), np.mean, n_resamples=10_000, rng=np.random.default_rng(0)
    ).confidence_interval
    return differences.mean(), interval.low, interval.high, stats.wilcoxon(differences).pvalue


def main(argv: list[str]) -> None:
    """Compares and prints."""
    if len(argv) != 2:
        raise app.UsageError("expected one output folder of a comparison")
    runs = {(run.agent, run.seed): measures(run) for run in read_runs(argv[1]) if run.finished}
    own = {seed: values for (agent, seed), values in runs.items() if agent == AGENT.value}
    if not own:
        raise app.UsageError(f"--agent: expected one of {sorted({agent for agent, _ in runs})}")
    table = []
    for other in sorted({agent for agent, _ in runs} - {AGENT.value}):
        seeds = sorted(seed for seed in own if (other, seed) in runs)
        for name in next(iter(own.values())):
            differences = np.array([own[s][name] - runs[other, s][name] for s in seeds])
            mean, low, high, p = compare(differences)
            table.append([AGENT.value, other, name, len(seeds), mean, low, high, p])
            print(
                f"{AGENT.value} - {other:14s} {name:15s} {len(seeds)} seeds  {mean:+.4f}  "
                f"[{low:+.4f}, {high:+.4f}]  p = {p:.3g}"
            )
    if OUTPUT.value:
        with open(OUTPUT.value, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["agent", "other", "measure", "seeds", "mean", "low", "high", "p"])
            writer.writerows([*row[:4], *(f"{v:.6g}" for v in row[4:])] for row in table)


if __name__ == "__main__":
    app.run(main)
