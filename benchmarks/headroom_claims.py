"""Prints what RESULTS.md says of the headroom beyond `headroom.csv`.

    python benchmarks/headroom_claims.py results/headroom

All of it was looked at when the results were known. For both ways of learning the sets:

1. the headroom of each step, in points of test accuracy;
2. in how many states the best set is of a novel class, on all test images, and the share that a
   novel set drawn at random takes;
3. for each policy: how often it chose a novel set, its share against what looks best (which is at
   least the true best on average), and what its choices gain beyond those of `--agent`: the mean
   over initialisations, least and greatest, and in how many it is above 0.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import app, flags
from rich import box
from rich.console import Console
from rich.table import Table

from emoc_tf.analysis.families import ordered
from emoc_tf.analysis.headroom import BEST, CHANCE, LUCKIEST, State, states

AGENT = flags.DEFINE_string("agent", "emoc", "The policy that others are seen against.")


def gains(of: list[State], agent: str) -> np.ndarray:
    """Returns what a policy gains at each state beyond the mean of the sets, (states,)."""
    return np.array([state.gain(agent) - state.gain(CHANCE) for state in of])


def of_novel(of: list[State]) -> np.ndarray:
    """Returns what a novel set drawn at random gains beyond the mean of the sets, (states,)."""
    return np.array([state.gains[:, state.novel > 0].mean() - state.gains.mean() for state in of])


def by_seed(of: list[State], values: np.ndarray) -> np.ndarray:
    """Returns the mean over the states of each initialisation."""
    seeds = np.array([state.seed for state in of])
    return np.array([values[seeds == seed].mean() for seed in np.unique(seeds)])


def show(of: list[State], agents: Sequence[str], agent: str) -> None:
    """Prints all of it for one way of learning."""
    headroom, luckiest = gains(of, BEST), gains(of, LUCKIEST)
    steps = sorted({state.step for state in of})
    told = ", ".join(
        f"step {step} {100 * headroom[[state.step == step for state in of]].mean():.2f}"
        for step in steps
    )
    novel = sum(bool(state.novel[state.gains.mean(axis=0).argmax()]) for state in of)
    share = of_novel(of).sum() / headroom.sum()
    console = Console()
    console.print(f"headroom in points: {told}")
    console.print(f"the best set is novel in {novel} of {len(of)} states")
    console.print(f"share of a random novel set: {share:.2f}")
    table = Table("policy", "novel", "against what looks best", f"points beyond {agent}",
                  "least", "greatest", "ahead", box=box.SIMPLE_HEAD)  # fmt: skip
    for name in ordered(agents):
        own = gains(of, name)
        ahead = 100 * by_seed(of, own - gains(of, agent))
        table.add_row(
            name, f"{sum(bool(state.novel[state.chosen[name]]) for state in of)}",
            f"{own.sum() / luckiest.sum():.2f}", f"{ahead.mean():+.2f}", f"{ahead.min():+.2f}",
            f"{ahead.max():+.2f}", f"{(ahead > 1e-9).sum()} of {len(ahead)}",
        )  # fmt: skip
    own = 100 * by_seed(of, of_novel(of) - gains(of, agent))
    table.add_row("a random novel set", "", f"{of_novel(of).sum() / luckiest.sum():.2f}",
                  f"{own.mean():+.2f}", f"{own.min():+.2f}", f"{own.max():+.2f}",
                  f"{(own > 1e-9).sum()} of {len(own)}")  # fmt: skip
    console.print(table)


def main(argv: list[str]) -> None:
    """Prints both ways of learning, where they are there."""
    if len(argv) != 2 or not (path := Path(argv[1]) / "sets.csv").is_file():
        raise app.UsageError(f"expected one folder with a sets.csv, got {argv[1:]}")
    found, agents = states(path)
    if AGENT.value not in agents:
        raise app.UsageError(f"agent: expected one of {agents}, got {AGENT.value!r}")
    for update, of in found.items():
        if of:
            print("by the learner's update" if update else "by the last layer, refitted")
            show(of, agents, AGENT.value)


if __name__ == "__main__":
    app.run(main)
