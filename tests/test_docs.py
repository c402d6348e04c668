"""What the pages promise: links lead somewhere, scripts run."""

import re

import pytest

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


def test_the_script_that_keeps_answers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert script.count("\n...\n") == 1
    env = ActiveExplorationEnv(**SHRUNK)
    env.reset(seed=0)
    exec(script.replace("\n...\n", "\n_, _, _, _, info = env.step(1)\n"), names := {"env": env})
    # The file is that of the answer, from before it was learnt: the step is made again.
    assert env.outcome.test_accuracy == names["info"]["test_accuracy"]
    assert env.outcome.step == 1
