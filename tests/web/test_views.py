"""Classes, history and progress, by keyboard in a real browser."""

import time

import pytest

from emoc_tf.annotation.said import Said, class_of
from tests.web import shapes
from tests.web.browsers import Hands, Keys, Page, errors_of, resize, until


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    shapes.draw(folder / "images" / "unlabelled", 40)
    for seed, name in enumerate(("circle", "star")):
        shapes.draw(folder / "images" / name, 4, seed=50 + seed, names=(name,))
    found = Page(folder / "images", folder / "out")
    yield found
    found.close()


def classes(page):
    return dict(page.wait_for(lambda s: True)["classes"])


def kinds(page):
    return [line["kind"] for line in page.lines()]


def until_shown(driver, heading):
    """Waits until a class is on the screen, after whatever was done."""
    until(driver, "document.querySelector('.class-name')?.textContent === arguments[0]", heading)


def said_so(driver, number):
    """Waits until the page has seen so many entries."""
    until(driver, "app.state.rev >= arguments[0]", number)


def test_classes_are_put_right_by_keyboard(driver, page):
    driver.get(page.address)
    hands = Hands(driver)
    hands.set()
    hands.go_to("Classes")
    hands.press(Keys.ENTER)
    until_shown(driver, "circle · 4 images")
    # Two circles are rings: a class of their own.
    driver.execute_script("document.querySelector('#view-classes .tile').focus()")
    hands.press(" ", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, " ")
    driver.execute_script("document.getElementById('new-name').focus()")
    hands.type("ring")
    hands.press(Keys.ENTER)
    until_shown(driver, "circle · 2 images")
    assert classes(page) == {"circle": 2, "ring": 2, "star": 4}
    # A name that is nearly one of a class is asked about here too.
    driver.execute_script("document.querySelector('#view-classes .tile').focus()")
    hands.press(" ")
    driver.execute_script("document.getElementById('new-name').focus()")
    hands.type("Rings")
    hands.press(Keys.ENTER)
    until(driver, "document.getElementById('dialog').open")
    assert kinds(page)[-1] == "split"
    time.sleep(0.5)  # a second Enter at once would not be meant for the question
    hands.press(Keys.ENTER)
    until_shown(driver, "circle · 1 image")
    assert classes(page) == {"circle": 1, "ring": 3, "star": 4}
    hands.go_to("Rename")
    hands.press(Keys.ENTER)
    until(driver, "document.getElementById('dialog').open")
    hands.together(Keys.CONTROL, "a")
    hands.type("disc")
    hands.press(Keys.ENTER)
    until_shown(driver, "disc · 1 image")
    assert classes(page) == {"disc": 1, "ring": 3, "star": 4}
    hands.go_to("Merge")
    hands.press(Keys.ENTER)
    until(driver, "document.getElementById('dialog').open")
    hands.go_to("Merge")  # ring is the first of the others
    hands.press(Keys.ENTER)
    until_shown(driver, "ring · 4 images")
    assert classes(page) == {"ring": 4, "star": 4}
    assert kinds(page) == ["folder", "split", "correct", "rename", "merge"]
    take_back(page, driver, hands)
    assert not errors_of(driver)
    state = page.wait_for(lambda s: not s["worker"]["behind"])
    assert dict(state["classes"]) == {"circle": 2, "ring": 2, "star": 4}
    replay = Said(page.lines())
    assert {class_of(label) for label in replay.labels.values()} == {"circle", "ring", "star"}


def take_back(page, driver, hands):
    """Takes back the newest three, one after the other."""
    driver.execute_script("document.querySelector('#tabs a[href=\"#history\"]').focus()")
    hands.press(Keys.ENTER)
    for number, found in (
        (6, {"disc": 1, "ring": 3, "star": 4}),
        (7, {"circle": 1, "ring": 3, "star": 4}),
        (8, {"circle": 2, "ring": 2, "star": 4}),
    ):
        until(driver, "document.querySelector('#view-history li:not(.undone) button')")
        driver.execute_script(
            "[...document.querySelectorAll('#view-history li:not(.undone) button')]"
            ".find(b => b.textContent === 'Take back').focus()"
        )
        hands.press(Keys.ENTER)
        said_so(driver, number)
        assert classes(page) == found
        until(driver, "document.querySelectorAll('#view-history .undone').length === arguments[0]",
              number - 5)  # fmt: skip


def test_a_goal_is_set_and_what_is_left_is_told(driver, page):
    resize(driver, 390, 844)
    driver.get(page.address)
    hands = Hands(driver)
    query, _ = hands.set()
    hands.type("ring")
    hands.press(Keys.ENTER)
    hands.next(query)
    driver.execute_script("location.hash = 'progress'")
    until(driver, "document.querySelector('#view-progress .value')")
    driver.execute_script("document.getElementById('goal').focus()")
    hands.type("30")
    hands.press(Keys.ENTER)
    until(driver, "app.state.goal === 30")
    left = 30 - page.wait_for(lambda s: True)["counts"]["answered"]
    assert left < 30
    until(driver, "document.querySelectorAll('#view-progress .value')[1].textContent === "
          f"'{left}'")  # fmt: skip
    assert page.lines()[-1]["goal"] == 30
