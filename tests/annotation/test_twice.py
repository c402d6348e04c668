"""Whatever is sent twice is done once, and what is half wrong is done as far as it is right."""

import pytest

from tests.annotation import desks
from tests.annotation.desks import lines, post, state


@pytest.fixture
def found(tmp_path):
    return desks.service(tmp_path, labels=[(30, "cat"), (31, "dog")])


@pytest.fixture
def browser(found):
    return desks.client(found)


def orders(found):
    return [command["export"] for command in found.worker.sent if "export" in command]


def goals(folder):
    return [line["goal"] for line in lines(folder) if line["kind"] == "goal"]


def test_a_goal_that_is_sent_again_is_set_once(tmp_path, browser):
    key = desks.key()
    first = post(browser, "goal", goal=50, key=key).get_json()["saved"]
    post(browser, "goal", goal=60)
    again = post(browser, "goal", goal=50, key=key)  # it was long on its way
    assert again.get_json()["saved"] == first and again.get_json()["state"]["goal"] == 60
    assert goals(tmp_path) == [50, 60]


@pytest.mark.parametrize("goal", [50, 0])
def test_a_goal_of_two_keys_is_set_once(tmp_path, browser, goal):
    post(browser, "goal", goal=70)
    saved = {post(browser, "goal", goal=goal).get_json()["saved"] for _ in range(2)}
    assert len(saved) == 1 and goals(tmp_path) == [70, goal or None]


def test_a_goal_says_who_set_it(tmp_path, browser):
    post(browser, "goal", goal=50, person="Ann")
    assert lines(tmp_path)[-1]["person"] == "Ann"


@pytest.mark.parametrize("name", ["goal", "export"])
@pytest.mark.parametrize("key", [None, "", "short", 5, "x" * 65])
def test_what_could_not_be_told_from_another_is_refused(browser, found, name, key):
    reply = post(browser, name, goal=5, format="csv", key=key)
    assert reply.status_code == 400 and "key" in reply.get_json()["error"]
    assert not orders(found)


def test_an_export_that_is_sent_again_is_written_once(browser, found):
    key = desks.key()
    job = post(browser, "export", format="csv", key=key).get_json()["saved"]
    found.worker.tell("export", job=job, format="csv", state="done", path="/x.csv", count=2)
    again = post(browser, "export", format="csv", key=key).get_json()
    assert again["saved"] == job and len(again["state"]["exports"]) == 1
    assert len(orders(found)) == 1
    other = post(browser, "export", format="csv").get_json()["saved"]
    assert other != job and len(orders(found)) == 2


def test_an_export_that_is_waited_for_is_ordered_once(browser, found):
    jobs = {post(browser, "export", seat, format="csv").get_json()["saved"]
            for seat in ("seat0001", "seat0001", "seat0002")}  # fmt: skip
    assert len(jobs) == 1 and len(orders(found)) == 1
    assert post(browser, "export", format="model").get_json()["saved"] not in jobs
    state(browser)
    post(browser, "answer", query="a", labels=["reject"] * 3)  # there is more to write now
    assert post(browser, "export", format="csv").get_json()["saved"] not in jobs
    assert len(orders(found)) == 3


def skipped(browser):
    """Images 0, 1 and 2 are skipped, 3, 4 and 5 on the screen."""
    state(browser)
    reply = post(browser, "answer", query="a", labels=["skip", "skip", "left"])
    assert reply.get_json()["state"]["set"]["query"] == "b"


def test_corrections_leave_only_what_is_on_a_screen(tmp_path, browser):
    skipped(browser)
    told = {"images": [0, 4, 1], "label": {"class": "cat"}, "key": desks.key()}
    reply = post(browser, "correct", **told)
    assert reply.status_code == 200 and reply.get_json()["left"] == [4]
    assert state(browser)["classes"] == [["cat", 3], ["dog", 1]]
    again = post(browser, "correct", **told)
    assert again.get_json()["left"] == [4]
    assert again.get_json()["saved"] == reply.get_json()["saved"]
    keys = desks.keys_of(5)
    assert lines(tmp_path)[-1]["images"] == [keys[0], keys[1]]


def test_a_set_that_nobody_sees_is_given_up_for_a_correction(tmp_path, browser, found):
    skipped(browser)
    sets = desks.offers([3, 4, 5], [0, 1, 9])
    sets[0]["query"], sets[1]["query"] = "b", "new"
    found.worker.tell("sets", sets=sets, generation=0, exhausted=False)
    reply = post(browser, "correct", images=[0, 2], label={"class": "cat"}).get_json()
    assert reply["left"] == [] and lines(tmp_path)[-1]["images"] == desks.keys_of(3)[::2]
    assert found.desk.offers.get("new") is None and reply["state"]["next"] is None
    found.worker.tell("sets", sets=sets, generation=0, exhausted=False)
    assert found.worker.sent[-1] == {"withdraw": ["new"]}
    assert found.desk.offers.get("new") is None


def test_a_correction_of_what_is_on_screens_only_is_refused(tmp_path, browser):
    skipped(browser)
    before = lines(tmp_path)
    reply = post(browser, "correct", images=[3, 4], label="reject")
    assert reply.status_code == 409 and "on a screen" in reply.get_json()["error"]
    assert lines(tmp_path) == before
