"""The sets of images that wait for an answer, and on whose screen each is."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

# Seconds without a word from a page after which another one may get its set, if none is free.
AWAY = 300.0
# Seconds in which a page that is open says something.
ACTIVE = 20.0
# Sets that lie ready for each person.
RESERVE = 3


@dataclass
class Offer:
    """A set that waits for an answer.

    Attributes:
        query: Its id.
        images: Keys of its images.
        guesses: Of each image the class that the model takes it for, and how likely that is; empty
            if the model knew no class.
        generation: Which of the models it was chosen by.
        audit: Whether it is of images drawn to measure the model by.
        seat: On whose screen it is; None: on nobody's.
        seen: When that page last said something.
        provisional: Whether the worker has not said yet that it knows of the set.
    """

    query: str
    images: list[str]
    guesses: list[tuple[str, float]] = field(default_factory=list)
    generation: int = 0
    audit: bool = False
    seat: str | None = None
    seen: float = 0.0
    provisional: bool = False


class Offers:
    """All sets that wait for an answer. No image is in two of them.

    Args:
        clock: Tells seconds; tests hand in one of their own.

    Attributes:
        generation: Of the newest model that has chosen a set.
        exhausted: Whether no further set can be formed.
        told: Whether the worker has said which sets are open.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._offers: dict[str, Offer] = {}
        self._contacts: dict[str, float] = {}
        self._withdrawn: set[str] = set()
        self.generation, self.exhausted, self.told = 0, False, False

    def __len__(self) -> int:
        return len(self._offers)

    def get(self, query: str) -> Offer | None:
        """Returns an open set; None if it is not open."""
        return self._offers.get(query)

    def of_image(self, key: str) -> Offer | None:
        """Returns the open set that an image is in."""
        return next((each for each in self._offers.values() if key in each.images), None)

    def publish(
        self,
        told: Sequence[dict[str, Any]],
        generation: int,
        exhausted: bool,
        answered: set[str],
        enough: int = 1,
    ) -> list[str]:
        """Takes the worker's list of all open sets.

        A set that is on a screen stays what it is.

        Args:
            told: The sets, see `Offer`.
            generation: Of the worker's model.
            exhausted: Whether no further set can be formed.
            answered: Ids of queries that were answered, which the worker may not have read yet.
            enough: How many sets of the newest model have to be free before those of earlier ones
                go.

        Returns:
            Sets of earlier models that nobody will be shown any more, to be withdrawn; also those
            of before that the worker still has.
        """
        self.generation, self.exhausted, self.told = generation, exhausted, True
        known = {each["query"] for each in told}
        self._withdrawn &= known
        stale = sorted(self._withdrawn)
        for each in list(self._offers.values()):
            gone = each.query not in known and not each.provisional and each.seat is None
            if gone or each.query in answered:
                del self._offers[each.query]
        for each in told:
            here = self._offers.get(each["query"])
            if here is not None:
                here.provisional = False
            elif each["query"] not in answered | self._withdrawn:
                self._offers[each["query"]] = Offer(**each)
        free = [each for each in self._free() if not each.audit]
        older = [each for each in free if each.generation < generation]
        fresh = len(free) - len(older)
        if fresh < enough:
            # Where they hold all images that wait, no new one can be formed before some of them go.
            older = older[enough:] if exhausted and not fresh else []
        for each in older:
            stale.append(each.query)
            self._withdrawn.add(each.query)
            del self._offers[each.query]
        return stale

    def _free(self) -> list[Offer]:
        return [each for each in self._offers.values() if each.seat is None]

    def reopen(self, query: str, images: list[str], seat: str, audit: bool = False) -> Offer:
        """Shows a set that was answered before to somebody again."""
        offer = Offer(query, images, audit=audit, seat=seat, seen=self._clock(), provisional=True)
        for other in self._offers.values():  # one screen, one set: the other one waits
            if other.seat == seat:
                other.seat = None
        self._offers[query] = offer
        return offer

    def current(self, seat: str, showing: str | None = None) -> Offer | None:
        """Returns the set on somebody's screen, a new one if there is none.

        Args:
            seat: Whose.
            showing: The set that the page says it shows, such as after the server was started
                again.
        """
        now = self._clock()
        self._contacts[seat] = now
        mine = [each for each in self._offers.values() if each.seat == seat]
        claimed = self._offers.get(showing) if showing else None
        if mine:
            offer = mine[0]
        elif claimed is not None and claimed.seat is None:
            offer = claimed
        else:
            offer = self.following(seat)
        if offer is not None:
            offer.seat, offer.seen = seat, now
        return offer

    def following(self, seat: str) -> Offer | None:
        """Returns the set that somebody is shown after the one on the screen."""
        free = self._free()
        if free:
            return min(free, key=lambda each: (not each.audit, -each.generation))
        if any(each.seat == seat for each in self._offers.values()):
            return None
        away = [each for each in self._offers.values() if self._clock() - each.seen > AWAY]
        return min(away, key=lambda each: each.seen) if away else None

    def close(self, query: str) -> None:
        """Takes a set away that was answered."""
        self._offers.pop(query, None)

    def give_up(self, query: str) -> None:
        """Takes a set away that nobody will be shown; the worker withdraws it."""
        self._offers.pop(query)
        self._withdrawn.add(query)

    def on_screens(self) -> list[str]:
        """Returns the ids of the sets that are on somebody's screen."""
        return [each.query for each in self._offers.values() if each.seat is not None]

    def reserve(self, each: int = RESERVE) -> int:
        """Returns how many sets should lie ready beside those on screens.

        Args:
            each: How many for each person.
        """
        now = self._clock()
        active = sum(now - seen < ACTIVE for seen in self._contacts.values())
        return each * max(1, active)
