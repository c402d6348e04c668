"""Trains a query policy by imitation of another one and then by acting in the environment.

Writes policy.keras, training.csv and TensorBoard's files. The same command resumes where it was
stopped. `--agents=learned:path=DIR/policy.keras` takes the policy into a comparison.

Example: python -m emoc_tf.experiments.train_agent --output_dir=out --updates=20
"""

from pathlib import Path
from typing import Any

from absl import flags
from rich.console import Console
from rich.progress import Progress

from emoc_tf.agents import learned
from emoc_tf.agents.policy_gradient import PolicyLearner
from emoc_tf.envs import FEATURES, PROGRESS
from emoc_tf.experiments import flags as shared
from emoc_tf.experiments.binary import run_binary
from emoc_tf.records.run_record import make_output_dir
from emoc_tf.running.console import say, shows_bars
from emoc_tf.running.training import POLICY, Schedule, Training
from emoc_tf.storage import provenance

TEACHER = flags.DEFINE_string("teacher", "1-vs-2", "Query policy to imitate first.")
IMITATION_EPISODES = flags.DEFINE_integer(
    "imitation_episodes", 4, "Episodes of the teacher; 0 starts without it.", 0
)
UPDATES = flags.DEFINE_integer("updates", 40, "Updates of the policy after the imitation.", 0)
EPISODES = flags.DEFINE_integer(
    "episodes", 6, "Episodes for an update, of one seed; each is compared with the others' mean.", 2
)
POLICY_LEARNING_RATE = flags.DEFINE_float(
    "policy_learning_rate", 3e-3, "Learning rate of Adam for the policy.", 0
)
DISCOUNT = flags.DEFINE_float("discount", 0.9, "Discount γ of later rewards.", 0, 1)
ENTROPY_BONUS = flags.DEFINE_float("entropy_bonus", 0.01, "Weight of the policy's entropy.", 0)
SEED, CONFIG, OUTPUT_DIR = shared.seed(), shared.settings(), shared.output_dir()


def main(argv: list[str]) -> None:
    """Trains and writes."""
    shared.check_no_arguments(argv)
    holders = (
        TEACHER, IMITATION_EPISODES, UPDATES, EPISODES, POLICY_LEARNING_RATE, DISCOUNT,
        ENTROPY_BONUS, SEED,
    )  # fmt: skip
    schedule = Schedule(**{holder.name: holder.value for holder in holders})
    config, console = CONFIG(), Console()
    training = Training(Path(OUTPUT_DIR.value), config, schedule)
    make_output_dir(training.folder.path)
    network = learned.build_network(2 * len(FEATURES) + len(PROGRESS), schedule.seed)
    learner = PolicyLearner(
        network, schedule.policy_learning_rate, schedule.entropy_bonus, schedule.seed
    )

    def show(row: dict[str, Any]) -> None:
        update = row["update"]
        name = f"update {update}/{schedule.updates}" if update else f"imitation of {TEACHER.value}"
        say(
            console,
            f"{name}  mean reward {row['mean_reward']:.4f}  "
            f"final accuracy {row['final_accuracy']:.3f}  "
            f"classes found {row['discovered_classes']:.1f}/{config.novel_classes}  "
            f"{row['seconds']:.0f} s",
        )

    say(console, provenance.device())
    with Progress(console=console, disable=not shows_bars(console)) as progress:
        task = progress.add_task("episodes", total=schedule.total_episodes)
        training.run(learner, lambda count: progress.advance(task, count), show)
    say(console, f"Written: {training.folder.path / POLICY}")


if __name__ == "__main__":
    run_binary(main)
