"""The worker with a real exploration, in this process: starts, days, exports."""

import csv
import json
import os
import queue
import threading
import time

import keras
import numpy as np
import pytest

from emoc_tf.annotation.service import Service
from emoc_tf.annotation.settings import EXPORTS, Settings
from emoc_tf.annotation.worker import Worker
from emoc_tf.models import load_model, save_model
from tests.annotation import desks
from tests.data import pictures

TINY = {
    "set_size": 3, "num_candidate_sets": 6, "pretrain_iterations": 1, "update_iterations": 1,
    "batch_size": 4,
}  # fmt: skip


class Stop(BaseException):
    pass


class Commands(queue.Queue):
    def get(self, *arguments, **settings):
        told = super().get(*arguments, **settings)
        if told is None:
            raise Stop
        return told


class ThreadWorker:
    """Runs the worker in a thread, as `WorkerProcess` runs it in a process."""

    def __init__(self, settings, hear, begin):
        self.settings, self._hear, self._begin = settings, hear, begin
        self.commands, self.error = Commands(), None

    def start(self):
        self.commands.put(self._begin())
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        self.worker = Worker(self.settings, self.commands, self)
        try:
            self.worker.run()
        except Stop:
            pass
        except Exception as error:
            self.error = error
            self._hear({"type": "ended", "text": str(error), "fatal": True, "pause": 0})

    def write(self, line):
        self._hear(json.loads(line))

    def flush(self):
        pass

    def send(self, command):
        self.commands.put(json.loads(json.dumps(command)))

    def close(self):
        self.commands.put(None)
        self.thread.join()
        if hasattr(self.worker, "_recording"):
            self.worker._recording._held.close()  # as its death would


class Day:
    """A service with a worker, and somebody at the page."""

    def __init__(self, folder, **changes):
        config = TINY | changes.pop("config", {})
        self.out = folder / "out"
        settings = {"image_size": 8, "agent": "min"} | changes
        self.settings = Settings(str(folder / "images"), str(self.out), config=config, **settings)
        self.service = Service(self.settings, ThreadWorker)
        self.service.worker.start()
        self.browser = desks.client(self.service)

    def wait(self, true):
        end = time.monotonic() + 300
        while time.monotonic() < end:
            state = desks.state(self.browser)
            if true(state) or self.service.ended.is_set():
                return state
            time.sleep(0.02)
        raise AssertionError(state)

    def quiet(self):
        """Waits until all is learnt and nothing is left to do."""
        return self.wait(lambda s: s["worker"]["phase"] == "ready" and not s["worker"]["behind"])

    def answer(self, *labels):
        """Answers the set on the screen: one name for all, or one label an image."""
        shown = self.wait(lambda s: s["set"])["set"]
        count = len(shown["images"])
        labels = labels * count if len(labels) == 1 else labels
        labels = [n if n in ("skip", "unsure", "left", "reject") else {"class": n} for n in labels]
        told = {"query": shown["query"], "labels": labels[:count], "confirmed": ["owl", "emu"]}
        reply = desks.post(self.browser, "answer", **told)
        assert reply.status_code == 200, reply.get_json()
        return [index for index, _ in shown["images"]]

    def export(self, format):
        job = desks.post(self.browser, "export", format=format).get_json()["saved"]
        find = lambda s: [e for e in s["exports"] if e["job"] == job]  # noqa: E731
        return find(self.wait(lambda s: find(s)[0]["state"] != "waits"))[0]

    def close(self):
        self.service.worker.close()
        self.service.ended.set()


@pytest.fixture
def images(tmp_path):
    for i in range(20):
        pictures.write(tmp_path / "images" / "unlabelled" / f"{i}.png", i)
    return tmp_path / "images"


@pytest.fixture
def days():
    found = []

    def begin(*arguments, **changes):
        found.append(Day(*arguments, **changes))
        return found[-1]

    yield begin
    for day in found:
        if not day.service.ended.is_set():
            day.close()


def classes(state):
    return dict(state["classes"])


