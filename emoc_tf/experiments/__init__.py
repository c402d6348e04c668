"""Binaries: explore (a run), compare, vary, report, true_change (of scores), train_agent."""

import functools
import os
import runpy
import sys

from emoc_tf.running import quiet


def _is_binary() -> bool:
    """Whether this process is `python -m emoc_tf.experiments.NAME`, not someone else's program."""
    arguments = sys.orig_argv
    module = arguments[arguments.index("-m") + 1 :][:1] if "-m" in arguments else []
    return any(name.startswith(f"{__name__}.") for name in module)


def _run(name: str) -> None:
    from emoc_tf.experiments import binary

    binary.prepare()
    # As `python -m` does it: absl looks for help text and flags in the main module.
    runpy.run_module(f"emoc_tf.experiments.{name}", run_name="__main__", alter_sys=True)


# Entry points of `emoc-explore`, `emoc-compare`, ...
run_explore = functools.partial(_run, "explore")
run_compare = functools.partial(_run, "compare")
run_vary = functools.partial(_run, "vary")
run_true_change = functools.partial(_run, "true_change")
run_report = functools.partial(_run, "report")
run_train_agent = functools.partial(_run, "train_agent")

# Before the binary's own module imports TensorFlow; its worker processes import that module too.
if _is_binary():
    from emoc_tf.experiments import binary

    binary.prepare()
elif quiet.WANTED in os.environ and "--multiprocessing-fork" in sys.orig_argv:
    quiet.load_tensorflow()
