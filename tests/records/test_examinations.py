"""Tables that are resumed row by row: whose rows they may be."""

import numpy as np
import pytest

from emoc_tf import ExplorationConfig
from emoc_tf.records import examinations
from emoc_tf.records.record_folder import RecordFolder
from emoc_tf.storage.provenance import environment

HEADER = ("seed", "gain")


def told(**changes):
    config = ExplorationConfig().replace(momentum=0.5).record()
    return {"configuration": config, "sets": 4, "environment": environment(), **changes}


@pytest.fixture
def folder(tmp_path):
    folder = RecordFolder(tmp_path)
    assert examinations.rows_there(folder, "a.csv", HEADER, told()).shape == (0, 2)
    examinations.begin(folder, "a.csv", HEADER, told(), np.empty((0, 2)), ())
    folder.write({"seed": 1, "gain": 1 / 3})
    return folder


def test_rows_come_back_and_more_are_written_behind_them(folder):
    text = (folder.path / "a.csv").read_text()
    assert text == "seed,gain\n1,0.3333333333\n"
    with open(folder.path / "a.csv", "a") as file:
        file.write("2,0.")  # cut short
    rows = examinations.rows_there(folder, "a.csv", HEADER, told(environment="elsewhere"))
    assert rows.tolist() == [[1, 0.3333333333]]
    examinations.begin(folder, "a.csv", HEADER, told(), rows, ())
    assert (folder.path / "a.csv").read_text() == text


def test_those_of_other_settings_are_refused(folder):
    other = ExplorationConfig().record()
    for changes, named in (
        ({"configuration": other}, r"\['configuration'\]"),
        ({"sets": 5}, r"\['sets'\]"),
        ({"configuration": other, "driver": "min"}, r"\['configuration', 'driver'\]"),
    ):
        with pytest.raises(ValueError, match=f"output_dir: .* differs in {named}"):
            examinations.rows_there(folder, "a.csv", HEADER, told(**changes))
    with pytest.raises(ValueError, match=r"a.csv: expected columns \['gain'\]"):
        examinations.rows_there(folder, "a.csv", ["gain"], told())


def test_those_of_another_machine_are_not_gone_on_with(folder):
    elsewhere = told(environment=environment() | {"cpu": "Another"})
    folder.write_config(elsewhere)
    rows = examinations.rows_there(folder, "a.csv", HEADER, told())
    with pytest.raises(ValueError, match="same versions and machine to resume in"):
        examinations.begin(folder, "a.csv", HEADER, told(), rows, ())
