"""Tests to inherit for query policies and learners of your own."""

from emoc_tf.testing.agent_contract import AgentContract
from emoc_tf.testing.learner_contract import LearnerContract

__all__ = ["AgentContract", "LearnerContract"]
