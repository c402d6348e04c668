"""Runs a grid of policies and seeds in one process, each run into a folder of its own."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, logging
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from emoc_tf import agents
from emoc_tf.config import ExplorationConfig
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.evaluation import StepOutcome
from emoc_tf.results import RunFolder, check_output_dir, make_output_dir

_GO_ON = "finished runs are kept; the same command goes on with the rest"


def run_binary(main: Callable[[list[str]], None], interrupted: str = _GO_ON) -> None:
    """Runs an absl main function; errors a user can mend end it with one sentence.

    Args:
        main: Of the binary.
        interrupted: What Ctrl-C leaves and how to go on.
    """
    logging.set_verbosity(logging.ERROR)  # tensorflow-datasets tells of every file it reads

    def guarded(argv: list[str]) -> None:
        try:
            main(argv)
        except (ValueError, OSError, FloatingPointError) as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            sys.exit(f"interrupted: {interrupted}")

    app.run(guarded)


def run_grid(
    config: ExplorationConfig,
    names: Sequence[str],
    seeds: Sequence[int],
    output_dir: str | Path,
    console: Console,
) -> None:
    """Runs each policy with each seed, seed by seed; a finished run is not run again.

    The runs of a seed are paired: they share classes, images, candidate sets of step 0 and
    pretrained weights, which lie in `OUT/shared/<seed>/`.

    Args:
        config: The settings of all runs.
        names: Policies, with variants.
        seeds: At least 0.
        output_dir: OUT.
        console: Where progress is shown.

    Raises:
        ValueError: A policy is unknown, a value is given twice, or a folder holds another
            configuration's run; before any run.
    """
    for name, values in (("agents", names), ("seeds", seeds)):
        if not values or len(set(values)) != len(values):
            raise ValueError(f"{name}: expected distinct ones, at least one, got {list(values)}")
    policies = {(name, seed): agents.make(name, seed=seed) for seed in seeds for name in names}
    folders = {
        (name, seed): RunFolder(output_dir, name, seed, config, agent.fingerprint)
        for (name, seed), agent in policies.items()
    }
    check_output_dir(output_dir, config)
    for folder in folders.values():
        folder.check()
    waiting = [key for key, folder in folders.items() if not folder.finished]
    console.print(
        f"{len(folders)} runs into {output_dir}: {len(folders) - len(waiting)} finished, "
        f"{len(waiting)} to do"
    )
    if not waiting:
        return
    env = ActiveExplorationEnv(config)
    make_output_dir(output_dir)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        runs = progress.add_task("runs", total=len(waiting))
        steps = progress.add_task("update steps", total=len(waiting) * config.num_steps)
        for name, seed in waiting:

            def show(outcome: StepOutcome, seconds: float, name: str = name, seed: int = seed):
                line = _line(name, seed, outcome, config, env, seconds)
                console.print(line, highlight=False, soft_wrap=True)
                progress.advance(steps, int(outcome.step > 0))

            pretrained = Path(output_dir) / "shared" / str(seed) / "pretrained.npz"
            run_episode(env, policies[name, seed], seed, folders[name, seed], pretrained, show)
            progress.advance(runs)


def run_episode(
    env: ActiveExplorationEnv,
    agent: agents.Agent,
    seed: int,
    folder: RunFolder,
    pretrained_path: Path,
    show: Callable[[StepOutcome, float], None],
) -> None:
    """Runs one policy with one seed to the episode's end and writes its records.

    Args:
        env: The environment.
        agent: The policy.
        seed: Seed of the environment.
        folder: Where the records go.
        pretrained_path: Pretrained weights, shared by the policies of a seed.
        show: Called with the outcome and the seconds of each step.
    """

    def record(outcome: StepOutcome, reward: float | None, start: float, **timings: float) -> None:
        seconds = time.perf_counter() - start
        timings |= {**env.exploration.timings, "step_seconds": seconds}
        folder.write_step(outcome, reward, timings)
        show(outcome, seconds)

    start = time.perf_counter()
    observation, _ = env.reset(seed=seed, options={"pretrained_path": pretrained_path})
    folder.start(env.exploration.episode.classes)
    record(env.outcome, None, start)
    over = env.exploration.finished
    while not over:
        start = time.perf_counter()
        action = agent.act(observation, env.state)
        selection_seconds = time.perf_counter() - start
        observation, reward, terminated, truncated, _ = env.step(action)
        record(env.outcome, reward, start, selection_seconds=selection_seconds)
        over = terminated or truncated
    folder.close()


def _line(
    name: str,
    seed: int,
    outcome: StepOutcome,
    config: ExplorationConfig,
    env: ActiveExplorationEnv,
    seconds: float,
) -> str:
    queried = ""
    if outcome.queried_class is not None:
        queried = f"  queried {env.exploration.class_names[outcome.queried_class]}"
    return (
        f"{name}  seed {seed}  step {outcome.step}/{config.num_steps}  "
        f"accuracy {outcome.test_accuracy:.3f}  "
        f"classes found {outcome.discovered_classes}/{config.novel_classes}  "
        f"{seconds:.1f} s{queried}"
    )
