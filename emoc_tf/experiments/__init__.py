"""Binaries: explore (a run), compare, vary, report, true_change (of scores), train_agent."""

import functools
import importlib
import os
import runpy
import sys


def _import_tensorflow_quietly() -> None:
    """Imports TensorFlow without its start-up notices, which no setting of its own turns off.

    They are written by native code straight to file descriptor 2 and would stand between the
    lines of a run. Errors are exceptions and pass.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            importlib.import_module("keras")
            importlib.import_module("tensorflow")
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _is_binary() -> bool:
    """Whether this process was started as one of the binaries, not as someone else's program."""
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] if "-m" in sys.orig_argv else []
    script = os.path.basename(sys.argv[0])
    return script.startswith("emoc-") or any(m.startswith(f"{__name__}.") for m in module)


if _is_binary():
    from emoc_tf.experiments import binary

    binary.listen()
_import_tensorflow_quietly()


def _run(name: str) -> None:
    # As `python -m` does it: absl looks for help text and flags in the main module.
    runpy.run_module(f"emoc_tf.experiments.{name}", run_name="__main__", alter_sys=True)


# Entry points of `emoc-explore`, `emoc-compare`, ...
run_explore = functools.partial(_run, "explore")
run_compare = functools.partial(_run, "compare")
run_vary = functools.partial(_run, "vary")
run_true_change = functools.partial(_run, "true_change")
run_report = functools.partial(_run, "report")
run_train_agent = functools.partial(_run, "train_agent")
