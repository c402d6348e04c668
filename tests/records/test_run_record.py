import csv
import json

import numpy as np
import pytest

from emoc_tf.records.run_folder import RunFolder
from emoc_tf.records.run_record import check_output_dir, make_output_dir, read_run, read_runs
from tests.records.written import CONFIG, write


def test_what_is_written_is_read_back(tmp_path):
    folder = write(tmp_path, "emoc:output=softmax", 4)
    assert folder.path == tmp_path / "emoc__output=softmax" / "4"
    run = read_run(folder.path)
    assert (run.agent, run.seed, run.finished) == ("emoc:output=softmax", 4, True)
    assert run.configuration == {
        k: v for k, v in CONFIG.to_dict().items() if not k.endswith("_dir")
    }
    np.testing.assert_array_equal(run.steps["test_accuracy"], [0.4, 0.5, 0.7])
    assert np.isnan(run.steps["chosen_set"][0])
    assert run.timings["selection_seconds"][2] == 1.0
    with open(folder.path / "recalls.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["step", "4", "2"]
    assert [float(cell) for cell in rows[1]] == [0, 1, 1 / 3]
    assert run.classes == (4, 2)
    np.testing.assert_array_equal(run.recalls, [[1, 1 / 3]] * 3)
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
        ("config.json", "{", r"config.json: expected a JSON object, got a file that fails"),
        ("config.json", "[]", r"config.json: expected a JSON object, got a file that holds list"),
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
        (
            "config.json",
            "[" * 100000,
            r"config.json: expected a JSON object, got a file that fails",
        ),
        ("steps.csv", "\xff", r"steps.csv: expected columns"),
        ("recalls.csv", "step,zebra\n0,0.5\n", "recalls.csv: expected columns step and class ids"),
        ("steps.csv", "a,b\n1,2\n3\n", "steps.csv: expected columns of numbers, got a file that"),
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


def test_no_runs(tmp_path):
    with pytest.raises(ValueError, match="output_dir: expected run folders"):
        read_runs(tmp_path)
