"""The binaries as users run them: in processes of their own.

One is started from nothing, see `grid`; the others with TensorFlow loaded, see `tests.processes`.
"""

import csv
import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from absl import flags
from absl.testing import flagsaver
from rich.console import Console

from emoc_tf import ExplorationConfig
from emoc_tf.experiments import compare as compare_binary
from emoc_tf.experiments import flags as binary_flags
from emoc_tf.experiments.single_run import Grid
from emoc_tf.running.grid import run_grid
from tests import processes

CONFIG = ExplorationConfig(
    known_classes=2, novel_classes=2, initial_per_class=4, pool_per_class=6, num_candidate_sets=6,
    set_size=3, pretrain_iterations=20, update_iterations=10, batch_size=8, max_steps=2,
)  # fmt: skip
TINY = [f"--{name}={value}" for name, value in CONFIG.to_dict().items() if value is not None]


def run(binary, *arguments):
    return processes.run("-m", f"emoc_tf.experiments.{binary}", *arguments)


def run_from_nothing(binary, *arguments):
    """Runs it as a shell does: what is written while TensorFlow is loaded is there too."""
    command = [sys.executable, "-m", f"emoc_tf.experiments.{binary}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def compare(folder, *arguments):
    return run("compare", *TINY, f"--output_dir={folder}", *arguments)


def contents(folder):
    names = ("steps.csv", "recalls.csv", "queried.csv", "config.json")
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for name in names
        for file in sorted(folder.glob(f"*/*/{name}"))
    }


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    arguments = "--agents=random,emoc:references=8", "--seeds=0,1", "--workers=2"
    result = run_from_nothing("compare", *TINY, f"--output_dir={folder}", *arguments)
    assert result.returncode == 0, result.stderr
    return folder, result


def test_compare_leaves_records_figure_and_table(grid):
    folder, result = grid
    assert sorted(contents(folder)) == [
        f"{agent}/{seed}/{name}"
        for agent in ("emoc__references=8", "random")
        for seed in (0, 1)
        for name in ("config.json", "queried.csv", "recalls.csv", "steps.csv")
    ]
    for name in ("curves.png", "curves.svg", "table.csv", "differences.csv", "report.html"):
        assert (folder / name).stat().st_size > 100
    assert "random  seed 1  step 2/2  accuracy 0." in result.stdout
    assert "4 runs into" in result.stdout
    assert "emoc:references=8" in result.stdout.replace("\n", "")
    assert result.stderr == ""
    with open(folder / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["agent"], row["runs"]) for row in rows} == {
        ("random", "2"), ("emoc:references=8", "2"),
    }  # fmt: skip


def test_policies_of_a_seed_are_paired(grid):
    folder, _ = grid
    for seed in (0, 1):
        first_rows = {
            (folder / agent / str(seed) / "steps.csv").read_text().splitlines()[1]
            for agent in ("random", "emoc__references=8")
        }
        assert len(first_rows) == 1
        assert (folder / "shared" / str(seed) / "pretrained.npz").exists()
    assert (folder / "random/0/steps.csv").read_text() != (
        folder / "random/1/steps.csv"
    ).read_text()


def test_equal_seeds_give_equal_bytes_in_another_process(grid, tmp_path):
    """Also for `explore`, which runs one policy alone, in its own process, and pretrains itself."""
    folder, _ = grid
    result = run(
        "explore", *TINY, "--agent=emoc:references=8", "--seed=1", f"--output_dir={tmp_path}"
    )
    assert result.returncode == 0, result.stderr
    for name, content in contents(tmp_path).items():
        assert content == (folder / name).read_bytes(), name
    assert "step 2/2" in result.stdout


def test_finished_runs_are_kept_and_incomplete_ones_are_run_again(grid):
    folder, _ = grid
    before = contents(folder)
    steps = folder / "random" / "1" / "steps.csv"
    lines = steps.read_text().splitlines(keepends=True)
    steps.write_text("".join(lines[:-1]))
    stamp = (folder / "random" / "0" / "steps.csv").stat().st_mtime_ns
    result = compare(folder, "--agents=random,emoc:references=8", "--seeds=0,1")
    assert result.returncode == 0, result.stderr
    assert "3 finished, 1 to do" in result.stdout
    assert contents(folder) == before
    assert (folder / "random" / "0" / "steps.csv").stat().st_mtime_ns == stamp


