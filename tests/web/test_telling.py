"""What a page tells and keeps: to screen readers, before it is closed, and pressed twice."""

import pytest

from tests.annotation import desks
from tests.web.browsers import Keys, text, until

# Counts what live regions say from here on.
LISTEN = """
window.told = [];
for (const box of document.querySelectorAll('[aria-live], [role=status], [role=alert]')) {
  new MutationObserver(() => told.push(box.textContent))
    .observe(box, { childList: true, subtree: true, characterData: true });
}
"""
LEAVES = "return !window.dispatchEvent(new Event('beforeunload', { cancelable: true }))"


def asked_before_leaving(driver):
    return driver.execute_script(LEAVES)


def spoken(driver):
    return {each.strip() for each in driver.execute_script("return told")}


def steps(found, driver, *phases):
    """The worker goes through phases, and the page shows each."""
    for phase in phases:
        found.worker.tell("status", phase=phase)
        place = "status" if driver.execute_script("return Boolean(app.view.set)") else "empty"
        begins = "document.getElementById(arguments[0]).textContent.toLowerCase().startsWith"
        shown = "up to date" if phase == "ready" else phase
        until(driver, f"{begins}(arguments[1])", place, shown)


def test_steps_of_the_network_are_shown_and_not_told(driver, hands, found):
    driver.execute_script(LISTEN)
    steps(found, driver, "choosing sets", "learning", "choosing sets", "learning", "ready")
    assert driver.execute_script("return told") == []
    hands.type("dog")
    hands.press(Keys.ENTER)
    hands.next("a")
    assert spoken(driver) == {"A new set of 3 images."}


def test_a_page_without_a_set_says_once_why(driver, address, found):
    found.worker.tell("sets", sets=[], generation=0, exhausted=False)
    found.desk.offers.publish([], 0, False, set())
    found.worker.tell("status", phase="reading images")
    driver.get(address)
    until(driver, "window.app?.state && !document.getElementById('empty').hidden")
    driver.execute_script(LISTEN)
    steps(found, driver, "choosing sets", "learning", "choosing sets", "learning")
    assert driver.execute_script("return told") == []
    found.worker.tell("sets", sets=desks.offers([0, 1, 2]), generation=0, exhausted=False)
    until(driver, "app.view.set")
    assert spoken(driver) == {"A new set of 3 images."}


def test_the_same_words_are_told_again(driver, hands, found):
    driver.execute_script(LISTEN)
    for query in "ab":
        hands.press("-")
        hands.next(query)
    assert spoken(driver) == {"A new set of 3 images."}
    assert len(set(driver.execute_script("return told"))) == 2  # else some readers stay silent


def test_of_the_exports_only_what_is_new_is_told(driver, hands, found):
    driver.execute_script("location.hash = 'progress'")
    hands.go_to("CSV")
    hands.press(Keys.ENTER)
    until(driver, "document.querySelectorAll('.done-list li').length === 1")
    driver.execute_script("window.first = document.querySelector('.done-list li')")
    hands.go_to("Model")
    hands.press(Keys.ENTER)
    until(driver, "document.querySelectorAll('.done-list li').length === 2")
    assert driver.execute_script("return first === document.querySelectorAll('.done-list li')[1]")
    job = found.worker.sent[-1]["export"]
    found.worker.tell("export", **job, state="done", path="/m.keras", count=2)
    until(driver, "document.querySelector('.done-list li').textContent.includes('/m.keras')")
    assert driver.execute_script("return first.isConnected")


def test_what_was_typed_and_not_sent_is_asked_about_before_leaving(driver, hands, found):
    assert not asked_before_leaving(driver)
    hands.untick(0)
    assert not asked_before_leaving(driver)
    hands.type("dog")
    hands.press(Keys.ENTER)
    assert asked_before_leaving(driver)
    hands.press(Keys.ENTER)
    hands.next("a")
    assert not asked_before_leaving(driver)
    hands.untick(0)
    hands.press("-")
    assert asked_before_leaving(driver)
    hands.together(Keys.CONTROL, "z")
    assert not asked_before_leaving(driver)


