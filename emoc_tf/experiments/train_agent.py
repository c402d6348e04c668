"""Trains a query policy by imitation of another one and then by acting in the environment.

Writes policy.keras, training.csv and TensorBoard's files. `--agents=learned:path=DIR/policy.keras`
takes the policy into a comparison.

Example: python -m emoc_tf.experiments.train_agent --output_dir=out --updates=20
"""

import csv
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags
from rich.console import Console
from rich.progress import Progress

from emoc_tf import agents
from emoc_tf.agents import learned
from emoc_tf.agents.policy_gradient import Episode, PolicyLearner, run_episode
from emoc_tf.envs import FEATURES, PROGRESS, ActiveExplorationEnv
from emoc_tf.experiments import settings
from emoc_tf.experiments.binary import run_binary
from emoc_tf.records.run_record import make_output_dir
from emoc_tf.running.console import say
from emoc_tf.storage import atomic
from emoc_tf.storage.provenance import environment

TEACHER = flags.DEFINE_string("teacher", "1-vs-2", "Query policy that is imitated first.")
IMITATION_EPISODES = flags.DEFINE_integer(
    "imitation_episodes", 4, "Episodes of the teacher; 0 starts without it.", 0
)
UPDATES = flags.DEFINE_integer("updates", 40, "Updates of the policy after that.", 0)
EPISODES = flags.DEFINE_integer(
    "episodes", 6, "Episodes of one seed an update; each is compared with the others' mean.", 2
)
POLICY_LEARNING_RATE = flags.DEFINE_float(
    "policy_learning_rate", 3e-3, "Learning rate of Adam for the policy.", 0
)
DISCOUNT = flags.DEFINE_float("discount", 0.9, "γ of the rewards to come.", 0, 1)
ENTROPY_BONUS = flags.DEFINE_float("entropy_bonus", 0.01, "Weight of the policy's entropy.", 0)
SEED = flags.DEFINE_integer("seed", 0, "Everything random descends from it.", 0)
flags.adopt_module_key_flags(settings)
OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write into.", required=True)

POLICY, TRAINING, CONFIG = "policy.keras", "training.csv", "config.json"
_COLUMNS = ("update", "mean_reward", "final_accuracy", "discovered_classes", "loss", "seconds")


def train(
    env: ActiveExplorationEnv, learner: PolicyLearner, advance: Callable[[], None]
) -> Iterator[tuple[list[Episode], float]]:
    """Trains a policy as the flags say.

    Args:
        env: Where it acts. Each update has a seed of its own, and so has each episode of imitation.
        learner: Whose network is trained.
        advance: Called after each episode.

    Yields:
        The episodes that an update was made of, and its loss; the first update is imitation.
    """
    count = IMITATION_EPISODES.value
    seeds = np.random.SeedSequence(SEED.value).generate_state(count + UPDATES.value).tolist()
    teacher = agents.make(TEACHER.value, seed=SEED.value)

    def run(choose: Callable, seed: int, **options: str) -> Episode:
        episode = run_episode(env, choose, seed, **options)
        advance()
        return episode

    if count:
        shown = [run(lambda o: teacher.act(o, env.state), seed) for seed in seeds[:count]]
        yield shown, learner.imitate(shown)
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds[count:]:
            pretrained = f"{folder}/{seed}.npz"  # the episodes of a seed share it
            group = [
                run(learner.sample, seed, pretrained=pretrained) for _ in range(EPISODES.value)
            ]
            os.remove(pretrained)
            yield group, learner.reinforce([group], DISCOUNT.value)


def _save(network, path: Path) -> None:
    """Writes the network aside and puts it in place whole."""
    aside = path.with_name(f".{path.name}")
    network.save(aside)
    os.replace(aside, path)


def main(argv: list[str]) -> None:
    """Trains and writes."""
    if argv[1:]:
        raise ValueError(f"arguments: expected flags only, got {argv[1:]}")
    config, folder, console = settings.config_from_flags(), Path(OUTPUT_DIR.value), Console()
    if (folder / CONFIG).exists():
        raise ValueError(f"output_dir: expected a new folder, got {folder} with a training in it")
    agents.make(TEACHER.value)  # an unknown one is told before any work
    env = ActiveExplorationEnv(config)
    make_output_dir(folder)
    own = {
        holder.name: holder.value
        for holder in (
            TEACHER, IMITATION_EPISODES, UPDATES, EPISODES, DISCOUNT, POLICY_LEARNING_RATE,
            ENTROPY_BONUS, SEED,
        )
    }  # fmt: skip
    content = {"training": own, "configuration": config.to_dict(), **environment()}
    atomic.write_text(folder / CONFIG, json.dumps(content, indent=2) + "\n")
    network = learned.build_network(2 * len(FEATURES) + len(PROGRESS), SEED.value)
    learner = PolicyLearner(network, POLICY_LEARNING_RATE.value, ENTROPY_BONUS.value, SEED.value)
    _save(network, folder / POLICY)
    board = tf.summary.create_file_writer(str(folder / "tensorboard"))
    total = IMITATION_EPISODES.value + UPDATES.value * EPISODES.value
    start = time.perf_counter()
    with (
        open(folder / TRAINING, "w", encoding="utf-8", newline="") as file,
        Progress(console=console, disable=not console.is_terminal) as progress,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        task = progress.add_task("episodes", total=total)
        updates = train(env, learner, lambda: progress.advance(task))
        for update, (episodes, loss) in enumerate(updates, int(not IMITATION_EPISODES.value)):
            values = {
                "mean_reward": np.mean([episode.rewards.mean() for episode in episodes]),
                "final_accuracy": np.mean([e.info["test_accuracy"] for e in episodes]),
                "discovered_classes": np.mean([e.info["discovered_classes"] for e in episodes]),
                "loss": loss,
                "seconds": time.perf_counter() - start,
            }
            writer.writerow([update, *(f"{value:.6g}" for value in values.values())])
            file.flush()
            with board.as_default(step=update):
                for name, value in values.items():
                    tf.summary.scalar(name, value)
            board.flush()
            _save(network, folder / POLICY)
            name = f"update {update}/{UPDATES.value}" if update else f"imitation of {TEACHER.value}"
            say(
                console,
                f"{name}  mean reward {values['mean_reward']:.4f}  "
                f"final accuracy {values['final_accuracy']:.3f}  "
                f"classes found {values['discovered_classes']:.1f}/{config.novel_classes}  "
                f"{values['seconds']:.0f} s",
            )
    say(console, f"Written: {folder / POLICY}")


if __name__ == "__main__":
    run_binary(
        main, "policy.keras holds the last update's policy; a new training needs a new output_dir"
    )
