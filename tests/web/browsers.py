"""The command as a process of its own, and a real browser in front of it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import waitress
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from emoc_tf.annotation.server import make_app
from tests.annotation import desks

FAST = ("--image_size=16", "--set_size=9", "--update_iterations=4", "--pretrain_iterations=4",
        "--num_candidate_sets=20", "--agent=1-vs-2")  # fmt: skip
PATIENCE = 120


class Page:
    """`emoc-annotate` on a folder.

    Args:
        folder: Of images.
        out: Where it writes.
        *flags: More of them.
    """

    def __init__(self, folder, out, *flags):
        self.out = out
        self.command = [sys.executable, "-m", "emoc_tf.annotation", f"--images={folder}",
                        f"--output_dir={out}", "--nobrowser", *(flags or FAST)]  # fmt: skip
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        )
        told = []
        for line in self.process.stdout:
            told.append(line)
            if line.startswith("http://"):
                break
        else:
            raise AssertionError("".join(told))
        self.address = line.strip()
        self.base, _, self.token = self.address.partition("/?token=")
        # What it prints later is not read by anybody.
        subprocess.Popen(["cat"], stdin=self.process.stdout, stdout=subprocess.DEVNULL)

    def ask(self, path, told=None, seat="seat0001", **headers):
        """Sends a request; returns status and reply."""
        data = None if told is None else json.dumps(told).encode()
        request = urllib.request.Request(f"{self.base}/api/{path}", data=data)
        for name, value in {"X-Token": self.token, "X-Seat": seat, **headers}.items():
            request.add_header(name, value)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def wait_for(self, true, seat="seat0001"):
        """Waits until a state is as wanted; returns it."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            _, state = self.ask("state", seat=seat)
            if true(state):
                return state
            time.sleep(0.2)
        raise AssertionError(state)

    def lines(self):
        """The journal."""
        text = (self.out / "answers.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def kill(self):
        """Ends it as nothing can be ended more suddenly."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self):
        """Ends it as Ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def chromium():
    """A headless browser that writes down what it asks for."""
    options = webdriver.ChromeOptions()
    options.binary_location = os.environ.get("CHROMIUM") or shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
                     "--hide-scrollbars", "--window-size=1280,900", "--no-first-run",
                     "--disable-background-networking", "--disable-component-update"):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    # A machine that is busy may leave a page without processor time for long.
    driver.set_script_timeout(PATIENCE)
    driver.set_page_load_timeout(PATIENCE)
    resize(driver)
    try:
        yield driver
    finally:
        driver.quit()


def resize(driver, width=1280, height=900, dark=False):
    """Gives the browser a screen."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


@contextlib.contextmanager
def serving(service):
    """A server in a thread; the address of its page."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    app = make_app(service, desks.TOKEN, [f"127.0.0.1:{port}"], port)
    server = waitress.create_server(app, sockets=[listening], threads=8)
    threading.Thread(target=server.run, daemon=True).start()
    yield f"http://127.0.0.1:{port}/?token={desks.TOKEN}"
    server.close()
    server.task_dispatcher.shutdown()


def requests_of(driver):
    """The addresses that the browser has asked for since the last call."""
    found = []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            found.append(message["params"]["request"]["url"])
    return found


def errors_of(driver):
    """What went wrong in the page; replies that refuse something are no fault."""
    refused = "the server responded with a status of"
    logged = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    return [entry["message"] for entry in logged if refused not in entry["message"]]


def until(driver, script, *arguments):
    """Waits until a script returns something; returns it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = driver.execute_script(f"return {script}", *arguments)
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(script)


def text(driver, place):
    """What is written in an element."""
    return driver.execute_script("return document.getElementById(arguments[0]).textContent", place)


class Hands:
    """Somebody at the keyboard, who has no mouse."""

    def __init__(self, driver):
        self.driver, self.strokes = driver, 0

    def press(self, *keys):
        """Presses keys one after the other, wherever the focus is."""
        for key in keys:
            webdriver.ActionChains(self.driver).send_keys(key).perform()
            self.strokes += 1

    def type(self, text):
        self.press(*text)

    def together(self, first, second):
        """Holds a key and presses another one."""
        webdriver.ActionChains(self.driver).key_down(first).send_keys(second).key_up(
            first
        ).perform()
        self.strokes += 2

    def set(self):
        """The set on the screen: its id and the indices of its images; waits for one."""
        until(self.driver, "window.app.view.set && !window.app.view.busy")
        return self.driver.execute_script(
            "const s = app.view.set; return [s.query, s.images.map(i => i[0])]"
        )

    def next(self, query):
        """Waits until another set is on the screen."""
        until(self.driver, "app.view.set && app.view.set.query !== arguments[0]", query)

    def go_to(self, text):
        """Presses Tab until what bears a text has the focus."""
        for _ in range(80):
            self.press(Keys.TAB)
            here = self.driver.execute_script("return document.activeElement.innerText")
            if here.startswith(text):
                return
        raise AssertionError(f"{text!r} cannot be reached by Tab")

    def untick(self, place):
        """Goes from the name to an image, unticks it, and goes back."""
        self.press(Keys.ARROW_DOWN, Keys.HOME, *[Keys.ARROW_RIGHT] * place, " ", Keys.ESCAPE)


__all__ = ["By", "Hands", "Keys", "Page", "chromium", "errors_of", "requests_of", "resize",
           "serving", "text", "until"]  # fmt: skip