def test_what_is_not_saved_yet_is_asked_about_before_leaving(driver, hands, found):
    write = found.desk._journal._write

    def full(*_):
        raise OSError(28, "No space left on device")

    found.desk._journal._write = full
    hands.type("dog")
    hands.press(Keys.ENTER)
    until(driver, "document.getElementById('banner').textContent.includes('NOT saved')")
    assert asked_before_leaving(driver)
    found.desk._journal._write = write
    hands.press(Keys.ENTER)
    hands.next("a")
    assert not asked_before_leaving(driver)


@pytest.mark.parametrize("times", [2, 5])
def test_an_export_button_that_is_pressed_twice_orders_once(driver, hands, found, times):
    driver.execute_script("location.hash = 'progress'")
    hands.go_to("CSV")
    driver.execute_script("const now = performance.now(); performance.now = () => now;")
    for _ in range(times):
        hands.press(Keys.ENTER)
        until(driver, "document.querySelectorAll('.done-list li').length === 1")
        (job,) = [command["export"] for command in found.worker.sent if "export" in command]
        found.worker.tell("export", **job, state="done", path="/x.csv", count=2)
    driver.execute_script("const later = performance.now() + 2000; performance.now = () => later;")
    hands.press(Keys.ENTER)
    until(driver, "document.querySelectorAll('.done-list li').length === 2")


def test_a_goal_that_is_entered_twice_is_set_once(driver, hands, found):
    driver.execute_script("location.hash = 'progress'")
    driver.execute_script("document.getElementById('goal').focus()")
    hands.type("30")
    hands.press(Keys.ENTER, Keys.ENTER)
    until(driver, "app.state.goal === 30")
    hands.press(Keys.ENTER)
    until(driver, "document.getElementById('toast').textContent === 'The goal is set.'")
    assert [e["goal"] for e in found.desk.said.entries if e["kind"] == "goal"] == [30]


def test_of_skipped_images_those_on_a_screen_are_left_and_the_others_corrected(
    driver, hands, found
):
    hands.press(",")
    hands.next("a")
    again = desks.offers([3, 4, 5], [0, 1, 9], generation=1)
    again[0]["query"], again[1]["query"] = "b", "again"
    found.worker.tell("sets", sets=again, generation=1, exhausted=False)
    hands.press("-")
    hands.next("b")
    driver.execute_script("location.hash = 'classes'")
    hands.go_to("Skipped")
    hands.press(Keys.ENTER)
    heading = "document.querySelector('.class-name')?.textContent"
    until(driver, f"{heading} === 'Skipped · 3 images'")
    aside = "[...document.querySelectorAll('.class-list li')].slice(-4).map((li) => li.innerText)"
    assert [each.split()[-1] for each in driver.execute_script(f"return {aside}")] == list("3030")
    driver.execute_script("document.querySelector('#view-classes .tile').focus()")
    hands.together(Keys.CONTROL, "a")
    driver.execute_script("document.getElementById('new-name').focus()")
    hands.type("dog")
    hands.press(Keys.ENTER)
    until(driver, f"{heading} === 'Skipped · 2 images'")
    until(driver, "document.getElementById('ticked').textContent === '2 ticked'")
    assert "1 image corrected. 2 are left" in text(driver, "toast")
    assert found.desk.said.members["dog"].keys() == {desks.keys_of(3)[2]}


def test_a_name_is_written_in_its_own_direction(driver, hands):
    fields = "[...document.querySelectorAll('input[type=text]')].map((field) => field.dir)"
    driver.execute_script("location.hash = 'classes'")
    until(driver, "document.getElementById('new-name')")
    assert set(driver.execute_script(f"return {fields}")) == {"auto"}
    driver.execute_script("location.hash = 'set'")
    hands.type("\u05d7\u05ea\u05d5\u05dc")
    assert (
        driver.execute_script("return getComputedStyle(document.getElementById('name')).direction")
        == "rtl"
    )
