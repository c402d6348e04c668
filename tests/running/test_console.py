"""What the commands show: bars and colours in a terminal, plain lines in a file."""

import io
import os
import re

import pytest
from rich.console import Console
from rich.table import Table

from emoc_tf import ExplorationConfig
from emoc_tf.exploration.outcome import StepOutcome
from emoc_tf.running.console import Display, shows_bars

CONFIG = ExplorationConfig(max_steps=2)
RUN = ("emoc", 0)
COLOURS = re.compile(r"\x1b\[[\d;]*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[\d;]*m")


def shown(console):
    """What a run of two steps, a warning's line and a table look like."""
    with Display(console, CONFIG, 1, bar=True) as display:
        for step in range(3):
            outcome = StepOutcome.__new__(StepOutcome)
            numbers = {"step": step, "test_accuracy": 0.5, "discovered_classes": 1}
            numbers |= {"answer_accuracy": None, "audit_accuracy": None}
            for name, value in numbers.items():
                object.__setattr__(outcome, name, value)
            display.show(RUN, outcome, 0.1, "cat")
        display.end_run()
    table = Table("policy", title="Table")
    table.add_row("[bold red]emoc")
    console.print(table)
    return console.file.getvalue()


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.mark.parametrize("variables", [{}, {"FORCE_COLOR": "1"}, {"TTY_INTERACTIVE": "1"}])
def test_a_file_gets_a_line_a_step_and_no_bar(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    text = shown(Console(file=io.StringIO()))
    if "FORCE_COLOR" not in variables:  # who forces colours gets them, in the table
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    assert not re.search(r"\x1b\[[\d;?]*[A-HJKhl]|\r", text)
    assert "━" not in text.partition("Table")[0]
    assert len(re.findall(r"^emoc  seed 0  step \d/2  accuracy 0.500", text, re.M)) == 3
    assert len(text.partition("Table")[0].splitlines()) <= 4


def test_a_terminal_gets_a_bar_and_colours():
    console = Console(file=Terminal())
    assert shows_bars(console)
    text = shown(console)
    assert "━" in text.partition("Table")[0] and COLOURS.search(text)


def test_no_color_turns_colours_off(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    text = shown(Console(file=Terminal()))
    assert "━" in text and not COLOURS.search(text)


def test_a_terminal_without_abilities_gets_no_bar(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in shown(Console(file=Terminal(), color_system="auto"))


def test_a_notebook_gets_lines_and_no_bar():
    console = Console(file=io.StringIO(), force_jupyter=True)
    assert not shows_bars(console)
    assert os.environ["TERM"] == "xterm-256color"


def test_a_file_that_cannot_say_what_it_is_is_no_terminal():
    class Sink:
        def write(self, text):
            pass

        def flush(self):
            pass

    assert not shows_bars(Console(file=Sink(), force_terminal=True))
