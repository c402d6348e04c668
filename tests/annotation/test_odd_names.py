"""Classes whose names nobody would think of."""

import pytest

from tests.annotation import desks
from tests.annotation.desks import lines, post, state

DECOMPOSED = "cafe\u0301"


@pytest.fixture
def browser(tmp_path):
    folders = [(30, DECOMPOSED), (31, "red  cat"), (32, "x" * 90), (33, "dog")]
    return desks.client(desks.service(tmp_path, labels=folders))


def labels(name):
    return [{"class": name}] * 3


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (DECOMPOSED, DECOMPOSED), ("caf\u00e9", DECOMPOSED), ("red cat", "red  cat"),
        ("red  cat", "red  cat"), ("x" * 90, "x" * 90), (" dog ", "dog"),
    ],
)  # fmt: skip
def test_a_folder_names_its_class_as_it_likes(tmp_path, browser, typed, meant):
    state(browser)
    reply = post(browser, "answer", query="a", labels=labels(typed))
    assert reply.status_code == 200, reply.get_json()
    assert lines(tmp_path)[-1]["labels"] == labels(meant)
    assert len(state(browser)["classes"]) == 4


@pytest.mark.parametrize("name", [DECOMPOSED, "red  cat", "x" * 90])
def test_a_class_of_a_folder_is_renamed_and_merged(browser, name):
    assert post(browser, "class", name="dog", into=name).status_code == 200
    reply = post(browser, "class", name=name, to="another")
    assert reply.status_code == 200, reply.get_json()
    assert ["another", 2] in state(browser)["classes"]


def test_a_renaming_does_not_make_two_classes_that_look_alike(browser):
    assert post(browser, "class", name="dog", to="red cat").status_code == 409
    assert post(browser, "class", name="red  cat", to="red cat").status_code == 200
    assert ["red cat", 1] in state(browser)["classes"]


def test_whether_a_correction_makes_a_class_is_for_the_desk_to_say(tmp_path, browser):
    for name, kind in (("red cat", "correct"), ("lynx", "split"), ("lynx", "correct")):
        reply = post(browser, "correct", images=[33], label={"class": name})
        assert reply.status_code == 200, reply.get_json()
        assert lines(tmp_path)[-1]["kind"] == kind


def test_a_class_that_is_called_as_an_answer_is_told_apart(browser):
    state(browser)
    told = [{"class": "left"}, {"class": "constructor"}, "left"]
    post(browser, "answer", query="a", labels=told)
    row = browser.get("/api/history", headers=desks.headers()).get_json()["rows"][0]
    assert row["labels"] == {"left": 1, "constructor": 1} and row["marks"] == {"left": 1}
