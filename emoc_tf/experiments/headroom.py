"""Best of the sets: how much better any policy could have chosen, and the share that each takes.

One policy drives an episode. At some of its steps many candidate sets are learnt, each from the
same model under its true label, and their gains in test accuracy are compared. The headroom is the
gain of the best set over the mean of the sets, which random choice takes on average. The best of a
hundred measured gains is in part the luckiest. So it is chosen on one half of the test images and
judged on the other, both ways. Every policy chooses among the same sets, and gets a share of the
headroom.

The last layer learns a set: it is refitted to its optimum on the features of the body as it is. The
first `--update_sets` sets are also learnt by the learner's own update of the whole model.

The same command resumes where it was stopped. Where nothing is left to do, it makes table and
figure again from `sets.csv`, on any machine.

Example: python -m emoc_tf.experiments.headroom --seeds=0,1 --at_steps=0,2 --output_dir=out
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import flags
from rich.console import Console

from emoc_tf import ExplorationConfig, agents, streams
from emoc_tf.agents.registry import chosen
from emoc_tf.analysis import headroom
from emoc_tf.analysis.headroom import COLUMNS
from emoc_tf.data.images import ImageData
from emoc_tf.data.named import load
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.envs.observation import observe
from emoc_tf.experiments import flags as shared
from emoc_tf.experiments.binary import run_binary
from emoc_tf.records import examinations
from emoc_tf.records.record_folder import RecordFolder
from emoc_tf.records.run_record import make_output_dir
from emoc_tf.report import drawing
from emoc_tf.report.headroom import agreement_line, draw, table, to_rows
from emoc_tf.running import refitting, relearning
from emoc_tf.running.console import say
from emoc_tf.running.grid import check_distinct
from emoc_tf.storage import atomic, csv_files
from emoc_tf.storage.provenance import device, environment

SETS = flags.DEFINE_integer("sets_per_state", 100, "Candidate sets of each state.", 2)
UPDATE_SETS = flags.DEFINE_integer(
    "update_sets", 0, "How many of them the learner's own update learns as well, 0 or more than 1; "
    "policies choose among these once more.", 0,
)  # fmt: skip
AT_STEPS = flags.DEFINE_list("at_steps", ["0", "3", "6"], "Steps of the episode to look at.")
DRIVER = flags.DEFINE_string("driver", "random", "Policy that drives the episode.")
AGENTS = shared.policies()
CONFIG, SEEDS, OUTPUT_DIR = shared.settings(), shared.seeds(), shared.output_dir()

FILE = "sets.csv"
# What decides its rows beside what decides runs.
SOURCE = (
    "emoc_tf.running.relearning", "emoc_tf.running.refitting", "emoc_tf.experiments.headroom",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is looked at, of each initialisation.

    Attributes:
        config: The settings.
        driver: The policy whose episodes they are.
        agents: The policies that choose.
        steps: Of the episode, ascending.
        sets: Candidate sets of each state; fewer where there are fewer.
        update_sets: How many of them are learnt by the learner's own update too.
    """

    config: ExplorationConfig
    driver: str
    agents: tuple[str, ...]
    steps: tuple[int, ...]
    sets: int
    update_sets: int

    def __post_init__(self) -> None:
        relearning.check_settings(self.config)
        refitting.check_settings(self.config)
        check_distinct("agents", self.agents)
        for name in (self.driver, *self.agents):
            agents.make(name)
        check_distinct("at_steps", self.steps)
        most = self.config.num_steps
        if most is not None and self.steps[-1] >= most:
            raise ValueError(
                f"at_steps: expected steps below {most}, at which a set is chosen, got "
                f"{list(self.steps)}; a larger max_steps makes episodes longer"
            )
        if self.update_sets == 1 or self.update_sets > self.sets:
            raise ValueError(
                f"update_sets: expected 0, or from 2 to {self.sets}, the number of sets, got "
                f"{self.update_sets}"
            )

    @property
    def ways(self) -> tuple[tuple[int, int], ...]:
        """How sets are learnt, 1 for the learner's own update, and how many."""
        both = (0, self.sets), (1, self.update_sets)
        return both if self.update_sets else both[:1]

    def told(self) -> dict:
        """Returns what `config.json` says; further seeds and steps are welcome."""
        return {
            "configuration": self.config.record(), "driver": self.driver,
            "agents": list(self.agents), "sets": self.sets, "update_sets": self.update_sets,
            "environment": environment(*SOURCE),
        }  # fmt: skip


def left(plan: Plan, rows: np.ndarray, seed: int) -> list[int]:
    """Returns the steps of an initialisation whose states lack rows, ascending.

    Args:
        plan: What is looked at.
        rows: (rows, columns) that are there.
        seed: The initialisation.
    """
    found = []
    for step in plan.steps:
        for update, _ in plan.ways:
            here = np.all(rows[:, :3] == (seed, step, update), axis=1)
            if not here.any() or here.sum() < rows[here, COLUMNS.index("sets")][0]:
                found.append(step)
                break
    return found


def driven(
    plan: Plan, data: tuple[ImageData, ImageData], seed: int, steps: Sequence[int]
) -> Iterator[ActiveExplorationEnv]:
    """Yields the environment at some steps of an episode.

    Raises:
        ValueError: The episode ends before the last of them.
    """
    driver, env = agents.make(plan.driver, seed=seed), ActiveExplorationEnv(plan.config, data=data)
    env.exploration.image_scores = driver.score_images  # for the sampler `top`
    observation, _ = env.reset(seed=seed)
    for step in range(steps[-1] + 1):
        if env.over:
            raise ValueError(
                f"at_steps: expected steps before the end of the episode, got {steps[-1]}, but "
                f"that of seed {seed} is over after {env.outcome.step}"
            )
        if step in steps:
            yield env
        if step < steps[-1]:
            observation, *_ = env.step(driver.act(observation, env.state))


