import csv
import html.parser
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from emoc_tf import agents
from emoc_tf.analysis.findings import gather
from emoc_tf.analysis.measures import Estimate
from emoc_tf.experiments import comparison
from emoc_tf.records.run_record import read_runs
from emoc_tf.report import page as page_module
from emoc_tf.report import tables
from emoc_tf.report.write import PAGE
from tests.records.written import write


def report(folder, **settings):
    """Returns what is printed and the page."""
    console = Console(record=True, width=300)
    comparison.report(folder, console, **settings)
    return console.export_text(), (folder / PAGE).read_text()


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Six seeds of three policies; emoc is ahead in every one."""
    folder = tmp_path_factory.mktemp("grid")
    rng = np.random.default_rng(0)
    for seed in range(6):
        level = rng.normal(0.5, 0.1)
        for agent, ahead in (("random", 0.0), ("emoc", 0.1), ("a&b", -0.1)):
            curve = level + np.array([0, ahead, ahead]) + rng.normal(0, 0.001, 3) * [0, 1, 1]
            write(folder, agent, seed, accuracies=curve)
    return folder, *report(folder, latex=True)


class Reader(html.parser.HTMLParser):
    """Collects tags that are open at the end, what is loaded, and table rows."""

    VOID = ("meta", "img", "br", "line", "link", "input", "hr")

    def __init__(self, text):
        super().__init__()
        self.open, self.loaded, self.rows, self.ids = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "srcset"):
                self.loaded.append(value)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] in ("td", "th", "small") and self.rows:
            self.rows[-1].append(text.strip())


def test_the_page_is_whole_and_needs_no_network(grid):
    _, _, page = grid
    reader = Reader(page)
    assert reader.open == []
    assert reader.ids
    assert len(set(reader.ids)) == len(reader.ids)
    assert all(re.match(r"#|data:image/", target) for target in reader.loaded), reader.loaded
    assert "@import" not in page
    assert "url(http" not in page
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    for heading in (
        "Results", "Learning and discovery", "Difference to random", "Difference to emoc",
        "Who beats whom", "Labels needed", "Which classes, and when",
        "The first sets that each policy chose", "Where the time goes", "What was run",
    ):  # fmt: skip
        assert f"<h2>{heading}</h2>" in page
    assert "<a&b" not in page
    assert f"<dt>random</dt><dd>{agents.describe('random')}</dd>" in page
    assert "<dt>a&amp;b</dt><dd>a policy that is not the library" in page
    assert "a&amp;b" in page


def test_the_page_shows_the_numbers(grid):
    folder, _, page = grid
    rows = [row for row in Reader(page).rows if row]
    findings = gather(folder)
    best = findings.summaries[0]
    cell = best.final_accuracy.text(3).replace("±", " ± ")
    assert ["emoc", "6", cell] in [row[:3] for row in rows]
    tested = findings.differences["random", "accuracy_area"][0]
    assert tested.agent == "emoc"
    assert tested.p_corrected == pytest.approx(4 / 64)  # two policies, six pairs
    mean, interval = tables.difference(tested).split(" ", 1)  # on lines of their own
    cells = ["emoc", "6", mean, interval, tables.p_value(tested.p_corrected)]
    assert cells in [row[:5] for row in rows]
    saved = next(row for row in findings.saved["random"] if row.agent == "emoc")
    text = tables.with_interval(saved.labels, saved.low, saved.high, 0)
    assert text.startswith("+")
    needed = next(row for row in rows if row[0] == "emoc" and row[2] == "6 of 6")
    assert text in " ".join(needed)
    assert ["dataset", "digits"] in rows
    assert any(row[0] == "version of tensorflow" for row in rows)


def test_all_differences_are_in_a_table_of_their_own(grid):
    folder, _, _ = grid
    with open(folder / "differences.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    # Baselines, other policies, measures and the labels saved.
    assert len(rows) == 2 * 2 * (4 + 1)
    saved = next(row for row in gather(folder).saved["random"] if row.agent == "emoc")
    row = next(
        r for r in rows
        if (r["agent"], r["baseline"], r["measure"]) == ("emoc", "random", "labels_saved")
    )  # fmt: skip
    assert (float(row["mean"]), row["p"]) == (pytest.approx(saved.labels, rel=1e-5), "nan")
    row = next(
        r for r in rows
        if (r["agent"], r["baseline"], r["measure"]) == ("emoc", "random", "final_accuracy")
    )  # fmt: skip
    assert float(row["low"]) < 0.1 < float(row["high"])
    assert float(row["p"]) == pytest.approx(2 / 64)


def test_the_console_shows_tables_and_what_pairs_can_show(grid):
    _, printed, _ = grid
    assert "difference" in printed
    assert re.search(r"emoc +6 +\+0\.075 \[0\.07\d, 0\.07\d\] +0\.062", printed)
    assert "corrected by Holm; here it is at least 0.062, so that no difference can" in printed


@pytest.mark.parametrize("name", ["emoc", "lookahead:iterations=250:references=256"])
def test_no_number_is_cut_in_80_characters(grid, name):
    found = gather(grid[0])
    wide = {"low": -15.36, "mean": -8.91, "high": -13.65, "p_corrected": 4.7e-08}
    for key, rows in found.differences.items():
        found.differences[key] = [replace(row, agent=name, **wide) for row in rows[:1]]
    seconds = Estimate(1234.56, np.nan)
    found.summaries[0] = replace(found.summaries[0], agent=name, update_seconds=seconds)
    console = Console(record=True, width=80)
    console.print(tables.difference_table(found, "random"))
    console.print(tables.summary_table(found))
    printed = console.export_text()
    assert printed.count("4.7e-08") == printed.count("−13.65") == 2
    assert "1234.56" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_latex(grid):
    folder, _, _ = grid
    text = (folder / "table.tex").read_text()
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") - line.count(r"\&") for line in lines} == {7}
    assert r"a\&b" in text
    assert r" \pm " in text
    assert "$+0.075 [" in text


def test_penalties_are_shown_where_there_are_tests(grid, tmp_path):
    folder, _, page = grid
    assert "steps at which" in page
    assert (folder / "penalties.png").exists()
    for agent in ("random", "emoc"):
        for seed in range(2):
            write(tmp_path, agent, seed)
    _, page = report(tmp_path)
    assert "Not tested: no two policies have 3 initialisations in common" in page
    assert "steps at which" not in page
    assert not (tmp_path / "penalties.png").exists()


def test_letters_are_of_one_size(grid):
    """No picture is drawn wider than its inches at a common scale."""
    _, _, page = grid
    widths = re.findall(r'style="max-width: ([\d.]+)rem" [^>]*width="([\d.]+)pt"', page)
    assert len(widths) > 8
    for rem, points in widths:
        assert float(rem) / float(points) == pytest.approx(6.6 / 72, rel=0.01)


def test_a_page_shows_rasters_of_the_fullest_initialisations(tmp_path, monkeypatch):
    for agent, seeds in (("random", 3), ("min", 3), ("emoc", 2)):
        for seed in range(3 - seeds, 3):
            write(tmp_path, agent, seed)
    _, page = report(tmp_path)
    assert page.count("<summary>initialisation") == 3 and "left out" not in page
    rows = len(read_runs(tmp_path)[0].classes)
    for most, shown in ((6 * rows, [1, 2]), (5 * rows, [1]), (1, [1])):
        monkeypatch.setattr(page_module, "_MOST_ROWS", most)
        _, page = report(tmp_path)
        assert re.findall(r"<summary>initialisation (\d)", page) == [str(seed) for seed in shown]
        left = "1 more initialisation is left out" if len(shown) == 2 else "2 more initialisations"
        assert left in page


def test_the_page_of_many_policies_goes_family_by_family(tmp_path):
    names = ["random", "min", "max", "1-vs-2", "entropy", "novel", "emoc", "bald", "egl", "mine"]
    for agent in names:
        for seed in range(1):
            write(tmp_path, agent, seed)
    _, page = report(tmp_path)
    reader = Reader(page)
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    sections = re.findall(
        r"<section><h3>([^<]*)</h3>\s*<div class=\"legend\".*?</section>", page, re.S
    )
    own = ["uncertainty", "novelty", "EMOC", "Bayesian", "gradient length", "policies of your own"]
    assert sections == own + own + [family for family in own if family != "EMOC"]
    curves = re.search(r"<section><h3>novelty</h3>.*?</section>", page, re.S)[0]
    assert re.findall(r"</svg>([\w-]+)</span>", curves) == ["random", "novel", "emoc"]
    assert curves.count("<figure>") == 2
    assert "<h3>uncertainty</h3>\n<dl><dt>min</dt>" in page


def test_a_page_of_many_policies_of_which_few_are_compared_is_whole(tmp_path):
    """Curves of few have a key, and what is said of lines is so: two variants, no plain emoc."""
    few = ["random", "emoc:references=9", "badge"]
    for agent in (*few, "emoc:labels=image", "min", "max", "1-vs-2", "entropy", "egl"):
        for seed in range(7 if agent in few else 2):
            write(tmp_path, agent, seed)
    _, page = report(tmp_path, baselines=["emoc:references=9", "random"])
    learning, *differences, _ = re.split("<h2>(?=Learn|Diff|Who)", page)[1:]
    assert re.findall(r"</svg>([\w:=-]+)</span>", learning) == few
    assert "grey" not in learning
    to_emoc, to_random = differences
    assert "Policies of other families are grey, random thin.</p>" in to_emoc
    assert "Policies of other families are grey.</p>" in to_random
    assert "9 policies, 2 to 7 initialisations</h1>" in page
    variants = f"A variant. Plain emoc: {agents.describe('emoc')}</dd>".replace("'", "&#39;")
    assert page.count(variants) == 2
    saved = next(row for row in gather(tmp_path).saved["random"] if row.agent == "min")
    assert saved.pairs == 2
    cells = ["–"] * 4 + ["0"] * 2
    assert ["min*", *cells] in Reader(page).rows
