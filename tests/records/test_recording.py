"""Questions and answers of your own leave a run folder, from which they are resumed."""

import errno
import io
import json

import numpy as np
import pytest

from emoc_tf import REJECT, SKIP, Task
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.exploration.loop import Exploration
from emoc_tf.models.learner import Learner, diverged
from emoc_tf.records import queried, sinks
from emoc_tf.records.exports import export
from emoc_tf.records.predictions import export_predictions
from emoc_tf.records.queried import QUERIED_COLUMNS, read_texts
from emoc_tf.records.recording import Recording
from emoc_tf.records.run_record import read_run
from emoc_tf.report.write import write_report
from emoc_tf.storage import atomic
from emoc_tf.storage.checkpoint import Checkpoint
from tests.records import tasks


def new(task, **changes):
    model = tasks.model(2, task.images.shape[1:])
    return Exploration(tasks.CONFIG.replace(**changes), task=task, model=model)


def asked(folder):
    rows = read_texts(folder / "queried.csv", QUERIED_COLUMNS)
    return [(int(r["image"]), r["kind"], r["class_name"], r["taken_back"]) for r in rows]


def die(recording):
    """Ends a recording as the end of its process would: nothing more is written."""
    recording._held.close()


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


@pytest.mark.parametrize("answers", [["bird", 0], ["dog", "dog"], [SKIP, "newt"]])
def test_an_answer_that_was_not_learnt_is_learnt_when_it_is_resumed(tmp_path, answers, monkeypatch):
    task = tasks.array_task()
    found, whole = new(task), new(task)
    recording = Recording(found, tmp_path / "out")
    Recording(whole, tmp_path / "whole")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(found, "_learn", killed)
        with pytest.raises(KeyboardInterrupt):
            tasks.answer(found, answers)
    die(recording)
    tasks.answer(whole, answers)
    again = new(task)
    with Recording(again, tmp_path / "out") as resumed:
        assert not again.queries
        assert again.outcomes[-1].to_dict() == whole.outcomes[-1].to_dict()
        assert np.array_equal(again.labels, whole.labels)
        assert len(asked(resumed.path)) == 2
        assert read_run(resumed.path).steps["step"].tolist() == [0, 1]


def test_a_death_in_training_closes_the_recording_and_keeps_the_answer(tmp_path, monkeypatch):
    found = new(tasks.array_task())
    with monkeypatch.context() as patch:

        def diverged(*_):
            raise FloatingPointError("diverged")

        with pytest.raises(FloatingPointError), Recording(found, tmp_path):
            patch.setattr(found, "_update", diverged)
            tasks.answer(found, ["bird", 0])
    again = new(tasks.array_task())
    with Recording(again, tmp_path):
        assert [e.kind for e in again.journal][:1] == ["answer"] and again.outcomes[-1].step == 1


