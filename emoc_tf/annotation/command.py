"""Starts a page on which a person names sets of images, while a network learns.

Sets of images that a policy chose are shown; a person gives each one name. All that is said is kept
in --output_dir, and the same command resumes it on any later day. The address of the page is
printed, and lies in address.txt there; nobody gets in without its token.

Example: python -m emoc_tf.annotation --images=photos --output_dir=out
"""

import contextlib
import dataclasses
import os
import re
import secrets
import socket
import sys
import threading
import webbrowser
from pathlib import Path

from absl import flags

from emoc_tf.annotation.process import WorkerProcess
from emoc_tf.annotation.server import LARGEST_REQUEST, make_app
from emoc_tf.annotation.service import Service
from emoc_tf.annotation.settings import (
    DEFAULTS,
    FIELDS,
    FROZEN,
    FROZEN_AGENT,
    FROZEN_RATE,
    USUAL_AGENT,
    Settings,
)
from emoc_tf.config import ExplorationConfig
from emoc_tf.experiments.binary import run_binary
from emoc_tf.storage import atomic
from emoc_tf.storage.locks import FolderLock

ADDRESS = "address.txt"
_LOCAL = "127.0.0.1"
_KEPT = "all that was saved is kept; the same command resumes from here"

IMAGES = flags.DEFINE_string(
    "images", None, "Folder of images, or a CSV or JSON Lines file of paths and labels."
)
OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write into.")
PORT = flags.DEFINE_integer("port", 0, "Port of the page; 0 for one that is free.", 0, 65535)
HOST = flags.DEFINE_string(
    "host", _LOCAL, "Address to listen on; another one than this machine's own lets others in."
)
BROWSER = flags.DEFINE_bool("browser", True, "Open the page in a browser, where there is one.")
IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", None, "Pixels that images have for the network (96, or the model's).", 1
)
FIT = flags.DEFINE_enum(
    "fit", "letterbox", ["letterbox", "crop"], "How sizes are brought together."
)
STORE = flags.DEFINE_string("store", None, "Folder of decoded images (OUTPUT_DIR/decoded).")
MODEL = flags.DEFINE_string("model", None, "Start from this .keras file, with its classes.")
AGENT = flags.DEFINE_string(
    "agent", None,
    f"Query policy that chooses the sets, as for emoc-explore ({USUAL_AGENT}; with "
    f"--network={FROZEN} {FROZEN_AGENT}).",
)  # fmt: skip
SEED = flags.DEFINE_integer("seed", 0, "Everything random descends from it.", 0)
SCORING_RAY = flags.DEFINE_string(
    "scoring_ray",
    None,
    "Compute scores and predictions on a Ray cluster: auto, HOST:PORT or local.",
)
GOAL = flags.DEFINE_integer("goal", None, "Images that you want to answer; shown on the page.", 1)