def test_a_run_that_fails_does_not_hinder_the_others_and_is_tried_again(grid, tmp_path):
    broken = tmp_path / "shared" / "0" / "pretrained.npz"
    broken.parent.mkdir(parents=True)
    broken.write_text("nothing of the kind")
    arguments = ("--agents=random", "--seeds=0,1")
    result = compare(tmp_path, *arguments)
    assert result.returncode == 1
    assert f"random  seed 0  FAILED: {broken}: expected a whole .npz file" in result.stdout
    assert "1 of 2 runs are unfinished: left out" in result.stdout
    assert f"random/0 failed: ValueError: {broken}" in result.stdout
    assert "random  seed 1  step 2/2" in result.stdout
    assert (tmp_path / "curves.png").exists()
    assert result.stderr.startswith(
        "error: the following failed; the same command tries them again\nrandom with seed 0: "
    )
    failure = json.loads((tmp_path / "random" / "0" / "failure.json").read_text())
    assert failure["error"].startswith(f"ValueError: {broken}: expected a whole .npz file")
    assert failure["traceback"].startswith("Traceback")
    broken.unlink()
    result = compare(tmp_path, *arguments)
    assert result.returncode == 0, result.stderr
    assert "1 finished, 1 to do" in result.stdout
    assert "random  seed 1" not in result.stdout
    for name, content in contents(tmp_path).items():
        assert content == (grid[0] / name).read_bytes(), name


