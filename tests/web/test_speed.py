"""A grid of 25 from a pool of 100,000 images, from the moment the page asks."""

import socket
import threading

import numpy as np
import pytest
import waitress
from PIL import Image

from emoc_tf.annotation.server import make_app
from tests.annotation import desks
from tests.web.browsers import chromium, until

POOL, SETS = 100_000, 8
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
    for i in range(25 * SETS):
        pixels = rng.integers(256, size=(60, 80, 3), dtype=np.uint8).repeat(12, 0).repeat(12, 1)
        Image.fromarray(pixels).save(tmp_path / f"{i}.jpg")
    sets = desks.offers(*[range(25 * i, 25 * i + 25) for i in range(SETS)])
    service = desks.service(tmp_path, count=POOL, sets=[], suffix=".jpg")
    labels = [{"class": f"class {i % 50}"} for i in range(POOL // 2)]
    keys = desks.keys_of(POOL)[POOL // 2 :]
    service.desk._enter({"kind": "folder", "images": keys, "labels": labels})
    service.worker.tell("sets", sets=sets, generation=0, exhausted=False)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    app = make_app(service, desks.TOKEN, [f"127.0.0.1:{port}"], port)
    server = waitress.create_server(app, sockets=[listening], threads=8)
    threading.Thread(target=server.run, daemon=True).start()
    yield f"http://127.0.0.1:{port}/?token={desks.TOKEN}"
    server.close()
    server.task_dispatcher.shutdown()


def test_a_grid_is_there_at_once(address):
    with chromium() as driver:
        driver.get(address)
        until(driver, "app.view.set")
        driver.execute_cdp_cmd("Network.enable", {})
        found = []
        for _ in range(SETS - 1):
            driver.execute_cdp_cmd("Network.clearBrowserCache", {})
            driver.execute_script("app.view.ahead = null; app.view.kept = null")
            count, milliseconds = driver.execute_async_script(SHOW)
            assert count == 25
            found.append(milliseconds)
            query = driver.execute_script("return app.view.set.query")
            driver.execute_script("app.view.give('reject')")
            until(driver, "app.view.set && app.view.set.query !== arguments[0]", query)
    print([round(each) for each in found])  # nothing is in the browser's cache
    assert np.percentile(found, 25) < 200, found
