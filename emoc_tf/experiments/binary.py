"""What all binaries share: errors in one sentence, and an end within two seconds when asked."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

from absl import app, logging

_GO_ON = "nothing finished is lost; the same command goes on from here"
# Seconds in which the main thread may unwind; TensorFlow may keep it in one call for longer.
_GRACE = 1.0


def run_binary(main: Callable[[list[str]], None], interrupted: str = _GO_ON) -> None:
    """Runs an absl main function.

    Errors a user can mend end it with one sentence and exit status 1. SIGTERM and Ctrl-C end it
    within two seconds, wherever it is, with exit status 128 + signal: all files are written
    atomically, so that there is nothing to wait for.

    Args:
        main: Of the binary.
        interrupted: What an interruption leaves and how to go on.
    """
    logging.set_verbosity(logging.ERROR)  # tensorflow-datasets tells of every file it reads
    end = _Interruption(interrupted)
    end.listen()

    def guarded(argv: list[str]) -> None:
        try:
            main(argv)
        except (ValueError, OSError, FloatingPointError) as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            end.exit()

    app.run(guarded)


class _Interruption:
    """Ends the process on SIGTERM and SIGINT, from the main thread if it gets there in time."""

    def __init__(self, message: str) -> None:
        self._message = message
        self._signal = int(signal.SIGINT)
        self._once = threading.Lock()

    def listen(self) -> None:
        """Starts listening; to be called in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._unwind)
        # Signals reach Python code only between two operations of the main thread, but this socket
        # at once.
        self._bytes, write_end = socket.socketpair()
        write_end.setblocking(False)
        signal.set_wakeup_fd(write_end.detach(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, daemon=True).start()

    def _unwind(self, number: int, frame: object) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):  # a second one changes nothing
            signal.signal(each, signal.SIG_IGN)
        self._signal = number
        raise KeyboardInterrupt

    def _watch(self) -> None:
        wanted = {int(signal.SIGTERM), int(signal.SIGINT)}
        while (number := self._bytes.recv(1)[0]) not in wanted:
            pass  # the system tells of others too, such as a window's new size
        self._signal = number
        time.sleep(_GRACE)
        self.exit()

    def exit(self) -> None:
        """Says how to go on and ends the process without waiting for anything."""
        self._once.acquire()  # by the other thread: it ends the process
        if sys.stdout.isatty():
            sys.stdout.write("\x1b[?25h")  # a progress bar hides the cursor
        sys.stdout.flush()
        print(f"\ninterrupted: {self._message}", file=sys.stderr, flush=True)
        os._exit(128 + self._signal)