def test_from_no_label_to_all_exports(tmp_path, images, days):
    day = days(tmp_path)
    first = day.answer("owl", "cat", "reject")
    second = day.answer("owl")
    day.answer("skip")
    state = day.quiet()
    assert classes(state) == {"owl": 4, "cat": 1} and state["counts"]["images"] == 20
    assert [o["step"] for o in state["outcomes"]] == [0, 1, 2, 3]
    jobs = {format: day.export(format) for format in EXPORTS}
    assert {format: job["state"] for format, job in jobs.items()} == dict.fromkeys(EXPORTS, "done")
    assert [jobs[name]["count"] for name in ("csv", "predictions", "model")] == [5, 14, 2]
    with open(jobs["csv"]["path"], newline="") as file:
        rows = {int(row["image"]): row["label"] for row in csv.DictReader(file)}
    assert rows == dict(zip(first[:2], ("owl", "cat"), strict=True)) | dict.fromkeys(second, "owl")
    model, names = load_model(jobs["model"]["path"])
    assert names == ["owl", "cat"] and model.output_shape == (None, 2)
    again = day.export("csv")["path"]
    assert again != jobs["csv"]["path"] and os.path.exists(again)


def test_nothing_can_be_exported_before_anything_was_said(tmp_path, images, days):
    day = days(tmp_path)
    day.quiet()
    for format in ("csv", "model", "predictions"):
        job = day.export(format)
        assert job["state"] == "failed" and job["text"]
    day.answer("owl", "cat", "cat")
    assert day.quiet()["outcomes"][-1]["step"] == 1


@pytest.mark.filterwarnings("ignore:task")
def test_from_a_folder_with_some_classes_to_the_next_day(tmp_path, images, days):
    for i in range(4):
        pictures.write(images / ("cat" if i % 2 else "dog") / f"{i}.png", 50 + i)
    day = days(tmp_path)
    assert classes(day.wait(lambda s: s["set"])) == {"cat": 2, "dog": 2}
    day.answer("owl", "cat", "left")
    query = day.quiet()["set"]["query"]
    day.answer("owl")  # not learnt today, maybe
    day.close()
    pictures.write(images / "dog" / "new.png", 90)
    for i in range(3):
        pictures.write(images / "unlabelled" / f"aa {i}.png", 95 + i)
    (images / "cat" / "1.png").rename(images / "dog" / "was a cat.png")
    day = days(tmp_path)
    state = day.quiet()
    assert classes(state) == {"cat": 2, "dog": 4, "owl": 4} and state["counts"]["images"] == 28
    assert query in day.service.desk.said.answered
    assert [o["step"] for o in state["outcomes"]] == [0, 1, 2]
    kinds = [entry["kind"] for entry in day.service.desk.said.entries]
    assert kinds == ["folder", "answer", "answer", "folder"]
    worker = day.service.worker.worker
    names = worker._exploration.class_names
    labels = [names[c] for c in worker._exploration.all_labels.tolist() if c >= 0]
    assert {name: labels.count(name) for name in labels} == classes(state)


def test_from_a_saved_model(tmp_path, images, days):
    for i in range(4):
        pictures.write(images / ("cat" if i % 2 else "hen") / f"{i}.png", 50 + i)
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    save_model(model, tmp_path / "start.keras", ["dog", "cat"])
    day = days(tmp_path, model=str(tmp_path / "start.keras"), image_size=None,
               config={"learning_rate": 1e-6})  # fmt: skip
    state = day.quiet()
    assert classes(state) == {"cat": 2, "hen": 2} and state["known"] == ["dog"]
    day.answer("dog", "hen", "emu")
    assert classes(day.quiet()) == {"cat": 2, "dog": 1, "emu": 1, "hen": 3}
    _, names = load_model(day.export("model")["path"])
    assert sorted(names) == ["cat", "dog", "emu", "hen"]
    day.close()
    day = days(tmp_path, model=str(tmp_path / "start.keras"), image_size=None,
               config={"learning_rate": 1e-6})  # fmt: skip
    assert classes(day.quiet()) == {"cat": 2, "dog": 1, "emu": 1, "hen": 3}


