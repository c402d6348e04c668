"""`all` in a list of policies, and what is written of their settings."""

import inspect
import re
from pathlib import Path

import pytest

from emoc_tf import agents
from emoc_tf.agents import registry
from emoc_tf.values import parse_value


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


def test_the_page_tells_every_setting_and_its_default():
    page = (Path(__file__).parents[2] / "docs/policies.md").read_text(encoding="utf-8")
    table = page.partition("\n## Settings\n")[2].partition("\n## ")[0]
    told, of = {name: {} for name in agents.names()}, []
    for line in table.splitlines():
        if not re.match(r"\| (`|\|)", line):
            continue
        policies, settings = line.split("|")[1:3]
        of = re.findall("`(.*?)`", policies) or of
        for name, value in re.findall(r"`(\w+)` = `?([^`,| ]+)", settings):
            for policy in of:
                told[policy][name] = parse_value(value)
    for policy, agent in agents.AGENTS.items():
        wanted = {
            name: each.default
            for name, each in inspect.signature(agent).parameters.items()
            if name != "seed"
        }
        if policy == "emoc-expected":
            wanted["references"] = None  # which the page says in words
        if policy == "herding":
            wanted["bandwidth"] = 1
        assert told[policy] == wanted, policy
