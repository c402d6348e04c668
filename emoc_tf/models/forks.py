"""TensorFlow does not survive a fork: a forked process is told so, instead of hanging."""

import os
import sys

_forked = False


def _note() -> None:
    """Runs in the child: notes whether TensorFlow was at work in the parent."""
    global _forked
    module = sys.modules.get("tensorflow.python.eager.context")
    context = getattr(module, "_context", None)
    _forked = _forked or bool(getattr(context, "_initialized", False))


os.register_at_fork(after_in_child=_note)


def forked() -> bool:
    """Returns whether this process was forked from one in which TensorFlow was at work."""
    return _forked


def check() -> None:
    """Raises `RuntimeError` in such a process, where TensorFlow would wait for ever."""
    if _forked:
        raise RuntimeError(
            "this process was forked from one in which TensorFlow had been at work, which "
            "TensorFlow does not survive: expected one that is started anew, such as by "
            'gym.make_vec(..., vectorization_mode="async", vector_kwargs={"context": "spawn"}) or '
            'multiprocessing.get_context("spawn")'
        )