def test_an_audit_is_asked_about_first_and_tells_the_accuracy(tmp_path, images, days):
    day = days(tmp_path, config={"audit": 4})
    shown = day.wait(lambda s: s["set"])["set"]
    assert shown["audit"] and len(shown["images"]) == 4
    day.answer("owl", "cat", "cat", "left")
    desks.post(day.browser, "undo")
    again = day.quiet()["set"]
    assert len(again["images"]) == 4
    audit = day.answer("owl", "cat", "cat", "owl")
    for _ in range(2):
        assert not set(day.answer("owl", "cat", "cat")) & set(audit)
    state = day.quiet()
    last = state["outcomes"][-1]
    assert last["audit_low"] <= last["audit_accuracy"] <= last["audit_high"]
    assert day.service.worker.worker._exploration.journal[0].kind == "audit"


def test_an_export_waits_for_what_was_said_before_and_for_nothing_after(tmp_path, images, days):
    day = days(tmp_path)
    day.quiet()
    worker = day.service.worker.worker
    applied, done = [], worker._export

    def export(job):
        applied.append(worker._exploration.applied)
        done(job)

    worker._export = export
    for _ in range(2):
        day.answer("owl", "cat", "cat")
    desks.post(day.browser, "export", format="csv")
    for _ in range(3):
        day.answer("owl", "cat", "cat")
    day.wait(lambda s: s["exports"][0]["state"] == "done")
    assert 2 <= applied[0] < 5
    assert day.quiet()["outcomes"][-1]["step"] == 5


def test_until_no_image_is_left(tmp_path, images, days):
    day = days(tmp_path)
    for i in range(20):
        state = day.wait(lambda s: s["set"] or (s["exhausted"] and not s["worker"]["behind"]))
        if not state["set"]:
            break
        day.answer("skip" if i == 1 else "owl", "cat", "reject")
    state = day.quiet()
    assert state["counts"]["settled"] == 20 and not state["set"] and state["exhausted"]
    reply = desks.post(day.browser, "undo")
    assert reply.status_code == 200 and reply.get_json()["state"]["set"]
    day.answer("cat")
    assert day.quiet()["counts"]["settled"] == 20


def test_the_set_on_the_screen_stays_while_the_others_are_made_anew(tmp_path, images, days):
    for i in range(20, 50):  # more than wait in sets
        pictures.write(images / "unlabelled" / f"{i}.png", i)
    day = days(tmp_path)
    other = {"seat": "seat0002"}
    day.quiet()
    mine = desks.state(day.browser)["set"]["query"]
    theirs = desks.state(day.browser, **other)["set"]["query"]
    day.answer("owl", "cat", "cat")
    day.quiet()
    assert desks.state(day.browser, **other)["set"]["query"] == theirs != mine
    assert all(each.generation == 1 for each in day.service.desk.offers._free())
    assert theirs in day.service.worker.worker._exploration.ids.values()


def test_settings_that_cannot_work_are_told(tmp_path, images, days):
    day = days(tmp_path, config={"audit": 1000})
    day.service.ended.wait(300)
    assert "audit: expected fewer than the 20 images" in day.service.problem


def test_a_journal_that_was_taken_away_is_missed(tmp_path, images, days):
    day = days(tmp_path)
    day.answer("owl", "cat", "cat")
    day.quiet()
    day.close()
    (day.out / "answers.jsonl").unlink()
    day = days(tmp_path)
    day.service.ended.wait(300)
    assert "expected all 1 lines that were learnt" in day.service.problem


def test_guesses_are_told_where_they_are_asked_for(tmp_path, images, days):
    day = days(tmp_path)
    day.answer("owl", "cat", "cat")
    day.answer("owl", "cat", "cat")
    day.quiet()
    day.answer("owl", "cat", "cat")
    assert "guesses" not in desks.state(day.browser)["set"]
    told = desks.state(day.browser, guesses="1")["set"]["guesses"]
    assert len(told) == 3
    assert all(name in ("owl", "cat") and 0.5 <= share <= 1 for name, share in told)
    assert np.isfinite([share for _, share in told]).all()
