"""What the binaries and their worker processes show of the library's loggers."""

import logging
import sys


class _Shown(logging.Handler):
    """Writes a line to standard error, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        # Looked up anew each time: a bar stands in for it while it is drawn.
        print(f"{record.levelname.lower()}: {record.getMessage()}", file=sys.stderr, flush=True)


def show() -> None:
    """Shows what the library's loggers tell, once; a library user's process stays silent."""
    logger = logging.getLogger("emoc_tf")
    if any(isinstance(handler, _Shown) for handler in logger.handlers):
        return
    logger.addHandler(_Shown())
    # absl makes the root logger as strict as it is itself, and would show a line twice otherwise.
    logger.setLevel(logging.INFO)
    logger.propagate = False