def children(pid):
    return [int(c) for c in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def running(pid):
    stat = pathlib.Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_workers_end_with_the_process_that_started_them(fork, tmp_path):
    """Also without a chance to tell them; what SIGTERM leads to, test_signals shows."""
    process = fork(
        "-m", "emoc_tf.experiments.compare", *TINY, "--agents=random", "--seeds=0,1", "--workers=2",
        "--update_iterations=100000000", f"--output_dir={tmp_path}",
    )  # fmt: skip
    for _ in range(4):  # how many runs there are, what computes, and step 0 of two
        assert process.stdout.readline()
    workers = children(process.pid)
    assert len(workers) >= 2
    begun = time.monotonic()
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(map(running, workers)):
        assert time.monotonic() - begun < 2
        time.sleep(0.05)
    assert (tmp_path / "random" / "0" / "checkpoint.npz").exists()


def test_report_needs_the_run_folders_alone(grid):
    folder, _ = grid
    for file in ("curves.png", "table.csv", "report.html"):
        (folder / file).unlink()
    result = run("report", folder, "--latex", "--baselines=emoc:references=8", "--accuracy=0.2")
    assert result.returncode == 0, result.stderr
    for file in ("curves.png", "table.csv", "report.html", "table.tex"):
        assert (folder / file).exists()
    assert "difference" in result.stdout
    assert "to accuracy 0.200" in (folder / "report.html").read_text()
    assert "difference to emoc:references=8" in (folder / "table.tex").read_text()


def test_another_configuration_is_refused_before_any_work(grid):
    folder, _ = grid
    before = contents(folder)
    message = r"output_dir: expected a folder without runs of another.*momentum=0.9 there, 0.5 here"
    other = Grid(CONFIG.replace(momentum=0.5), folder)
    for agent, seed in (("random", 0), ("min", 0), ("random", 7)):
        with pytest.raises(ValueError, match=message):
            run_grid(other, [agent], [seed], Console())
    assert contents(folder) == before
    assert not (folder / "min").exists()


def test_errors_are_one_sentence(tmp_path):
    result = compare(tmp_path / "out", "--agents=random,best")
    assert result.returncode == 1
    assert result.stderr.startswith("error: agent: expected one of ['random', ")
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"agents": ["random", "random"]}, "agents: expected distinct ones"),
        ({"seeds": ["0", "x"]}, "seeds: expected integers of at least 0, or ranges .*got 0,x"),
        ({"seeds": ["5-3"]}, "seeds: expected integers of at least 0, or ranges .*got 5-3"),
        ({"seeds": ["0-2", "1"]}, "seeds: expected distinct ones"),
        ({"seeds": ["1", "01"]}, r"seeds: expected distinct ones, at least one, got \[1, 1\]"),
        (
            {"preset": "best"},
            r"preset: expected one of \['demo', 'paper', 'transfer'\], got 'best'",
        ),
        ({"dataset": "no_such_set"}, "dataset: expected 'digits' or the name"),
        ({"dataset": "cifar10", "data_dir": "/nowhere"}, "dataset 'cifar10' is not prepared"),
        ({"set_size": 61}, r"set_size: expected at most 60 \(pool_per_class"),
        ({"known_classes": 9}, r"known_classes \+ novel_classes: expected at most 10"),
        ({"steps": 0}, "max_steps: expected above 0, or none, got 0"),
        ({"reward": "fame"}, "reward: expected one of"),
    ],
)
def test_bad_flags_are_told_before_any_work(tmp_path, settings, message):
    with flagsaver.flagsaver(**{"output_dir": str(tmp_path / "out"), **settings}):
        flags.FLAGS.mark_as_parsed()
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            compare_binary.main(["compare"])
        with pytest.raises(ValueError, match="arguments: expected flags only"):
            compare_binary.main(["compare", "left over"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("binary", "given", "message"),
    [
        (
            "headroom",
            ["--at_steps=0,x"],
            "at_steps: expected integers of at least 0, got ['0', 'x']",
        ),
        ("true_change", ["--iterations=0"], "iterations: expected integers above 0, got ['0']"),
        ("report", [], "arguments: expected one output folder, got []"),
    ],
)
def test_wrong_lists_and_arguments_are_told(tmp_path, binary, given, message):
    given = given and [*given, f"--output_dir={tmp_path / 'out'}"]
    result = run(binary, *given)
    assert (result.returncode, result.stderr) == (1, f"error: {message}\n")
    assert not (tmp_path / "out").exists()


def test_one_spelling_of_ranges_and_of_none():
    flags.FLAGS.mark_as_parsed()
    with flagsaver.as_parsed(output_dir="out", seeds="0-2,7", steps="none", classes="None"):
        assert compare_binary.SEEDS() == [0, 1, 2, 7]
        config = compare_binary.GRID().config
        assert (config.max_steps, config.classes) == (None, None)
    with flagsaver.as_parsed(output_dir="out", max_steps="3"):
        assert compare_binary.GRID().config.max_steps == 3
    only_seeds = binary_flags.only_seeds()
    assert only_seeds() == []
    with flagsaver.as_parsed(only_seeds="0-2,7"):
        assert only_seeds() == [0, 1, 2, 7]
    with flagsaver.as_parsed(only_seeds="x"), pytest.raises(ValueError, match="only_seeds: "):
        only_seeds()


def test_binaries_can_be_imported_side_by_side():
    names = (
        "explore",
        "compare",
        "vary",
        "report",
        "true_change",
        "headroom",
        "train_agent",
        "export",
    )
    code = ";".join(f"import emoc_tf.experiments.{name}" for name in names)
    code += ";from absl import flags;print(len(list(flags.FLAGS)))"
    result = processes.run("-c", code)
    assert result.returncode == 0, result.stderr


def test_an_output_that_is_no_folder_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    for place, message in (
        (tmp_path / "file", "output_dir: expected a folder, got the file"),
        ("/proc/nowhere", "output_dir: expected a folder that can be written"),
    ):
        with pytest.raises(ValueError, match=message):
            run_grid(Grid(CONFIG, place), ["random"], [0], Console())


@pytest.mark.parametrize(
    ("binary", "console_script"), [("explore", False), ("compare", True), ("report", True)]
)
def test_help_reads_well(binary, console_script):
    if console_script:
        result = processes.run(pathlib.Path(sys.executable).parent / f"emoc-{binary}", "--help")
    else:
        result = run(binary, "--help")
    assert "Example: python -m emoc_tf.experiments" in result.stdout
    if binary != "report":
        for flag in ("--preset", "--steps", "--output_dir", "--data_dir", "--old_fraction"):
            assert flag in result.stdout
