"""The worker as seen from the page's process: started, listened to, started again."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emoc_tf.annotation.settings import LOG, Settings

_WORKER = "emoc_tf.annotation.worker"
# Exit statuses, as in `worker`.
WRONG, DIVERGED = 3, 4
# Seconds before it is started again, by how often it died without having become ready.
_PAUSES = (0.0, 2.0, 10.0, 60.0)


class WorkerProcess:
    """Runs the worker, and another one when it dies.

    Args:
        settings: What is annotated.
        hear: Called with each message, in a thread; and with `{"type": "ended", "text": ...,
            "fatal": ...}` when the process has ended.
        begin: Returns the command that each worker is sent first.
    """

    def __init__(
        self,
        settings: Settings,
        hear: Callable[[dict[str, Any]], None],
        begin: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._settings, self._hear, self._begin = settings, hear, begin
        self._process: subprocess.Popen[str] | None = None
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._rate = settings.exploration.learning_rate

    @property
    def pid(self) -> int | None:
        """Of the process; None if none runs."""
        process = self._process
        return None if process is None else process.pid

    def start(self) -> None:
        """Starts the worker and keeps one running, in a thread."""
        threading.Thread(target=self._keep, daemon=True).start()

    def send(self, command: Mapping[str, Any]) -> None:
        """Sends a command; without a worker the next one learns what counts by itself."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            if self._process is not None:
                _write(self._process, command)

    def _keep(self) -> None:
        failures = 0
        while not self._closed.is_set():
            try:
                was_ready, reason = self._run()
            except OSError as error:  # it could not even be started, such as on a full disk
                was_ready, reason = False, str(error)
            if self._closed.is_set():
                return
            code = self._process.returncode if self._process else 0
            self._process = None
            failures = 0 if was_ready else failures + 1
            if code == DIVERGED:
                self._rate /= 10
                reason += f"; it resumes with learning_rate={self._rate:g}"
            fatal = code == WRONG
            pause = _PAUSES[min(failures, len(_PAUSES) - 1)]
            self._hear({"type": "ended", "text": reason, "fatal": fatal, "pause": pause})
            if fatal:
                return
            self._closed.wait(pause)

    def _run(self) -> tuple[bool, str]:
        """Runs one worker to its end; returns whether it became ready, and why it ended."""
        was_ready, reason, begun = False, "", time.time()
        # Modules are those of this process. With `-m` the folder that it was started in came first,
        # where somebody may have a `queue.py`, or a copy of the library.
        code = f"import sys; sys.path[:] = {sys.path}; from {_WORKER} import main; main()"
        command = [sys.executable, "-P", "-c", code]
        log = self._settings.folder / LOG
        with open(log, "ab") as errors:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                encoding="utf-8", start_new_session=True,
            )  # fmt: skip
        config = {**self._settings.config, "learning_rate": self._rate}
        settings = {**json.loads(self._settings.to_json()), "config": config}
        begin = self._begin()
        with self._lock, contextlib.suppress(OSError):
            self._process = process
            for command in (settings, begin):  # before all that others send
                _write(process, command)
        for line in process.stdout or ():
            try:
                told = json.loads(line)
            except ValueError:  # the end of a line, from a process that was killed
                continue
            if told["type"] == "died":
                reason = told["text"]
                continue
            was_ready = was_ready or told["type"] == "ready"
            self._hear(told)
        code = process.wait()
        with self._lock:  # nobody else is writing
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError, ValueError):  # what was not read is lost
                    pipe.close()
        if code < 0:
            reason = f"it was killed by {signal.Signals(-code).name}"
        return was_ready, reason or _last_line(log, begun) or f"it ended with exit status {code}"

    def close(self) -> None:
        """Ends the worker; it may write to its end what it is writing."""
        self._closed.set()
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()


def _write(process: "subprocess.Popen[str]", command: Mapping[str, Any]) -> None:
    if process.stdin is not None:
        process.stdin.write(json.dumps(command) + "\n")
        process.stdin.flush()


def _last_line(log: Path, since: float) -> str:
    try:
        if log.stat().st_mtime < since:
            return ""
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")
