"""One run of a grid: from its beginning or its checkpoint to its end."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoc_tf import agents
from emoc_tf.agents.agent import Agent
from emoc_tf.config import ExplorationConfig
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.exploration.outcome import StepOutcome
from emoc_tf.records.final_model import save_final_model
from emoc_tf.records.pretrained import PretrainedFile
from emoc_tf.records.queried import AnswerFiles
from emoc_tf.records.run_folder import RunFolder
from emoc_tf.records.run_record import pretrained_path
from emoc_tf.running import patience
from emoc_tf.scoring import scoring_on
from emoc_tf.storage.atomic import remove_asides
from emoc_tf.storage.locks import FolderLock
from emoc_tf.storage.provenance import differences

Run = tuple[str, int]  # policy with its variant, seed
Show = Callable[[Run, StepOutcome, float, str | None], None]
# Seconds of a choice from which on it is saved before the step: a file costs some milliseconds.
WORTH_SAVING = 1.0


@dataclass(frozen=True)
class Grid:
    """What all runs of a grid have in common.

    Attributes:
        config: The settings of all runs.
        output_dir: OUT.
        allow_mixed: Whether unfinished runs and pretrained weights of another version, processor
            or thread count are resumed.
        environment: Makes the environment of the settings, with data, a model or an oracle of your
            own, as in `lambda config: ActiveExplorationEnv(config, data=data)`. With several
            worker processes a module's own function, since it is sent by name; it is called in
            each of them and has to give the same each time. What it hands in is told in each run's
            `config.json` by its fingerprint, and runs of another one are refused.
        save_model: Whether each run writes the model that it ends with, `model.keras`, with the
            names of its classes beside it.
        scoring_ray: Where scores and predictions of the pool are computed, see
            `ActiveExplorationEnv`; it is no part of what a run is.
    """

    config: ExplorationConfig
    output_dir: str | Path
    allow_mixed: bool = False
    environment: Callable[[ExplorationConfig], ActiveExplorationEnv] = ActiveExplorationEnv
    save_model: bool = False
    scoring_ray: str | None = None

    @property
    def hands_in(self) -> bool:
        """Whether the environment is made of more than the settings."""
        return self.environment is not ActiveExplorationEnv

    def make_environment(self) -> ActiveExplorationEnv:
        """Returns an environment of the settings.

        Raises:
            ValueError: What `environment` returned is none.
        """
        env = self.environment(self.config)
        if not isinstance(env, ActiveExplorationEnv) or env.config != self.config:
            raise ValueError(
                f"environment: expected a function that returns an ActiveExplorationEnv of the "
                f"settings it is given, got {env!r}"
            )
        if self.scoring_ray is not None:
            env.exploration.scoring = scoring_on(self.scoring_ray)
        return env

    def folder(
        self,
        run: Run,
        agent: Agent,
        env: ActiveExplorationEnv | None = None,
        place: Mapping[str, Any] | None = None,
    ) -> RunFolder:
        """Returns the folder of a run.

        Args:
            run: Which.
            agent: Its policy.
            env: Its environment; None for the usual one.
            place: Where it is worked on; None for this process, see `RunFolder`.
        """
        name, seed = run
        made_of = {"fingerprint": agent.fingerprint, "environment": env and env.fingerprint}
        return RunFolder(self.output_dir, name, seed, self.config, made_of, place)


def make_agent(run: Run) -> Agent:
    """Returns the policy of a run; raises `ValueError` if there is none."""
    name, seed = run
    return agents.make(name, seed=seed)


def run_episode(
    grid: Grid,
    env: ActiveExplorationEnv,
    run: Run,
    agent: Agent,
    folder: RunFolder,
    show: Show,
) -> None:
    """Runs one policy with one seed to the episode's end and writes its records.

    Args:
        grid: Settings and output folder.
        env: An environment of these settings.
        run: Which.
        agent: Its policy.
        folder: Its folder, whose lock is held.
        show: Called with the run and, of each step, the outcome, the seconds and the name of the
            class queried.
    """
    selection_seconds: float | None = None
    answers: AnswerFiles | None = None

    told = env.exploration.on_query

    def save_choice() -> None:
        # What took no time is not worth a file, and the answers of a data set never are; those of
        # somebody who was handed in may have taken a person's time.
        query = env.exploration.query
        if query is not None and (
            grid.hands_in or (query.classes is None and (selection_seconds or 0) > WORTH_SAVING)
        ):
            folder.save(env.save(), selection_seconds)
        if told is not None:
            told()

    env.exploration.on_query = save_choice
    # Before reset and restore: the sampler `top` asks it there.
    env.exploration.image_scores = agent.score_images

    def record(outcome: StepOutcome, reward: float | None, seconds: float) -> None:
        timings = {**env.exploration.timings, "step_seconds": seconds}
        if selection_seconds is not None:
            timings["selection_seconds"] = selection_seconds
        answers.write()
        folder.write_step(outcome, reward, timings)
        folder.save(env.save())
        queried = outcome.queried_class
        show(
            run, outcome, seconds, None if queried is None else env.exploration.class_names[queried]
        )

    start = time.perf_counter()
    saved = _restore(grid, env, folder)
    if saved is None:
        task = env.exploration.task
        folder.claim(task=task)
        observation, made_in = _reset(grid, env, run[1])
        if made_in is not None:
            folder.claim([made_in], task)
        episode = env.exploration.episode
        folder.start(episode.classes, episode.test_images is not None)
        answers = AnswerFiles(folder.path, env.exploration)
        record(env.outcome, None, time.perf_counter() - start)
    else:
        observation, selection_seconds = saved
        answers = AnswerFiles(folder.path, env.exploration)
    while not env.over:
        start = time.perf_counter()
        if env.query is None:
            action = agent.act(observation, env.state)
            selection_seconds = time.perf_counter() - start
        else:  # chosen before the run was interrupted
            action = env.query
            start -= selection_seconds or 0
        observation, reward, *_ = env.step(action)
        record(env.outcome, reward, time.perf_counter() - start)
    answers.begin()
    if grid.save_model:
        save_final_model(env.exploration, folder.path)
    folder.finish(_why_over(env))


def _why_over(env: ActiveExplorationEnv) -> str:
    """Returns why an episode has ended, in words."""
    if env.outcome.stopped:
        return env.outcome.stopped
    if env.exploration.finished:
        return "no candidate set can be formed any more"
    return f"max_steps, {env.config.max_steps}, were taken"


def _restore(
    grid: Grid, env: ActiveExplorationEnv, folder: RunFolder
) -> tuple[dict, float | None] | None:
    """Resumes from the run's checkpoint, if there is one; nothing is written before it fits.

    Returns:
        Observation and the seconds that the choice of the query in it took.
    """
    folder.check(grid.allow_mixed)
    try:
        saved = folder.saved()
        if saved is None:
            return None
        run = saved.header["run"]
        # What another machine wrote last is not what this one computes.
        observation, _ = env.restore(saved, exact=not differences(run["environment"]))
        folder.resume(saved)
        return observation, run["selection_seconds"]
    except (KeyError, TypeError, AttributeError) as error:  # of a header that is none of ours
        raise ValueError(f"checkpoint: {type(error).__name__}: {error}; {folder.remedy}") from error
    except ValueError as error:
        raise ValueError(f"{error}; {folder.remedy}") from error


def _reset(grid: Grid, env: ActiveExplorationEnv, seed: int) -> tuple[dict, dict[str, Any] | None]:
    """Returns the first observation, and where pretrained weights were made if not here."""
    path = pretrained_path(grid.output_dir, seed)
    pretrained = PretrainedFile(path, grid.allow_mixed)
    options = {"pretrained": pretrained}
    if path.exists():
        observation, _ = env.reset(seed=seed, options=options)
    else:
        # One process pretrains, the others wait for its weights.
        with patience.held(FolderLock(path.parent), path.parent):
            remove_asides(path.parent)
            observation, _ = env.reset(seed=seed, options=options)
    return observation, pretrained.made_in
