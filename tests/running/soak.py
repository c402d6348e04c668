"""Kills runs at random moments until it has killed often enough, and compares with a whole run.

    python -m tests.running.soak --kills=30

Prints a line a kill and fails if any run ends with other records than the one that nobody killed.
"""

import collections
import functools
import random
import signal
import tempfile
import time
from pathlib import Path

from absl import app, flags

from tests import processes
from tests.running.killed import POINTS

KILLS = flags.DEFINE_integer("kills", 30, "How many processes to kill.", 1)
SEED = flags.DEFINE_integer("seed", None, "Of the moments; by default another one each time.")

FLAGS = [
    "--agent=emoc:references=16", "--known_classes=2", "--novel_classes=3",
    "--initial_per_class=5", "--pool_per_class=9", "--num_candidate_sets=8", "--set_size=3",
    "--pretrain_iterations=200", "--update_iterations=100", "--batch_size=8", "--steps=5",
]  # fmt: skip
RECORDS = ("steps.csv", "recalls.csv", "queried.csv", "config.json")


def start(flags, folder, *prefix):
    module = prefix or ("emoc_tf.experiments.explore",)
    return processes.Started(["-m", *module, *flags, f"--output_dir={folder}"])


def records(folder):
    return {
        f"{file.parent}/{name}".removeprefix(str(folder)): file.read_bytes()
        for name in RECORDS
        for file in sorted(Path(folder).glob(f"*/*/{name}"))
    }


def run_and_kill(flags, folder, rng, longest):
    """Starts the run and kills it; returns what it was doing, or None if it ended before."""
    if rng.random() < 0.5:
        seconds = rng.uniform(0, longest)
        process = start(flags, folder)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        kind, where = "a random moment", f"{seconds:.1f} s"
    else:
        kind, number = rng.choice(sorted(POINTS)), rng.randint(1, 8)
        process = start(flags, folder, "tests.running.killed", kind, str(number))
        where = f"call {number}"
    output, errors = process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{kind}, {where}: exit status {process.returncode}: {errors}")
    steps = sum("  step " in line for line in output.splitlines())
    return (kind, f"{where}; {steps} steps in it") if process.returncode else None


def run(flags, folder):
    process = start(flags, folder)
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors)
    return records(folder)


def soak(flags, kills, rng, say):
    """Kills processes and compares their runs; returns how often each kind of kill happened."""
    kinds, runs = collections.Counter(), 0
    with tempfile.TemporaryDirectory() as parent:
        begun = time.perf_counter()
        expected = run(flags, f"{parent}/whole")
        longest = time.perf_counter() - begun
        while kinds.total() < kills:
            folder, here, ended = f"{parent}/{runs}", 0, False
            while kinds.total() < kills and not ended:
                if killed := run_and_kill(flags, folder, rng, longest):
                    kinds[killed[0]] += 1
                    here += 1
                    say(f"kill {kinds.total()}, run {runs}: {', '.join(killed)}")
                else:
                    ended = True
            found = records(folder) if ended else run(flags, folder)
            assert found == expected, f"run {runs}: other records"
            say(f"run {runs}: equal byte for byte after {here} kills")
            runs += 1
    return kinds


def main(argv):
    seed = time.time_ns() % 10**6 if SEED.value is None else SEED.value
    print(f"seed {seed}", flush=True)
    say = functools.partial(print, flush=True)
    kinds = soak(FLAGS, KILLS.value, random.Random(seed), say)
    counts = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    print(f"{kinds.total()} kills ({counts}): all runs equal byte for byte to the whole one")


if __name__ == "__main__":
    app.run(main)
