"""What all figures share: texts of users as they are written, and matplotlib without a window."""

import contextlib
import os
import sys


def literal(text: object) -> str:
    """Returns a text of a user, such as a name, so that matplotlib writes it out.

    Between two dollar signs it would read mathematics, and fail where there are none.
    """
    return str(text).replace("$", r"\$")


def import_matplotlib() -> None:
    """Imports matplotlib although `MPLBACKEND` may name a backend that is not there.

    A notebook's variable reaches the processes that it starts, in other environments too, where the
    import alone then fails. Figures of this library are drawn without windows and need no backend;
    one that is there stays chosen.
    """
    backend = os.environ.get("MPLBACKEND")
    if not backend or "matplotlib" in sys.modules:
        return
    del os.environ["MPLBACKEND"]
    try:
        import matplotlib
    finally:
        os.environ["MPLBACKEND"] = backend
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = backend
