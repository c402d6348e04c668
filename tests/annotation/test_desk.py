"""What is written down, by the page's own requests, without a model."""

import errno
import os

import pytest

from tests.annotation import desks
from tests.annotation.desks import lines, post, state


def cls(*names):
    return [name if name in ("skip", "unsure", "left", "reject") else {"class": name}
            for name in names]  # fmt: skip


@pytest.fixture
def found(tmp_path):
    return desks.service(tmp_path, labels=[(30, "cat"), (31, "dog")])


@pytest.fixture
def browser(found):
    return desks.client(found)


def answers(folder):
    return [line for line in lines(folder) if line["kind"] == "answer"]


def test_an_answer_is_a_line_with_all_there_is_to_know(tmp_path, browser, found):
    shown = state(browser)["set"]
    assert shown["query"] == "a" and [i for i, _ in shown["images"]] == [0, 1, 2]
    reply = post(
        browser,
        "answer",
        query="a",
        labels=cls("owl", "reject", "unsure"),
        person="Ann",
        seconds=4.2,
    )
    assert reply.status_code == 200 and reply.get_json()["state"]["set"]["query"] == "b"
    (line,) = answers(tmp_path)
    assert line["labels"] == [{"class": "owl"}, "reject", "unsure"]
    assert line["images"] == desks.keys_of(3) and line["query"] == "a"
    assert (line["person"], line["seat"], line["seconds"]) == ("Ann", desks.SEAT, 4.2)
    assert line["time"].endswith("+00:00") and line["key"].startswith("key-")
    told = state(browser)
    assert told["classes"] == [["cat", 1], ["dog", 1], ["owl", 1]]
    assert told["counts"] | {"unsure": 1, "rejected": 1, "answered": 2} == told["counts"]
    assert found.worker.sent[-1]["lines"] == 2 and found.worker.sent[-1]["shown"] == ["b"]


@pytest.mark.parametrize("name", ["unlabelled", "Unlabeled", "-1", "nan"])
def test_a_name_that_would_be_lost_is_refused(tmp_path, browser, name):
    """Where exported labels are read, these stand for no class."""
    state(browser)
    reply = post(browser, "answer", query="a", labels=cls(name, "cat", "cat"))
    assert reply.status_code == 400 and "choose another" in reply.get_json()["error"]
    assert answers(tmp_path) == []
    post(browser, "answer", query="a", labels=cls("owl", "cat", "cat"))
    reply = post(browser, "class", name="owl", to=name)
    assert reply.status_code == 400 and "choose another" in reply.get_json()["error"]


def test_what_is_sent_twice_counts_once(tmp_path, browser):
    state(browser)
    told = {"query": "a", "labels": cls("cat", "cat", "cat"), "key": desks.key()}
    replies = [post(browser, "answer", **told) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200] * 3
    assert len({reply.get_json()["saved"] for reply in replies}) == 1
    assert len(answers(tmp_path)) == 1


def test_a_set_is_answered_once_whatever_the_key(tmp_path, browser):
    state(browser)
    post(browser, "answer", query="a", labels=cls("cat", "cat", "cat"), person="Ann")
    for seat in (desks.SEAT, "seat0002"):
        reply = post(browser, "answer", seat, query="a", labels=cls("dog", "dog", "dog"))
        assert reply.status_code == 409 and reply.get_json()["already"]
        assert reply.get_json()["person"] == "Ann"
    assert len(answers(tmp_path)) == 1


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"query": "z", "labels": cls("cat")}, 410), ({"query": None, "labels": []}, 410),
        ({"query": ["a"], "labels": []}, 410), ({"labels": cls("cat", "cat", "cat")}, 410),
        ({"query": "a", "labels": cls("cat", "cat")}, 400), ({"query": "a"}, 400),
        ({"query": "a", "labels": [1, 2, 3]}, 400), ({"query": "a", "labels": [{}, {}, {}]}, 400),
        ({"query": "a", "labels": ["cat", "cat", "cat"]}, 400),
        ({"query": "a", "labels": cls("", "cat", "cat")}, 400),
        ({"query": "a", "labels": [{"class": 5}] * 3}, 400),
        ({"query": "a", "labels": cls("x" * 81, "cat", "cat")}, 400),
        ({"query": "a", "labels": cls("cat", "cat", "cat"), "key": 5}, 400),
        ({"query": "a", "labels": cls("cat", "cat", "cat"), "key": "short"}, 400),
        ({"query": "a", "labels": cls("cat", "cat", "cat"), "person": "\0"}, 400),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused_and_nothing_is_written(tmp_path, browser, told, status):
    state(browser)
    before = lines(tmp_path)
    reply = post(browser, "answer", **told)
    assert reply.status_code == status, reply.get_json()
    assert reply.get_json()["error"]
    assert lines(tmp_path) == before and state(browser)["set"]["query"] == "a"


