"""`all` in a list of policies."""

import pytest

from emoc_tf import agents
from emoc_tf.agents import registry


@pytest.fixture
def own():
    agents.register("own", agents.RandomAgent)
    yield "own"
    del agents.AGENTS["own"]


@pytest.mark.parametrize("given", [["all"], ("all",), "all"])
def test_all_stands_for_every_policy_those_of_a_script_too(own, given):
    assert registry.chosen(given) == agents.names()
    assert registry.chosen(given)[-1] == "own"


def test_all_goes_with_variants():
    variant = "emoc:output=softmax"
    assert registry.chosen(["all", variant]) == [*agents.names(), variant]
    assert registry.chosen([variant, "all"]) == [variant, *agents.names()]


def test_without_all_names_stay_as_they_are():
    for names in (["min", "random"], [], ["min", "min"], ["nonsense"], ["all:x=1"], ["All"]):
        assert registry.chosen(names) == names


@pytest.mark.parametrize(
    ("names", "twice"),
    [(["all", "emoc"], "emoc"), (["min", "all"], "min"), (["all", "all"], "random")],
)
def test_a_policy_that_all_stands_for_is_not_named_again(names, twice):
    with pytest.raises(
        ValueError, match=f"agents: expected distinct ones, got '{twice}' twice: 'all' stands for"
    ):
        registry.chosen(names)


@pytest.mark.parametrize("name", ["all", "All", "ALL"])
def test_no_policy_is_called_all(name):
    with pytest.raises(ValueError, match=f"name: expected another name than 'all'.*'{name}'"):
        agents.register(name, agents.RandomAgent)
