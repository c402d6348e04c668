"""A person at the page, with a real browser in front of the real command."""

import csv
import os
import time
from pathlib import Path

import pytest

from emoc_tf.annotation.said import Said, class_of
from emoc_tf.models import load_model
from emoc_tf.records.queried import QUERIED_COLUMNS, read_texts
from tests import ROOT
from tests.web import shapes
from tests.web.browsers import Hands, Keys, Page, errors_of, requests_of, resize, until

SHOTS = os.environ.get("EMOC_SHOTS")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    shapes.draw(root / "images", 150)
    return root


def test_ten_sets_by_keyboard_alone(driver, folder):
    page = Page(folder / "images", folder / "out")
    try:
        driver.get(page.address)
        ten_sets(page, Hands(driver))
        asked = [url for url in requests_of(driver) if "://" in url]
        assert len(asked) > 100 and all(url.startswith(page.base) for url in asked)
        assert not errors_of(driver)
    finally:
        page.close()


def ten_sets(page, hands):
    said = {}  # image to what it was given, in order

    def done(query, images, labels):
        hands.next(query)
        said.update(zip(images, labels, strict=True))

    def whole(typed, name):
        query, images = hands.set()
        hands.type(typed)
        hands.press(Keys.ENTER)
        return query, images, [name] * len(images)

    done(*whole("circle", "circle"))
    done(*whole("square", "square"))
    query, images = hands.set()
    hands.untick(2)
    hands.untick(5)
    hands.press("c", Keys.ARROW_DOWN, Keys.ENTER, Keys.ENTER)
    done(query, images, ["left" if i in (2, 5) else "circle" for i in range(9)])
    for key, name in (("-", "reject"), (",", "skip"), (".", "unsure")):
        query, images = hands.set()
        hands.press(key)
        done(query, images, [name] * 9)
    query, images = hands.set()
    for place in (0, 4, 8):
        hands.untick(place)
    hands.type("triangle")
    hands.press(Keys.ENTER)
    hands.type("star")
    hands.press(Keys.ENTER)
    done(query, images, ["star" if i in (0, 4, 8) else "triangle" for i in range(9)])
    query, images = hands.set()
    hands.type("pentagon")
    hands.press(Keys.ENTER)
    done(query, images, ["pentagon"] * 9)
    query, images = hands.set()
    hands.type("Circles")  # nearly a class: it asks
    hands.press(Keys.ENTER)
    until(hands.driver, "document.getElementById('dialog').open")
    assert [line["kind"] for line in page.lines()].count("answer") == 8
    time.sleep(0.5)  # a second Enter at once would not be meant for the question
    hands.press(Keys.ENTER)  # it is the one that there is
    done(query, images, ["circle"] * 9)
    query, images, _ = whole("ring", "ring")
    hands.next(query)
    hands.together(Keys.CONTROL, "z")
    until(hands.driver, "app.view.set?.images.map(i => i[0]).join() === arguments[0]",
          ",".join(map(str, images)))  # fmt: skip
    query, again = hands.set()
    assert again == images
    hands.untick(8)
    hands.type("cross")
    hands.press(Keys.ENTER, "-")
    done(query, images, ["cross"] * 8 + ["reject"])
    check_journal(page, said)
    hands.go_to("Progress")
    hands.press(Keys.ENTER)
    for text in ("CSV", "Predictions", "Model"):
        hands.go_to(text)
        hands.press(Keys.ENTER)
    state = page.wait_for(lambda s: [e["state"] for e in s["exports"]] == ["done"] * 3)
    check_exports(page, said, {e["format"]: Path(e["path"]) for e in state["exports"]})


def check_journal(page, said):
    lines = page.lines()
    assert [line["kind"] for line in lines if line["kind"] != "folder"] == (
        ["answer"] * 10 + ["undo", "answer"]
    )
    replay, keys = Said(lines), page_keys(page)
    found = {i: class_of(replay.labels[k]) or replay.labels[k]
             for i, k in enumerate(keys) if k in replay.labels}  # fmt: skip
    assert found == said
    assert all(line["seconds"] > 0 for line in lines if line["kind"] == "answer")


