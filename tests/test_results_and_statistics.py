import csv
import json

import numpy as np
import pytest

from emoc_tf import ExplorationConfig, plots, results, statistics
from emoc_tf.evaluation import StepOutcome
from emoc_tf.results import RunFolder, read_run, read_runs

CONFIG = ExplorationConfig(data_dir="not recorded", max_steps=2)


def outcome(step, accuracy=0.5, discovered=0):
    first = step == 0
    return StepOutcome(
        step, 40 + 5 * step, accuracy, 0.75, 0.1, discovered, None if first else 3,
        None if first else 7, np.array([1.0, 1 / 3]),
    )  # fmt: skip


def write(path, agent="random", seed=0, config=CONFIG, accuracies=(0.4, 0.5, 0.7), rows=3):
    folder = RunFolder(path, agent, seed, config)
    folder.start((4, 2))
    for step in range(rows):
        timings = {"selection_seconds": 0.5 * step, "training_seconds": 2.0, "step_seconds": 3.0}
        folder.write_step(outcome(step, accuracies[step], step), 0.1 * step or None, timings)
    return folder


def test_what_is_written_is_read_back(tmp_path):
    folder = write(tmp_path, "emoc:output=softmax", 4)
    assert folder.path == tmp_path / "emoc__output=softmax" / "4"
    run = read_run(folder.path)
    assert (run.agent, run.seed, run.finished) == ("emoc:output=softmax", 4, True)
    assert run.configuration == {k: v for k, v in CONFIG.to_dict().items() if k != "data_dir"}
    np.testing.assert_array_equal(run.steps["test_accuracy"], [0.4, 0.5, 0.7])
    assert np.isnan(run.steps["chosen_set"][0])
    assert run.timings["selection_seconds"][2] == 1.0
    with open(folder.path / "recalls.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["step", "4", "2"]
    assert [float(cell) for cell in rows[1]] == [0, 1, 1 / 3]
    content = json.loads((folder.path / "config.json").read_text())
    assert {"versions", "commit", "cpu", "intra_op_threads"} <= set(content)
    assert "not recorded" not in (folder.path / "config.json").read_text()
    assert list((folder.path / "tensorboard").iterdir())


def test_unfinished_runs_are_known_as_such(tmp_path):
    folder = write(tmp_path, rows=2)
    assert not folder.finished
    assert write(tmp_path, rows=3).finished  # started over
    steps = folder.path / "steps.csv"
    steps.write_text(steps.read_text()[:-30])  # the last line cut short
    assert not folder.finished
    assert len(read_run(folder.path).steps["step"]) == 2


@pytest.mark.parametrize(
    ("agent", "seed", "config", "message"),
    [
        ("random", 0, CONFIG.replace(momentum=0.8), "momentum=0.9 there, 0.8 here"),
        ("random", 0, CONFIG.replace(max_steps=3), "max_steps=2 there, 3 here"),
    ],
)
def test_another_configurations_folder_is_refused(tmp_path, agent, seed, config, message):
    folder = write(tmp_path)
    before = {file: file.read_bytes() for file in folder.path.glob("*.*")}
    with pytest.raises(ValueError, match=f"output_dir: .*{message}"):
        RunFolder(tmp_path, agent, seed, config).check()
    assert before == {file: file.read_bytes() for file in folder.path.glob("*.*")}
    RunFolder(tmp_path, agent, seed, CONFIG.replace(data_dir="elsewhere")).check()


def test_folders_with_other_files_are_refused(tmp_path):
    (tmp_path / "random" / "0").mkdir(parents=True)
    RunFolder(tmp_path, "random", 0, CONFIG).check()
    (tmp_path / "random" / "0" / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"output_dir: expected a run folder with config.json"):
        RunFolder(tmp_path, "random", 0, CONFIG).check()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", r"config.json: expected JSON, got a file that fails"),
        ("config.json", "{}", r"config.json: expected agent, seed and configuration"),
        ("steps.csv", "a,b\n1,2\n", r"steps.csv: expected columns .*got \['a', 'b'\]"),
    ],
)
def test_broken_records_are_named(tmp_path, name, content, message):
    folder = write(tmp_path)
    (folder.path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_run(folder.path)


def test_no_runs(tmp_path):
    with pytest.raises(ValueError, match="output_dir: expected run folders"):
        read_runs(tmp_path)


def test_areas_by_hand():
    assert statistics.normalised_area(np.array([10, 20, 40]), np.array([0.0, 1.0, 1.0])) == (
        pytest.approx((5 + 20) / 30)
    )
    assert statistics.normalised_area(np.array([5, 6]), np.array([0.3, 0.3])) == pytest.approx(0.3)


def test_summaries_by_hand(tmp_path):
    write(tmp_path, "random", 0, accuracies=(0.4, 0.5, 0.7))
    write(tmp_path, "random", 1, accuracies=(0.4, 0.6, 0.8))
    write(tmp_path, "emoc", 0, accuracies=(0.4, 0.9, 0.9))
    best, second = statistics.summarise(read_runs(tmp_path))
    assert (best.agent, best.runs, second.agent, second.runs) == ("emoc", 1, "random", 2)
    assert second.final_accuracy.mean == pytest.approx(0.75)
    assert second.final_accuracy.standard_error == pytest.approx(0.05)
    assert second.final_accuracy.text(2) == "0.75±0.05"
    assert best.final_accuracy.text(2) == "0.90"
    assert second.accuracy_area.mean == pytest.approx((0.525 + 0.6) / 2)
    assert best.discovery_area.mean == pytest.approx(1.0)
    assert best.final_discovered.mean == 2
    assert best.selection_seconds.mean == pytest.approx(0.75)  # row 0 is no selection
    assert best.update_seconds.mean == pytest.approx(2.0)


def test_figures_show_every_policy(tmp_path):
    for agent in ("random", "emoc", "emoc:output=softmax"):
        for seed in (0, 1):
            write(tmp_path, agent, seed, accuracies=(0.4, 0.5 + 0.1 * seed, 0.7))
    figure = plots.learning_curves(read_runs(tmp_path))
    left, right = figure.axes
    labels = [line.get_label() for line in left.lines]
    assert labels == ["random", "emoc", "emoc:output=softmax"]
    np.testing.assert_allclose(left.lines[0].get_ydata(), [0.4, 0.55, 0.7])
    np.testing.assert_allclose(right.lines[0].get_ydata(), [0, 1, 2])
    np.testing.assert_array_equal(left.lines[0].get_xdata(), [40, 45, 50])
    band = left.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(0.7)
    assert {0.5, 0.6} <= set(np.round(band[band[:, 0] == 45][:, 1], 9))
    styles = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in left.lines}
    assert len(styles) == 3
    first = plots.save(figure, tmp_path / "curves")
    assert [path.suffix for path in first] == [".png", ".svg"]
    assert all(path.stat().st_size > 5000 for path in first)


def test_the_environment_is_told():
    found = results.environment()
    assert found["intra_op_threads"] >= 1
    assert found["cpu"]
