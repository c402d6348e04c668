"""What the pages promise: links lead somewhere, scripts run."""

import dataclasses
import re

import keras
import numpy as np
import pytest

from emoc_tf import ImageData
from emoc_tf.analysis.families import FAMILIES
from emoc_tf.envs import ActiveExplorationEnv
from tests import ROOT
from tests.envs.test_active_exploration import SHRUNK

PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "results/**/*.md")
    for path in ROOT.glob(pattern)
)


def anchors(text):
    """The names that headings of a page can be linked by, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_are_pages():
    assert {"README.md", "RESULTS.md", "BUILD_NOTES.md", "docs/experiments.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = ((ROOT / page).parent / name) if name else ROOT / page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), target


def test_the_tables_of_policies_are_whole():
    page = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| ([A-Za-z][\w ]*) \|", page, re.M)
    assert rows == [(name, family) for family, names in FAMILIES.items() for name in names]
    costs = page.partition("## What a choice costs")[2].partition("## References")[0]
    named = re.findall(r"`([\w-]+)`", costs.partition("|---")[2])
    assert sorted(named) == sorted(name for names in FAMILIES.values() for name in names)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for family, names in FAMILIES.items():
        assert f"| {family} | {', '.join(f'`{name}`' for name in names)} |" in readme


def script_with(mark, page="experiments"):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    (script,) = (s for s in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if mark in s)
    return script


def test_the_script_that_compares_your_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    pixels = rng.integers(256, size=(400, 6, 6, 1), dtype=np.uint8)
    part = ImageData(pixels, np.arange(400) % 5, tuple("abcde"))
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    script, _, last = script_with("environment=environment").partition("compare(grid")
    assert last
    exec(script, names := {"train": part, "test": part, "model": model})
    few = {"pretrain_iterations": 2, "update_iterations": 2, "max_steps": 1, "learning_rate": 1e-5}
    grid = dataclasses.replace(names["grid"], config=names["grid"].config.replace(**few))
    findings, failed = names["compare"](grid, ["random"], [0], names["Console"]())
    assert not failed
    assert findings.finished[0].environment["environment"]


def test_the_script_that_keeps_answers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = script_with("on_query")
    assert script.count("\n...\n") == 1
    env = ActiveExplorationEnv(**SHRUNK)
    env.reset(seed=0)
    exec(script.replace("\n...\n", "\n_, _, _, _, info = env.step(1)\n"), names := {"env": env})
    # The file is that of the answer, from before it was learnt: the step is made again.
    assert env.outcome.test_accuracy == names["info"]["test_accuracy"]
    assert env.outcome.step == 1


def test_the_script_of_learners():
    script, _, last = script_with("FitLearner.maker", "environment").partition("env = ")
    assert "learner=learner" in last
    exec(script, names := {})
    env = ActiveExplorationEnv(**SHRUNK | {"pretrain_iterations": 1}, learner=names["learner"])
    assert np.isfinite(env.reset(seed=0)[1]["test_accuracy"])
