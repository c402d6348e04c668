"""Starts a page on which a person names sets of images, while a network learns.

Two processes. The one that serves the page never loads TensorFlow: it writes each answer into a
journal before it replies (`journal`, `said`), and shows sets of images (`offers`, `desk`, `server`,
`thumbnails`). The other one, the worker, owns the exploration: it chooses sets, learns the answers
in their order (`applying`), and is started again when it dies (`process`).
"""

import importlib.util
import runpy
import sys


def run() -> None:
    """Entry point of `emoc-annotate`."""
    missing = [name for name in ("flask", "waitress") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"error: emoc-annotate needs {' and '.join(missing)}: pip install 'emoc_tf[annotate]'"
        )
    # As `python -m` does it: absl looks for help text and flags in the main module.
    runpy.run_module(f"{__name__}.command", run_name="__main__", alter_sys=True)
