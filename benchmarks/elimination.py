r"""Does `emoc` choose the best set in the runs of an experiment? Its choices against all scores.

    python benchmarks/elimination.py results/cifar100-confirm --data_dir=DIR \
        --output=results/scoring/elimination.csv

Recorded runs are gone through again by their recorded choices. At some steps, `emoc` chooses as it
does in a run, by elimination, and all sets are scored completely beside it. A line tells a state:
how much of the best score the set chosen lacks (0 where it is the best), how far the second set is,
and on how many reference images the last sets were compared. `recorded` is what the run chose
there, for runs of `emoc`. On processors of another kind than the run's, weights differ in their
last bits.

States that the file holds are left out, so that the same command goes on. A state takes about a
minute on two cores, and its updates as long as in the run.
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import app, flags
from states import show

from emoc_tf.agents.emoc import EMOCAgent
from emoc_tf.config import ExplorationConfig
from emoc_tf.data.named import load
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.records.run_record import RunRecord, read_run, run_path
from emoc_tf.scoring.selection import Selection

DATA_DIR = flags.DEFINE_string("data_dir", None, "tensorflow-datasets folder with the data set.")
AGENTS = flags.DEFINE_list("agents", ["emoc", "random"], "Policies whose runs are gone through.")
SEEDS = flags.DEFINE_list("seeds", ["9", "10", "11", "12"], "Initialisations.")
STEPS = flags.DEFINE_list("at_steps", ["0", "3", "6"], "Steps after which a set is chosen.")
OUTPUT = flags.DEFINE_string("output", None, "CSV file for the table.", required=True)
MEMORY_BUDGET = 6 << 30


class Watched(EMOCAgent):
    """`emoc`, whose last selection can be looked at."""

    def select(self, env: ActiveExplorationEnv) -> tuple[int, Selection]:
        """Returns the index of the set it chooses, and how that was found."""
        scorer, found = self._scorer_of(env.state), []
        chosen_by = scorer.select_set

        def select_set(*arguments: object, **settings: object) -> Selection:
            found.append(chosen_by(*arguments, **settings))
            return found[-1]

        scorer.select_set = select_set
        try:
            return self.act({}, env.state), found[-1]
        finally:
            del scorer.select_set


def states_of(
    run: RunRecord, data_dir: str | None, steps: Sequence[int]
) -> Iterator[ActiveExplorationEnv]:
    """Yields the environment after some steps of a recorded run, by its recorded choices."""
    config = ExplorationConfig().replace(**run.configuration)
    env = ActiveExplorationEnv(config, data=load(config.dataset, data_dir))
    env.reset(seed=run.seed)
    for step in range(max(steps) + 1):
        if step in steps:
            yield env
        if step < max(steps):
            env.step(int(run.steps["chosen_set"][step + 1]))


def examine(run: RunRecord, env: ActiveExplorationEnv) -> dict[str, object]:
    """Returns a line of the table."""
    state = env.state
    chosen, selection = Watched(seed=run.seed).select(env)
    # With room for all gradients none is computed more than once.
    complete = EMOCAgent(seed=run.seed, memory_budget=MEMORY_BUDGET).score(state)
    scores = np.where(state.candidate_mask, complete, -np.inf)
    best = int(scores.argmax())
    second = np.unique(scores)[-2]  # sets may be alike
    own = run.agent == "emoc"
    return {
        "run": run.agent,
        "seed": run.seed,
        "step": env.outcome.step,
        "outputs": state.model.output_shape[-1],
        "sets": int(state.candidate_mask.sum()),
        "chosen": chosen,
        "best": best,
        "recorded": int(run.steps["chosen_set"][env.outcome.step + 1]) if own else "",
        "share_lost": 1 - scores[chosen] / scores[best],
        "gap_to_second": 1 - second / scores[best],
        "references": selection.rounds[-1].references if selection.rounds else len(state.reference),
        "pairs_evaluated": selection.pairs_evaluated / selection.pairs,
    }


def _rows(path: Path) -> list[dict[str, object]]:
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def tell(rows: Sequence[dict[str, object]]) -> None:
    """Prints how often the best set was chosen, and what was lost otherwise."""
    lost = np.array([float(row["share_lost"]) for row in rows])
    own = [row for row in rows if row["recorded"] != ""]
    again = sum(int(row["recorded"]) == int(row["chosen"]) for row in own)
    print(f"the best set was chosen in {np.sum(lost == 0)} of {len(rows)} states")
    print(f"greatest share of the best score that was lost: {lost.max():.4f}")
    print(f"chosen as in the run: {again} of {len(own)}")


def main(argv: list[str]) -> None:
    """Goes through the runs of the folder given."""
    if len(argv) != 2:
        sys.exit("usage: python benchmarks/elimination.py OUTPUT_DIR --output=FILE")
    path, steps = Path(OUTPUT.value), sorted(map(int, STEPS.value))
    rows = _rows(path)
    there = {(row["run"], int(row["seed"]), int(row["step"])) for row in rows}
    for seed in map(int, SEEDS.value):
        for name in AGENTS.value:
            left = [step for step in steps if (name, seed, step) not in there]
            if not left:
                continue
            run = read_run(run_path(argv[1], name, seed))
            for env in states_of(run, DATA_DIR.value, left):
                rows.append(examine(run, env))
                show(rows, OUTPUT.value)
    tell(rows)


if __name__ == "__main__":
    app.run(main)
