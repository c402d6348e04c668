"""Runs a grid of policies and seeds, each run into a folder of its own."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from emoc_tf.records.final_model import MODEL
from emoc_tf.records.record_folder import FAILURE
from emoc_tf.records.run_folder import RunFolder
from emoc_tf.records.run_record import check_output_dir, make_output_dir, run_path
from emoc_tf.running.attempts import Result, Shared, attempt_run, fail, serve
from emoc_tf.running.console import Display, say
from emoc_tf.running.others import OtherProcesses
from emoc_tf.running.pools.parcels import Parcels
from emoc_tf.running.pools.pool import Pool, Work, on_this_machine
from emoc_tf.running.single_run import Grid, Run, make_agent
from emoc_tf.storage import provenance


def run_grid(
    grid: Grid,
    names: Sequence[str],
    seeds: Sequence[int],
    console: Console,
    num_workers: int = 1,
    pool: Pool | None = None,
) -> dict[Run, str]:
    """Runs each policy with each seed, seed by seed; a finished run is not run again.

    The runs of a seed are paired: they share classes, images, candidate sets of step 0 and
    pretrained weights, which lie in `OUT/shared/<seed>/`. An unfinished run is resumed from
    its checkpoint. A run that fails does not hinder the others. One that another process works on
    is waited for as long as its records grow, and resumed if that process ends before it.

    Args:
        grid: Settings and output folder.
        names: Policies, with variants.
        seeds: At least 0.
        console: Where progress is shown.
        num_workers: How many runs are worked on side by side, each in a process of its own if
            there is more than one.
        pool: Where runs are worked on otherwise, such as `pools.on_ray.OnRay`; the caller closes
            it.

    Returns:
        The runs that failed, with their errors.

    Raises:
        ValueError: A policy is unknown, a value is given twice, or a folder holds another
            configuration's run; before any run.
    """
    check_distinct("agents", names)
    check_distinct("seeds", seeds)
    runs = [(name, seed) for seed in seeds for name in names]
    agents = {name: make_agent((name, seeds[0])) for name in names}
    check_output_dir(grid.output_dir, grid.config)
    pool = on_this_machine(num_workers) if pool is None else pool
    if grid.scoring_ray is not None and not pool.alone:
        raise ValueError(
            f"scoring_ray: expected runs one after the other, which have the cluster to "
            f"themselves, got scoring_ray={grid.scoring_ray!r} beside runs side by side; take one "
            f"of the two"
        )
    place = pool.place(grid.output_dir, grid.allow_mixed)
    if place is not None:  # other machines have other working folders
        grid = replace(grid, output_dir=Path(grid.output_dir).absolute())
    env = grid.make_environment() if grid.hands_in else None
    folders = {run: grid.folder(run, agents[run[0]], env, place) for run in runs}
    for folder in folders.values():
        folder.check(grid.allow_mixed)
    waiting = [run for run, folder in folders.items() if not folder.finished]
    say(
        console,
        f"{len(folders)} runs into {grid.output_dir}: {len(folders) - len(waiting)} finished, "
        f"{len(waiting)} to do",
    )
    _tell_of_models(grid, folders, waiting, console)
    if not waiting:
        return {}
    say(console, ", ".join(filter(None, [provenance.device(place), pool.told()])))
    env = env or grid.make_environment()
    make_output_dir(grid.output_dir)
    failures: dict[Run, str] = {}
    of_task = env.exploration.task is not None
    shared = None if pool.alone else Shared.by(grid, names, env, far=place is not None)
    with Display(console, grid.config, len(waiting), pool.alone, of_task) as display:
        work = Work(
            here=partial(attempt_run, grid, env, display.show),
            serve=partial(serve, grid, shared),
            lost=partial(Result.lost, grid=grid),
            failed=partial(fail, grid),
            parcels=None if shared is None else Parcels(grid, shared, folders),
        )
        others = OtherProcesses(folders, display.say)
        while waiting:
            busy = []
            for run, result in pool.run(work, waiting, display.restart):
                if result.busy:
                    busy.append(run)
                    continue
                display.end_run()
                if result.error is not None:
                    failures[run] = result.error
                    display.say(run, f"FAILED: {result.error}")
                elif (ended := folders[run].ended) is not None:
                    display.say(run, f"ended at step {ended['step']}: {ended['reason']}")
            waiting, stuck = others.wait_for_one(busy)
            for run, error in stuck.items():
                failures[run] = error
                display.say(run, f"FAILED: {error}")
    return failures


def _tell_of_models(
    grid: Grid, folders: dict[Run, RunFolder], waiting: Sequence[Run], console: Console
) -> None:
    """Says which finished runs have no model although it is asked for."""
    finished = [folder.path for run, folder in folders.items() if run not in waiting]
    lacking = [path for path in finished if not (path / MODEL).exists()]
    if grid.save_model and lacking:
        say(
            console,
            f"{len(lacking)} finished runs have no {MODEL}, such as {lacking[0]}: they were made "
            f"without save_model; move their folders away and they are run again",
        )


def check_distinct(name: str, values: Sequence) -> None:
    """Raises `ValueError` unless there are values, each once."""
    if not values or len(set(values)) != len(values):
        raise ValueError(f"{name}: expected distinct ones, at least one, got {list(values)}")


def failure_summary(grid: Grid, failures: dict[Run, str]) -> str:
    """Returns what failed and what to do, in one sentence a run."""
    lines = []
    for (name, seed), error in failures.items():
        record = run_path(grid.output_dir, name, seed) / FAILURE
        more = f" ({record} has more)" if record.exists() else ""
        lines.append(f"{name} with seed {seed}: {error}{more}")
    return "\n".join(["error: the following failed; the same command tries them again", *lines])