def _define_settings() -> dict[str, flags.FlagHolder]:
    fields = {field.name: field for field in dataclasses.fields(ExplorationConfig)}
    holders = {}
    for name in FIELDS:
        text = fields[name].metadata["help"]
        default = DEFAULTS.get(name, fields[name].default)
        shown = "" if default is None else f" ({default})"
        if name == "learning_rate":
            shown = f" ({default}; with --network={FROZEN} {FROZEN_RATE})"
        text = f"{text[0].upper()}{text[1:]}{shown}."
        kind = type(default) if default is not None else str
        kind = float if name == "pseudo_labels" else kind
        define = {int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
        holders[name] = define[kind](name, None, text)
    return holders


_SETTINGS = _define_settings()


def main(argv: list[str]) -> None:
    """Serves the page until it is interrupted."""
    if argv[1:]:
        raise ValueError(f"arguments: expected flags only, got {argv[1:]}")
    settings = _settings()
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # the worker inherits it
    lock = FolderLock(settings.folder)
    if not lock.acquire():
        raise ValueError(
            f"output_dir: expected a free folder, got {settings.folder} of {lock.owner()}"
        )
    try:
        _serve(settings)
    finally:
        lock.release()


def _settings() -> Settings:
    for name, value in (("images", IMAGES.value), ("output_dir", OUTPUT_DIR.value)):
        if not value:
            raise ValueError(f"{name}: expected --{name}=FOLDER, got nothing")
    images = Path(IMAGES.value).expanduser()
    if not images.exists():
        raise ValueError(f"images: expected a folder or a list of images, got {images}, which is "
                         f"not there")  # fmt: skip
    if MODEL.value is not None and not Path(MODEL.value).is_file():
        raise ValueError(f"model: expected a .keras file, got no file at {MODEL.value}")
    given = {name: holder.value for name, holder in _SETTINGS.items() if holder.value is not None}
    settings = Settings(
        str(images.absolute()), str(Path(OUTPUT_DIR.value).expanduser().absolute()),
        IMAGE_SIZE.value, FIT.value, STORE.value, MODEL.value, AGENT.value, SEED.value, given,
        SCORING_RAY.value,
    )  # fmt: skip
    _ = settings.exploration  # whether the values are in range
    return settings


def _serve(settings: Settings) -> None:
    import waitress

    from emoc_tf.annotation.journal import NotSavedError

    service = Service(settings, WorkerProcess, lambda text: print(text, flush=True))
    if GOAL.value is not None:
        try:
            service.desk.set_goal("", "", {"goal": GOAL.value, "key": secrets.token_hex(8)})
        except NotSavedError as error:
            raise OSError(f"output_dir: {error.strerror}") from error
    token, before = _last_time(settings.folder)
    listening = _listen(HOST.value, PORT.value, before)
    port = listening.getsockname()[1]
    shown = _LOCAL if HOST.value in (_LOCAL, "0.0.0.0", "") else HOST.value
    shown = f"[{shown}]" if ":" in shown else shown
    address = f"http://{shown}:{port}/?token={token}"
    _write_secret(settings.folder / ADDRESS, address + "\n")
    app = make_app(service, token, _hosts(port), port)
    server = waitress.create_server(
        app, sockets=[listening], threads=8, ident=None, max_request_body_size=LARGEST_REQUEST
    )
    if HOST.value not in (_LOCAL, "localhost", "::1"):
        print(
            f"warning: the page listens on {HOST.value}: whoever reaches this machine and has the "
            f"address can answer and see the images, and the connection is not encrypted",
            flush=True,
        )
    rate = settings.exploration.learning_rate
    print(f"sets are chosen by {settings.policy}, learning_rate is {rate:g}", flush=True)
    print(f"open this address, or the one in {settings.folder / ADDRESS}:", flush=True)
    print(address, flush=True)
    service.start()
    threading.Thread(target=_end_with_worker, args=(service,), daemon=True).start()
    if BROWSER.value and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
                          or sys.platform in ("darwin", "win32")):  # fmt: skip
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    try:
        server.run()
    finally:
        service.worker.close()
    raise KeyboardInterrupt  # which the server takes for its own end


def _end_with_worker(service: Service) -> None:
    """Ends the process where the settings cannot work: there would be nothing to show."""
    service.ended.wait()
    sys.stdout.flush()
    os.write(2, f"error: {service.problem}\n".encode())
    os._exit(1)


def _listen(host: str, port: int, before: int = 0) -> socket.socket:
    """Returns a listening socket; with port 0 that of before, if it is free.

    Raises:
        ValueError: The port is taken.
    """
    if not port and before:
        with contextlib.suppress(ValueError):
            return _listen(host, before)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        raise ValueError(
            f"port: expected one that is free on {host}, got {port} ({error.strerror or error}); "
            f"--port=0 finds one"
        ) from None
    return listening


def _hosts(port: int) -> list[str]:
    names = {_LOCAL, "localhost", "[::1]"}
    if HOST.value not in (_LOCAL, "localhost", "::1"):
        names |= {socket.gethostname(), socket.getfqdn(), f"{socket.gethostname()}.local"}
        names.add(f"[{HOST.value}]" if ":" in HOST.value else HOST.value)
        try:
            found = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
            names |= {each[4][0] for each in found}
        except OSError:  # a machine whose own name leads nowhere
            pass
    return [f"{name}:{port}" for name in names] + ([*names] if port == 80 else [])


def _last_time(folder: Path) -> tuple[str, int]:
    """Returns token and port of the last time, so that a page that is open goes on; else new ones.

    What others could read is none.
    """
    file = folder / ADDRESS
    try:
        private = os.name == "nt" or not file.stat().st_mode & 0o077
        found = re.fullmatch(r".*:(\d+)/\?token=([\w-]{32,})", file.read_text().strip())
    except (OSError, ValueError):
        private, found = False, None
    return (found[2], int(found[1])) if private and found else (secrets.token_urlsafe(32), 0)


def _write_secret(path: Path, content: str) -> None:
    """Writes a file that nobody else on this machine can read."""
    kept = os.umask(0o077)
    try:
        atomic.write_text(path, content)
    finally:
        os.umask(kept)


if __name__ == "__main__":
    run_binary(main, _KEPT)
