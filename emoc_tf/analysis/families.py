"""Which family each query policy is of: it decides their order and their panels in all reports."""

from collections.abc import Iterable

# Policies by what they choose by; families and the policies in them in the order of reports.
FAMILIES = {
    "chance": ("random",),
    "uncertainty": ("min", "min-literal", "1-vs-2", "entropy", "set-entropy", "max"),
    "novelty": ("p-wrong", "novel"),
    "EMOC": ("emoc", "emoc-expected", "emoc-new"),
    "retraining": ("lookahead", "gp-emoc"),
    "Bayesian": ("bait", "bald"),
    "diversity": ("badge", "herding", "core-set"),
    "gradient length": ("egl",),
    "learned": ("learned",),
}
OWN = "policies of your own"

_FAMILY_OF = {name: family for family, names in FAMILIES.items() for name in names}
_PLACES = {name: i for i, name in enumerate(_FAMILY_OF)}


def base(agent: str) -> str:
    """Returns the policy that a variant such as `emoc:output=softmax` is one of."""
    return agent.partition(":")[0]


def stands_for(agent: str, agents: Iterable[str]) -> str:
    """Returns the policy of a variant that is the only one of it among `agents`, else `agent`."""
    policy = base(agent)
    return policy if {other for other in agents if base(other) == policy} == {agent} else agent


def family(agent: str) -> str:
    """Returns the family of a policy or variant; `OWN` for one that the library does not have."""
    return _FAMILY_OF.get(base(agent), OWN)


def ordered(agents: Iterable[str]) -> list[str]:
    """Returns different policies in the order of every report.

    That is family by family, variants behind their policy, policies of your own by name at the end.
    """
    return sorted(
        set(agents),
        key=lambda agent: (_PLACES.get(base(agent), len(_PLACES)), base(agent), agent),
    )


def by_family(agents: Iterable[str]) -> dict[str, list[str]]:
    """Returns the policies of each family that is there, families and policies `ordered`."""
    found: dict[str, list[str]] = {}
    for agent in ordered(agents):
        found.setdefault(family(agent), []).append(agent)
    return found
