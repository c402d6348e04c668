"""Query policies behind one interface, imported as `emoc_tf.agents`.

A policy of your own is one file with an `Agent` and one line in `AGENTS`.
"""

from emoc_tf.agents.agent import Agent, ScoringAgent, SetScoringAgent
from emoc_tf.agents.bayesian import BaitAgent, BaldAgent
from emoc_tf.agents.diversity import BadgeAgent, CoreSetAgent
from emoc_tf.agents.emoc import EMOCAgent, ExpectedEMOCAgent
from emoc_tf.agents.emoc_new import EMOCNewAgent
from emoc_tf.agents.gp_emoc import GPEMOCAgent
from emoc_tf.agents.gradient_length import GradientLengthAgent
from emoc_tf.agents.herding import HerdingAgent
from emoc_tf.agents.heuristics import (
    EntropyAgent,
    MarginAgent,
    MaxAgent,
    MinAgent,
    MinLiteralAgent,
    RandomAgent,
    SetEntropyAgent,
)
from emoc_tf.agents.learned import LearnedAgent
from emoc_tf.agents.lookahead import LookaheadAgent
from emoc_tf.agents.novelty import NovelAgent, PWrongAgent
from emoc_tf.agents.registry import AGENTS, describe, make, names, register

__all__ = [
    "AGENTS",
    "Agent",
    "BadgeAgent",
    "BaitAgent",
    "BaldAgent",
    "CoreSetAgent",
    "EMOCAgent",
    "EMOCNewAgent",
    "EntropyAgent",
    "ExpectedEMOCAgent",
    "GPEMOCAgent",
    "GradientLengthAgent",
    "HerdingAgent",
    "LearnedAgent",
    "LookaheadAgent",
    "MarginAgent",
    "MaxAgent",
    "MinAgent",
    "MinLiteralAgent",
    "NovelAgent",
    "PWrongAgent",
    "RandomAgent",
    "ScoringAgent",
    "SetEntropyAgent",
    "SetScoringAgent",
    "describe",
    "make",
    "names",
    "register",
]
