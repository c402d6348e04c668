"""One run of a grid: from its beginning or its checkpoint to its end, with errors recorded."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from emoc_tf import agents
from emoc_tf.config import ExplorationConfig
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.exploration.outcome import StepOutcome
from emoc_tf.records.pretrained import PretrainedFile
from emoc_tf.records.run_folder import RunFolder
from emoc_tf.running.console import Display
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
            or thread count are gone on with.
    """

    config: ExplorationConfig
    output_dir: str | Path
    allow_mixed: bool = False

    def folder(self, run: Run) -> RunFolder:
        """Returns the folder of a run; raises `ValueError` if there is no such policy."""
        name, seed = run
        fingerprint = agents.make(name, seed=seed).fingerprint
        return RunFolder(self.output_dir, name, seed, self.config, fingerprint)


@dataclass(frozen=True)
class Result:
    """How an attempt at a run ended.

    Attributes:
        error: In one sentence, if it failed.
        busy: Whether another process works on it.
    """

    error: str | None = None
    busy: bool = False

    @classmethod
    def lost(cls, run: Run, grid: Grid, cause: str) -> "Result":
        """Returns, and records, that the process died that worked on a run."""
        hint = ", perhaps for lack of memory" if cause == "SIGKILL" else ""
        return _fail(grid, run, RuntimeError(f"its process died twice ({cause}{hint})"))


def attempt_run(grid: Grid, env: ActiveExplorationEnv, show: Show, run: Run) -> Result:
    """Works on one run to its end; errors are recorded in its folder.

    Args:
        grid: Settings and output folder.
        env: An environment of these settings.
        show: Called with the run and, of each step, the outcome, the seconds and the name of the
            class queried.
        run: Which.
    """
    try:
        folder = grid.folder(run)
        if not folder.lock.acquire():
            return Result(busy=True)
    except Exception as error:  # the others go on, whatever it is
        return Result(_sentence(error))
    try:
        if not folder.finished:  # another process may have been here
            _run_episode(grid, env, run, folder, show)
        return Result()
    except Exception as error:
        return Result(_record_failure(folder, error))
    finally:
        env.exploration.on_query = None
        try:
            folder.close()
        finally:
            folder.lock.release()


def _fail(grid: Grid, run: Run, error: Exception) -> Result:
    """Records an error of a run that nobody works on."""
    try:
        folder = grid.folder(run)
        with folder.lock:
            return Result(_record_failure(folder, error))
    except (ValueError, OSError):
        return Result(_sentence(error))


def _record_failure(folder: RunFolder, error: Exception) -> str:
    try:
        folder.fail(error)
    except OSError as second:  # such as a full disk
        return f"{_sentence(error)} (not recorded: {second})"
    return _sentence(error)


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__


def _run_episode(
    grid: Grid,
    env: ActiveExplorationEnv,
    run: Run,
    folder: RunFolder,
    show: Show,
) -> None:
    """Runs one policy with one seed to the episode's end and writes its records."""
    name, seed = run
    agent = agents.make(name, seed=seed)
    selection_seconds: float | None = None

    def save_choice() -> None:
        # What took no time is not worth a file; the answers of a data set never are.
        query = env.exploration.query
        if query.classes is None and (selection_seconds or 0) > WORTH_SAVING:
            folder.save(env.save(), selection_seconds)

    env.exploration.on_query = save_choice

    def record(outcome: StepOutcome, reward: float | None, seconds: float) -> None:
        timings = {**env.exploration.timings, "step_seconds": seconds}
        if selection_seconds is not None:
            timings["selection_seconds"] = selection_seconds
        folder.write_step(outcome, reward, timings)
        folder.save(env.save())
        queried = outcome.queried_class
        show(
            run, outcome, seconds, None if queried is None else env.exploration.class_names[queried]
        )

    start = time.perf_counter()
    saved = _restore(grid, env, folder)
    if saved is None:
        folder.claim()
        observation, made_in = _reset(grid, env, seed)
        if made_in is not None:
            folder.claim([made_in])
        folder.start(env.exploration.episode.classes)
        record(env.outcome, None, time.perf_counter() - start)
    else:
        observation, selection_seconds = saved
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
    folder.finish()


def _restore(
    grid: Grid, env: ActiveExplorationEnv, folder: RunFolder
) -> tuple[dict, float | None] | None:
    """Goes on from the run's checkpoint, if there is one; nothing is written before it fits.

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
    path = Path(grid.output_dir) / "shared" / str(seed) / "pretrained.npz"
    pretrained = PretrainedFile(path, grid.allow_mixed)
    options = {"pretrained": pretrained}
    if path.exists():
        observation, _ = env.reset(seed=seed, options=options)
    else:
        with FolderLock(path.parent):  # one process pretrains, the others wait for its weights
            remove_asides(path.parent)
            observation, _ = env.reset(seed=seed, options=options)
    return observation, pretrained.made_in


def serve(grid: Grid) -> Callable[[Run], Result]:
    """Returns what a worker process does with a run."""
    try:
        env = ActiveExplorationEnv(grid.config)
    except Exception as error:  # such as a data set that has vanished meanwhile
        return partial(_fail, grid, error=error)
    display = Display(Console(), grid.config, 0, False)
    return partial(attempt_run, grid, env, display.show)
