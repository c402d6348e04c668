"""Which set is on whose screen."""

from emoc_tf.annotation.offers import AWAY, Offers
from tests.annotation import desks


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def make(count=4, **told):
    clock = Clock()
    offers = Offers(clock)
    offers.publish(
        desks.offers(*[[2 * i, 2 * i + 1] for i in range(count)], **told), 0, False, set()
    )
    return offers, clock


def publish(offers, names, generation, answered=()):
    sets = [s | {"generation": g} for s in desks.offers(*[[i] for i in range(8)])
            for n, g in names.items() if s["query"] == n]  # fmt: skip
    return offers.publish(sets, generation, False, set(answered))


def test_each_seat_has_a_set_of_its_own_and_keeps_it():
    offers, _ = make()
    first, second = offers.current("s"), offers.current("t")
    assert first.query == "a" and second.query == "b"
    assert offers.current("s") is first and offers.following("s").query == "c"
    assert offers.on_screens() == ["a", "b"]
    offers.close("a")
    assert offers.current("s").query == "c"


def test_a_new_model_takes_the_sets_that_nobody_sees():
    offers, _ = make()
    offers.current("s")
    assert publish(offers, {"a": 0, "b": 0, "c": 0, "d": 0, "e": 1}, 1) == ["b", "c", "d"]
    assert offers.get("a").seat == "s" and offers.following("s").query == "e"
    offers.close("a")
    assert offers.current("s").query == "e"


def test_a_set_that_is_to_be_withdrawn_is_shown_to_nobody_while_the_worker_still_has_it():
    offers, _ = make(2)
    offers.current("s")
    assert publish(offers, {"a": 0, "b": 0, "c": 1}, 1) == ["b"]
    # It has learnt something else before it heard of it; or it died before it did it.
    assert publish(offers, {"a": 0, "b": 0, "c": 1}, 2) == ["b"]
    assert offers.get("b") is None and offers.following("s").query == "c"
    assert publish(offers, {"a": 0, "c": 1}, 2) == []


def test_older_sets_stay_where_no_new_one_can_be_formed():
    offers, _ = make()
    assert publish(offers, {"a": 0, "b": 0, "c": 0, "d": 0}, 1) == []
    assert len(offers) == 4


def test_older_sets_stay_until_there_are_enough_new_ones():
    offers, _ = make(3)
    told = desks.offers(*[[i] for i in range(6)])
    for number, each in enumerate(told):
        each["generation"] = int(number > 2)
    assert offers.publish(told[:4], 1, False, set(), enough=2) == []
    assert offers.following("s").query == "d"
    assert offers.publish(told[:5], 1, False, set(), enough=2) == ["a", "b", "c"]


def test_where_old_sets_hold_all_images_some_go_for_new_ones():
    offers, _ = make()
    offers.current("s")
    told = desks.offers(*[[2 * i, 2 * i + 1] for i in range(4)])
    assert offers.publish(told, 1, True, set()) == ["c", "d"]
    assert offers.following("s").query == "b"
    assert offers.publish(told[:2], 1, True, set()) == []
    fresh = [told[0], told[1], told[2] | {"query": "new", "generation": 1}]
    assert offers.publish(fresh, 1, True, set()) == ["b"]
    assert offers.publish([told[0], fresh[2]], 1, True, set()) == []


def test_what_the_worker_has_no_more_is_shown_to_nobody_but_who_sees_it():
    offers, _ = make()
    offers.current("s")
    publish(offers, {"d": 0}, 0)
    assert offers.get("a") is not None and offers.get("b") is None
    publish(offers, {"a": 0, "d": 0}, 0, answered=["a"])
    assert offers.get("a") is None and offers.current("s").query == "d"


def test_a_page_claims_what_it_shows():
    offers, _ = make()
    assert offers.current("s", "c").query == "c"
    assert offers.current("t", "c").query == "a"
    assert offers.current("s", "d").query == "c"
    assert offers.current("u", "nothing").query == "b"


def test_a_set_is_taken_over_only_from_who_is_away_and_where_there_is_no_other():
    offers, clock = make(2)
    offers.current("s")
    clock.now = AWAY + 1
    assert offers.current("t").query == "b"
    assert offers.current("u").query == "a"
    assert offers.current("s") is None
    clock.now += 10
    offers.current("t")
    assert offers.current("v") is None


def test_a_set_that_is_shown_again_frees_the_one_on_the_screen():
    offers, _ = make(2)
    offers.current("s")
    again = offers.reopen("again", ["x"], "s")
    assert offers.current("s") is again and offers.get("a").seat is None
    publish(offers, {"a": 0, "b": 0}, 0)
    assert offers.get("again") is again  # the worker does not know of it yet


def test_an_audit_comes_first():
    offers = Offers(Clock())
    sets = desks.offers([0], [1])
    sets[1]["audit"] = True
    offers.publish(sets, 0, False, set())
    assert offers.current("s").query == "b"


def test_more_lie_ready_for_more_people():
    offers, clock = make()
    one = offers.reserve()
    offers.current("s")
    assert offers.reserve() == one
    offers.current("t")
    assert offers.reserve() == 2 * one
    clock.now = 1000
    assert offers.reserve() == one
