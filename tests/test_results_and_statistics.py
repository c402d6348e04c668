import csv
import json

import numpy as np
import pytest
from rich.console import Console

from emoc_tf import ExplorationConfig, environment, plots, statistics
from emoc_tf.evaluation import StepOutcome
from emoc_tf.experiments import report
from emoc_tf.results import (
    check_output_dir,
    make_output_dir,
    read_run,
    read_runs,
)
from emoc_tf.run_folder import RunFolder

CONFIG = ExplorationConfig(data_dir="not recorded", max_steps=2)


def outcome(step, accuracy=0.5, discovered=0):
    first = step == 0
    return StepOutcome(
        step, 40 + 5 * step, accuracy, 0.75, 0.1, discovered, None if first else 3,
        None if first else 7, np.array([1.0, 1 / 3]),
    )  # fmt: skip


def write(path, agent="random", seed=0, config=CONFIG, accuracies=(0.4, 0.5, 0.7), rows=3):
    folder = RunFolder(path, agent, seed, config)
    folder.claim()
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


@pytest.mark.parametrize("name", ["steps.csv", "timings.csv"])
@pytest.mark.parametrize("cut", [1, 3, 30, 1000])
def test_unfinished_runs_are_known_as_such(tmp_path, name, cut):
    """However little of the last line is missing: a number cut short is another number."""
    assert not write(tmp_path, rows=2).finished
    folder = write(tmp_path, rows=3)  # started over
    assert folder.finished
    records = folder.path / name
    records.write_text(records.read_text()[:-cut])
    assert not folder.finished


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CONFIG.replace(momentum=0.8), "momentum=0.9 there, 0.8 here"),
        (CONFIG.replace(max_steps=3), "max_steps=2 there, 3 here"),
    ],
)
def test_a_folder_with_runs_of_another_configuration_is_refused(tmp_path, config, message):
    write(tmp_path)
    with pytest.raises(ValueError, match=f"output_dir: .*{message}"):
        check_output_dir(tmp_path, config)
    check_output_dir(tmp_path, CONFIG.replace(data_dir="elsewhere"))
    check_output_dir(tmp_path / "new", config)


def test_output_folders_are_tried_before_long_work(tmp_path):
    (tmp_path / "file").touch()
    for call in (lambda p: check_output_dir(p, CONFIG), make_output_dir):
        with pytest.raises(ValueError, match="output_dir: expected a folder"):
            call(tmp_path / "file")
    make_output_dir(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())


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
        (
            "config.json",
            '{"agent": 5, "seed": 0, "configuration": {}}',
            "expected a name and an int",
        ),
        (
            "config.json",
            '{"agent": "a", "seed": 0, "configuration": {"fame": 1}}',
            "config.json: expected settings of this version, fame: expected",
        ),
        ("config.json", "[" * 100000, r"config.json: expected JSON, got a file that fails"),
        ("steps.csv", "\xff", r"steps.csv: expected columns"),
        ("steps.csv", "a,b\n1,2\n", r"steps.csv: expected columns .*other columns: \['a', 'b'\]"),
    ],
)
def test_broken_records_are_named(tmp_path, name, content, message):
    folder = write(tmp_path)
    (folder.path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        read_run(folder.path)


def test_huge_numbers_in_a_record_take_no_memory(tmp_path):
    config = CONFIG.replace(pool_per_class=10**12, max_steps=None)
    assert not write(tmp_path, config=config).finished


def test_broken_runs_are_left_out_of_the_report_and_named(tmp_path):
    write(tmp_path, seed=0)
    broken = write(tmp_path, seed=1)
    (broken.path / "steps.csv").write_text("nonsense\n")
    console = Console(record=True, width=300)
    report.write_report(tmp_path, console)
    assert f"Left out: {broken.path / 'steps.csv'}: expected columns" in console.export_text()
    assert ",1," in (tmp_path / "table.csv").read_text()


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
    again = plots.save(plots.learning_curves(read_runs(tmp_path)), tmp_path / "again")
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert [path.suffix for path in first] == [".png", ".svg"]
    assert all(path.stat().st_size > 5000 for path in first)


def test_many_variants_stay_apart(tmp_path):
    for number in range(12):
        write(tmp_path, f"emoc:references={number + 1}")
    lines = plots.learning_curves(read_runs(tmp_path)).axes[0].lines
    assert (
        len({(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}) == 12
    )


def test_the_environment_is_told():
    found = environment.environment()
    assert found["intra_op_threads"] >= 1
    assert found["cpu"]
