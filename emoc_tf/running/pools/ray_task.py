"""What a process of a Ray cluster does with an item: it tells what it prints and what is safe."""

import contextlib
import functools
import io
import logging
import os
import pickle
import platform
import queue
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emoc_tf.cluster import processes

# What is told: the kind of it and what it is.
Event = tuple[str, Any]
LINE, STEP, RESULT, ERROR, ELSEWHERE = "line", "step", "result", "error", "elsewhere"
# Where it is, that what all items have in common is made there, and that an item failed after that.
AT, BEGUN, FAILED = "at", "begun", "failed"
# What the library's loggers say, or a warning: a level and the text.
SAID = "said"
DATA_DIR = "TFDS_DATA_DIR"
_LAST = RESULT, FAILED, ERROR, ELSEWHERE


@dataclass(frozen=True)
class Setting:
    """What processes are like.

    Attributes:
        folder: The working folder, where it is there.
        path: Where modules are looked for beside the process's own places.
        threads: That a process uses.
        place: What bits depend on, see `processes.place_here`: that of another process is refused.
        allow_mixed: Whether only versions have to be the same.
        file: One that it has to see, in the folder that all machines share; None for none.
        data_dir: Where tensorflow-datasets looks if the machine has no folder of its own for that;
            None for its default.
    """

    folder: str
    path: Sequence[str]
    threads: int
    place: Mapping[str, Any]
    allow_mixed: bool
    file: str | None = None
    data_dir: str | None = None


def work_anywhere(content: bytes, given: bytes) -> Iterator[Event]:
    """Tells where it is, then does what `work_on` does; sent whole, not by name.

    Args:
        content: See `work_on`.
        given: A pickle of the other arguments: emoc_tf may be another one here, or none.

    Yields:
        See there.
    """
    import pickle
    import platform

    import ray

    yield "at", (ray.get_runtime_context().get_node_id(), platform.node())
    try:
        from emoc_tf.running.pools import ray_task

        events = ray_task.work_on(content, *pickle.loads(given))
    except Exception as error:
        yield "elsewhere", [f"no emoc_tf of this kind ({type(error).__name__}: {error})"]
    else:
        yield from events


def work_on(content: bytes, setting: Setting, item: Any) -> Iterator[Event]:
    """Works on an item in a thread of its own.

    Args:
        content: What `serve` was pickled to; its result is kept for the items to come.
        setting: Of the process.
        item: Any.

    Yields:
        What is told, as it comes; last the result, or the error that ended it. The process ends
        if that cannot be told to its end.
    """
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    arguments = (content, setting, item, events.put)
    threading.Thread(target=_work, args=arguments, daemon=True).start()
    kind = None
    try:
        while kind not in _LAST:
            kind, told = events.get()
            yield kind, told
    finally:
        if kind not in _LAST:  # nobody takes what is told: it would work on beside the next item
            os._exit(1)


def _work(content: bytes, setting: Setting, item: Any, tell: Callable[[Event], None]) -> None:
    try:
        with contextlib.redirect_stdout(_Lines(tell)) as lines:
            _stepped.tell = tell
            event = _event(content, setting, item, tell)
            lines.flush()
    except BaseException as error:
        event = ERROR, _sendable(error)
    tell(event)


def _event(content: bytes, setting: Setting, item: Any, tell: Callable[[Event], None]) -> Event:
    differing, by_processor = _begin(setting)
    if differing:
        return ELSEWHERE, (differing, by_processor)
    serve = _loaded(content)
    with _heard(tell):  # what data sets say as they are read, too
        work = _serving(serve)
        tell((BEGUN, None))
        try:
            return RESULT, work(item)
        except Exception as error:  # such as a full disk, which another item may escape
            return FAILED, _sendable(error)


@contextlib.contextmanager
def _heard(tell: Callable[[Event], None]) -> Iterator[None]:
    """Tells what the library's loggers and warnings say, which nobody sees in Ray's own logs."""
    logger, handler = logging.getLogger("emoc_tf"), _Heard(tell)
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: tell((SAID, (logging.WARNING, str(message))))
            yield
    finally:
        logger.removeHandler(handler)


class _Heard(logging.Handler):
    """Tells what a logger says."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell((SAID, (record.levelno, record.getMessage())))


def _begin(setting: Setting) -> tuple[list[str], bool]:
    """Makes the process ready.

    Returns:
        Where it differs from what was expected, and whether that is no more than a mixed cluster
        may differ in.
    """
    with contextlib.suppress(OSError):  # a machine may have no such folder
        os.chdir(setting.folder)
    # Behind its own: what is installed there stays what is found.
    sys.path.extend(place for place in setting.path if place not in sys.path)
    if setting.data_dir is not None:
        os.environ.setdefault(DATA_DIR, setting.data_dir)  # before tensorflow-datasets is loaded
    processes.prepare(setting.threads)
    here = processes.place_here()
    found = processes.differences(setting.place, here, setting.allow_mixed)
    by_processor = not processes.differences(setting.place, here, allow_mixed=True)
    if not processes.sees(setting.file):
        return [*found, f"an output folder of its own, without {setting.file}"], False
    return found, by_processor


@functools.lru_cache(maxsize=1)
def _loaded(content: bytes) -> Callable[..., Callable[[Any], Any]]:
    try:
        return pickle.loads(content)
    except Exception as error:
        raise unsendable(error) from error


@functools.lru_cache(maxsize=1)
def _serving(serve: Callable[..., Callable[[Any], Any]]) -> Callable[[Any], Any]:
    return serve(stepped=_stepped)


def unsendable(error: Exception) -> ValueError:
    """Returns what is wrong with things that cannot be sent to a process of the cluster."""
    return ValueError(
        f"ray: expected policies, environments and so on that can be sent, and modules that all "
        f"machines have, got {type(error).__name__}: {error} (on {platform.node()})"
    )


def _sendable(error: BaseException) -> BaseException:
    """Returns an error that can be sent, with a note of where it was raised."""
    note = f"on {platform.node()}:\n{''.join(traceback.format_exception(error))}"
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # pickling runs code of the error's own
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(note)
    return error


class _Stepped:
    """Tells of the item that is being worked on that it is safe so far."""

    tell: Callable[[Event], None]

    def __call__(self, told: Any = None) -> None:
        self.tell((STEP, told))


_stepped = _Stepped()


class _Lines(io.TextIOBase):
    """Tells what is printed, line by line."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell, self._rest = tell, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._tell((LINE, line))
        return len(text)

    def flush(self) -> None:
        """Tells the rest; a line that is not ended is one."""
        rest, self._rest = self._rest, ""
        if rest:
            self._tell((LINE, rest))
