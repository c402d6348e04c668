"""How a command ends, and what it shows of loggers: a process that never loads TensorFlow."""

import json
import os
import subprocess
import sys

import pytest
from absl import flags

from emoc_tf.experiments import binary

# All cases in children of one process that has imported what they need.
CASES = """
import json, os, sys
sys.path.insert(0, os.getcwd())
from absl import flags
from emoc_tf.experiments import binary
flags.DEFINE_integer("number", None, "Some number.", required=True)
assert "tensorflow" not in sys.modules

def main(argv):
    import logging, warnings
    if flags.FLAGS.number == 3:
        raise ValueError("number: expected another one, got 3")
    if flags.FLAGS.number == 4:
        sys.exit("error: the following failed")
    logging.getLogger("emoc_tf.some.module").warning("%d things are odd", flags.FLAGS.number)
    logging.getLogger("emoc_tf").info("this takes long")
    logging.getLogger("emoc_tf").debug("nobody asked")
    logging.getLogger("another").warning("not ours")

for number, arguments in enumerate(json.loads(sys.argv[1])):
    child = os.fork()
    if child == 0:
        for descriptor in (1, 2):
            os.dup2(os.open(f"{number}.{descriptor}", os.O_WRONLY | os.O_CREAT), descriptor)
        sys.argv = ["program", *arguments]
        try:
            binary.run_binary(main)
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
        os._exit(99)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
ARGUMENTS = {
    "done": ["--number=2"],
    "help": ["--help"],
    "short help": ["--number=2", "--helpshort"],
    "a flag that is none": ["--numbre=2"],
    "no number": ["--number=x"],
    "a flag that is missing": [],
    "an error": ["--number=3"],
    "runs that failed": ["--number=4"],
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    result = subprocess.run(
        [sys.executable, "-c", CASES, json.dumps(list(ARGUMENTS.values()))],
        cwd=folder, env={**os.environ, "PYTHONPATH": os.getcwd()}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    codes = map(int, result.stdout.split())
    return {
        name: (code, *((folder / f"{i}.{d}").read_text() for d in (1, 2)))
        for i, (name, code) in enumerate(zip(ARGUMENTS, codes, strict=True))
    }


def test_what_is_done_ends_with_0_and_what_the_library_tells_alone_is_shown(ended):
    assert ended["done"][:2] == (0, "")
    assert ended["done"][2] == "warning: 2 things are odd\ninfo: this takes long\n"


@pytest.mark.parametrize("case", ["help", "short help"])
def test_help_ends_with_0(ended, case):
    code, output, errors = ended[case]
    assert (code, errors) == (0, "")
    assert "USAGE: program [flags]" in output


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("a flag that is none", "error: Unknown command line flag 'numbre'. Did you mean: number"),
        ("no number", "error: flag --number=x: "),
        ("a flag that is missing", "error: number: expected --number=VALUE, got nothing; --help"),
        ("an error", "error: number: expected another one, got 3\n"),
        ("runs that failed", "error: the following failed\n"),
    ],
)
def test_an_error_ends_with_1_and_a_sentence(ended, case, text):
    code, output, errors = ended[case]
    assert (code, output) == (1, "")
    assert errors.startswith(text) and errors.count("\n") == 1
    assert "flag" not in case or errors.endswith("; --help lists the flags\n")


PRINTS = """
from emoc_tf.experiments import binary

def main(argv):
    print(len(argv) * "much ")

binary.run_binary(main)
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["x"] * 9999])
def test_output_that_nobody_reads_is_given_up_without_a_word(arguments, unbuffered):
    read, write = os.pipe()
    os.close(read)  # as `head` does, having read enough
    done = subprocess.run(
        [sys.executable, "-c", PRINTS, *arguments], stdout=write, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_all_flags_that_are_missing_are_told_at_once(monkeypatch):
    values = flags.FlagValues()
    for name in ("setting", "values"):
        flags.DEFINE_string(name, None, "", flag_values=values, required=True)
    monkeypatch.setattr(flags, "FLAGS", values)
    wanted = "error: setting, values: expected --setting=VALUE, --values=VALUE, got nothing; --help"
    with pytest.raises(SystemExit, match=f"^{wanted} lists the flags$"):
        binary._parse(["program"])
