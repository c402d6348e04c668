"""The desk and the worker together: what there is to tell, and what is passed on."""

import math
import secrets
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from emoc_tf.annotation import telling
from emoc_tf.annotation.desk import Desk
from emoc_tf.annotation.journal import FILE, Journal
from emoc_tf.annotation.offers import RESERVE
from emoc_tf.annotation.requests import RefusedError, key_of
from emoc_tf.annotation.settings import EXPORTS, Settings

# Seconds between two looks at who is there.
_LOOK = 2.0
# Seconds in which the images of a set are made small before it is shown; it is shown without them
# where that takes longer, and they come one by one.
_MOST_MADE = 30.0
# Answers that tell how fast somebody is, and how long the network learns; and how long it is
# taken to learn before it was seen.
_NEWEST, _FIRST = 5, 10.0
# Sets that lie ready for each person at most.
_MOST_READY = 24


class Service:
    """What the server serves.

    Args:
        settings: What is annotated.
        make_worker: Makes the worker of settings, a function that hears messages, and one that
            returns the first command; see `WorkerProcess`.
        say: Called with lines for the terminal.

    Attributes:
        desk: Where answers are written down.
        ended: Set when the worker has ended for good; `problem` tells why.
        problem: Why the worker ended last; empty if it runs as it should.
    """

    def __init__(
        self,
        settings: Settings,
        make_worker: Callable[..., Any],
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._settings, self._say = settings, say
        self._set_size = settings.exploration.set_size
        self.desk = Desk(Journal(settings.folder / FILE), self._pass_on)
        self.ended, self.problem = threading.Event(), ""
        self._phase: dict[str, Any] = {"phase": "starting"}
        self._since = self._said_at = time.monotonic()
        self._ready, self._applied = False, 0
        self._learning: deque[float] = deque(maxlen=_NEWEST)  # seconds that an answer took
        self._outcomes: list[dict[str, Any]] = []
        self._exports: list[dict[str, Any]] = []
        # The jobs by the keys that they were ordered with; what each was of, and after which line.
        self._ordered: dict[str, str] = {}
        self._asked: dict[str, tuple[str, int]] = {}
        self._warnings: list[str] = []
        self._last_sent: dict[str, Any] = {}
        self.worker = make_worker(settings, self.hear, self._command)

    def start(self) -> None:
        """Starts the worker, and looks now and then whether more sets are needed."""
        self.worker.start()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self.ended.wait(_LOOK):
            self._pass_on()

    def _command(self) -> dict[str, Any]:
        desk = self.desk
        with desk.lock:
            return {
                "lines": desk.said.count,
                "reserve": desk.offers.reserve(self._needed()),
                "shown": desk.offers.on_screens(),
            }

    def _needed(self) -> int:
        """Returns how many sets a person answers while the network learns one, and some more."""
        recent = list(self.desk.said.seconds)[-_NEWEST:]
        if not recent:
            return RESERVE
        learning = max(self._learning, default=_FIRST)
        # The worker begins to learn when two thirds of them lie ready.
        count = 1 + math.ceil(1.5 * learning / max(0.1, statistics.median(recent)))
        # Most images are left to be chosen by the next model.
        waiting = len(self.desk.album or ()) - self.desk.said.settled
        most = min(_MOST_READY, waiting // (4 * self._set_size))
        return max(RESERVE, min(count, most))

    def _pass_on(self) -> None:
        """Tells the worker what has changed."""
        with self.desk.lock:
            command = self._command()
            if command != self._last_sent:
                self._last_sent = command
                self.worker.send(command)

    def hear(self, told: dict[str, Any]) -> None:
        """Takes a message of the worker."""
        kind = told.pop("type")
        if kind == "sets":
            self._make_small(told["sets"])
        with self.desk.lock:
            if kind == "status":
                self._set_phase(told)
            elif kind == "ready":
                self._take_ready(told)
            elif kind == "sets":
                self._take_sets(told)
            elif kind == "applied":
                self._applied = told["applied"]
                if told.get("seconds"):
                    self._learning.append(told["seconds"])
                self.desk.known = told["classes"]
                outcome = told["outcome"]
                if not self._outcomes or self._outcomes[-1]["step"] != outcome["step"]:
                    self._outcomes.append(outcome)
                self._outcomes[-1] = outcome
            elif kind == "export":
                self._exports = [e for e in self._exports if e["job"] != told["job"]] + [told]
                self._say(f"{told['format']}: {told.get('path') or told.get('text')}")
            elif kind == "warning":
                self._warnings.append(told["text"])
                self._say(f"warning: {told['text']}")
            elif kind == "ended":
                self._take_end(told)

    def _set_phase(self, told: dict[str, Any]) -> None:
        now, is_new = time.monotonic(), told["phase"] != self._phase.get("phase")
        if is_new:
            self._since = now
        # Later the page tells, and lines in the terminal would be too many.
        if not self._ready and (is_new or now - self._said_at > _LOOK):
            self._said_at = now
            count = f", {told['done']} of {told['total']}" if "total" in told else ""
            self._say(f"{told['phase']}{count}")
        self._phase = told

    def _take_ready(self, told: dict[str, Any]) -> None:
        self._ready, self._applied, self.problem = True, told["applied"], ""
        self._outcomes = told["outcomes"]
        self.desk.open_album(told, self._settings.folder / "thumbnails")
        self._say(f"{len(told['paths'])} images; the page is ready")
        self._last_sent = {}
        self._pass_on()

    def _make_small(self, sets: list[dict[str, Any]]) -> None:
        """Makes the images of sets small before anybody is told of them."""

        def tell(done: int, total: int) -> None:
            with self.desk.lock:
                self._set_phase({"phase": "making images small", "done": done, "total": total})

        album, offers = self.desk.album, self.desk.offers
        if album is not None:
            keys = [key for each in sets for key in each["images"]]
            album.prepare(keys, _MOST_MADE, tell if not len(offers) else lambda *_: None)

    def _take_sets(self, told: dict[str, Any]) -> None:
        desk = self.desk
        answered = set(desk.said.answered)
        enough = desk.offers.reserve(self._needed()) // RESERVE
        stale = desk.offers.publish(
            told["sets"], told["generation"], told["exhausted"], answered, enough
        )
        if stale:
            self.worker.send({"withdraw": stale})

    def _take_end(self, told: dict[str, Any]) -> None:
        self._ready, self.problem = False, told["text"]
        self._phase = {"phase": "ended" if told["fatal"] else "starting again"}
        for job in self._exports:
            if job["state"] == "waits":
                job |= {"state": "failed", "text": "the worker ended; try again"}
        self._say(f"the worker ended: {told['text']}")
        if told["fatal"]:
            self.ended.set()

    def export(self, told: Mapping[str, Any]) -> str:
        """Orders an export; returns the job's name.

        What is ordered twice is written once: with the same key, or while the same is waited for.

        Args:
            told: `format`, `key`.

        Raises:
            RefusedError: There is no such format, or no worker that is ready.
        """
        key, format = key_of(told), told.get("format")
        if format not in EXPORTS:
            raise RefusedError(f"format: expected one of {EXPORTS}, got {format!r}", 400)
        with self.desk.lock:
            if key in self._ordered:
                return self._ordered[key]
            if not self._ready:
                raise RefusedError("the model is not ready yet; try again in a moment", 503)
            command = self._command()
            asked = format, command["lines"]
            waits = {job["job"] for job in self._exports if job["state"] == "waits"}
            name = next((n for n, what in self._asked.items() if n in waits and what == asked), "")
            if not name:
                name = secrets.token_hex(4)
                self._asked[name] = asked
                job = {"job": name, "format": format}
                self._exports.append({**job, "state": "waits"})
                self._last_sent = command
                self.worker.send({**command, "export": job})
            self._ordered[key] = name
            return name

    def state(self, seat: str, told: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what the page shows.

        Args:
            seat: Of the browser.
            told: `showing`: the set that the page shows; `guesses`: whether it shows what the model
                takes images for.
        """
        desk = self.desk
        with desk.lock:
            said, album = desk.said, desk.album
            offer = following = None
            if album is not None:
                showing = told.get("showing")
                offer = desk.offers.current(seat, showing if isinstance(showing, str) else None)
                following = desk.offers.following(seat)
                self._pass_on()
            total = len(album or ())
            return {
                "rev": said.count,
                "worker": self._worker(),
                "set": telling.shown(offer, album, bool(told.get("guesses"))),
                "next": telling.shown(following, album) if following is not offer else None,
                # Which sets are open is not known yet.
                "starting": album is None or not desk.offers.told,
                "exhausted": desk.offers.exhausted,
                "classes": sorted([name, len(m)] for name, m in said.members.items()),
                "known": [name for name in desk.known if name not in said.members],
                "counts": {
                    "images": total, "settled": said.settled, "answered": len(said.by_people),
                    "rejected": said.tally["reject"], "unsure": said.tally["unsure"],
                    "skipped": said.tally["skip"] + said.tally["left"], "left": said.tally["left"],
                },
                "seconds": round(statistics.median(said.seconds), 1) if said.seconds else None,
                "goal": said.goal,
                "outcomes": telling.thinned(self._outcomes),
                "exports": self._exports[-8:],
                "can_undo": said.last_of(seat) is not None,
            }  # fmt: skip

    def _worker(self) -> dict[str, Any]:
        return {
            **self._phase,
            "seconds": round(time.monotonic() - self._since),
            "problem": self.problem,
            "warnings": self._warnings[-3:],
            "behind": self.desk.said.count - self._applied,
        }

    def members(self, name: str, start: int) -> dict[str, Any]:
        """Returns images of a class, or with a mark such as `reject`, from a number on."""
        with self.desk.lock:
            return telling.members(self.desk.said, self.desk.album, name, start)

    def history(self, before: int | None) -> dict[str, Any]:
        """Returns what was said, the newest first."""
        with self.desk.lock:
            return telling.history(self.desk.said, self.desk.album, before)