@pytest.mark.parametrize("name", ["journal.jsonl", "queried.csv", "timings.csv", "steps.csv"])
def test_a_disk_that_was_full_for_a_while_costs_no_answer(tmp_path, monkeypatch, name):
    """Half a line is written, once; whoever goes on has whole files and can resume."""
    full = []

    class HalfWritten(io.TextIOWrapper):
        def write(self, text):
            super().write(text[: len(text) // 2])
            self.flush()
            raise OSError(errno.ENOSPC, "No space left on device")

        def writelines(self, lines):
            self.write("".join(lines))

    def opened(file, mode="r", **settings):
        if mode == "a" and file.name == name and file in full:
            full.clear()
            return HalfWritten(open(file, "ab"), **settings)
        return open(file, mode, **settings)

    monkeypatch.setattr(sinks, "open", opened, raising=False)
    monkeypatch.setattr(queried, "open", opened, raising=False)
    task = tasks.array_task()
    found = new(task)
    recording = Recording(found, tmp_path / "out")
    first = tasks.answer(found, ["bird", 0])
    full.append(recording.path / name)
    with pytest.raises(OSError, match="No space left"):
        recording.write()
    second = tasks.answer(found, ["fish", 1])
    recording.write()
    names = dict(zip(first + second, ["bird", "cat", "fish", "dog"], strict=True))
    assert [row[::2] for row in asked(recording.path)] == list(names.items())
    lines = (recording.path / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [e.to_dict() for e in found.journal]
    record = read_run(recording.path)
    assert record.steps["step"].tolist() == record.timings["step"].tolist() == [0, 1, 2]
    die(recording)
    again = new(task)
    with Recording(again, tmp_path / "out"):
        assert again.journal == found.journal


@pytest.mark.parametrize("answers", [["cat", "dog"], ["emu", "cat"]])
def test_a_guess_at_a_class_that_was_taken_back_since_is_none(tmp_path, answers):
    """With "emu" its id is another class's."""
    task = tasks.array_task()
    found = new(task)
    recording = Recording(found, tmp_path / "out")
    tasks.answer(found, ["owl", 0])
    found._guesses = lambda indices: np.arange(2, 2 - len(indices), -1)  # owl and dog
    query = found.ask(int(np.flatnonzero(found.state.candidate_mask)[0]))
    found.undo()
    found.answer(query, answers)
    recording.write()
    rows = read_texts(recording.path / "queried.csv", QUERIED_COLUMNS)[2:]
    assert [row["class_name"] for row in rows] == answers
    assert [row["guess_name"] for row in rows] == ["", "dog"]
    assert found.outcomes[-1].answer_accuracy == (answers[1] == "dog") / 2
    die(recording)
    with Recording(new(task), tmp_path / "out") as again:
        assert again._exploration.journal == found.journal


def test_a_damaged_checkpoint_is_told_and_what_it_held_is_kept(tmp_path):
    task = tasks.array_task()
    found = new(task)
    recording = Recording(found, tmp_path / "out")
    tasks.answer(found, ["bird", 0])
    recording.write()
    found.correct([0], ["owl"])
    die(recording)
    folder = recording.path
    lines = (folder / "journal.jsonl").read_text().splitlines()
    file = folder / "checkpoint.npz"
    file.write_bytes(file.read_bytes()[:-100])
    with (
        pytest.warns(UserWarning, match=r"journal.jsonl: 1 of its entries .* journal.kept-1.jsonl"),
        Recording(new(task), tmp_path / "out"),
    ):
        assert (folder / "journal.jsonl").read_text().splitlines() == lines[:-1]
    assert (folder / "journal.kept-1.jsonl").read_text().splitlines() == lines
    with Recording(new(task), tmp_path / "out"):
        pass


def test_a_training_that_diverges_is_resumed_with_a_lower_rate(tmp_path, monkeypatch):
    def train(learner, *_):
        if learner._learning_rate > 1e-4:
            raise diverged("loss nan", learner._learning_rate)

    monkeypatch.setattr(Learner, "train", train)
    found = new(tasks.array_task(), learning_rate=1e-4)
    with Recording(found, tmp_path):
        tasks.answer(found, ["dog", 0])
    with (
        pytest.raises(FloatingPointError),
        Recording(new(tasks.array_task(), learning_rate=2e-4), tmp_path) as high,
    ):
        tasks.answer(high._exploration, ["bird", SKIP])
    with pytest.raises(FloatingPointError, match=r"try learning_rate"):
        Recording(new(tasks.array_task(), learning_rate=2e-4), tmp_path)
    low = new(tasks.array_task(), learning_rate=5e-5)
    with Recording(low, tmp_path) as resumed:
        assert [e.kind for e in low.journal] == ["answer", "learn"] * 2
        assert low.class_names[-1] == "bird" and low.outcomes[-1].step == 2
    told = read_run(resumed.path)
    assert told.configuration["learning_rate"] == 5e-5
    rates = [(each["learning_rate"], each["until_step"]) for each in told.environment["mixed"]]
    assert rates == [(1e-4, 1), (2e-4, 1)]


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
