"""TensorFlow loaded without its start-up notices."""

import importlib
import os
import sys
import tempfile

# Set in the environment of a binary's worker processes.
WANTED = "EMOC_TF_QUIET"


def load_tensorflow() -> None:
    """Imports Keras and TensorFlow; for the start of a process that is our own.

    Native code writes the notices straight to file descriptor 2, which no setting turns off; they
    would stand between the lines of a run. Those of an import that fails are shown.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as notices:
        kept = os.dup(2)
        os.dup2(notices.fileno(), 2)
        try:
            for name in ("keras", "tensorflow"):
                importlib.import_module(name)
        except BaseException:
            notices.seek(0)
            os.write(kept, notices.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
