import csv

import pytest

from emoc_tf import ExplorationConfig
from emoc_tf.analysis.findings import gather
from emoc_tf.experiments import vary
from emoc_tf.experiments.single_run import Grid
from emoc_tf.report import effects
from emoc_tf.storage import csv_files
from tests import processes
from tests.records.written import CONFIG, write


def test_a_grid_a_value():
    grid = Grid(ExplorationConfig(), "out", True)
    found = vary.grids(grid, "max_steps", ["3", "none"])
    assert list(found) == [3, None]
    assert found[3].config == ExplorationConfig(max_steps=3)
    assert found[None].output_dir.name == "max_steps=None"
    assert found[3].allow_mixed
    assert vary.grids(grid, "sampler", ["uniform"])["uniform"].config.sampler == "uniform"


@pytest.mark.parametrize(
    ("setting", "values", "message"),
    [
        ("fame", ["1"], "setting: expected one of .*, got 'fame'"),
        ("momentum", ["0.5", "0.50"], "values: expected distinct ones"),
        ("momentum", ["[0.5]"], "values: expected numbers or words"),
        ("momentum", ["0.5", "2"], r"momentum: expected a number in \[0, 1\), got 2.0"),
    ],
)
def test_bad_values(setting, values, message):
    with pytest.raises(ValueError, match=message):
        vary.grids(Grid(ExplorationConfig(), "out"), setting, values)


def test_the_figure_has_a_point_for_each_policy_and_value(tmp_path):
    findings = {}
    for value in (0.1, 0.9):
        for agent in ("random", "emoc"):
            for seed in range(2):
                accuracies = (0.4, 0.5, value + 0.1 * seed)
                write(tmp_path / str(value), agent, seed, CONFIG, accuracies)
        findings[value] = gather(tmp_path / str(value))
    left, _ = effects.draw("momentum", findings).axes
    lines = [container.lines[0] for container in left.containers]
    assert [container.get_label() for container in left.containers] == ["random", "emoc"]
    areas = [0.4 / 4 + 0.5 / 2 + (value + 0.05) / 4 for value in (0.1, 0.9)]
    for line in lines:
        assert line.get_ydata() == pytest.approx(areas)
    assert [text.get_text() for text in left.get_xticklabels()] == ["0.1", "0.9"]
    rows = effects.differences("momentum", findings)["accuracy_area"]
    assert [(row.agent, row.baseline, row.pairs) for row in rows] == [
        (f"{agent}, momentum=0.9", f"{agent}, momentum=0.1", 2) for agent in ("random", "emoc")
    ]
    assert [row.mean for row in rows] == pytest.approx([0.2, 0.2])
    # A value with a comma is one cell.
    text = csv_files.text(effects.summary_rows("classes", {"0-4,7": findings[0.1]}))
    header, *lines = csv.reader(text.splitlines())
    assert {tuple(line[:2]) for line in lines} == {("0-4,7", "emoc"), ("0-4,7", "random")}
    assert all(len(line) == len(header) for line in lines)


def test_the_binary(tmp_path):
    arguments = [
        "--known_classes=2", "--novel_classes=2", "--initial_per_class=4", "--pool_per_class=6",
        "--num_candidate_sets=6", "--set_size=3", "--pretrain_iterations=20",
        "--update_iterations=10", "--batch_size=8", "--steps=2", "--agents=random,min",
        "--seeds=0,1", "--setting=sampler", f"--output_dir={tmp_path}",
    ]  # fmt: skip

    def run(values):
        return processes.run("-m", "emoc_tf.experiments.vary", *arguments, values)

    bad = run("--values=uniform,best")
    assert bad.returncode == 1
    assert "error: sampler: expected one of" in bad.stderr
    assert not list(tmp_path.iterdir())  # before any work
    result = run("--values=uniform,single_class")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "sampler=uniform" / "min" / "1" / "steps.csv").exists()
    with open(tmp_path / "sampler.csv", newline="") as file:
        rows = [(row["sampler"], row["agent"]) for row in csv.DictReader(file)]
    assert sorted(rows) == [
        (value, agent) for value in ("single_class", "uniform") for agent in ("min", "random")
    ]
    assert (tmp_path / "sampler.png").exists()
    assert (tmp_path / "sampler=uniform" / "report.html").exists()
    assert "min, sampler=single_class" in (tmp_path / "sampler_differences.csv").read_text()
    assert "effect of" in result.stdout
