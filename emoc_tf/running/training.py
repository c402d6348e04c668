"""The training of a query policy: imitation, then updates by acting; stopped and resumed."""

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emoc_tf import agents
from emoc_tf.agents.policy_gradient import PolicyLearner, Trajectory, run_episode
from emoc_tf.config import ExplorationConfig
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.records.record_folder import RecordFolder
from emoc_tf.records.sinks import Board, Sink, Table
from emoc_tf.storage import atomic
from emoc_tf.storage.checkpoint import Checkpoint
from emoc_tf.storage.csv_files import read_numbers
from emoc_tf.storage.provenance import differences, environment

POLICY, TRAINING = "policy.keras", "training.csv"
# What decides a training beside what decides runs.
SOURCE = ("emoc_tf.agents.policy_gradient", "emoc_tf.running.training")
COLUMNS = ("update", "mean_reward", "final_accuracy", "discovered_classes", "loss", "seconds")


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How a policy is trained.

    Attributes:
        teacher: Query policy that is imitated first.
        imitation_episodes: Episodes of the teacher; 0 for none.
        updates: Updates of the policy after that.
        episodes: Episodes of one seed an update, at least 2.
        policy_learning_rate: Of Adam.
        discount: γ of the rewards to come, in [0, 1].
        entropy_bonus: Weight of the policy's entropy.
        seed: Everything random descends from it.
    """

    teacher: str
    imitation_episodes: int
    updates: int
    episodes: int
    policy_learning_rate: float
    discount: float
    entropy_bonus: float
    seed: int

    @property
    def total_episodes(self) -> int:
        """Of the teacher and of all updates."""
        return self.imitation_episodes + self.updates * self.episodes


class Training:
    """A training in a folder: policy.keras, training.csv, TensorBoard's files.

    It is saved after each update; resumed, it ends as if nobody had stopped it, bit for bit.

    Args:
        path: The folder.
        config: Of the environment that the policy acts in.
        schedule: How it is trained.

    Raises:
        ValueError: The folder holds a training that is finished, or one of other settings, of other
            versions or of another machine, or the teacher is no policy.
    """

    def __init__(self, path: Path, config: ExplorationConfig, schedule: Schedule) -> None:
        self.folder = RecordFolder(path)
        self._config, self._schedule = config, schedule
        self._told = {
            "training": dataclasses.asdict(schedule),
            "configuration": config.record(),
            **environment(*SOURCE),
        }
        self._teacher = agents.make(schedule.teacher, seed=schedule.seed)
        self._check()

    def _check(self) -> None:
        found = self.folder.read_config()
        if found is None:
            return
        path = self.folder.path
        if self._finished:
            raise ValueError(f"output_dir: expected a new folder, got {path} with a training in it")
        schedule = found.get("training", {})
        differing = [
            f"{name}={schedule.get(name)!r} there, {value!r} here"
            for name, value in self._told["training"].items()
            if schedule.get(name) != value
        ]
        differing += self._config.differences(found.get("configuration", {}))
        differing += differences(found, *SOURCE)
        if differing:
            raise ValueError(
                f"output_dir: expected a new folder, got {path} with an unfinished training of "
                f"other settings, versions or another machine ({'; '.join(differing)})"
            )

    @property
    def _finished(self) -> bool:
        schedule = self._schedule
        wanted = schedule.updates + bool(schedule.imitation_episodes)
        _, rows = read_numbers(self.folder.path / TRAINING)
        return len(rows) >= wanted and not self.folder.has_checkpoint

    def run(
        self,
        learner: PolicyLearner,
        advance: Callable[[int], None],
        show: Callable[[dict[str, Any]], None],
    ) -> None:
        """Trains to the end, from the beginning or where it was stopped.

        Args:
            learner: Whose network is trained; made from the schedule.
            advance: Called with a number of episodes that are done.
            show: Called with the row of each update.
        """
        env = ActiveExplorationEnv(self._config)
        with self.folder.alone():
            self._check()  # another process may have been here
            rows = self._resume(learner)
            begun = time.perf_counter() - (rows[-1]["seconds"] if rows else 0)
            done, schedule = len(rows), self._schedule
            imitation = int(bool(schedule.imitation_episodes))
            advance(
                schedule.imitation_episodes * min(done, imitation)
                + schedule.episodes * max(0, done - imitation)
            )
            updates = self._train(env, learner, done, lambda: advance(1))
            for update, (episodes, loss) in enumerate(updates, done + 1 - imitation):
                row = _row(update, episodes, loss) | {"seconds": time.perf_counter() - begun}
                rows.append(row)
                self._save_policy(learner)
                self.folder.write(row | {"step": update})
                self._save(learner, rows)
                show(row)
            # To disk before the checkpoints go.
            self._table().begin(rows)
            self.folder.finish()

    def _resume(self, learner: PolicyLearner) -> list[dict[str, Any]]:
        """Brings learner and records to where the training was stopped; returns its rows."""
        saved, rows = self.folder.read_checkpoint(), []
        if saved is None:
            self.folder.write_config(self._told)
        else:
            try:
                learner.restore(saved.arrays, saved.header["choices"])
                rows = list(saved.header["rows"])
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"checkpoint: {type(error).__name__}: {error}; {self.folder.remedy}"
                ) from error
        path = self.folder.path
        shown = {name: name for name in COLUMNS[1:]}
        sinks: list[Sink] = [Board(path / "tensorboard", shown), self._table()]
        self.folder.begin(sinks, [row | {"step": row["update"]} for row in rows])
        if not rows:
            self._save_policy(learner)
            self._save(learner, rows)
        return rows

    def _table(self) -> Table:
        return Table(self.folder.path / TRAINING, COLUMNS, digits=6)

    def _save(self, learner: PolicyLearner, rows: Sequence[dict[str, Any]]) -> None:
        arrays, choices = learner.save()
        self.folder.write_checkpoint(Checkpoint({"rows": list(rows), "choices": choices}, arrays))

    def _save_policy(self, learner: PolicyLearner) -> None:
        """Writes the network aside and puts it in place whole."""
        path = self.folder.path / POLICY
        with tempfile.TemporaryDirectory() as aside:
            learner.network.save(Path(aside) / POLICY)
            atomic.write_bytes(path, (Path(aside) / POLICY).read_bytes())

    def _train(
        self,
        env: ActiveExplorationEnv,
        learner: PolicyLearner,
        done: int,
        advance: Callable[[], None],
    ) -> Iterator[tuple[list[Trajectory], float]]:
        """Yields, from update `done` on, the episodes that each was made of, and its loss.

        Each update has a seed of its own, and so has each episode of imitation.
        """
        schedule = self._schedule
        count = schedule.imitation_episodes
        seeds = np.random.SeedSequence(schedule.seed).generate_state(count + schedule.updates)

        def run(choose: Callable, seed: int, **options: str) -> Trajectory:
            episode = run_episode(env, choose, seed, **options)
            advance()
            return episode

        if count and not done:
            teacher = self._teacher
            shown = [
                run(lambda o: teacher.act(o, env.state), seed) for seed in seeds[:count].tolist()
            ]
            yield shown, learner.imitate(shown)
        with tempfile.TemporaryDirectory() as folder:
            for seed in seeds[count + max(0, done - int(bool(count))) :].tolist():
                pretrained = f"{folder}/{seed}.npz"  # the episodes of a seed share it
                group = [
                    run(learner.sample, seed, pretrained=pretrained)
                    for _ in range(schedule.episodes)
                ]
                os.remove(pretrained)
                yield group, learner.reinforce([group], schedule.discount)


def _row(update: int, episodes: Sequence[Trajectory], loss: float) -> dict[str, Any]:
    last = [episode.info for episode in episodes]
    return {
        "update": update,
        "mean_reward": float(np.mean([episode.rewards.mean() for episode in episodes])),
        "final_accuracy": float(np.mean([info["test_accuracy"] for info in last])),
        "discovered_classes": float(np.mean([info["discovered_classes"] for info in last])),
        "loss": loss,
    }
