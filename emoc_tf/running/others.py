"""Runs that other processes work on: waited for, but not for ever."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from emoc_tf.records.run_folder import RunFolder
from emoc_tf.running.single_run import Run

# Seconds without a change in a run's folder after which its process counts as stuck; an update
# step of a large model takes minutes.
PATIENCE = 3600.0
_PAUSE = 1.0


class OtherProcesses:
    """Waits for the runs of a grid that other processes hold.

    Args:
        folders: Of all runs.
        say: Called with a run and a line about it.
    """

    def __init__(self, folders: Mapping[Run, RunFolder], say: Callable[[Run, str], None]) -> None:
        self._folders, self._say = folders, say
        self._told: set[Run] = set()

    def wait_for_one(self, busy: list[Run]) -> tuple[list[Run], dict[Run, str]]:
        """Returns as soon as one of the runs is free.

        Returns:
            The runs that can be tried again, and those given up, with the reason: their process
            has changed nothing for `PATIENCE` seconds.
        """
        for run in busy:
            if run not in self._told:
                self._say(run, f"waiting for {self._folders[run].lock.owner()}")
        self._told.update(busy)
        stuck: dict[Run, str] = {}
        while busy and all(self._folders[run].lock.held_elsewhere() for run in busy):
            for run in busy:
                folder = self._folders[run]
                if time.time() - _last_change(folder.path) > PATIENCE:
                    stuck[run] = (
                        f"{folder.lock.owner()} has it and has written nothing into {folder.path} "
                        f"for {PATIENCE:.0f} s; end that process"
                    )
            busy = [run for run in busy if run not in stuck]
            if busy:
                time.sleep(_PAUSE)
        return busy, stuck


def _last_change(folder: Path) -> float:
    """Returns when a file of a folder was last written, in seconds since 1970."""
    times = [0.0]
    for file in [folder, *folder.glob("*")]:
        try:
            times.append(file.stat().st_mtime)
        except FileNotFoundError:  # renamed meanwhile
            continue
    return max(times)
