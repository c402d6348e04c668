"""Runs that other processes work on: waited for, but not for ever."""

import time
from collections.abc import Callable, Mapping

from emoc_tf.records.run_folder import RunFolder
from emoc_tf.running import patience
from emoc_tf.running.single_run import Run


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
            has written nothing for `patience.LIMIT` seconds.
        """
        for run in busy:
            if run not in self._told:
                self._say(run, f"waiting for {self._folders[run].lock.owner()}")
        self._told.update(busy)
        stuck: dict[Run, str] = {}
        while busy and all(self._folders[run].lock.held_elsewhere() for run in busy):
            for run in busy:
                folder = self._folders[run]
                if sentence := patience.stuck(folder.lock, folder.path):
                    stuck[run] = sentence
            busy = [run for run in busy if run not in stuck]
            if busy:
                time.sleep(patience.PAUSE)
        return busy, stuck
