"""Binaries: explore, compare, vary, report, export, true_change, headroom, train_agent."""

import functools
import os
import runpy
import sys

from emoc_tf.running import quiet


def _is_binary() -> bool:
    """Whether this process is `python -m emoc_tf.experiments.NAME`, not someone else's program."""
    arguments = iter(sys.orig_argv[1:])
    for argument in arguments:
        if not argument.startswith("-") or argument == "-":
            return False  # a script
        flags = argument[1:]
        letter = next((c for c in flags if c in "cmWX"), None)  # those that take a value
        if letter is not None:
            value = flags[flags.index(letter) + 1 :] or next(arguments, "")
            if letter in "cm":
                return letter == "m" and value.startswith(f"{__name__}.")
    return False


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
run_headroom = functools.partial(_run, "headroom")
run_report = functools.partial(_run, "report")
run_train_agent = functools.partial(_run, "train_agent")
run_export = functools.partial(_run, "export")

# Before the binary's own module imports TensorFlow; its worker processes import that module too.
if _is_binary():
    from emoc_tf.experiments import binary

    binary.prepare()
elif quiet.WANTED in os.environ and "--multiprocessing-fork" in sys.orig_argv:
    from emoc_tf.experiments import messages

    messages.show()
    quiet.load_tensorflow()
