"""The loop: episode, pool, candidate sets, oracle, and what an update step led to."""

from typing import Any

__all__ = ["Exploration"]


def __getattr__(name: str) -> Any:
    # `import emoc_tf` takes records from this folder and loads no TensorFlow; the loop does.
    if name == "Exploration":
        from emoc_tf.exploration.loop import Exploration

        return Exploration
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
