"""What a person sees when processes die or the disk is full."""

import contextlib
import json
import os
import random
import resource
import signal
import socket
import threading
import time

import pytest

from emoc_tf.annotation.said import Said
from emoc_tf.records.queried import QUERIED_COLUMNS, read_texts
from tests.web import shapes
from tests.web.browsers import FAST, PATIENCE, Hands, Keys, Page, chromium, until

KILLS = int(os.environ.get("EMOC_WORKER_KILLS", "4"))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """One for all tests of the module, which leave it running; its port is nobody else's."""
    folder = tmp_path_factory.mktemp("faults")
    shapes.draw(folder / "images", 500)
    found = Page(folder / "images", folder / "out", *FAST, f"--port={free_port()}")
    found.command.pop()  # from now on it is the port of before
    yield found
    found.close()


@pytest.fixture
def hands(driver, page):
    """Somebody at the page."""
    driver.get(page.address)
    return Hands(driver)


def free_port():
    """A port that no connection is given by chance."""
    for port in range(20_000, 30_000):
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port")


def answers(page):
    return [line for line in page.lines() if line["kind"] == "answer"]


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


def until_banner(driver, text):
    box = "document.getElementById('banner')"
    until(driver, f"!{box}.hidden && {box}.textContent.includes(arguments[0])", text)


def until_no_banner(driver):
    until(driver, "document.getElementById('banner').hidden")


def answer(hands, typed):
    query, images = hands.set()
    hands.type(typed)
    hands.press(Keys.ENTER)
    hands.next(query)
    return query, images


def test_a_worker_that_is_killed_is_told_and_nothing_is_lost(driver, hands, page):
    said = [answer(hands, name) for name in ("circle", "square")]
    os.kill(worker_of(page), signal.SIGKILL)
    until_banner(driver, "killed by SIGKILL")
    said.append(answer(hands, "star"))  # what lies ready is answered all the same
    page.wait_for(lambda s: not s["worker"]["behind"] and not s["worker"]["problem"])
    until_no_banner(driver)
    said.append(answer(hands, "ring"))
    state = page.wait_for(lambda s: not s["worker"]["behind"])
    assert state["counts"]["answered"] == sum(len(images) for _, images in said)
    assert [o["step"] for o in state["outcomes"]] == [0, 1, 2, 3, 4]
    assert [line["query"] for line in page.lines()] == [query for query, _ in said]


def test_a_server_that_is_killed_goes_on_with_the_page_that_is_open(driver, hands, page):
    answer(hands, "circle")
    before = page.wait_for(lambda s: not s["worker"]["behind"])["counts"]["answered"]
    query, images = hands.set()
    old, lines, address = worker_of(page), len(page.lines()), page.address
    page.kill()
    hands.type("square")
    hands.press(Keys.ENTER)
    until_banner(driver, "Not saved yet")
    assert len(page.lines()) == lines
    end = time.monotonic() + PATIENCE
    while os.path.exists(f"/proc/{old}"):  # it ends with its parent
        assert time.monotonic() < end
        time.sleep(0.1)
    page.start()
    assert page.address == address
    hands.next(query)
    until_no_banner(driver)
    assert [line["query"] for line in page.lines()[lines:]] == [query]
    state = page.wait_for(lambda s: not s["starting"] and not s["worker"]["behind"])
    assert state["counts"]["answered"] == before + len(images)


