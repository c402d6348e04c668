"""Who may ask, what is sent, and from where."""

import io
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from emoc_tf.annotation import server, settings
from emoc_tf.records.exports import FORMATS
from tests.annotation import desks

PATHS = ["/", "/page/app.js", "/page/style.css", "/image/0/small", "/api/state", "/api/history",
         "/api/class?name=cat"]  # fmt: skip


@pytest.fixture
def found(tmp_path):
    desks.write_pictures(tmp_path, 6)
    return desks.service(tmp_path, count=6)


@pytest.fixture
def browser(found):
    return desks.client(found)


@pytest.mark.parametrize("path", PATHS)
def test_nothing_without_the_token(found, browser, path):
    for more in ({}, {"X-Token": ""}, {"X-Token": "t" * 31}, {"Cookie": "emoc_5000=wrong"},
                 {"X-Token": "\u00e9" * 32}):  # fmt: skip
        reply = browser.get(path, headers={"Host": desks.HOST} | more)
        assert reply.status_code == 403, more
        assert "Set-Cookie" not in reply.headers
    assert browser.get(path, headers=desks.headers()).status_code == 200


@pytest.mark.parametrize("name", ["answer", "correct", "class", "undo", "goal", "export", "no"])
def test_nothing_is_said_without_the_token(browser, name):
    reply = browser.post(f"/api/{name}", json={}, headers={"Host": desks.HOST})
    assert reply.status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5000", "127.0.0.1", "127.0.0.1:1"])
def test_other_hosts_are_refused_and_told_no_names(found, host):
    names = [desks.HOST, "workstation:5000", "192.168.1.20:5000"]
    browser = desks.client(found, hosts=names)
    for given in (desks.headers(), {}):
        reply = browser.get("/api/state", headers=given | {"Host": host})
        assert reply.status_code == 403
        told = f"{reply.get_data(as_text=True)} {reply.headers}"
        assert not [name for name in names if name.split(":")[0] in told]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:5000"])
def test_other_origins_are_refused(browser, origin):
    headers = desks.headers(Origin=origin)
    assert browser.post("/api/undo", json={"key": desks.key()}, headers=headers).status_code == 403
    own = desks.headers(Origin="http://127.0.0.1:5000")
    assert browser.post("/api/undo", json={"key": desks.key()}, headers=own).status_code == 409


def test_forms_of_other_pages_say_nothing(browser):
    reply = browser.post("/api/undo", data={"key": "x" * 9}, headers=desks.headers())
    assert reply.status_code == 415


def test_the_address_sets_a_cookie_and_leaves_no_token_behind(browser):
    reply = browser.get(f"/?token={desks.TOKEN}", headers={"Host": desks.HOST})
    assert reply.status_code == 303 and reply.headers["Location"] == "/"
    cookies = reply.headers.getlist("Set-Cookie")
    assert all("HttpOnly" in c and "SameSite=Lax" in c for c in cookies) and len(cookies) == 2
    jar = "; ".join(c.split(";")[0] for c in cookies)
    page = browser.get("/", headers={"Host": desks.HOST, "Cookie": jar})
    assert page.status_code == 200 and b"<html" in page.data


def test_headers_keep_other_origins_out(browser):
    for path in PATHS:
        headers = browser.get(path, headers=desks.headers()).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self'") and "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", ["../server.py", "..%2Fserver.py", "server.py", ".", "%2e%2e"])
def test_only_the_pages_own_files_are_sent(browser, name):
    assert browser.get(f"/page/{name}", headers=desks.headers()).status_code == 404


def test_the_page_names_no_other_origin():
    for file in server.PAGE.iterdir():
        text = file.read_text()
        assert not [line for line in text.splitlines()
                    if "://" in line and "http://www.w3.org/" not in line], file  # fmt: skip
        inline = re.search(r"\s(style|on[a-z]+)\s*=\s*[\"']", text)  # the policy would not run it
        assert file.suffix != ".html" or not inline, inline


def test_images_are_made_once_and_kept_by_the_browser(tmp_path, browser, found):
    version = desks.key_of_file(tmp_path / "3.png")[:12]
    reply = desks.image(browser, f"3/small?v={version}")
    assert reply.status_code == 200 and reply.mimetype == "image/jpeg"
    assert "immutable" in reply.headers["Cache-Control"]
    etag = reply.headers["ETag"]
    assert (
        browser.get("/image/3/small", headers=desks.headers() | {"If-None-Match": etag}).status_code
        == 304
    )
    (tmp_path / "3.png").unlink()
    assert desks.image(browser, "3/small").data == reply.data
    assert desks.image(browser, "3/large").status_code == 404


@pytest.mark.parametrize("path", ["/image/6/small", "/image/-1/small", "/image/0/huge",
                                  "/image/x/small", "/image/0/small?v=abc"])  # fmt: skip
def test_other_images_are_not_there(browser, path):
    assert browser.get(path, headers=desks.headers()).status_code == 404


def test_images_are_shown_whole_and_upright(tmp_path):
    desks.write_pictures(tmp_path, 5)
    image = Image.fromarray(np.zeros((900, 1800, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "5.jpg", exif=exif)
    found = desks.service(tmp_path, count=6)
    found.desk.album.paths[5] = "5.jpg"
    found.desk.album.keys[5] = desks.key_of_file(tmp_path / "5.jpg")
    sizes = [Image.open(io.BytesIO(found.desk.album.jpeg(5, s))).size
             for s in ("small", "large")]  # fmt: skip
    assert sizes == [(160, 320), (800, 1600)]
    assert Image.open(io.BytesIO(found.desk.album.jpeg(0, "small"))).size == (8, 8)


def test_a_grid_of_a_large_pool_is_there_at_once(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(30):
        Image.fromarray(rng.integers(256, size=(600, 800, 3), dtype=np.uint8)).save(
            tmp_path / f"{i}.jpg"
        )
    sets = desks.offers(range(25))
    found = desks.service(tmp_path, count=100_000, sets=[], suffix=".jpg")
    labels = [{"class": f"class {i % 50}"} for i in range(50_000)]
    found.desk._enter(
        {"kind": "folder", "images": desks.keys_of(100_000)[50_000:], "labels": labels}
    )
    found.worker.tell("sets", sets=sets, generation=0, exhausted=False)
    browser = desks.client(found)
    start = time.process_time()
    shown = desks.state(browser)["set"]["images"]
    for index, version in shown:
        assert (
            browser.get(f"/image/{index}/small?v={version}", headers=desks.headers()).status_code
            == 200
        )
    seconds = time.process_time() - start  # others may keep the machine busy
    assert len(shown) == 25
    assert seconds < 0.2, seconds


def test_exports_are_those_of_the_library():
    assert (*FORMATS, "predictions", "model") == settings.EXPORTS


def test_the_page_is_served_without_tensorflow(tmp_path):
    code = (
        "import sys, pathlib; import emoc_tf.annotation.command\n"
        "from tests.annotation import desks\n"
        f"b = desks.client(desks.service(pathlib.Path({str(tmp_path)!r})));"
        "assert desks.state(b)['set'];"
        "bad = {'tensorflow', 'keras', 'sklearn'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=server.PAGE.parents[2],
                   env={**os.environ})  # fmt: skip