def choices(
    env: ActiveExplorationEnv, sets: np.ndarray, policies: Mapping[str, agents.Agent]
) -> dict[str, int]:
    """Returns which of some candidate sets each policy chooses."""
    state, episode = env.state, env.exploration.episode
    few = dataclasses.replace(
        state, candidates=state.candidates[sets], candidate_mask=state.candidate_mask[sets]
    )
    observation = observe(few, env.config, episode.num_steps(env.config), len(episode.classes))
    return {name: int(sets[agent.act(observation, few)]) for name, agent in policies.items()}


def halves(classes: np.ndarray, seed: int) -> np.ndarray:
    """Returns which test images are in the first half, (n_test,) bool, half of each class."""
    mixed = streams.generator(seed, 0, "halves of the test images").permutation(len(classes))
    order = mixed[np.argsort(classes[mixed], kind="stable")]
    first = np.zeros(len(classes), bool)
    first[order[::2]] = True
    return first


def examine(
    plan: Plan,
    data: tuple[ImageData, ImageData],
    env: ActiveExplorationEnv,
    seed: int,
    there: np.ndarray,
    policies: Mapping[str, agents.Agent],
) -> Iterator[dict[str, float]]:
    """Yields a row for each set and way to learn it that is not there yet.

    Args:
        plan: What is looked at.
        data: Training and test part.
        env: At a step.
        seed: Of the episode.
        there: Rows of this seed.
        policies: By name.
    """
    state, exploration = env.state, env.exploration
    truth = exploration.episode.true_labels
    rng = streams.generator(seed, state.step, "sets to examine")
    every = rng.permutation(np.flatnonzero(state.candidate_mask))
    first = halves(relearning.classes_of_test_images(exploration), seed)
    for update, count in plan.ways:
        sets = every[:count]
        here = there[np.all(there[:, 1:3] == (state.step, update), axis=1)]
        done = here[:, COLUMNS.index("set")].astype(int).tolist()
        if len(done) == len(sets):
            continue
        picked = choices(env, sets, policies)
        learner = (
            relearning.Start.at(plan.config, data, exploration)
            if update
            else refitting.LastLayer(plan.config, exploration)
        )
        alone = learner.right(None)
        for choice in sets.tolist():
            if choice in done:
                continue
            classes = truth[state.candidates[choice][state.candidates[choice] >= 0]]
            gains = learner.right(choice).astype(int) - alone
            yield {
                "seed": seed, "step": state.step, "update": update, "sets": len(sets),
                "set": choice, "queried_class": int(np.bincount(classes).argmax()),
                "novel_share": float(1 - np.isin(classes, state.known_classes).mean()),
                "first_gain": float(gains[first].mean()),
                "second_gain": float(gains[~first].mean()),
                **{name: int(found == choice) for name, found in picked.items()},
            }  # fmt: skip


def _line(row: Mapping[str, float], names: Sequence[str]) -> str:
    picked = [name for name in names if row[name]]
    gain = (row["first_gain"] + row["second_gain"]) / 2
    learner = "update" if row["update"] else "last layer"
    return (
        f"seed {row['seed']}  step {row['step']}  {learner}  set {row['set']}  accuracy "
        f"{gain:+.4f}" + (f"  chosen by {', '.join(picked)}" if picked else "")
    )


def main(argv: list[str]) -> None:
    """Learns the sets and tells what each policy's choices are worth."""
    shared.check_no_arguments(argv)
    seeds, at = SEEDS(), AT_STEPS.value
    if not at or not all(text.isdecimal() and len(text) < 10 for text in at):
        raise ValueError(f"at_steps: expected integers of at least 0, got {at}")
    steps = tuple(sorted(map(int, at)))
    names = tuple(chosen(AGENTS.value))
    plan = Plan(CONFIG(), DRIVER.value, names, steps, SETS.value, UPDATE_SETS.value)
    console, folder = Console(), RecordFolder(Path(OUTPUT_DIR.value))
    make_output_dir(folder.path)
    header, told = [*COLUMNS, *plan.agents], plan.told()
    with folder.alone():
        rows = examinations.rows_there(folder, FILE, header, told)
        if any(left(plan, rows, seed) for seed in seeds):
            say(console, device())
            examinations.begin(folder, FILE, header, told, rows, SOURCE)
            _work(plan, seeds, rows, folder, console)
        found = headroom.read(folder.path / FILE)
        written = drawing.save(draw(found), folder.path / "headroom")
        written.append(folder.path / "headroom.csv")
        atomic.write_text(written[-1], csv_files.text(to_rows(found)))
    console.print(table(found))
    *correlation, both = headroom.agreement(folder.path / FILE)
    if both:
        say(console, agreement_line(*correlation, both))
    say(console, f"Written into {folder.path}: {', '.join(path.name for path in written)}")


def _work(
    plan: Plan, seeds: Sequence[int], rows: np.ndarray, folder: RecordFolder, console: Console
) -> None:
    """Writes the rows that are not there yet."""
    data = load(plan.config.dataset, plan.config.data_dir)
    for seed in seeds:
        steps = left(plan, rows, seed)
        policies = {name: agents.make(name, seed=seed) for name in plan.agents}
        there = rows[rows[:, 0] == seed]
        for env in driven(plan, data, seed, steps) if steps else ():
            for row in examine(plan, data, env, seed, there, policies):
                folder.write(row)
                say(console, _line(row, plan.agents))


if __name__ == "__main__":
    run_binary(main)
