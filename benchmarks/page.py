"""How long the page where a person answers makes somebody wait.

    python benchmarks/page.py

- grid: a set of 25 images from a pool of 100,000, from the moment the page asks for it until the
  last image is there, over HTTP. `ready`: as it is when a set was told of. `cold`: as if nothing
  had been made small before.
- photos, large: the same for photographs of 12 and of 50 megapixels, and how long it takes to make
  25 of them small, which is done before their set is told of.
- fast: somebody who answers each set after --pace seconds, with the real worker and its defaults.
  Waits are from the moment of an answer until the next set is there.

The machine should be idle.
"""

import hashlib
import http.client
import json
import os
import resource
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import waitress
from absl import app, flags
from PIL import Image

from emoc_tf.annotation.process import WorkerProcess
from emoc_tf.annotation.server import make_app
from emoc_tf.annotation.service import Service
from emoc_tf.annotation.settings import Settings

PARTS = flags.DEFINE_list("parts", ["grid", "photos", "large", "fast"], "What is measured.")
POOL = flags.DEFINE_integer("pool", 100_000, "Images of the pool of `grid`.", 25)
TIMES = flags.DEFINE_integer("times", 20, "How often a grid is shown.", 1)
PACE = flags.DEFINE_float("pace", 1.0, "Seconds in which somebody answers a set.", 0.0)
SETS = flags.DEFINE_integer("sets", 40, "Sets that somebody answers.", 1)
IMAGES = flags.DEFINE_integer("images", 2000, "Images that somebody answers.", 25)
SIZE = 25
TOKEN = "t" * 32


class _Told:
    """A worker that needs no model; the benchmark says what it tells."""

    def __init__(self, settings: Settings, hear, begin) -> None:
        self.hear = hear

    def start(self) -> None:
        """Does nothing."""

    def send(self, command: dict) -> None:
        """Does nothing."""


