"""What the pages promise: links lead somewhere, scripts run, messages are those of the library."""

import ast
import dataclasses
import json
import re
import runpy

import keras
import numpy as np
import pytest

from emoc_tf import ImageData
from emoc_tf.agents import registry
from emoc_tf.analysis.families import FAMILIES
from emoc_tf.envs import ActiveExplorationEnv
from tests import ROOT
from tests.envs.test_active_exploration import SHRUNK

PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "docs/reference/*.md", "results/**/*.md")
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
    script, _, last = script_with("FitLearner.maker", "model").partition("env = ")
    assert "learner=learner" in last
    exec(script, names := {})
    env = ActiveExplorationEnv(**SHRUNK | {"pretrain_iterations": 1}, learner=names["learner"])
    assert np.isfinite(env.reset(seed=0)[1]["test_accuracy"])


@pytest.mark.parametrize("page", ["tour", "model", "own-policy", "large", "mathematics"])
def test_the_programs_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    text = re.sub(r"<!-- not run.*?-->\n```python\n.*?```", "", text, flags=re.DOTALL)
    programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert programs
    names = {"__name__": "__main__"}
    try:
        for program in programs:
            exec(compile(program, page, "exec"), names)
    finally:
        registry.AGENTS.pop("far", None)


# Of TensorFlow, Python and systems, as they were seen.
FOREIGN = {
    "Could not find cuda drivers",
    "failed call to cuInit",
    "This TensorFlow binary is optimized to use available CPU instructions",
    "oneDNN custom operations are on",
    "Unable to register cuDNN factory",
    "computation placer already registered",
    "OOM when allocating tensor",
    "5 out of the last 5 calls to … triggered tf.function retracing",
    "An attempt has been made to start a new process before the current process has finished "
    "its bootstrapping phase",
}


def test_messages_that_are_explained_are_messages():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = {m for line in re.findall(r"^### (.*`.*)$", page, re.M) for m in line.split("`")[1::2]}
    assert quoted > FOREIGN
    nodes = (
        node
        for folder in ("emoc_tf", "envs", "agents")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )
    texts = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    for message in quoted - FOREIGN:
        for part in filter(None, (part.strip(" ,;") for part in message.split("…"))):
            assert any(part in text for text in texts), message


def sentences(text):
    """The sentences of a page, without code, tables and formulas, which count as a word.

    A colon and a semicolon end none: what they join is read in one breath.
    """
    text = re.sub(r"```.*?```|<!--.*?-->", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$|`[^`]*`", "it", text, flags=re.DOTALL)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text):
        block = " ".join(block.split())
        if block and not block.startswith(("|", "#")):
            yield from re.split(r"(?<=[.!?])[\"')*]*\s+", block)


@pytest.mark.parametrize(
    "page", ["README.md", "RESULTS.md", *(page for page in PAGES if page.startswith("docs/"))]
)
def test_sentences_are_short(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    found = [(len(re.findall(r"[\w'’/–-]+", each)), each) for each in sentences(text)]
    assert not [each for words, each in found if words > 40]
    assert sum(words for words, _ in found) / len(found) < 20


def test_the_readme_is_for_five_minutes():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 900


@pytest.mark.parametrize(
    ("tex", "there", "not_there"),
    [
        (r"\hat x_{sc}", r"<msub>\s*<mover.*ˆ.*</mover>\s*<mrow>.*</msub>", "munder"),
        (r"\sum_{i=1}^n", "<munderover>", "msub"),
        (r"\langle a \rangle", r'(<mo stretchy="false">[⟨⟩]</mo>.*){2}', "<mo>"),
        (r"\Bigl\langle a", r"<mo [^>]*minsize=[^>]*>⟨", "stretchy"),
        (r"\log p", "rspace=.*<mi>p", "&Apply"),
        (r"\log(p)", "<mi>p", "rspace"),
        ("y'", "<mo>′</mo>", "'"),
    ],
)
def test_formulas_are_as_tex_has_them(tex, there, not_there):
    pytest.importorskip("docutils", reason="comes with the extra docs")
    written = runpy.run_path(str(ROOT / "docs" / "conf.py"))["mathml"](tex)
    assert re.search(there, written, re.DOTALL), written
    assert not_there not in written


@pytest.mark.parametrize(
    "file", sorted((ROOT / "docs" / "tutorials").glob("*.ipynb")), ids=lambda p: p.stem
)
def test_notebooks_are_stripped(file):
    """`make docs` executes them: what they print is never old."""
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
