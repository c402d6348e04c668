"""Processes of Python for the price of a fork: TensorFlow is imported once for all of them."""

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading

# Forked before anything of TensorFlow is at work, a process is as good as a new one. Nothing of
# this library is imported, nor Matplotlib, which reads its settings then.
_SERVER = """
import gc, json, os, runpy, signal, socket, sys
import keras, sklearn.cluster, tensorflow

def wait_for_work():
    "Returns in each process that is wanted; another one waits for its end and tells of it."
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, files, *_ = socket.recv_fds(control, 1 << 20, 3)
        if not message:
            os._exit(0)
        if os.fork():
            for file in files:
                os.close(file)
            continue
        control.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        child = os.fork()
        if not child:
            for file, number in zip(files[:2], (1, 2)):
                os.dup2(file, number)
            for file in files:
                os.close(file)
            return json.loads(message)
        os.close(files[0]), os.close(files[1])
        os.write(files[2], f"{child} ".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(files[2], f"{code} ".encode())
        os._exit(0)

def become(arguments, environment, folder):
    "As `python ARGUMENTS` does it."
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [path for path in paths if path and path not in sys.path]
    sys.orig_argv = [sys.executable, *arguments]
    first, *rest = arguments
    main = sys.modules["__main__"].__dict__
    if first == "-m":
        sys.argv, sys.path[0] = rest, folder
        runpy._run_module_as_main(rest[0])
        return
    if first == "-c":
        code, sys.argv = compile(rest[0], "<string>", "exec"), ["-c", *rest[1:]]
    else:
        sys.argv, sys.path[0], main["__file__"] = arguments, os.path.dirname(first), first
        with open(first) as file:
            code = compile(file.read(), first, "exec")
    exec(code, main)

gc.collect(), gc.freeze()
become(*wait_for_work())
"""


@functools.cache
def _server():
    """Returns the socket that takes what is to be run."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server = subprocess.Popen(
        [sys.executable, "-c", f"exec({_SERVER!r}, {{}})", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
    )
    theirs.close()

    def end():
        ours.close()  # which tells the server
        server.wait()

    atexit.register(end)
    return ours


class Started:
    """What is left of `subprocess.Popen`: output is a pipe, errors are read at the end.

    Args:
        arguments: Of `python`: `-m` and a module, `-c` and code, or a script; and what they take.
        env: All variables; None for those of this process. What TensorFlow and Keras read of them
            when they are imported is read already.
        cwd: The folder that it works in.
    """

    def __init__(self, arguments, env=None, cwd="."):
        environment = os.environ if env is None else env
        job = [list(map(str, arguments)), dict(environment), os.path.abspath(cwd)]
        read, write = os.pipe()
        self._status, status = os.pipe()
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        files = [write, self._errors.fileno(), status]
        socket.send_fds(_server(), [json.dumps(job).encode()], files)
        os.close(write), os.close(status)
        self.stdout = open(read, encoding="utf-8")  # noqa: SIM115
        self.pid, self.returncode = self._number(), None

    def _number(self):
        digits = b""
        while not digits.endswith(b" "):
            digits += os.read(self._status, 1) or b"! "
        return int(digits)

    def poll(self):
        """Returns how it ended, or None."""
        ready = self.returncode is None and select.select([self._status], [], [], 0)[0]
        return self.wait() if ready else self.returncode

    def wait(self):
        """Returns how it ended, when it has."""
        if self.returncode is None:
            self.returncode = self._number()
            os.close(self._status)
        return self.returncode

    def send_signal(self, number):
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        """Kills it, if it has not ended."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout=900):
        """Returns what it wrote, (output, errors), when it has ended; kills it after `timeout`."""
        if self.stdout.closed:
            return "", ""
        timer = threading.Timer(timeout, os.kill, (self.pid, signal.SIGKILL))
        timer.daemon = True
        timer.start()
        try:
            with self.stdout, self._errors:
                output = self.stdout.read()
                self.wait()
                self._errors.seek(0)
                return output, self._errors.read()
        finally:
            timer.cancel()


def run(*arguments, env=None, cwd="."):
    """Runs `python ARGUMENTS` to its end, see `Started`; returns a `CompletedProcess`."""
    process = Started(arguments, env, cwd)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


def run_each(codes, environments=None):
    """Runs pieces of code one after the other, each in a process of its own; returns their ends.

    Args:
        codes: By name.
        environments: More variables for each, in the same order; None for none.
    """
    more = environments or [{}] * len(codes)
    return {
        name: run("-c", code, env={**os.environ, **variables})
        for (name, code), variables in zip(codes.items(), more, strict=True)
    }