def _photo(path: Path, width: int, height: int, rng: np.random.Generator) -> None:
    """Writes a picture of soft shapes and of noise, as a camera's."""
    small = Image.fromarray(rng.integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8))
    grain = Image.effect_noise((width // 4, height // 4), 40).resize((width, height))
    soft = small.resize((width, height), Image.Resampling.BICUBIC)
    Image.blend(soft, grain.convert("RGB"), 0.25).save(path, quality=88)


def _serve(service: Service) -> http.client.HTTPConnection:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    page = make_app(service, TOKEN, [f"127.0.0.1:{port}"], port)
    server = waitress.create_server(page, sockets=[listening], threads=8)
    threading.Thread(target=server.run, daemon=True).start()
    return http.client.HTTPConnection("127.0.0.1", port, timeout=600)


def _get(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", path, headers={"X-Token": TOKEN, "X-Seat": "seat0001"})
    reply = connection.getresponse()
    content = reply.read()
    if reply.status != 200:
        raise RuntimeError(f"{path}: {reply.status} {content[:200]!r}")
    return content


def _show(connection: http.client.HTTPConnection) -> float:
    """Returns the seconds until a set is there with all its images."""
    start = time.perf_counter()
    images = json.loads(_get(connection, "/api/state"))["set"]["images"]
    for index, version in images:
        _get(connection, f"/image/{index}/small?v={version}")
    return time.perf_counter() - start


def _told(seconds: list[float]) -> str:
    middle, most = 1000 * np.median(seconds), 1000 * max(seconds)
    return f"{middle:.0f} ms (at most {most:.0f})"


def _album(folder: Path, pool: int, keys: list[str]) -> Service:
    """Returns a service of a pool whose first images lie in a folder."""
    service = Service(Settings(str(folder), str(folder / "out")), _Told)
    keys = [*keys, *(f"{i:032x}" for i in range(len(keys), pool))]
    labels = [[i, {"class": f"class {i % 50}"}] for i in range(pool // 2, pool)]
    service.worker.hear({
        "type": "ready", "root": str(folder), "paths": [f"{i}.jpg" for i in range(pool)],
        "keys": keys, "labels": labels, "applied": 0, "classes": [], "outcomes": [],
    })  # fmt: skip
    return service


def _measure_grid(name: str, width: int, height: int, pool: int, times: int) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        _photo(folder / "0.jpg", width, height, np.random.default_rng(0))
        photo = (folder / "0.jpg").read_bytes()
        for i in range(SIZE):  # the same picture, in files of different content
            (folder / f"{i}.jpg").write_bytes(photo + bytes([i]))
        keys = [_key(folder / f"{i}.jpg") for i in range(SIZE)]
        service = _album(folder, pool, keys)
        sets = [{"query": "a", "images": keys, "guesses": [], "audit": False, "generation": 0}]
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        service.worker.hear({"type": "sets", "sets": sets, "generation": 0, "exhausted": False})
        made, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        connection = _serve(service)
        ready = [_show(connection) for _ in range(times)]
        cold = []
        for _ in range(min(3, times)):
            shutil.rmtree(folder / "out" / "thumbnails")
            cold.append(_show(connection))
        size = (folder / "0.jpg").stat().st_size / 2**20
        print(f"{name}: {width}x{height}, {size:.1f} MiB each; 25 made small in {made:.2f} s "
              f"({after.ru_utime - before.ru_utime:.2f} CPU seconds); a grid from a pool of "
              f"{pool:,}: ready {_told(ready)}, cold {_told(cold)}", flush=True)  # fmt: skip
    finally:
        shutil.rmtree(folder)


def _key(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def _measure_fast() -> None:
    folder = Path(tempfile.mkdtemp())
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 256, (10, 6, 8, 3))
    (folder / "images").mkdir()
    for i in range(IMAGES.value):
        pixels = np.clip(kinds[i % 10] + rng.normal(0, 40, (6, 8, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).resize((320, 240)).save(folder / f"images/{i % 10}_{i}.jpg")
    settings = Settings(str(folder / "images"), str(folder / "out"))
    service = Service(settings, WorkerProcess)
    service.start()
    names = {}
    waits, behind, first, since = [], [], None, time.perf_counter()
    try:
        while len(waits) < SETS.value:
            state = service.state("seat0001", {})
            shown = state["set"]
            if shown is None:
                time.sleep(0.02)
                continue
            now = time.perf_counter()
            if first is None:
                first = now - since
            else:
                waits.append(now - since)
            behind.append(state["worker"]["behind"])
            if not names:
                paths = service.desk.album.paths
                names = {i: f"kind {path.split('_')[0]}" for i, path in enumerate(paths)}
            time.sleep(PACE.value)
            labels = [{"class": names[i]} for i, _ in shown["images"]]
            told = {"query": shown["query"], "labels": labels, "key": os.urandom(8).hex(),
                    "seconds": PACE.value, "confirmed": sorted(set(names.values()))}  # fmt: skip
            service.desk.answer("seat0001", "person", told)
            since = time.perf_counter()
        waited, slow = np.array(waits), [each for each in waits if each >= 0.2]
        learning = ", ".join(f"{each:.1f}" for each in service._learning)
        print(f"fast: {PACE.value:g} s a set, {IMAGES.value} images: first after {first:.0f} s, "
              f"then {(waited < 0.2).mean():.0%} of {len(waited)} sets are there in 0.2 s, the "
              f"others after {np.mean(slow) if slow else 0:.1f} s (at most {max(waits):.1f}); "
              f"{behind[-1]} answers wait to be learnt at the end; the newest took {learning} s",
              flush=True)  # fmt: skip
    finally:
        service.worker.close()
        service.ended.set()
        shutil.rmtree(folder, ignore_errors=True)


def main(_: list[str]) -> None:
    """Measures what is asked for."""
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    if "grid" in PARTS.value:
        _measure_grid("grid", 640, 480, POOL.value, TIMES.value)
    if "photos" in PARTS.value:
        _measure_grid("photos", 4000, 3000, POOL.value, TIMES.value)
    if "large" in PARTS.value:
        _measure_grid("large", 8660, 5774, POOL.value, TIMES.value)
    if "fast" in PARTS.value:
        _measure_fast()


if __name__ == "__main__":
    app.run(main)
