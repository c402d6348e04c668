import os
import re
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_all_programs_are_listed_without_loading_tensorflow():
    code = (
        "import runpy, sys; runpy.run_module('emoc_tf', run_name='__main__'); "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    names = re.findall(r'"(emoc-[\w-]+)=', setup)
    assert len(names) >= 8
    for name in names:
        line, sentence = re.search(
            rf"^{name}, or python -m (.*)\n    (.*)$", done.stdout, re.M
        ).groups()
        assert line.startswith("emoc_tf.")
        assert sentence.endswith(".")


def test_a_list_that_nobody_reads_is_given_up_without_a_word():
    read, write = os.pipe()
    os.close(read)  # as `head` does, having read enough
    done = subprocess.run(
        [sys.executable, "-m", "emoc_tf"], stdout=write, stderr=subprocess.PIPE, cwd=ROOT
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")
