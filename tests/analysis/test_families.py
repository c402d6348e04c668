import random

import pytest

from emoc_tf import agents
from emoc_tf.analysis import families

# The order that reports had before there were families: it stays.
FIRST = ["random", "min", "min-literal", "1-vs-2", "max", "emoc", "emoc-expected", "learned"]


@pytest.mark.parametrize(
    ("agent", "family"),
    [
        ("random", "chance"),
        ("set-entropy", "uncertainty"),
        ("novel", "novelty"),
        ("emoc", "EMOC"),
        ("emoc:output=softmax:references=64", "EMOC"),
        ("lookahead:kernel=pntk", "retraining"),
        ("bald:information=labels", "Bayesian"),
        ("herding", "diversity"),
        ("egl", "gradient length"),
        ("learned:file=a/b:c.keras", "learned"),
        ("mine", families.OWN),
        ("mine:emoc=1", families.OWN),
        ("emoc-mine", families.OWN),
        ("Emoc", families.OWN),
    ],
)
def test_a_policy_is_of_one_family_and_its_variants_are_too(agent, family):
    assert families.family(agent) == family


def test_no_policy_is_of_two_families():
    names = [name for members in families.FAMILIES.values() for name in members]
    assert len(set(names)) == len(names)
    assert families.OWN not in families.FAMILIES


def test_every_policy_that_is_shipped_has_a_family():
    shipped = set(agents.AGENTS) - set(agents.AGENTS.registered())
    assert {name for name in shipped if families.family(name) == families.OWN} == set()


def test_reports_go_family_by_family():
    expected = [
        *FIRST[:4], "1-vs-2:x=1", "entropy", "max", "novel", "emoc", "emoc:labels=image",
        "emoc:output=softmax", "emoc-expected", "emoc-expected:references=8", "lookahead",
        "badge", "egl", "learned", "a", "a:x=1", "a-b", "b",
    ]  # fmt: skip
    for seed in range(5):
        shuffled = expected * 2
        random.Random(seed).shuffle(shuffled)
        assert families.ordered(shuffled) == expected
    assert [name for name in expected if name in FIRST] == FIRST
    assert families.ordered([]) == []


def test_families_of_what_is_shown():
    found = families.by_family(["mine", "emoc:output=softmax", "random", "emoc", "b", "novel"])
    assert list(found.items()) == [
        ("chance", ["random"]),
        ("novelty", ["novel"]),
        ("EMOC", ["emoc", "emoc:output=softmax"]),
        (families.OWN, ["b", "mine"]),
    ]
