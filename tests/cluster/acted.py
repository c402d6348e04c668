"""Ray as far as a crew of actors asks it; the actors live in this process."""

import time
from types import SimpleNamespace

from emoc_tf.cluster.connection import Node
from emoc_tf.cluster.tasks import Task

NODES = [Node("1", "one", 1, 0), Node("2", "two", 1, 0)]


class RayError(Exception):
    """Of a machine."""


class RayTaskError(RayError):
    """Of what runs there."""


class Served:
    def double(self, number):
        return 2 * number


class Ray:
    """Ray as far as a crew asks it.

    Args:
        places: What actors tell of themselves as they begin, by host; an error if they do not.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, places):
        self.places, self.begun, self.gone = places, [], set()
        self.wrong = {}  # what work raises on a machine, by host: a function of its arguments
        self.killed = 0

    def remote(self, actor):
        return self

    def options(self, scheduling_strategy, **_):
        host = scheduling_strategy.host

        def make():
            self.begun.append(host)

            def told(make):
                died = RayError("the node died") if host in self.gone else None
                return time.monotonic(), died or make()

            begin = SimpleNamespace(remote=lambda *_: told(lambda: self.places[host]))
            answer = SimpleNamespace(remote=lambda: told(lambda: None))
            work = SimpleNamespace(
                remote=lambda method, *given: told(
                    lambda: (
                        self.wrong.get(host, lambda *_: None)(*given)
                        or getattr(Served(), method)(*given)
                    )
                )
            )
            return SimpleNamespace(begin=begin, answer=answer, work=work)

        return SimpleNamespace(remote=make)

    def wait(self, references, **_):
        time.sleep(0.001)
        return references, []

    def get(self, reference):
        if isinstance(reference[1], Exception):
            raise reference[1]
        return reference[1]

    def kill(self, handle):
        self.killed += 1


class Place(dict):
    """What an actor tells, as a key."""

    __hash__ = object.__hash__


def tasks(count):
    return [Task("double", (i,)) for i in range(count)]