def page_keys(page):
    from emoc_tf.data import ImageFolder

    images = ImageFolder(page.out.parent / "images", 16, store=page.out / "decoded")
    return [text[:32] for text in images.sha256]


def check_exports(page, said, paths):
    with open(paths["csv"], encoding="utf-8", newline="") as file:
        rows = {int(row["image"]): row["label"] for row in csv.DictReader(file)}
    named = {i: n for i, n in said.items() if n not in ("left", "skip", "unsure", "reject")}
    assert rows == named
    _, names = load_model(paths["model"])
    assert set(names) == set(named.values())
    rejected = {i for i, name in said.items() if name == "reject"}
    with open(paths["predictions"], encoding="utf-8", newline="") as file:
        predicted = {int(row["image"]) for row in csv.DictReader(file)}
    assert predicted == set(range(150)) - named.keys() - rejected
    asked = read_texts(page.out / "person/0/queried.csv", QUERIED_COLUMNS)
    assert {row["class_name"] for row in asked if row["taken_back"] == "1"} == {"ring"}


def test_the_page_goes_on_the_next_day_and_looks_good(driver, folder):
    """Resumes what the test before has left, with other images in the folder."""
    shapes.draw(folder / "images", 12, seed=9)
    page = Page(folder / "images", folder / "out")
    try:
        state = page.wait_for(lambda s: s["set"] and s["worker"]["phase"] == "ready")
        assert state["counts"]["images"] == 162 and len(state["classes"]) == 6
        for width, dark in ((1280, False), (1280, True), (390, False), (390, True)):
            resize(driver, width, 900 if width > 600 else 844, dark)
            driver.get(page.address)
            hands = Hands(driver)
            hands.set()
            name = f"{width}-{'dark' if dark else 'light'}"
            look(driver, hands, name)
            assert not errors_of(driver)
    finally:
        page.close()


def look(driver, hands, name):
    """Views the whole page, with axe-core and into pictures."""
    check(driver, f"{name}-set")
    hands.untick(3)
    hands.untick(7)
    hands.type("star")
    hands.press(Keys.ENTER)
    hands.type("c")
    check(driver, f"{name}-parts")
    hands.press(Keys.BACKSPACE)
    hands.together(Keys.CONTROL, "z")
    driver.execute_script("document.getElementById('guesses').click()")
    until(driver, "document.querySelector('.chip.guess')")
    check(driver, f"{name}-guesses")
    driver.execute_script("document.getElementById('guesses').click()")
    hands.press("?")
    until(driver, "document.getElementById('dialog').open")
    check(driver, f"{name}-keys")
    hands.press(Keys.ESCAPE)
    hands.press("+")
    until(driver, "document.querySelector('.enlarged')?.complete")
    check(driver, f"{name}-enlarged")
    hands.press(Keys.ESCAPE)
    for view in ("classes", "history", "progress"):
        driver.execute_script("location.hash = arguments[0]", view)
        until(driver, f"document.querySelector('#view-{view} button')")
        check(driver, f"{name}-{view}")


def check(driver, name):
    until(driver, "[...document.images].filter(i => i.loading !== 'lazy').every(i => i.complete)")
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        driver.save_screenshot(str(Path(SHOTS) / f"{name}.png"))
    wide = driver.execute_script(
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert wide <= 0, f"{name}: {wide} pixels too wide"
    driver.execute_script(axe())
    found = driver.execute_async_script("axe.run(document, {}).then(arguments[0])")
    told = [(v["id"], [n["target"] for n in v["nodes"]][:4]) for v in found["violations"]]
    assert not told, (name, told)


def axe():
    """The source of axe-core, which `make test-web` installs."""
    place = Path(os.environ.get("AXE", ROOT / "node_modules/axe-core/axe.min.js"))
    assert place.exists(), f"expected axe-core at {place}: make test-web installs it"
    return place.read_text(encoding="utf-8")
