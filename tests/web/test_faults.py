"""What a person sees when processes die or the disk is full."""

import json
import os
import random
import resource
import signal
import threading
import time

import pytest

from emoc_tf.annotation.said import Said
from emoc_tf.records.queried import QUERIED_COLUMNS, read_texts
from tests.web import shapes
from tests.web.browsers import Hands, Keys, Page, chromium, until

KILLS = int(os.environ.get("EMOC_WORKER_KILLS", "4"))


@pytest.fixture
def page(tmp_path):
    shapes.draw(tmp_path / "images", 120)
    found = Page(tmp_path / "images", tmp_path / "out")
    yield found
    found.close()


def worker_of(page):
    """The process id of the worker; waits for one."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        children = f"/proc/{page.process.pid}/task/{page.process.pid}/children"
        tasks = os.listdir(f"/proc/{page.process.pid}/task")
        for task in tasks:
            with open(children.replace(f"task/{page.process.pid}", f"task/{task}")) as file:
                for pid in file.read().split():
                    with open(f"/proc/{pid}/cmdline") as command:
                        if "emoc_tf.annotation.worker" in command.read():
                            return int(pid)
        time.sleep(0.1)
    raise AssertionError("no worker")


def banner(driver):
    return driver.execute_script(
        "const b = document.getElementById('banner'); return b.hidden ? '' : b.textContent"
    )


def answer(hands, typed):
    query, images = hands.set()
    hands.type(typed)
    hands.press(Keys.ENTER)
    hands.next(query)
    return images


def test_a_worker_that_is_killed_is_told_and_nothing_is_lost(page):
    with chromium() as driver:
        driver.get(page.address)
        hands = Hands(driver)
        answer(hands, "circle")
        answer(hands, "square")
        os.kill(worker_of(page), signal.SIGKILL)
        until(driver, "!document.getElementById('banner').hidden")
        assert "killed by SIGKILL" in banner(driver)
        answer(hands, "star")  # what lies ready is answered all the same
        state = page.wait_for(lambda s: not s["worker"]["behind"] and not s["worker"]["problem"])
        until(driver, "document.getElementById('banner').hidden")
        assert state["counts"]["answered"] == 27
        answer(hands, "ring")
    state = page.wait_for(lambda s: not s["worker"]["behind"])
    assert [o["step"] for o in state["outcomes"]] == [0, 1, 2, 3, 4]
    assert [line["kind"] for line in page.lines()] == ["answer"] * 4


def test_a_server_that_is_killed_goes_on_with_the_page_that_is_open(page):
    with chromium() as driver:
        driver.get(page.address)
        hands = Hands(driver)
        answer(hands, "circle")
        query, _ = hands.set()
        old = worker_of(page)
        page.kill()
        hands.type("square")
        hands.press(Keys.ENTER)
        until(driver, "document.getElementById('banner').textContent.startsWith('Not saved yet')")
        assert len(page.lines()) == 1
        end = time.monotonic() + 30
        while os.path.exists(f"/proc/{old}") and time.monotonic() < end:  # it ends with its parent
            time.sleep(0.1)
        assert not os.path.exists(f"/proc/{old}")
        before = page.address
        page.start()
        assert page.address == before
        page.wait_for(lambda s: s["set"], seat="seat0009")
        hands.next(query)
        until(driver, "document.getElementById('banner').hidden")
    lines = page.lines()
    assert [line["query"] for line in lines].count(query) == 1 and len(lines) == 2
    state = page.wait_for(lambda s: not s["worker"]["behind"])
    assert state["classes"] == [["circle", 9], ["square", 9]]


def test_a_full_disk_is_told_and_the_answer_is_saved_later(page):
    with chromium() as driver:
        driver.get(page.address)
        hands = Hands(driver)
        answer(hands, "circle")
        query, _ = hands.set()
        before = (page.out / "answers.jsonl").read_bytes()
        # No file of this process may grow any more, as if the disk were full.
        limits = resource.prlimit(page.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(page.process.pid, resource.RLIMIT_FSIZE, (len(before) + 9, limits[1]))
        hands.type("square")
        hands.press(Keys.ENTER)
        until(driver, "!document.getElementById('banner').hidden")
        assert "was NOT saved" in banner(driver)
        assert driver.execute_script("return app.view.set.query") == query
        state = page.wait_for(lambda s: True)
        assert state["classes"] == [["circle", 9]] and state["counts"]["answered"] == 9
        assert (page.out / "answers.jsonl").read_bytes() == before
        resource.prlimit(page.process.pid, resource.RLIMIT_FSIZE, limits)
        hands.press(Keys.ENTER)
        hands.next(query)
        assert not banner(driver)
    assert Said(page.lines()).members.keys() == {"circle", "square"}


def test_two_people_have_sets_of_their_own(page):
    with chromium() as one, chromium() as two:
        hands = [Hands(driver) for driver in (one, two)]
        for driver in (one, two):
            driver.get(page.address)
        sets = [each.set() for each in hands]
        assert not set(sets[0][1]) & set(sets[1][1])
        for driver, name in ((one, "Ann"), (two, "Bo")):
            driver.execute_script("localStorage.setItem('person', arguments[0])", name)
        for _ in range(3):
            answer(hands[0], "circle")
            answer(hands[1], "square")
        # A second window of the first shows the same set; the answer counts once.
        one.switch_to.new_window("tab")
        one.get(page.base)
        query, _ = hands[0].set()
        first, second = one.window_handles
        one.switch_to.window(first)
        assert hands[0].set()[0] == query
        answer(hands[0], "star")
        one.switch_to.window(second)
        hands[0].next(query)
    lines = page.lines()
    assert len({line["query"] for line in lines}) == len(lines) == 7
    assert sorted(line["person"] for line in lines) == ["Ann"] * 4 + ["Bo"] * 3
    images = [image for line in lines for image in line["images"]]
    assert len(set(images)) == len(images)


def test_a_worker_that_is_killed_again_and_again_learns_each_answer_once(page):
    """Killed at random moments of reading, choosing and learning, while somebody answers."""
    rng, stop = random.Random(1), threading.Event()
    said = {}

    def answers():
        number = 0
        while not stop.is_set():
            _, state = page.ask("state")
            if not state["set"] or len(said) > 11:
                time.sleep(0.2)
                continue
            number += 1
            labels = [rng.choice([{"class": "star"}, {"class": "ring"}, "left", "reject"])
                      for _ in state["set"]["images"]]  # fmt: skip
            query = state["set"]["query"]
            told = {"query": query, "labels": labels, "key": f"key {number:06}"}
            status, reply = page.ask("answer", told)
            assert status == 200, reply
            said[query] = labels
            time.sleep(rng.uniform(0, 3))

    thread = threading.Thread(target=answers)
    thread.start()
    try:
        for _ in range(KILLS):
            page.wait_for(lambda s: s["set"] and not s["worker"]["problem"], seat="seat0002")
            time.sleep(rng.uniform(0, 5))
            os.kill(worker_of(page), signal.SIGKILL)
            page.wait_for(lambda s: s["worker"]["problem"], seat="seat0002")
    finally:
        stop.set()
        thread.join()
    state = page.wait_for(lambda s: not s["worker"]["behind"] and s["worker"]["phase"] == "ready")
    assert len(said) >= KILLS and said.keys() == {line["query"] for line in page.lines()}
    assert [outcome["step"] for outcome in state["outcomes"]] == list(range(len(said) + 1))
    with open(page.out / "person/0/journal.jsonl", encoding="utf-8") as file:
        learnt = [entry for entry in map(json.loads, file) if entry["kind"] == "answer"]
    assert len(learnt) == len(said)
    replay = Said(page.lines())
    rows = read_texts(page.out / "person/0/queried.csv", QUERIED_COLUMNS)
    assert {row["kind"] for row in rows} == {"query"}
    counts = {name: len(images) for name, images in replay.members.items()}
    named = [row["class_name"] for row in rows if row["class_name"]]
    assert {name: named.count(name) for name in named} == counts
    assert sum(row["answer"] == "reject" for row in rows) == replay.tally["reject"]
