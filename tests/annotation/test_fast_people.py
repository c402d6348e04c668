"""Nobody waits for the network, however fast: days at the page in a clock of their own."""

import io
import queue
from types import SimpleNamespace

import numpy as np
import pytest

from emoc_tf.annotation.service import Service
from emoc_tf.annotation.settings import Settings
from emoc_tf.annotation.worker import Worker
from tests.annotation import desks

COUNT, SIZE = 4000, 25


class Day:
    """People who answer a set every so often, and a worker that takes its time.

    The worker decides by itself what it does next; what it does takes `choosing` and `learning`
    seconds, which only the clock sees.
    """

    def __init__(self, folder, choosing, learning, people=1):
        self.now, self.choosing, self.learning = 0.0, choosing, learning
        self.service = Service(Settings(str(folder), str(folder / "out")), desks.FakeWorker)
        self.service.desk.offers._clock = lambda: self.now
        self.worker = Worker(Settings("images", "out"), queue.Queue(), io.StringIO())
        state = SimpleNamespace(candidate_mask=np.ones(1, bool), step=0)
        self.explored = SimpleNamespace(state=state, ids={}, applied=0)
        self.worker._exploration, self.worker._take = self.explored, self.take
        self.worker._ask, self.worker._learn = self.ask, self.learn
        self.worker._withdraw, self.worker.tell = self.withdraw, lambda *_, **__: None
        self.read, self.number, self.sent = 0, 0, 0
        self.keys = desks.keys_of(COUNT)
        self.free = list(self.keys)
        self.sets = {}
        self.browser = desks.client(self.service)
        self.next = [0.0] * people  # when each presses Enter, if there is a set
        self.waited = []
        desks.ready(self.service, folder, [f"{i}.png" for i in range(COUNT)])

    def take(self, wait=False):
        for command in self.service.worker.sent[self.sent :]:
            self.worker._to_withdraw += command.get("withdraw", ())
            if "lines" in command:
                self.worker._reserve = command["reserve"]
                self.worker._shown = set(command["shown"])
        self.sent = len(self.service.worker.sent)
        entries = self.service.desk.said.entries
        self.worker._backlog += entries[self.read :]
        self.read = len(entries)
        if wait:
            self.pass_time(0.05)

    def ask(self):
        self.pass_time(self.choosing)
        self.number += 1
        images, self.free = self.free[:SIZE], self.free[SIZE:]
        query = f"set {self.number}"
        self.sets[query] = {
            "query": query, "images": images, "guesses": [], "audit": False,
            "generation": self.explored.state.step,
        }  # fmt: skip
        self.tell_sets()

    def tell_sets(self):
        self.explored.ids = dict(enumerate(self.sets))
        self.worker._told = dict(self.sets)
        self.service.worker.tell(
            "sets", sets=list(self.sets.values()), generation=self.explored.state.step,
            exhausted=False,
        )  # fmt: skip

    def withdraw(self):
        wanted, self.worker._to_withdraw = self.worker._to_withdraw, []
        for query in wanted:
            if query in self.sets:
                self.free += self.sets.pop(query)["images"]
        self.tell_sets()

    def learn(self):
        line = self.worker._backlog.pop(0)
        self.pass_time(self.learning)
        self.sets.pop(line.get("query"), None)
        self.explored.state.step += 1
        self.explored.applied += 1
        self.service.worker.tell(
            "applied", applied=self.explored.applied, seconds=self.learning, classes=[],
            outcome={"step": self.explored.state.step},
        )  # fmt: skip
        self.tell_sets()

    def pass_time(self, seconds):
        """Lets people answer while the worker is busy."""
        end = self.now + seconds
        while min(self.next) <= end:
            who = self.next.index(min(self.next))
            self.now = max(self.now, self.next[who])
            seat = f"seat{who:04}"
            shown = desks.state(self.browser, seat)["set"]
            if shown is None:
                self.next[who] += 0.1
                continue
            if self.begun:
                self.waited.append((self.explored.applied, self.now - self.due[who]))
            told = {"query": shown["query"], "labels": ["reject"] * len(shown["images"])}
            reply = desks.post(self.browser, "answer", seat, **told, seconds=self.pace)
            assert reply.status_code == 200
            self.begun = True
            self.next[who] = self.due[who] = self.now + self.pace
        self.now = end

    def live(self, pace, answers):
        self.pace, self.begun, self.due = pace, False, list(self.next)
        while len(self.waited) < answers:
            self.worker._work()
        # How long it learns is not known before it has done so.
        return np.array([waited for applied, waited in self.waited if applied > 1])


@pytest.mark.parametrize(("pace", "choosing", "learning", "people"), [
    (10, 1, 8, 1), (2, 0.5, 20, 1), (1, 0.3, 8, 1), (2, 0.3, 8, 2), (30, 5, 60, 1),
])  # fmt: skip
def test_nobody_waits_for_the_network(tmp_path, pace, choosing, learning, people):
    waited = Day(tmp_path, choosing, learning, people).live(pace, 60)
    assert len(waited) and waited.max() <= choosing + 0.5, waited.round(1)


def test_who_is_faster_than_sets_are_chosen_waits_for_that_alone(tmp_path):
    day = Day(tmp_path, 3, 10)
    day.live(1, 40)
    waited = np.array([waited for _, waited in day.waited[12:]])
    assert waited.max() <= 3.2, waited.round(1)


def test_the_network_learns_on_while_somebody_is_fast(tmp_path):
    day = Day(tmp_path, 0.3, 8)
    day.live(1, 60)
    assert day.explored.applied >= 0.7 * day.now / 8 - 2


def test_what_lies_ready_is_of_the_newest_model_where_there_is_time(tmp_path):
    day = Day(tmp_path, 0.5, 5)
    day.live(30, 5)
    while day.worker._backlog or day.worker._missing(day.worker._reserve, fresh=True):
        day.next[0] = day.now + 99
        day.worker._work()
    free = day.service.desk.offers._free()
    assert {each.generation for each in free} == {day.explored.state.step} and len(free) >= 2


def test_most_images_of_a_small_pool_are_left_to_the_next_model(tmp_path):
    found = desks.service(tmp_path, count=240)
    found.desk.said.seconds.append(1.0)
    assert found._command()["reserve"] == 3
