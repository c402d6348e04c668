"""The server ends at any moment, and four people answer at once."""

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from emoc_tf.annotation.journal import FILE
from emoc_tf.annotation.said import Said
from tests import ROOT
from tests.annotation import desks, serving
from tests.annotation.clients import Client

KILLS = int(os.environ.get("EMOC_KILLS", "3"))
ANSWERS = int(os.environ.get("EMOC_ANSWERS", "400"))


def begin(out, count):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.annotation.serving", str(out), str(count)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return process, int(process.stdout.readline())


def end(process):
    process.kill()
    process.wait()
    process.stdout.close()


def test_every_answer_that_got_its_reply_is_there_once(tmp_path):
    """Killed at random moments while somebody answers; the answer in flight is sent again."""
    rng, told, number = random.Random(0), {}, 0
    pending = None
    for _ in range(KILLS):
        process, port = begin(tmp_path / "out", 2000)
        timer = threading.Timer(rng.uniform(0.05, 0.8), process.send_signal, [signal.SIGKILL])
        try:
            with Client(port, "seat0001") as client:
                timer.start()
                if pending is None:
                    _, state = client.ask("state")
                while True:
                    while pending is None and state["set"] is None:  # just started: none yet
                        _, state = client.ask("state")
                    if pending is None:
                        query = state["set"]["query"]
                        name = f"class {rng.randrange(30)}"
                        labels = [{"class": name}, rng.choice(["left", "reject", "skip"])]
                        pending = {"query": query, "labels": labels, "key": f"key {number:06}"}
                        number += 1
                    status, reply = client.ask("answer", pending)
                    assert status == 200, reply
                    told[pending["query"]] = pending
                    state, pending = reply["state"], None
        except (OSError, http.client.HTTPException):
            pass
        finally:
            timer.join()
            end(process)
    assert len(told) > KILLS
    process, port = begin(tmp_path / "out", 2000)
    try:
        with Client(port, "seat0001") as client:
            if pending is not None:
                assert client.ask("answer", pending)[0] == 200
                told[pending["query"]] = pending
            _, state = client.ask("state")
    finally:
        end(process)
    text = (tmp_path / "out" / FILE).read_text()
    assert text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == len(told) == len({line["query"] for line in lines})
    for line in lines:
        assert line["labels"] == told[line["query"]]["labels"]
        assert line["key"] == told[line["query"]]["key"]
    assert state["counts"]["answered"] == len(Said(lines).by_people)


@pytest.fixture
def server(tmp_path):
    service, found, port = serving.make(tmp_path / "out", 2 * ANSWERS)
    thread = threading.Thread(target=found.run, daemon=True)
    thread.start()
    yield service, port
    found.close()
    found.task_dispatcher.shutdown()


def test_four_people_at_once_lose_and_double_nothing(tmp_path, server):
    """Each sends some answers twice, and some to sets that another one has on the screen."""
    service, port = server
    said, faults, lock = [], [], threading.Lock()
    end = time.monotonic() + 900

    def answer(person):
        rng, client = random.Random(person), Client(port, f"seat000{person}")
        try:
            _, state = client.ask("state")
            while state["set"] and time.monotonic() < end:
                query = state["set"]["query"]
                told = {"query": query, "person": f"p{person}", "key": f"{person} {query:>12}",
                        "labels": [{"class": f"name {rng.randrange(9)}"}, "left"]}  # fmt: skip
                replies = [client.ask("answer", told) for _ in range(rng.choice([1, 1, 2]))]
                assert {status for status, _ in replies} == {200}
                assert len({reply["saved"] for _, reply in replies}) == 1
                with lock:
                    said.append((query, told["person"], told["labels"]))
                if rng.random() < 0.1:  # a set that is somebody else's, or answered
                    other = rng.choice(said)[0]
                    status, reply = client.ask(
                        "answer", told | {"query": other, "key": desks.key()}
                    )
                    assert status == 409 and reply["already"]
                state = replies[-1][1]["state"]
        except Exception as error:
            faults.append(error)
        finally:
            client.connection.close()

    people = [threading.Thread(target=answer, args=(i,)) for i in range(4)]
    for each in people:
        each.start()
    for each in people:
        each.join()
    assert not faults
    lines = [json.loads(line) for line in (tmp_path / "out" / FILE).read_text().splitlines()]
    assert len(lines) == ANSWERS == len({line["query"] for line in lines})
    found = {(line["query"], line["person"], json.dumps(line["labels"])) for line in lines}
    assert found == {(query, person, json.dumps(labels)) for query, person, labels in said}
    assert {line["person"] for line in lines} == {"p0", "p1", "p2", "p3"}
    assert service.desk.said.labels == Said(lines).labels