def test_a_full_disk_is_told_and_the_answer_is_saved_later(driver, hands, page):
    query, images = hands.set()
    before = (page.out / "answers.jsonl").read_bytes()
    shown = page.wait_for(lambda s: True)
    # No file of this process may grow any more, as if the disk were full.
    limits = resource.prlimit(page.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(page.process.pid, resource.RLIMIT_FSIZE, (len(before) + 9, limits[1]))
    try:
        hands.type("square")
        hands.press(Keys.ENTER)
        until_banner(driver, "was NOT saved")
        assert hands.set()[0] == query
        state = page.wait_for(lambda s: True)
        assert state["counts"] == shown["counts"] and state["classes"] == shown["classes"]
        assert (page.out / "answers.jsonl").read_bytes() == before
    finally:
        resource.prlimit(page.process.pid, resource.RLIMIT_FSIZE, limits)
    hands.press(Keys.ENTER)
    hands.next(query)
    until_no_banner(driver)
    (line,) = page.lines()[before.count(b"\n") :]
    assert line["query"] == query and line["labels"] == [{"class": "square"}] * len(images)


def test_two_people_have_sets_of_their_own(driver, hands, page):
    before = len(page.lines())
    with chromium() as other:
        other.get(page.address)
        first, second = hands, Hands(other)
        sets = [each.set() for each in (first, second)]
        assert not set(sets[0][1]) & set(sets[1][1])
        for each, name in ((first, "Ann"), (second, "Bo")):
            each.driver.execute_script("localStorage.setItem('person', arguments[0])", name)
        for _ in range(3):
            answer(first, "circle")
            answer(second, "square")
    # A second window of the first shows the same set; the answer counts once.
    window = driver.current_window_handle
    driver.switch_to.new_window("tab")
    try:
        driver.get(page.base)
        query, _ = hands.set()
        here = driver.current_window_handle
        driver.switch_to.window(window)
        assert hands.set()[0] == query
        answer(hands, "star")
        driver.switch_to.window(here)
        hands.next(query)
    finally:
        driver.close()
        driver.switch_to.window(window)
        driver.execute_script("localStorage.clear()")
    lines = page.lines()[before:]
    assert len({line["query"] for line in lines}) == len(lines) == 7
    assert sorted(line["person"] for line in lines) == ["Ann"] * 4 + ["Bo"] * 3
    images = [image for line in lines for image in line["images"]]
    assert len(set(images)) == len(images)


def test_a_worker_that_is_killed_again_and_again_learns_each_answer_once(page):
    """Killed at random moments of reading, choosing and learning, while somebody answers."""
    rng, stop = random.Random(1), threading.Event()
    said, faults = {}, []

    def say():
        rng = random.Random(2)
        try:
            while not stop.is_set():
                _, state = page.ask("state", seat="seat0003")
                if not state["set"] or len(said) > 11:
                    time.sleep(0.2)
                    continue
                labels = [rng.choice([{"class": "star"}, {"class": "ring"}, "left", "reject"])
                          for _ in state["set"]["images"]]  # fmt: skip
                query = state["set"]["query"]
                told = {"query": query, "labels": labels, "key": f"key {query}"}
                status, reply = page.ask("answer", told, seat="seat0003")
                assert status == 200, reply
                said[query] = labels
                time.sleep(rng.uniform(0, 3))
        except BaseException as error:
            faults.append(error)

    before = {line["query"] for line in answers(page)}
    thread = threading.Thread(target=say)
    thread.start()
    try:
        for _ in range(KILLS):
            page.wait_for(lambda s: s["set"] and not s["worker"]["problem"], seat="seat0002")
            time.sleep(rng.uniform(0, 5))
            old = worker_of(page)
            os.kill(old, signal.SIGKILL)
            while worker_of(page) == old:
                time.sleep(0.05)
    finally:
        stop.set()
        thread.join()
    assert not faults and len(said) >= KILLS
    state = page.wait_for(lambda s: not s["worker"]["behind"] and s["worker"]["phase"] == "ready")
    assert {line["query"] for line in answers(page)} == before | said.keys()
    assert [outcome["step"] for outcome in state["outcomes"]] == list(
        range(len(before) + len(said) + 1)
    )
    check_records(page, len(before) + len(said))


def check_records(page, count):
    """What was learnt is what was said, once each."""
    with open(page.out / "person/0/journal.jsonl", encoding="utf-8") as file:
        learnt = [entry for entry in map(json.loads, file) if entry["kind"] == "answer"]
    assert len(learnt) == count
    replay = Said(page.lines())
    rows = read_texts(page.out / "person/0/queried.csv", QUERIED_COLUMNS)
    assert {row["kind"] for row in rows} == {"query"}
    counts = {name: len(images) for name, images in replay.members.items()}
    named = [row["class_name"] for row in rows if row["class_name"]]
    assert {name: named.count(name) for name in named} == counts
    assert sum(row["answer"] == "reject" for row in rows) == replay.tally["reject"]
