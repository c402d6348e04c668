"""What a person finds on the way in: a page in each large folder, and the index of decisions."""

import re

import pytest

from tests import ROOT

LARGE = 6
TREES = ("emoc_tf", "agents", "envs", "examples", "benchmarks")
FOLDERS = sorted(
    {file.parent.relative_to(ROOT) for tree in TREES for file in (ROOT / tree).rglob("*.py")}
)


def modules(folder):
    return {file.stem for file in (ROOT / folder).glob("*.py")} - {"__init__"}


def named(page):
    return set(re.findall(r"`([\w./-]+?)/?`", page))


@pytest.mark.parametrize("folder", [f for f in FOLDERS if len(modules(f)) >= LARGE], ids=str)
def test_the_page_of_a_large_folder_names_every_module_and_no_other(folder):
    page = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    known = named(page)
    assert modules(folder) <= known, modules(folder) - known
    inside = {path.name for path in (ROOT / folder).iterdir()}
    for name in known:
        if re.fullmatch(r"[a-z]+_[a-z_]+", name) and name not in modules(folder):
            assert name in inside or name in {"true_change"}, f"{name} is gone"
    assert len(page.splitlines()) <= 16


@pytest.mark.parametrize("folder", ["results", "tests"])
def test_other_folders_are_named_as_well(folder):
    page = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    inside = {path.name for path in (ROOT / folder).iterdir() if path.is_dir()}
    inside = {name for name in inside if not name.startswith(("_", "."))}
    if folder == "tests":
        inside |= modules(folder)
    assert inside <= named(page), inside - named(page)


def test_build_notes_are_the_index_of_decisions():
    notes = (ROOT / "BUILD_NOTES.md").read_text(encoding="utf-8")
    listed = re.findall(r"\]\(docs/decisions/(.+?)\)", notes)
    there = {path.name for path in (ROOT / "docs" / "decisions").glob("*.md")}
    assert sorted(listed) == sorted(there)
    for name in there:
        text = (ROOT / "docs" / "decisions" / name).read_text(encoding="utf-8")
        heads = [f"**{head}.** " for head in ("Context", "Decision", "Consequence")]
        assert all(text.count(head) == 1 for head in heads), name


def test_pages_of_folders_and_decisions_have_links_that_lead_somewhere():
    pages = [ROOT / folder / "README.md" for folder in (*TREES, "results", "tests")]
    for page in [*pages, *(ROOT / "docs" / "decisions").glob("*.md")]:
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            file, _, section = target.partition("#")
            assert target.startswith("https://") or (page.parent / file).exists(), target
            if section:
                titles = re.findall(r"^#+ (.+)$", (page.parent / file).read_text("utf-8"), re.M)
                assert section in {title.lower().replace(" ", "-") for title in titles}, target
