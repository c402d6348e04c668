"""The page's server as a process of its own, with a worker that needs no model.

Run: python -m tests.annotation.serving OUT COUNT; it prints its port.
"""

import socket
import sys
from pathlib import Path

import waitress

from emoc_tf.annotation.server import make_app
from emoc_tf.annotation.service import Service
from emoc_tf.annotation.settings import Settings
from tests.annotation import desks

SIZE = 2


class StubWorker:
    """Offers sets of two images, the same ones whenever it is started."""

    count = 0

    def __init__(self, settings, hear, begin):
        self._hear = hear

    def start(self):
        keys = desks.keys_of(self.count)
        self._hear({
            "type": "ready", "root": ".", "paths": keys, "keys": keys, "labels": [], "applied": 0,
            "classes": [], "outcomes": [],
        })  # fmt: skip
        sets = [
            {"query": f"set {i}", "images": keys[i : i + SIZE], "guesses": [], "audit": False,
             "generation": 0}
            for i in range(0, self.count, SIZE)
        ]  # fmt: skip
        self._hear({"type": "sets", "sets": sets, "generation": 0, "exhausted": True})

    def send(self, command):
        pass

    def close(self):
        pass


def make(out, count):
    """Returns the service, and a server that listens already."""
    StubWorker.count = count
    service = Service(Settings(".", str(out)), StubWorker)
    service.worker.start()
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    app = make_app(service, desks.TOKEN, [f"127.0.0.1:{port}"], port)
    return service, waitress.create_server(app, sockets=[listening], threads=8), port


if __name__ == "__main__":
    _, server, port = make(Path(sys.argv[1]), int(sys.argv[2]))
    print(port, flush=True)
    server.run()
