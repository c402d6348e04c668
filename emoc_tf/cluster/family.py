"""Processes that this one began, and those that they did; where Linux tells."""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process; numbers are used again, moments are not.

    Attributes:
        pid: Its number.
        begun: When it began, in the system's ticks.
    """

    pid: int
    begun: int


def children() -> set[Process]:
    """Returns the processes that this one began."""
    return {process for process, parent in _processes() if parent == os.getpid()}


def below(first: Iterable[Process]) -> set[Process]:
    """Returns processes and all that descend from them."""
    parents = dict(_processes())
    found = {process for process in first if process in parents}
    more = found
    while more:
        pids = {process.pid for process in more}
        more = {process for process, parent in parents.items() if parent in pids} - found
        found |= more
    return found


def kill(processes: Iterable[Process]) -> None:
    """Ends processes at once, as far as they have not ended."""
    alive = {process for process, _ in _processes()}
    for process in alive.intersection(processes):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, signal.SIGKILL)


def _processes() -> Iterator[tuple[Process, int]]:
    """Yields each living process of the system with its parent's number."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            # Behind the name, which may hold anything: state, parent, ..., 20th the beginning.
            fields = file.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if fields[0] != "Z":  # ended, but nobody has asked yet how
            yield Process(int(file.parent.name), int(fields[19])), int(fields[1])
