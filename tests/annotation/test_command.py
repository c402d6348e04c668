"""`emoc-annotate` as a command: what it prints, refuses and leaves."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

from emoc_tf.annotation.process import DIVERGED, WRONG, WorkerProcess
from emoc_tf.annotation.settings import FIELDS, Settings
from tests.data import pictures

COMMAND = [sys.executable, "-m", "emoc_tf.annotation"]


def run(*flags, **settings):
    return subprocess.run(
        [*COMMAND, *flags], capture_output=True, text=True, check=False, timeout=60, **settings
    )


@pytest.fixture
def images(tmp_path):
    pictures.make_folder(tmp_path / "images")
    return tmp_path / "images"


@pytest.fixture
def serve(images, tmp_path):
    started = []

    def begin(*flags):
        started.append(
            subprocess.Popen(
                [*COMMAND, f"--images={images}", f"--output_dir={tmp_path / 'out'}", "--nobrowser",
                 *flags],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        told = []
        for line in started[-1].stdout:
            told.append(line)
            if "token=" in line:
                break
        return started[-1], told

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def test_the_address_is_printed_and_kept_and_an_end_is_quick(serve, tmp_path):
    process, told = serve()
    address = told[-1]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}\n", address)
    file = tmp_path / "out" / "address.txt"
    assert file.read_text() == address and not file.stat().st_mode & 0o077
    other = run(f"--images={tmp_path / 'images'}", f"--output_dir={tmp_path / 'out'}")
    assert other.returncode == 1 and "expected a free folder" in other.stderr
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGTERM
    assert "the same command resumes from here" in process.stderr.read()
    assert serve()[1][-1] == address  # a page that is still open goes on


@pytest.mark.parametrize(
    ("given", "policy", "rate"),
    [
        ({}, "emoc:references=256", 0.002),
        ({"config": {"network": "efficientnet_lite0"}}, "herding:images=2000", 0.01),
        ({"config": {"network": "efficientnet_lite0-last-block"}}, "emoc:references=256", 0.002),
        ({"config": {"network": "efficientnet_lite0", "learning_rate": 0.1}, "agent": "min"},
         "min", 0.1),
        ({"config": {"network": "efficientnet_lite0"}, "model": "a.keras"},
         "emoc:references=256", 0.002),
    ],
)  # fmt: skip
def test_policy_and_rate_suit_a_frozen_backbone_unless_they_are_given(given, policy, rate):
    settings = Settings.from_json(Settings("images", "out", **given).to_json())
    assert (settings.policy, settings.exploration.learning_rate) == (policy, rate)


def test_what_chooses_is_told(serve):
    _, told = serve("--network=efficientnet_lite0")
    assert "sets are chosen by herding:images=2000, learning_rate is 0.01\n" in told


def test_a_large_request_is_refused_before_it_is_read(serve):
    """Nobody needs a token to begin one; it would lie in a temporary file."""
    host, port = re.search(r"http://([\d.]+):(\d+)/", serve()[1][-1]).groups()
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"POST /api/answer HTTP/1.1\r\nHost: {host}:{port}\r\n"
                           f"Content-Length: 500000000\r\n\r\n".encode())  # fmt: skip
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_others_are_let_in_only_where_it_is_asked_for(serve):
    _, told = serve("--host=0.0.0.0")
    assert any(line.startswith("warning: the page listens on 0.0.0.0") for line in told)


def test_a_token_that_others_could_read_is_none(serve, tmp_path):
    process, told = serve()
    process.kill()
    process.wait()
    os.chmod(tmp_path / "out" / "address.txt", 0o644)
    assert serve()[1][-1].partition("token=")[2] != told[-1].partition("token=")[2]


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ([], "images: expected --images=FOLDER"),
        (["--images=x"], "output_dir: expected --output_dir=FOLDER"),
        (["--images=missing", "--output_dir=o"], "images: expected a folder or a list"),
        (["--images=.", "--output_dir=o", "--set_size=0"], "set_size: expected a number above 0"),
        (["--images=.", "--output_dir=o", "--model=no.keras"], "model: expected a .keras file"),
        (["--images=.", "--output_dir=o", "more"], "arguments: expected flags only"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_told_in_a_sentence(tmp_path, flags, text):
    result = run(*flags, cwd=tmp_path)
    assert result.returncode == 1 and result.stderr.startswith(f"error: {text}"), result.stderr
    assert not (tmp_path / "o").exists()


def test_a_port_that_is_taken_is_told(tmp_path, images):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run(f"--images={images}", f"--output_dir={tmp_path / 'o'}", f"--port={port}")
    assert result.returncode == 1
    assert f"port: expected one that is free on 127.0.0.1, got {port}" in result.stderr


def test_help_lists_the_settings():
    result = run("--help")
    assert "Example: python -m emoc_tf.annotation" in result.stdout
    assert all(f"--{name}" in result.stdout for name in FIELDS)


@pytest.mark.parametrize("missing", ["flask", "waitress"])
def test_without_the_extra_a_sentence_tells(missing):
    code = (
        "import importlib.util as u, sys; find = u.find_spec\n"
        f"u.find_spec = lambda name, *a: None if name == {missing!r} else find(name, *a)\n"
        "import emoc_tf.annotation; emoc_tf.annotation.run()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.strip() == (
        f"error: emoc-annotate needs {missing}: pip install 'emoc_tf[annotate]'"
    )


def keep(tmp_path, monkeypatch, script, ends):
    """Runs workers of a script until so many have ended; returns what was heard."""
    real, begun = subprocess.Popen, []

    def popen(command, **settings):
        begun.append(process := real([sys.executable, "-c", script], **settings))
        return process

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr("emoc_tf.annotation.process._PAUSES", (0.0, 0.0, 0.0))
    heard = []

    def hear(told):
        heard.append(told)
        if sum(each["type"] == "ended" for each in heard) == ends:
            worker._closed.set()

    (tmp_path / "out").mkdir(exist_ok=True)
    settings = Settings("images", str(tmp_path / "out"))
    worker = WorkerProcess(settings, hear, lambda: {"lines": 3})
    worker._keep()
    assert all(pipe.closed for process in begun for pipe in (process.stdin, process.stdout))
    return heard, len(begun)


ECHO = (
    "import sys, json\nfor i in range(2):\n    line = json.loads(sys.stdin.readline())\n"
    "    print(json.dumps({'type': 'echo', 'line': line}), flush=True)\n"
)


def test_a_worker_is_told_settings_and_how_far_the_journal_is_safe(tmp_path, monkeypatch):
    heard, _ = keep(tmp_path, monkeypatch, ECHO, 1)
    assert heard[0]["line"]["images"] == "images" and heard[1]["line"] == {"lines": 3}
    assert heard[2]["text"] == "it ended with exit status 0"


def test_nothing_is_sent_before_the_settings(tmp_path, monkeypatch):
    class Lock:  # as if others sent something whenever they may
        def __init__(self):
            self.lock, self.others = threading.Lock(), []

        def __enter__(self):
            self.lock.acquire()

        def __exit__(self, *error):
            self.lock.release()
            if self.others:
                self.others.pop()()

    lock, make = Lock(), WorkerProcess.__init__

    def init(worker, *arguments):
        make(worker, *arguments)
        worker._lock = lock
        lock.others.append(lambda: worker.send({"lines": 9}))

    monkeypatch.setattr(WorkerProcess, "__init__", init)
    heard, _ = keep(tmp_path, monkeypatch, ECHO, 1)
    assert [told["line"].get("lines") for told in heard[:2]] == [None, 3]


def test_a_worker_that_is_killed_is_started_again(tmp_path, monkeypatch):
    script = ECHO + "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    heard, begun = keep(tmp_path, monkeypatch, script, 3)
    ended = [told for told in heard if told["type"] == "ended"]
    assert begun == 3 and {told["text"] for told in ended} == {"it was killed by SIGKILL"}


@pytest.mark.parametrize(
    ("end", "text"),
    [
        ("raise RuntimeError('out of luck')", "RuntimeError: out of luck"),
        ("print(json.dumps({'type': 'died', 'text': 'no room'}))\nsys.exit(1)", "no room"),
        ('print(\'{"type": "stat\')\nsys.exit(7)', "it ended with exit status 7"),
    ],
)
def test_why_it_died_is_told(tmp_path, monkeypatch, end, text):
    heard, _ = keep(tmp_path, monkeypatch, ECHO + end, 1)
    assert heard[-1] == {"type": "ended", "text": text, "fatal": False, "pause": 0.0}


def test_a_worker_that_cannot_be_started_is_told(tmp_path, monkeypatch):
    (tmp_path / "out" / "worker.log").mkdir(parents=True)
    heard, begun = keep(tmp_path, monkeypatch, ECHO, 2)
    assert begun == 0 and "worker.log" in heard[-1]["text"]


def test_the_worker_takes_no_modules_of_the_folder_and_lists_what_it_leaves_out(
    tmp_path, monkeypatch, images
):
    (images / "notes.txt").write_text("no image")
    (tmp_path / "queue.py").write_text("raise SystemExit('a script of somebody')")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    heard, over = [], threading.Event()

    def hear(told):
        heard.append(told)
        if told["type"] == "ended" or str(told.get("phase")).startswith("training"):
            over.set()

    begin = {"lines": 0, "reserve": 1, "shown": []}
    worker = WorkerProcess(Settings(str(images), str(tmp_path / "out")), hear, lambda: begin)
    worker.start()
    assert over.wait(120)
    worker.close()
    assert all(told["type"] != "ended" for told in heard), heard
    (warning,) = [told["text"] for told in heard if told["type"] == "warning"]
    assert warning.endswith("worker.log in the output folder lists them")
    assert "notes.txt  not a JPEG" in (tmp_path / "out" / "worker.log").read_text()


def test_settings_that_cannot_work_are_not_tried_again(tmp_path, monkeypatch):
    heard, begun = keep(tmp_path, monkeypatch, ECHO + f"sys.exit({WRONG})", 5)
    assert begun == 1 and heard[-1]["fatal"]


def test_a_training_that_diverged_goes_on_with_a_lower_rate(tmp_path, monkeypatch):
    heard, _ = keep(tmp_path, monkeypatch, ECHO + f"sys.exit({DIVERGED})", 2)
    rates = [told["line"]["config"]["learning_rate"] for told in heard[:-1]
             if told["type"] == "echo" and "config" in told["line"]]  # fmt: skip
    assert rates == pytest.approx([0.002, 0.0002])
    assert "learning_rate=0.0002" in next(t for t in heard if t["type"] == "ended")["text"]
