"""A grid of 25 from a pool of 100,000 images, from the moment the page asks."""

import os

import numpy as np
import pytest
from PIL import Image

from tests.annotation import desks
from tests.web.browsers import serving, until

POOL, TRIES = 100_000, 30
# Asks for the set, shows it, and waits until the last image is there.
SHOW = """
const done = arguments[0], app = window.app, since = performance.now();
app.view.set = null;
app.refresh().then(async () => {
  const images = [...document.querySelectorAll('#grid img')];
  await Promise.all(images.map((image) => image.decode()));
  done([images.length, performance.now() - since]);
});
"""


@pytest.fixture
def address(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(25):
        pixels = rng.integers(256, size=(60, 80, 3), dtype=np.uint8).repeat(12, 0).repeat(12, 1)
        Image.fromarray(pixels).save(tmp_path / f"{i}.jpg")
    service = desks.service(tmp_path, count=POOL, sets=[], suffix=".jpg")
    labels = [{"class": f"class {i % 50}"} for i in range(POOL // 2)]
    keys = desks.keys_of(POOL)[POOL // 2 :]
    service.desk._enter({"kind": "folder", "images": keys, "labels": labels})
    service.worker.tell("sets", sets=desks.offers(range(25)), generation=0, exhausted=False)
    with serving(service) as made:
        yield made


def test_a_grid_is_there_at_once(driver, address):
    """In 200 ms of a machine that does nothing else: longer if others keep it busy just now."""
    driver.get(address)
    until(driver, "app.view.set")
    driver.execute_cdp_cmd("Network.enable", {})
    found, busy = [], max(1, os.getloadavg()[0] / os.cpu_count())
    while not found or found[-1] >= 200 * busy:
        driver.execute_cdp_cmd("Network.clearBrowserCache", {})
        count, milliseconds = driver.execute_async_script(SHOW)
        found.append(milliseconds)
        assert count == 25 and len(found) < TRIES, found
