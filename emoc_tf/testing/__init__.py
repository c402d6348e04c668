"""Tests to inherit for query policies of one's own."""

from emoc_tf.testing.agent_contract import AgentContract

__all__ = ["AgentContract"]