def test_a_name_that_is_nearly_a_class_is_asked_about_once(tmp_path, browser):
    state(browser)
    told = {"query": "a", "labels": cls("Cats", "cat", "hen")}
    reply = post(browser, "answer", **told)
    assert reply.status_code == 409
    assert reply.get_json()["near"] == {"name": "Cats", "known": "cat"}
    assert not answers(tmp_path)
    assert post(browser, "answer", **told, confirmed=["Cats"]).status_code == 200
    reply = post(browser, "answer", query="b", labels=cls("Cats", "Cats", "hens"))
    assert reply.get_json()["near"] == {"name": "hens", "known": "hen"}


def test_two_new_names_of_one_answer_may_be_nearly_the_same(browser):
    state(browser)
    reply = post(browser, "answer", query="a", labels=cls("hare", "hares", "left"))
    assert reply.get_json()["near"] == {"name": "hares", "known": "hare"}


def test_a_name_that_was_changed_meanwhile_means_the_class(tmp_path, browser):
    seen = state(browser)["rev"]
    post(browser, "class", "seat0002", name="cat", to="feline")
    told = {"query": "a", "labels": cls("cat", "cat", "dog"), "seen": seen}
    assert post(browser, "answer", **told).status_code == 200
    assert answers(tmp_path)[0]["labels"] == cls("feline", "feline", "dog")
    told = {"query": "b", "labels": cls("cat", "cat", "cat"), "seen": state(browser)["rev"]}
    assert post(browser, "answer", **told).status_code == 200
    assert answers(tmp_path)[1]["labels"] == cls("cat", "cat", "cat")


def test_two_people_have_sets_of_their_own(tmp_path, browser):
    first, second = state(browser, "seat0001"), state(browser, "seat0002")
    assert first["set"]["query"] != second["set"]["query"]
    post(browser, "answer", "seat0001", query="a", labels=cls("cat", "cat", "cat"), person="Ann")
    post(browser, "answer", "seat0002", query="b", labels=cls("dog", "dog", "dog"), person="Bo")
    assert [line["person"] for line in answers(tmp_path)] == ["Ann", "Bo"]
    assert state(browser, "seat0001")["set"]["query"] == "c"


def test_undo_shows_the_set_again(tmp_path, browser, found):
    state(browser)
    post(browser, "answer", query="a", labels=cls("cat", "left", "owl"))
    reply = post(browser, "undo").get_json()
    shown = reply["state"]["set"]
    assert [i for i, _ in shown["images"]] == [0, 1, 2] and shown["query"] != "a"
    assert reply["state"]["classes"] == [["cat", 1], ["dog", 1]]
    assert lines(tmp_path)[-1]["again"] == desks.keys_of(3)
    assert (
        post(browser, "answer", query=shown["query"], labels=cls("owl", "owl", "owl")).status_code
        == 200
    )
    assert state(browser)["set"]["query"] == "b"
    assert post(browser, "undo", "seat0002").status_code == 409
    kinds = [line["kind"] for line in lines(tmp_path)]
    assert kinds == ["folder", "answer", "undo", "answer"]


