"""The loop: episode, pool, candidate sets, oracle, and what an update step led to."""

import importlib
from typing import Any

# Loaded when they are asked for: `import emoc_tf` takes records from this folder and loads neither
# TensorFlow nor scikit-learn.
_FACE = {
    "Exploration": "loop",
    "SamplerInputs": "candidates",
    "register_reward": "rewards",
    "register_sampler": "candidates",
}

__all__ = ["Exploration", "SamplerInputs", "register_reward", "register_sampler"]


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_FACE[name]}"), name)
