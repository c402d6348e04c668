"""A disk that is full, a training that ends, a checkpoint that is damaged: what was said stays."""

import errno
import io
import json

import numpy as np
import pytest

from emoc_tf import SKIP
from emoc_tf.models.learner import Learner, diverged
from emoc_tf.records import queried, sinks
from emoc_tf.records.queried import QUERIED_COLUMNS, read_texts
from emoc_tf.records.recording import Recording
from emoc_tf.records.run_record import read_run
from tests.records import tasks
from tests.records.recordings import asked, die, new


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
