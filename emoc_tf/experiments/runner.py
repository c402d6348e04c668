"""Runs a grid of policies and seeds, each run into a folder of its own."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from emoc_tf import agents
from emoc_tf.checkpoint import remove_asides
from emoc_tf.config import ExplorationConfig
from emoc_tf.environment import differences
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.evaluation import StepOutcome
from emoc_tf.experiments import workers
from emoc_tf.experiments.display import Display
from emoc_tf.locks import FolderLock
from emoc_tf.results import FAILURE, check_output_dir, make_output_dir, run_path
from emoc_tf.run_folder import RunFolder

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


def run_grid(
    grid: Grid,
    names: Sequence[str],
    seeds: Sequence[int],
    console: Console,
    num_workers: int = 1,
) -> dict[Run, str]:
    """Runs each policy with each seed, seed by seed; a finished run is not run again.

    The runs of a seed are paired: they share classes, images, candidate sets of step 0 and
    pretrained weights, which lie in `OUT/shared/<seed>/`. An unfinished run goes on from its
    checkpoint. A run that fails does not hinder the others. One that another process works on is
    waited for, and gone on with if that process ends before it.

    Args:
        grid: Settings and output folder.
        names: Policies, with variants.
        seeds: At least 0.
        console: Where progress is shown.
        num_workers: How many runs are worked on side by side, each in a process of its own if
            there is more than one.

    Returns:
        The runs that failed, with their errors.

    Raises:
        ValueError: A policy is unknown, a value is given twice, or a folder holds another
            configuration's run; before any run.
    """
    for name, values in (("agents", names), ("seeds", seeds)):
        if not values or len(set(values)) != len(values):
            raise ValueError(f"{name}: expected distinct ones, at least one, got {list(values)}")
    folders = {(name, seed): grid.folder((name, seed)) for seed in seeds for name in names}
    check_output_dir(grid.output_dir, grid.config)
    for folder in folders.values():
        folder.check(grid.allow_mixed)
    waiting = [run for run, folder in folders.items() if not folder.finished]
    console.print(
        f"{len(folders)} runs into {grid.output_dir}: {len(folders) - len(waiting)} finished, "
        f"{len(waiting)} to do",
        soft_wrap=True,
    )
    if not waiting:
        return {}
    env = ActiveExplorationEnv(grid.config)
    make_output_dir(grid.output_dir)
    failures: dict[Run, str] = {}
    with Display(console, grid.config, len(waiting), num_workers == 1) as display:
        attempt = partial(attempt_run, grid, env, display.show)
        told: set[Run] = set()
        while waiting:
            results: Iterable[tuple[Run, Result]]
            if num_workers == 1:
                results = ((run, attempt(run)) for run in waiting)
            else:
                results = workers.run(
                    num_workers, _serve, grid, waiting, display.restart, Result.lost
                )
            busy = []
            for run, result in results:
                if result.busy:
                    busy.append(run)
                    continue
                display.end_run()
                if result.error is not None:
                    failures[run] = result.error
                    display.say(run, f"FAILED: {result.error}")
            waiting = _wait_for_one(busy, folders, display, told)
    return failures


def describe(grid: Grid, failures: dict[Run, str]) -> str:
    """Returns what failed and how to go on, in one sentence a run."""
    lines = [
        f"{name} with seed {seed}: {error} ({run_path(grid.output_dir, name, seed) / FAILURE} has "
        f"more)"
        for (name, seed), error in failures.items()
    ]
    return "\n".join(["error: the following failed; the same command tries them again", *lines])


def _wait_for_one(
    busy: list[Run], folders: dict[Run, RunFolder], display: Display, told: set[Run]
) -> list[Run]:
    """Returns the runs that other processes work on as soon as one of them is free."""
    for run in busy:
        if run not in told:
            display.say(run, f"waiting for {folders[run].lock.owner()}")
    told.update(busy)
    while busy and all(folders[run].lock.held_elsewhere() for run in busy):
        time.sleep(1)
    return busy


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
        observation, _ = _reset(grid, env, seed)
        if env.exploration.pretrained_in is not None:
            folder.claim([env.exploration.pretrained_in])
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
        raise ValueError(f"checkpoint: {type(error).__name__}: {error}; {folder.mend}") from error
    except ValueError as error:
        raise ValueError(f"{error}; {folder.mend}") from error


def _reset(grid: Grid, env: ActiveExplorationEnv, seed: int) -> tuple[dict, dict]:
    path = Path(grid.output_dir) / "shared" / str(seed) / "pretrained.npz"
    options = {"pretrained_path": path, "allow_mixed": grid.allow_mixed}
    if path.exists():
        return env.reset(seed=seed, options=options)
    with FolderLock(path.parent):  # one process pretrains, the others wait for its weights
        remove_asides(path.parent)
        return env.reset(seed=seed, options=options)


def _serve(grid: Grid) -> Callable[[Run], Result]:
    """Returns what a worker process does with a run."""
    try:
        env = ActiveExplorationEnv(grid.config)
    except Exception as error:  # such as a data set that has vanished meanwhile
        return partial(_fail, grid, error=error)
    display = Display(Console(), grid.config, 0, False)
    return partial(attempt_run, grid, env, display.show)
