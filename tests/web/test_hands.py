"""What hands, networks and other screens do to a page, with a worker that needs no model."""

from tests.annotation import desks
from tests.web.browsers import Keys, text, until


def shown(driver):
    return driver.execute_script("return app.view.set?.query ?? null")


def answers(found):
    return [entry["labels"] for entry in found.desk.said.entries if entry["kind"] == "answer"]


def test_a_link_of_another_site_leads_to_the_page(driver, address):
    driver.get(f"data:text/html,<a id=here href='{address}'>here</a>")
    driver.execute_script("document.getElementById('here').click()")
    until(driver, "window.app?.view.set")
    assert "token" not in driver.current_url


def test_a_reply_that_was_long_on_its_way_brings_no_old_set_back(driver, hands):
    driver.execute_script("""
        const real = window.fetch;
        window.fetch = async (url, settings) => {
          const reply = await real(url, settings);
          if (String(url).includes('/api/state') && !window.release) {
            await new Promise((go) => { window.release = go; });
          }
          return reply;
        };
    """)
    until(driver, "Boolean(window.release)")
    hands.type("dog")
    hands.press(Keys.ENTER)
    hands.next("a")
    driver.execute_script("window.old = []; const begin = app.view.begin.bind(app.view);"
                          "app.view.begin = (set) => { old.push(set.query); begin(set); };"
                          "release()")  # fmt: skip
    rev = driver.execute_script("return new Promise((go) => setTimeout(() => go(old), 400))")
    assert rev == [] and shown(driver) == "b"
    assert "another window" not in text(driver, "toast")


def test_the_page_goes_on_asking_whatever_goes_wrong_in_it(driver, hands, found):
    driver.execute_script("const take = app.take.bind(app);"
                          "app.take = () => { app.take = take; throw Error('oh'); };")  # fmt: skip
    found.desk.set_goal("", "", {"goal": 9, "key": desks.key()})
    until(driver, "app.state.goal === 9")


def test_the_last_answer_is_taken_back_where_no_set_is_left(driver, hands, found):
    found.worker.tell("sets", sets=[], generation=0, exhausted=True)
    hands.type("dog")
    hands.press(Keys.ENTER)
    until(driver, "!app.state.set && app.state.can_undo")
    assert text(driver, "hint") == ""  # there is nothing to name
    hands.go_to("Undo")
    hands.together(Keys.CONTROL, "z")
    until(driver, "app.view.set")
    assert driver.execute_script("return app.view.set.images.map(([i]) => i)") == [0, 1, 2]


def test_a_set_stays_with_its_parts_while_the_server_starts_again(driver, hands, found):
    hands.untick(0)
    hands.type("dog")
    hands.press(Keys.ENTER)
    album, found.desk.album, found.desk.offers.told = found.desk.album, None, False
    before = driver.execute_script("return app.turn")
    until(driver, "app.turn > arguments[0] + 1", before)
    found.desk.album, found.desk.offers.told = album, True
    before = driver.execute_script("return app.turn")
    until(driver, "app.turn > arguments[0] + 1", before)
    hands.press(Keys.ENTER)
    hands.next("a")
    assert answers(found) == [["left", {"class": "dog"}, {"class": "dog"}]]


def test_why_nothing_is_shown_is_told(driver, address, found):
    found.worker.tell("sets", sets=[], generation=0, exhausted=True)
    found.desk.offers.publish(desks.offers([0, 1]), 0, True, set())
    found.desk.offers.current("somebody else")
    found.worker.tell("status", phase="ready")
    driver.get(address)
    until(driver, "document.getElementById('empty').textContent.includes('other screens')")


def test_what_a_key_could_not_do_is_told_to_screen_readers(driver, hands):
    hands.press(Keys.ENTER)
    assert text(driver, "said").startswith("Type a name first")


def test_a_double_enter_decides_nothing_in_the_question_that_it_meets(driver, hands, found):
    driver.execute_script("const now = performance.now(); performance.now = () => now;")
    hands.type("cats")
    hands.press(Keys.ENTER)
    until(driver, "document.getElementById('dialog').open")
    hands.press(Keys.ENTER)
    assert driver.execute_script("return document.getElementById('dialog').open")
    assert not answers(found)
    driver.execute_script("const later = performance.now() + 1000; performance.now = () => later;")
    hands.press(Keys.ENTER)
    hands.next("a")
    assert answers(found) == [[{"class": "cat"}] * 3]


def test_a_name_in_parts_is_asked_about_once(driver, hands, found):
    driver.execute_script("document.getElementById('name').value = 'ca\\u0301t'")
    hands.press(Keys.ENTER)
    until(driver, "document.getElementById('dialog').open")
    driver.execute_script("document.querySelector('#dialog .primary').click()")
    hands.next("a")
    assert answers(found) == [[{"class": "cat"}] * 3]


def test_an_image_that_did_not_come_is_asked_for_again(driver, address):
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/image/*"]})
    try:
        driver.get(address)
        until(driver, "document.querySelectorAll('#grid .gone').length === 3")
        assert "gone" not in text(driver, "grid")
    finally:
        driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    until(driver, "document.querySelectorAll('#grid img').length === 2")
    until(driver, "document.getElementById('grid').textContent === 'file is gone'")
    last = driver.execute_script(
        "return document.querySelector('#grid .tile:last-child').ariaLabel"
    )
    assert last == "Image 3 of 3, its file is gone"


def test_the_history_takes_no_set_from_the_screen_and_keeps_its_place(driver, hands, found):
    hands.type("left")
    hands.press(Keys.ENTER)
    hands.next("a")
    hands.untick(0)
    hands.type("cat")
    hands.press(Keys.ENTER)
    driver.execute_script("location.hash = 'history'")
    until(driver, "document.querySelector('#view-history button[aria-label]')")
    assert "3 × left" in text(driver, "view-history")
    driver.execute_script("document.querySelector('#view-history button[aria-label]').focus()")
    hands.press(Keys.ENTER)
    until(driver, "document.getElementById('toast').textContent.includes('on the screen')")
    assert shown(driver) == "b"
    driver.execute_script("app.view.undo()")
    hands.press(Keys.ENTER)
    until(driver, "document.querySelector('#view-history .undone')")
    assert driver.execute_script("return document.activeElement.closest('#view-history') !== null")


def test_a_list_that_was_just_opened_stays_open_however_fast_the_hands_are(driver, hands, found):
    driver.execute_script("""
        const field = document.getElementById('name');
        field.blur();
        field.focus();
        field.value = 'c';
        field.dispatchEvent(new Event('input'));
    """)
    assert not driver.execute_script(
        "return new Promise((go) => setTimeout("
        "() => go(document.getElementById('names').hidden), 300))"
    )
    hands.press(Keys.ARROW_DOWN, Keys.ENTER)
    hands.next("a")
    assert answers(found) == [[{"class": "cat"}] * 3]


def test_what_is_unticked_stays_so_when_guesses_are_shown(driver, hands, found):
    hands.untick(1)
    driver.execute_script("const redraw = app.view.redraw.bind(app.view);"
                          "app.view.redraw = (set) => { redraw(set); window.redrawn = true; };"
                          "document.getElementById('guesses').click()")  # fmt: skip
    try:
        until(driver, "window.redrawn")
        driver.execute_script("document.getElementById('name').focus()")
        hands.type("dog")
        hands.press(Keys.ENTER, Keys.ENTER)
        hands.next("a")
        assert answers(found) == [[{"class": "dog"}, "left", {"class": "dog"}]]
    finally:
        driver.execute_script("localStorage.clear()")
