"""Attempts at runs: whatever goes wrong is recorded, and the others continue."""

import pickle
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.console import Console

from emoc_tf.agents import AGENTS
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.envs.fingerprint import content
from emoc_tf.records.record_folder import RecordFolder
from emoc_tf.records.run_record import run_path
from emoc_tf.registries import NETWORKS, REWARDS, SAMPLERS, reward_terms
from emoc_tf.running.console import Display
from emoc_tf.running.single_run import Grid, Run, Show, make_agent, run_episode

_REGISTRIES = {"agents": AGENTS, "samplers": SAMPLERS, "networks": NETWORKS, "rewards": REWARDS}


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
    def lost(cls, run: Run, cause: str, grid: Grid) -> "Result":
        """Returns, and records, that the process died that worked on a run."""
        hint = ", perhaps for lack of memory" if cause == "SIGKILL" else ""
        return fail(grid, run, RuntimeError(f"its process died twice ({cause}{hint})"))


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
        agent = make_agent(run)
        folder = grid.folder(run, agent, env)
        if not folder.lock.acquire():
            return Result(busy=True)
    except Exception as error:  # the others go on, whatever it is
        return Result(_sentence(error))
    told = env.exploration.on_query
    try:
        if not folder.finished:  # another process may have been here
            run_episode(grid, env, run, agent, folder, show)
        return Result()
    except Exception as error:
        return Result(_record_failure(folder, error))
    finally:
        env.exploration.on_query, env.exploration.image_scores = told, None
        try:
            folder.close()
        finally:
            folder.lock.release()


def fail(grid: Grid, run: Run, error: Exception) -> Result:
    """Records an error of a run, unless somebody works on it after all."""
    folder = RecordFolder(run_path(grid.output_dir, *run))
    try:
        if folder.lock.acquire():
            try:
                return Result(_record_failure(folder, error))
            finally:
                folder.lock.release()
    except OSError:
        pass
    return Result(_sentence(error))


def _record_failure(folder: RecordFolder, error: Exception) -> str:
    try:
        folder.fail(error)
    except OSError as second:  # such as a full disk
        return f"{_sentence(error)} (not recorded: {second})"
    return _sentence(error)


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__


def registered(grid: Grid, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Returns what was registered in this process, by kind: worker processes need it too.

    What cannot be sent is left out where the grid does not name it. What can be sent is not: a
    policy may ask for another one by name.

    Args:
        grid: With the settings, which name a sampler, a network and terms of the reward.
        names: Policies, with variants.
    """
    config = grid.config
    used = {
        "agents": {name.partition(":")[0] for name in names},
        "samplers": {config.sampler},
        "networks": {config.network},
        "rewards": {name for _, name in reward_terms(config.reward)},
    }
    return {
        kind: {
            name: thing
            for name, thing in registry.registered().items()
            if name in used[kind] or _can_be_sent(thing)
        }
        for kind, registry in _REGISTRIES.items()
    }


def _can_be_sent(thing: Any) -> bool:
    try:
        pickle.dumps(thing)
    except Exception:  # pickling runs code of the thing's own
        return False
    return True


@dataclass(frozen=True)
class Shared:
    """What a process that works on runs has in common with the one that began it.

    Attributes:
        known: What `registered` returned there.
        hashed: Returns a hash of what an environment is made of.
        made_of: What that was there.
    """

    known: Mapping[str, Mapping[str, Any]]
    hashed: Callable[[ActiveExplorationEnv], str | None]
    made_of: str | None

    @classmethod
    def by(cls, grid: Grid, names: Iterable[str], env: ActiveExplorationEnv, far: bool) -> "Shared":
        """Returns what others share with this process.

        Args:
            grid: With the settings.
            names: Policies, with variants.
            env: Its environment.
            far: Whether they may have another data set, on another machine.
        """
        hashed = content if far else _fingerprint
        return cls(registered(grid, names), hashed, hashed(env))

    def check(self, env: ActiveExplorationEnv) -> None:
        """Raises `ValueError` if runs of an environment would not be paired with the others."""
        if self.hashed(env) != self.made_of:
            raise ValueError(
                f"environment: expected the data, model, oracle and reward that the command itself "
                f"has, got others on {platform.node()}; make the data set there the same, and let "
                f"an environment of your own be the same each time that it is made"
            )


def _fingerprint(env: ActiveExplorationEnv) -> str | None:
    return env.fingerprint


def serve(
    grid: Grid,
    shared: Shared,
    stepped: Callable[[], None] = lambda: None,
) -> Callable[[Run], Result]:
    """Returns what a worker process does with a run.

    Args:
        grid: Settings and output folder.
        shared: With the process that started this one.
        stepped: Called after each step, once it is saved.

    Raises:
        Exception: There is no environment, such as without the data set, or it is another one.
    """
    env = begin(grid, shared)
    return partial(attempt_run, grid, env, shown(grid, env, stepped))


def begin(grid: Grid, shared: Shared) -> ActiveExplorationEnv:
    """Returns the environment of a worker process; raises what hinders it to be made."""
    for kind, things in shared.known.items():
        _REGISTRIES[kind].update(things)
    env = grid.make_environment()
    shared.check(env)
    return env


def shown(grid: Grid, env: ActiveExplorationEnv, stepped: Callable[[], None]) -> Show:
    """Returns what is called after each step of a worker process; it prints a line."""
    display = Display(Console(), grid.config, 0, False, env.exploration.task is not None)

    def show(*told: Any) -> None:
        stepped()
        display.show(*told)

    return show
