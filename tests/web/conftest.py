"""One browser for all tests, and a page with a worker that needs no model."""

import pytest

from tests.annotation import desks
from tests.web import browsers

COUNT = 40


@pytest.fixture(scope="session")
def browser():
    with browsers.chromium() as made:
        yield made


@pytest.fixture
def driver(browser):
    """The browser, on a screen of the usual size, with empty logs."""
    browsers.resize(browser)
    browser.get("about:blank")
    browsers.requests_of(browser)
    browsers.errors_of(browser)
    return browser


@pytest.fixture
def found(tmp_path):
    """A service; image 2 is gone."""
    desks.write_pictures(tmp_path, COUNT)
    (tmp_path / "2.png").unlink()
    return desks.service(tmp_path, COUNT, labels=[(30, "cat"), (31, "left")])


@pytest.fixture
def address(found):
    with browsers.serving(found) as made:
        yield made


@pytest.fixture
def hands(driver, address):
    """Somebody who has a set on the screen."""
    driver.get(address)
    made = browsers.Hands(driver)
    made.set()
    return made