def test_undo_does_not_take_images_from_another_screen(browser, found):
    state(browser)
    post(browser, "answer", query="a", labels=cls("skip", "skip", "cat"))
    sets = desks.offers([3, 4, 5], [0, 1, 9])
    sets[0]["query"], sets[1]["query"] = "b", "new"
    found.worker.tell("sets", sets=sets, generation=0, exhausted=False)
    assert state(browser, "seat0002")["set"]["query"] in ("b", "new")
    shown = post(browser, "undo").get_json()["state"]["set"]
    assert [i for i, _ in shown["images"]] == [2]


def test_classes_are_corrected_renamed_merged_and_split(tmp_path, browser):
    state(browser)
    post(browser, "answer", query="a", labels=cls("cat", "cat", "owl"))
    assert post(browser, "correct", images=[0], label={"class": "dog"}).status_code == 200
    assert post(browser, "correct", images=[30], label={"class": "lynx"}).status_code == 200
    assert post(browser, "class", name="owl", to="barn owl").status_code == 200
    assert post(browser, "class", name="cat", into="dog").status_code == 200
    assert state(browser)["classes"] == [["barn owl", 1], ["dog", 3], ["lynx", 1]]
    kinds = [line["kind"] for line in lines(tmp_path)]
    assert kinds == ["folder", "answer", "correct", "split", "rename", "merge"]
    for _ in range(5):
        assert post(browser, "undo").status_code == 200
    assert state(browser)["classes"] == [["cat", 1], ["dog", 1]]


@pytest.mark.parametrize(
    ("name", "told", "status"),
    [
        ("correct", {"images": [0], "label": "reject"}, 409),  # it is on a screen
        ("correct", {"images": [], "label": "reject"}, 400),
        ("correct", {"images": [40], "label": "reject"}, 400),
        ("correct", {"images": [-1], "label": "reject"}, 400),
        ("correct", {"images": [True], "label": "reject"}, 400),
        ("correct", {"images": ["../x.png"], "label": "reject"}, 400),
        ("correct", {"images": [30, 30], "label": "reject"}, 400),
        ("correct", {"images": [30], "label": {"class": "dogs"}}, 409),
        ("class", {"name": "cat", "to": "dog"}, 409), ("class", {"name": "cat", "to": "cat"}, 400),
        ("class", {"name": "cow", "to": "ox"}, 404), ("class", {"name": "cat", "into": "cow"}, 404),
        ("class", {"name": "cat", "into": "cat"}, 400), ("class", {"name": "cat"}, 400),
        ("undo", {}, 409), ("undo", {"of": 0}, 409), ("undo", {"of": "x"}, 409),
        ("goal", {"goal": -1}, 400), ("goal", {"goal": "many"}, 400),
        ("export", {"format": "exe"}, 400), ("export", {}, 400),
    ],
)  # fmt: skip
def test_what_cannot_be_changed_is_refused(tmp_path, browser, name, told, status):
    state(browser)
    before = lines(tmp_path)
    reply = post(browser, name, **told)
    assert reply.status_code == status and reply.get_json()["error"], reply.get_json()
    assert lines(tmp_path) == before


def test_a_full_disk_is_told_and_nothing_counts(tmp_path):
    left = [10_000]

    def write(descriptor, content):
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(descriptor, content)

    found = desks.service(tmp_path, write=write)
    browser = desks.client(found)
    told = state(browser)
    left[0] = 0
    for name, more in [("answer", {"query": "a", "labels": cls("cat", "cat", "cat")}),
                       ("correct", {"images": [30], "label": "reject"})]:  # fmt: skip
        reply = post(browser, name, **more)
        assert reply.status_code == 507
        assert reply.get_json() == {"error": "not saved: No space left on device", "saved": False}
    after = state(browser)
    del told["worker"], after["worker"]
    assert after == told and not answers(tmp_path)
    left[0] = 1
    assert post(browser, "answer", query="a", labels=cls("cat", "cat", "cat")).status_code == 200


