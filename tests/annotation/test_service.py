"""What the page is told, with a worker that needs no model."""

import itertools

from tests.annotation import desks


def test_what_a_page_asks_for_each_second_stays_small(tmp_path):
    found = desks.service(tmp_path)
    for step in range(1, 4001):
        outcome = {"step": step, "labelled": 25 * step, "answer_accuracy": 0.5}
        found.worker.tell("applied", applied=1, outcome=outcome, classes=[], timings={})
    steps = [outcome["step"] for outcome in desks.state(desks.client(found))["outcomes"]]
    assert len(steps) <= 202 and steps[0] == 0 and steps[-1] == 4000
    assert max(b - a for a, b in itertools.pairwise(steps)) < 30


def test_a_folder_whose_files_got_other_names_is_shown_by_them(tmp_path):
    """The worker died, and reads the folder again."""
    desks.write_pictures(tmp_path, 1)
    found = desks.service(tmp_path, count=1)
    (tmp_path / "0.png").rename(tmp_path / "zero.png")
    desks.ready(found, tmp_path, ["zero.png"])
    assert desks.image(desks.client(found), "0/small").status_code == 200


def test_an_image_is_not_said_to_be_gone_while_the_folder_is_read(tmp_path):
    desks.write_pictures(tmp_path, 1)
    found = desks.service(tmp_path, count=1)
    browser = desks.client(found)
    album, found.desk.album = found.desk.album, None
    assert desks.image(browser, "0/small").status_code == 503 and desks.state(browser)["starting"]
    found.desk.album = album
    assert desks.image(browser, "0/small").status_code == 200
    assert not desks.state(browser)["starting"]
