"""A desk, a server and a worker that needs no model, for tests."""

import hashlib
import itertools
import json
import re

from emoc_tf.annotation.journal import FILE, Journal
from emoc_tf.annotation.server import make_app
from emoc_tf.annotation.service import Service
from emoc_tf.annotation.settings import Settings
from tests.data import pictures

TOKEN = "t" * 32
HOST = "127.0.0.1:5000"
SEAT = "seat0001"
_keys = itertools.count()


def key():
    """A new idempotency key."""
    return f"key-{next(_keys):08}"


class FakeWorker:
    """Keeps what it is sent; a test says what it tells."""

    def __init__(self, settings, hear, begin):
        self.sent, self._hear, self.begin = [], hear, begin
        self.real = {}  # the keys of images whose files are there, by those of `keys_of`

    def start(self):
        pass

    def send(self, command):
        self.sent.append(json.loads(json.dumps(command)))

    def close(self):
        pass

    def tell(self, type, **told):
        real = lambda found: self.real.get(found[0], found[0])  # noqa: E731
        text = re.sub(r'(?<=")0{20}\w{12}(?=")', real, json.dumps(told))
        self._hear({"type": type, **json.loads(text)})


def keys_of(count):
    return [f"{i:032x}" for i in range(count)]


def key_of_file(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def offers(*images, generation=0):
    """Sets named a, b, ... of images by index."""
    return [
        {"query": name, "images": [f"{i:032x}" for i in each], "guesses": [], "audit": False,
         "generation": generation}
        for name, each in zip("abcdefgh", images, strict=False)
    ]  # fmt: skip


def service(folder, count=40, labels=(), sets=None, write=None, suffix=".png"):
    """A service whose worker has read a folder and chosen sets of three."""
    found = Service(Settings(str(folder), str(folder / "out")), FakeWorker)
    if write is not None:
        found.desk._journal.close()
        found.desk._journal = Journal(folder / "out" / FILE, write)
    paths = [f"{i}{suffix}" for i in range(count)]
    ready(found, folder, paths, labels)
    if sets is None:
        sets = offers(*[range(i, i + 3) for i in range(0, 15, 3)])
    found.worker.tell("sets", sets=sets, generation=0, exhausted=False)
    return found


def ready(found, folder, paths, labels=(), applied=None):
    found.worker.real |= {
        key: key_of_file(folder / path)
        for key, path in zip(keys_of(len(paths)), paths, strict=True) if (folder / path).exists()
    }  # fmt: skip
    found.worker.tell(
        "ready", root=str(folder), paths=paths, keys=keys_of(len(paths)),
        labels=[[i, {"class": name}] for i, name in labels], classes=[], left_out=0, gone=0,
        applied=found.desk.said.count if applied is None else applied,
        outcomes=[{"step": 0, "labelled": 0}],
    )  # fmt: skip


def client(found, **changes):
    """A browser of its own, with the token."""
    settings = {"token": TOKEN, "hosts": [HOST], "port": 5000} | changes
    return make_app(found, **settings).test_client(use_cookies=False)


def headers(seat=SEAT, **more):
    return {"Host": HOST, "X-Token": TOKEN, "X-Seat": seat} | more


def post(browser, request, seat=SEAT, /, **told):
    told = {"key": key()} | told
    return browser.post(f"/api/{request}", json=told, headers=headers(seat))


def image(browser, path, **more):
    return browser.get(f"/image/{path}", headers=headers() | more)


def state(browser, seat=SEAT, **arguments):
    return browser.get("/api/state", query_string=arguments, headers=headers(seat)).get_json()


def lines(folder):
    return [json.loads(line) for line in (folder / "out" / FILE).read_text().splitlines()]


def write_pictures(folder, count):
    for i in range(count):
        pictures.write(folder / f"{i}.png", i)