def test_labels_of_the_folder_are_written_once_and_new_ones_later(tmp_path, found):
    paths = [f"{i}.png" for i in range(40)]
    desks.ready(found, tmp_path, paths, [(30, "cat"), (31, "dog")])
    assert [line["kind"] for line in lines(tmp_path)] == ["folder"]
    browser = desks.client(found)
    state(browser)
    post(browser, "answer", query="a", labels=cls("cat", "cat", "cat"))
    # The worker has not read the answer yet; another label came into the folder.
    desks.ready(found, tmp_path, paths, [(30, "cow"), (31, "dog"), (0, "dog")], applied=1)
    assert lines(tmp_path)[-1]["images"] == [desks.keys_of(40)[30]]
    assert state(browser)["classes"] == [["cat", 3], ["cow", 1], ["dog", 1]]


def test_a_restarted_server_knows_all(tmp_path, browser, found):
    state(browser)
    told = {"query": "a", "labels": cls("cat", "owl", "left"), "key": desks.key()}
    saved = post(browser, "answer", **told).get_json()["saved"]
    before = state(browser)
    again = desks.service(tmp_path, labels=[(30, "cat"), (31, "dog")])
    other = desks.client(again)
    assert post(other, "answer", **told).get_json()["saved"] == saved
    after = state(other, showing="b")
    del before["worker"], after["worker"]
    assert after == before


def test_the_worker_is_told_what_to_withdraw(browser, found):
    state(browser)
    sets = desks.offers([0, 1, 2], [3, 4, 5]) + desks.offers([6], generation=1)
    sets[2]["query"] = "new"
    found.worker.tell("sets", sets=sets, generation=1, exhausted=False)
    assert found.worker.sent[-1] == {"withdraw": ["b"]}
    assert state(browser)["set"]["query"] == "a"


def test_a_worker_that_ended_is_told(browser, found):
    found.worker.tell("ended", text="it was killed by SIGKILL", fatal=False, pause=0)
    told = state(browser)
    assert told["worker"]["problem"] == "it was killed by SIGKILL"
    reply = post(browser, "answer", query="a", labels=cls("cat", "cat", "cat"))
    assert reply.status_code == 200  # answers are taken all the same
    assert post(browser, "export", format="csv").status_code == 503
    assert not found.ended.is_set()


def test_exports_are_ordered_and_told(browser, found):
    job = post(browser, "export", format="csv").get_json()["saved"]
    (sent,) = (command["export"] for command in found.worker.sent if "export" in command)
    assert sent == {"job": job, "format": "csv"}
    assert state(browser)["exports"] == [{"job": job, "format": "csv", "state": "waits"}]
    found.worker.tell("export", job=job, format="csv", state="done", path="/x.csv", count=3)
    assert state(browser)["exports"][0]["path"] == "/x.csv"


def test_the_history_tells_all_and_takes_back(browser):
    state(browser)
    post(browser, "answer", query="a", labels=cls("cat", "cat", "left"), person="Ann")
    post(browser, "answer", query="b", labels=cls("dog", "dog", "dog"))
    get = lambda: browser.get("/api/history", headers=desks.headers()).get_json()["rows"]  # noqa: E731
    assert [row["number"] for row in get()] == [2, 1, 0]
    assert (
        get()[1]["labels"] == {"cat": 2}
        and get()[1]["marks"] == {"left": 1}
        and get()[1]["person"] == "Ann"
    )
    post(browser, "undo", of=1)
    assert [row["undone"] for row in get()] == [False, False, True, False]


def test_members_of_a_class_and_of_a_mark(browser):
    state(browser)
    post(browser, "answer", query="a", labels=cls("cat", "unsure", "left"))
    get = lambda name: browser.get(  # noqa: E731
        "/api/class", query_string={"name": name}, headers=desks.headers()
    ).get_json()
    assert [i for i, _ in get("cat")["images"]] == [30, 0]
    assert [i for i, _ in get("mark:unsure")["images"]] == [1]
    assert get("nothing")["count"] == 0


def test_what_is_sent_to_a_server_that_is_just_starting_is_sent_again(tmp_path):
    found = desks.service(tmp_path, sets=[])
    found.desk.offers.told = False  # the worker has not said which sets are open
    reply = post(desks.client(found), "answer", query="a", labels=cls("cat", "cat", "cat"))
    assert reply.status_code == 503 and reply.get_json()["retry"]
    assert not answers(tmp_path)
