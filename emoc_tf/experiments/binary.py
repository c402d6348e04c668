"""What all binaries share: a quiet start, errors in one sentence, a quick end when asked."""

import os
import re
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from absl import app, flags, logging

from emoc_tf.cluster import connection
from emoc_tf.experiments import messages
from emoc_tf.running import quiet

_RESUME = "nothing finished is lost; the same command resumes from here"
# Seconds in which the main thread may unwind; TensorFlow may keep it in one call for longer.
_GRACE = 1.0


def run_binary(main: Callable[[list[str]], None], interrupted: str = _RESUME) -> None:
    """Runs an absl main function.

    Errors that a user can fix end it with one sentence and exit status 1, help with 0. SIGTERM and
    Ctrl-C end it within two seconds, wherever it is, with exit status 128 + signal: all files are
    written atomically, so that there is nothing to wait for.

    Args:
        main: Of the binary.
        interrupted: What an interruption leaves and how to resume.
    """
    logging.set_verbosity(logging.ERROR)  # tensorflow-datasets tells of every file it reads
    messages.show()
    listen()
    _interruption.begin(interrupted)

    def guarded(argv: list[str]) -> None:
        try:
            main(argv)
        except BrokenPipeError:
            raise
        except (ValueError, OSError, FloatingPointError) as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            _interruption.exit()

    try:
        try:
            app.run(guarded, flags_parser=_parse)
        finally:
            sys.stdout.flush()
    except BrokenPipeError as error:
        _end_unread(error)


def _parse(argv: list[str]) -> list[str]:
    """Returns what is left beside the flags."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        told = str(error).rstrip(".")
        missing = re.findall(r"Flag --(\w+) must have a value", told)
        if len(missing) == len(told.splitlines()):  # nothing else is wrong
            told = ", ".join(f"--{name}=VALUE" for name in missing)
            told = f"{', '.join(missing)}: expected {told}, got nothing"
        sys.exit(f"error: {told}; --help lists the flags")
    except SystemExit:  # help was asked for and shown, for which absl has 1
        sys.exit(0)


def _end_unread(error: BrokenPipeError) -> NoReturn:
    """Ends the process without a word if nobody reads its output any more, as behind `| head`."""
    output = select.poll()
    output.register(1, 0)
    if not output.poll(0):  # a pipe of another kind
        sys.exit(f"error: {error}")
    # Python would write the rest at its end, and tell of it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(128 + signal.SIGPIPE)


def prepare() -> None:
    """Makes this process a binary, before TensorFlow is loaded; for the main thread.

    Signals are heard from here on. oneDNN is switched on unless `TF_ENABLE_ONEDNN_OPTS` is set:
    TensorFlow leaves it off on x86 processors without VNNI, where it makes updates 1.8 and scores
    1.6 times faster. TensorFlow's notices are left out; what computes is told when work begins.
    """
    listen()
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ[quiet.WANTED] = "1"
    quiet.load_tensorflow()


def listen() -> None:
    """Makes SIGTERM and SIGINT end the process, from here on; for the main thread."""
    if not _interruption.listening:
        _interruption.listen()


class _Interruption:
    """Ends the process on SIGTERM and SIGINT, from the main thread if it gets there in time."""

    listening = False

    def __init__(self) -> None:
        self._message = "nothing had been begun"
        self._began = self._unwinds = False
        self._signal = int(signal.SIGINT)
        self._once = threading.Lock()

    def listen(self) -> None:
        """Starts to hear."""
        # While native libraries are imported, descriptor 2 leads nowhere, and an exception in one
        # of them would be lost or fatal: until `begin` there is none.
        self.listening, self._errors = True, os.dup(2)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)
        # Signals reach Python code only between two operations of the main thread, but this socket
        # at once.
        self._bytes, write_end = socket.socketpair()
        write_end.setblocking(False)
        signal.set_wakeup_fd(write_end.detach(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, daemon=True).start()

    def begin(self, message: str) -> None:
        """From here on the main thread may unwind, and says this."""
        connection.end_at_once()
        self._message, self._unwinds, self._began = message, True, True

    def _hear(self, number: int, frame: object) -> None:
        self._signal = number
        if self._unwinds:
            self._unwinds = False  # a second one changes nothing
            raise KeyboardInterrupt

    def _watch(self) -> None:
        wanted = {int(signal.SIGTERM), int(signal.SIGINT)}
        while (number := self._bytes.recv(1)[0]) not in wanted:
            pass  # the system tells of others too, such as a window's new size
        self._signal = number
        if self._began:
            time.sleep(_GRACE)
        self.exit()

    def exit(self) -> None:
        """Says how to resume and ends the process without waiting for anything."""
        self._once.acquire()  # by the other thread: it ends the process
        connection.close_all()
        sys.stdout.flush()
        if sys.stdout.isatty():
            os.write(1, b"\x1b[?25h")  # a progress bar hides the cursor
        os.write(self._errors, f"\ninterrupted: {self._message}\n".encode())
        os._exit(128 + self._signal)


_interruption = _Interruption()
