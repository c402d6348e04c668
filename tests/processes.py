"""Pieces of code in processes of their own, for the price of one import of TensorFlow."""

import json
import os
import subprocess
import sys
from typing import NamedTuple

# Forked before anything of TensorFlow is at work, a process is as good as a new one.
_SERVER = """
import json, os, sys, traceback
import keras, sklearn.cluster, tensorflow
cases, folder = json.load(sys.stdin), sys.argv[1]
for number, (code, environment) in enumerate(cases):
    child = os.fork()
    if child == 0:
        for descriptor in (1, 2):
            file = os.open(f"{folder}/{number}.{descriptor}", os.O_WRONLY | os.O_CREAT)
            os.dup2(file, descriptor)
        os.environ.update(environment)
        failed = 1
        try:
            exec(code, {"__name__": "__main__"})
            failed = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(failed)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Ended(NamedTuple):
    """How a process ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def run_each(codes, folder, environments=None, timeout=200):
    """Runs pieces of code one after the other, each in a process with TensorFlow loaded.

    Args:
        codes: By name.
        folder: Of nothing else.
        environments: Variables for each code, in the same order; None for none.
        timeout: Seconds for all together.
    """
    cases = list(zip(codes.values(), environments or [{}] * len(codes), strict=True))
    result = subprocess.run(
        [sys.executable, "-c", _SERVER, folder], input=json.dumps(cases),
        env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False, capture_output=True, text=True,
        timeout=timeout,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    codes_of_exit = map(int, result.stdout.split())
    written = [[(folder / f"{i}.{d}").read_text() for d in (1, 2)] for i in range(len(cases))]
    return {
        name: Ended(code, *texts)
        for name, code, texts in zip(codes, codes_of_exit, written, strict=True)
    }
