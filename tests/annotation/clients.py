"""Somebody who answers over HTTP, without a browser."""

import http.client
import json

from tests.annotation import desks


class Client:
    """A browser of its own, that keeps its connection."""

    def __init__(self, port, seat):
        self.port, self.seat = port, seat
        self.begin()

    def begin(self):
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def ask(self, path, told=None):
        """Sends a request; returns status and reply."""
        headers = {"X-Token": desks.TOKEN, "X-Seat": self.seat, "Content-Type": "application/json"}
        method = "GET" if told is None else "POST"
        body = None if told is None else json.dumps(told)
        self.connection.request(method, f"/api/{path}", body, headers)
        reply = self.connection.getresponse()
        return reply.status, json.loads(reply.read())
