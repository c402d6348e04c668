"""How well π tells sets of new classes, and which temperature τ fits it best.

    python benchmarks/novelty.py  # digits, as the demo has them: a minute
    python benchmarks/novelty.py --preset=paper --data_dir=DIR --seeds=100,101

Of the candidate sets of each initialisation's first query: the area under the ROC curve of `novel`,
and for each τ the log loss of π, which is least where π is neither too sure of itself nor too
little. Seeds from 100 on are those that nothing else is reported of.
"""

import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table
from sklearn.metrics import log_loss, roc_auc_score

from emoc_tf.running.quiet import load_tensorflow

PRESET = flags.DEFINE_string("preset", "demo", "Of the settings.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "tensorflow-datasets folder, where one is needed.")
SEEDS = flags.DEFINE_list("seeds", ["100", "101", "102"], "Initialisations.")
TEMPERATURES = flags.DEFINE_list("tau", ["1", "4", "8", "12", "16", "24", "48"], "Temperatures τ.")


def main(_: list[str]) -> None:
    """Prints the table."""
    load_tensorflow()
    from emoc_tf.agents.set_evidence import set_evidence
    from emoc_tf.config import ExplorationConfig
    from emoc_tf.envs import ActiveExplorationEnv

    given = {"data_dir": DATA_DIR.value} if DATA_DIR.value else {}
    env = ActiveExplorationEnv(ExplorationConfig.preset(PRESET.value, **given))
    table = Table("seed", "sets", "novel", "AUC", *(f"τ = {tau}" for tau in TEMPERATURES.value))
    losses = []
    for seed in SEEDS.value:
        env.reset(seed=int(seed))
        state, truth = env.state, env.exploration.episode.true_labels
        sets = state.candidates[state.candidate_mask]
        share = np.array([np.isin(truth[r[r >= 0]], state.known_classes).mean() for r in sets])
        sets, is_new = sets[(share == 0) | (share == 1)], share[(share == 0) | (share == 1)] == 0
        found = {
            float(tau): set_evidence(state, sets, temperature=float(tau))
            for tau in TEMPERATURES.value
        }
        area = roc_auc_score(is_new, next(iter(found.values())).log_odds)
        losses.append([log_loss(is_new, each.novelty) for each in found.values()])
        counts = len(sets), int(is_new.sum())
        table.add_row(seed, *map(str, counts), f"{area:.3f}", *(f"{x:.2f}" for x in losses[-1]))
    table.add_row("mean", "", "", "", *(f"{x:.2f}" for x in np.mean(losses, axis=0)))
    Console(width=110).print(table)


if __name__ == "__main__":
    app.run(main)
