"""Questions and answers of your own leave a run folder, from which they are resumed."""

import json

import numpy as np
import pytest

from emoc_tf import REJECT, SKIP, Task
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.exploration.loop import Exploration
from emoc_tf.records.exports import export
from emoc_tf.records.predictions import export_predictions
from emoc_tf.records.recording import Recording
from emoc_tf.records.run_record import read_run
from emoc_tf.report.write import write_report
from emoc_tf.storage import atomic
from emoc_tf.storage.checkpoint import Checkpoint
from tests.records import tasks
from tests.records.recordings import asked, die, new


def test_answers_leave_a_run_that_is_read_exported_and_predicted(tmp_path):
    task = tasks.folder_task(tmp_path / "images")
    found = new(task)
    with Recording(found, tmp_path / "out") as recording:
        assert not recording.resumed and recording.path == tmp_path / "out/person/0"
        first = tasks.answer(found, ["bird", 0])
        second = tasks.answer(found, [SKIP, REJECT])
        recording.write()
        record = read_run(recording.path)
        assert record.agent == "person" and not record.finished
        assert record.steps["step"].tolist() == [0, 1, 2]
        assert record.steps["labelled"].tolist() == [o.labelled for o in found.outcomes]
        assert record.task["folder"] == str(task.images.root)
        assert np.isfinite(record.timings["training_seconds"][1:]).all()
    assert [row[0] for row in asked(recording.path)] == first + second
    lines = (recording.path / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [e.to_dict() for e in found.journal]
    _, count = export(tmp_path / "out", "csv")
    assert count == (task.labels >= 0).sum() + 2


def test_what_the_checkpoint_knows_is_enough_for_predictions(tmp_path):
    task = tasks.folder_task(tmp_path / "images")
    found = Exploration(tasks.CONFIG.replace(network="small_cnn"), task=task)
    with Recording(found, tmp_path / "out"):
        answered = len(tasks.answer(found, ["bird", 0]))
    _, count = export_predictions(tmp_path / "out")
    assert count == len(task.images) - (task.labels >= 0).sum() - answered


@pytest.mark.parametrize("kind", ["arrays", "folder"])
def test_a_process_that_dies_loses_nothing(tmp_path, kind):
    root = tmp_path / "images"
    task = tasks.array_task() if kind == "arrays" else tasks.folder_task(root)
    found = new(task)
    recording = Recording(found, tmp_path / "out", "anna", 3)
    images = tasks.answer(found, ["bird", 0])
    tasks.answer(found, ["cat", "fish"])
    found.correct([images[0]], ["owl"])
    found.undo()
    found.rename(2, "raptor")
    query = found.ask(int(np.flatnonzero(found.state.candidate_mask)[0]))
    die(recording)
    again = new(tasks.again(root) if kind == "folder" else tasks.array_task())
    with Recording(again, tmp_path / "out", "anna", 3) as resumed:
        assert resumed.resumed
        assert again.journal == found.journal and again.class_names == found.class_names
        assert [o.to_dict() for o in again.outcomes] == [o.to_dict() for o in found.outcomes]
        assert (images[0], "query", "raptor", "0") in asked(resumed.path)
        assert (images[0], "correction", "owl", "1") in asked(resumed.path)
        assert [q.indices.tolist() for q in again.queries] == [query.indices.tolist()]
        again.answer(again.queries[0], ["dog", "dog"])
    assert read_run(resumed.path).steps["step"].tolist() == [0, 1, 2, 3]
    assert len(asked(resumed.path)) == 7


def test_an_audit_that_is_answered_later_is_in_the_row_that_it_belongs_to(tmp_path):
    task = tasks.array_task()
    found = new(task, audit=3)
    recording = Recording(found, tmp_path)
    assert np.isnan(read_run(recording.path).steps["audit_accuracy"]).all()
    found.answer(found.queries[0], [0, 1, "bird"])
    recording.write()
    assert np.isfinite(read_run(recording.path).steps["audit_low"]).all()
    die(recording)
    again = new(task, audit=3)
    with Recording(again, tmp_path):
        assert again.outcomes[0].audit_accuracy == found.outcomes[0].audit_accuracy
        tasks.answer(again, [0, 1])
    assert np.isfinite(read_run(recording.path).steps["audit_high"]).all()
    assert [row[1] for row in asked(recording.path)] == ["audit"] * 3 + ["query"] * 2


def test_a_recording_is_shown_beside_other_runs(tmp_path):
    for agent in ("anna", "ben"):
        found = new(tasks.array_task())
        recording = Recording(found, tmp_path, agent)
        for _ in range(2):
            tasks.answer(found, ["bird", 0])
        if agent == "anna":
            recording.finish("enough")
        else:
            recording.close()
    findings, _ = write_report(tmp_path)
    assert [run.agent for run in findings.finished] == ["anna"]
    assert [run.agent for run in findings.unfinished] == ["ben"]
    record = read_run(tmp_path / "anna" / "0")
    assert record.finished and record.ended == {"step": 2, "reason": "enough"}
    assert (tmp_path / "anna/0/model.keras").exists()
    with pytest.raises(ValueError, match=r"^output_dir: expected a run that goes on, .*ended"):
        Recording(new(tasks.array_task()), tmp_path, "anna")


def test_hooks_of_the_callers_own_are_kept(tmp_path):
    told = []
    found = new(tasks.array_task())
    found.on_query = lambda: told.append(len(found.queries))
    own = found.on_query
    with Recording(found, tmp_path):
        tasks.answer(found, [0, 1])
        assert told == [1, 1]
    assert found.on_query is own


def test_an_episode_that_was_just_begun_is_recorded_as_it_is(tmp_path):
    found = new(tasks.array_task())
    found.reset(7)
    episode = found.episode
    with Recording(found, tmp_path):
        assert found.episode is episode
        tasks.answer(found, [0, 1])
    with pytest.raises(ValueError, match=r"^exploration: expected one that has had no answer"):
        Recording(found, tmp_path)


def test_an_environment_that_was_reset_is_brought_to_where_it_was(tmp_path):
    envs = [
        ActiveExplorationEnv(tasks.CONFIG, task=tasks.array_task(), model=tasks.model(2))
        for _ in range(2)
    ]
    for env in envs:
        env.reset(seed=0)
        with Recording(env.exploration, tmp_path):
            tasks.answer(env.exploration, [0, "bird"])
    assert envs[1].outcome.step == 2 and len(envs[1].exploration.journal) == 4
    assert envs[1].exploration.journal[:2] == envs[0].exploration.journal


def test_another_episode_is_not_written_into_it(tmp_path):
    found = new(tasks.array_task())
    with Recording(found, tmp_path) as recording:
        tasks.answer(found, [0, 1])
        recording.write()
        before = (recording.path / "queried.csv").read_text()
        found.reset(1)
        with pytest.raises(RuntimeError, match=r"^write: expected the episode"):
            found.ask(int(np.flatnonzero(found.state.candidate_mask)[0]))
    assert (recording.path / "queried.csv").read_text() == before


def test_what_it_cannot_resume_is_refused_and_kept(tmp_path):
    root = tmp_path / "images"
    found = new(tasks.folder_task(root))
    with Recording(found, tmp_path / "out") as recording:
        tasks.answer(found, [0, 1])
        with pytest.raises(ValueError, match=r"^output_dir: expected a free folder"):
            Recording(new(tasks.again(root)), tmp_path / "out")
    before = (recording.path / "queried.csv").read_text()
    with pytest.raises(ValueError, match=r"^output_dir: .*another one \(set_size"):
        Recording(new(tasks.again(root), set_size=3), tmp_path / "out")
    other = np.full((5, 8, 8, 3), 7, np.uint8) + np.arange(5, dtype=np.uint8)[:, None, None, None]
    with pytest.raises(ValueError, match="expected one of the same images"):
        Recording(new(Task(other, [0, 1, -1, -1, -1], ("cat", "dog"))), tmp_path / "out")
    for file in recording.path.glob("checkpoint*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"^output_dir: expected checkpoint.npz beside"):
        Recording(new(tasks.again(root)), tmp_path / "out")
    assert (recording.path / "queried.csv").read_text() == before


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    place = tmp_path / "person" / "0"
    place.mkdir(parents=True)
    atomic.write_text(place / "queried.csv", "mine\n")
    with pytest.raises(ValueError, match="with other files"):
        Recording(new(tasks.array_task()), tmp_path)
    assert (place / "queried.csv").read_text() == "mine\n"


def test_another_machine_is_told(tmp_path, monkeypatch):
    found = new(tasks.array_task())
    with Recording(found, tmp_path) as recording:
        tasks.answer(found, [0, 1])
    file = recording.path / "config.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps({**told, "cpu": "another one"}))
    with Recording(new(tasks.array_task()), tmp_path) as resumed:
        assert resumed.resumed
    assert len(read_run(resumed.path).environment["mixed"]) == 1


def test_images_may_come_go_and_move(tmp_path):
    root = tmp_path / "images"
    found = new(tasks.folder_task(root))
    with Recording(found, tmp_path / "out") as recording:
        images = tasks.answer(found, ["bird", "bird"])
    path = found.task.images.paths[images[0]]
    root.rename(tmp_path / "moved")
    again = new(tasks.again(tmp_path / "moved"))
    with Recording(again, tmp_path / "out"):
        now = again.task.images.paths.index(path)
        assert again.class_names[again.labels[now]] == "bird"
    assert read_run(recording.path).task["folder"] == str(again.task.images.root)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"agent": ""}, "agent"), ({"agent": "../x"}, "agent"), ({"seed": -1}, "seed"),
     ({"seed": 1.5}, "seed")],
)  # fmt: skip
def test_names_and_seeds_are_checked(tmp_path, arguments, named):
    with pytest.raises(ValueError, match=f"^{named}: expected"):
        Recording(new(tasks.array_task()), tmp_path / "out", **arguments)
    with pytest.raises(ValueError, match=r"^exploration: expected an Exploration"):
        Recording(tasks.array_task(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_checkpoint_is_whole_after_each_call(tmp_path):
    found = new(tasks.array_task())
    with Recording(found, tmp_path) as recording:
        for call in (lambda: tasks.answer(found, [0, 1]), found.undo):
            call()
            header = Checkpoint.read(recording.path / "checkpoint.npz").header
            assert header["run"]["identity"] == {"agent": "person", "seed": 0}
