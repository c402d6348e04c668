"""Several settings side by side: names as they are, and one style for a policy."""

import io

import pytest
from rich.console import Console

from emoc_tf.report import drawing
from tests import benchmark
from tests.records.written import CONFIG, write

NAME = "a$b$ [x]"


@pytest.fixture(scope="module")
def across():
    return benchmark("across")


@pytest.fixture
def settings(tmp_path, across):
    folder = tmp_path / NAME
    for agent in ("emoc:references=9", "emoc:references=3", "random"):
        for seed in (0, 1):
            write(folder, agent, seed)
    return across.read({NAME: str(folder)}, "emoc:references=9")


def test_names_are_written_out(across, settings):
    printed = io.StringIO()
    Console(file=printed, width=200).print(across.table(settings[0], "emoc:references=9"))
    assert NAME in printed.getvalue()
    (panel,) = across.draw(settings, "emoc:references=9").axes
    assert panel.get_title().startswith(NAME.replace("$", r"\$"))


def test_a_table_has_the_baselines_means_and_what_runs_cost(across, settings):
    printed = io.StringIO()
    Console(file=printed, width=200).print(across.table(settings[0], "emoc:references=9"))
    rows = [line.split() for line in printed.getvalue().splitlines()]
    (own,) = [row for row in rows if row[:1] == ["emoc:references=9"]]
    # Three steps of 3 s and choices of 0.5 and 1 s; accuracies 0.4, 0.5, 0.7, a class a step.
    assert own[1:] == ["2", "0.525", "0.700", "1.00", "2.0", "–", "0.75", "0.15"]
    heading, *others = across.to_rows(settings)
    assert heading[-2:] == ["seconds_per_choice", "minutes_per_run"]
    assert {tuple(row[-2:]) for row in others} == {("0.75", "0.15")}


def test_a_variant_beside_that_it_is_compared_with_is_not_drawn_as_the_policy(across, settings):
    (panel,) = across.draw(settings, "emoc:references=9").axes
    colours = {line.get_color() for line in panel.lines}
    assert drawing.style("random", ["random"])[0] in colours
    assert drawing.style("emoc", ["emoc"])[0] not in colours


def test_runs_that_ended_early_and_wrong_answers_are_told(tmp_path, across):
    config = CONFIG.replace(max_steps=4, wrong_answers=0.25)
    write(tmp_path, "random", 0, config, accuracies=(0.4, 0.5, 0.6, 0.7, 0.8), rows=5)
    ended = write(tmp_path, "emoc", 0, config, accuracies=(0.4, 0.5, 0.9), rows=3)
    ended.finish("right=2")
    (setting,) = across.read({"early": str(tmp_path)}, "random")
    # As in a report: both after two steps.
    assert setting.differences["emoc"]["final_accuracy"].mean == pytest.approx(0.3)
    assert "The runs have 2 to 4 steps" in setting.notes[0]
    assert "25% are wrong" in setting.notes[1]
    assert setting.costs["random"][1] == pytest.approx(5 * 3 / 60)


@pytest.fixture
def two(tmp_path, across):
    """A policy that has another variant in each of two folders, and two variants of one policy."""
    for name, agents in {
        "a=b": ("emoc", "herding:images=3", "novel"),
        "c": ("emoc:references=3", "herding:images=3", "novel", "novel:a=1"),
    }.items():
        for agent in ("random", *agents):
            write(tmp_path / name, agent, 0)
    return tmp_path


def test_lone_variants_share_the_row_of_their_policy(two, across):
    settings = across.read({"a": str(two / "a=b"), "c": str(two / "c")}, "random")
    figure = across.draw(settings, "random")
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert [name for name in names if ":" in name] == ["novel:a=1", "herding:images=3"]
    assert {"emoc", "novel"} < {*names}
    left, right = (
        dict.fromkeys(line.get_ydata()[0] for line in axes.lines) for axes in figure.axes
    )
    assert names.index("emoc") in left
    assert names.index("emoc") in right
    emoc = drawing.style("emoc", ["emoc"])[0]
    assert all(emoc in {line.get_color() for line in axes.lines} for axes in figure.axes)


def test_some_policies_and_titles(two, across):
    assert across.titled(f"x={two / 'a=b'}") == ("x", str(two / "a=b"))
    assert across.titled("x=y=nothing") == ("x=y", "nothing")
    folders = dict(map(across.titled, [f"two words={two / 'c'}", str(two / "a=b")]))
    assert folders == {"two words": str(two / "c"), "a=b": str(two / "a=b")}
    first, second = across.read(folders, "random", ["emoc", "novel"])
    assert [*first.differences] == ["novel"]
    assert {*second.differences} == {"emoc", "novel"}
    with pytest.raises(ValueError, match="only_agents: expected some of"):
        across.read(folders, "random", ["bald"])


def test_some_initialisations(tmp_path, across):
    for seed, last in ((0, 0.7), (1, 0.6), (2, 0.9)):
        write(tmp_path, "random", seed)
        write(tmp_path, "emoc", seed, accuracies=(0.4, 0.5, last))
    (setting,) = across.read({"a": str(tmp_path)}, "random", seeds=[1, 2])
    assert setting.differences["emoc"]["final_accuracy"].pairs == 2
    assert setting.differences["emoc"]["final_accuracy"].mean == pytest.approx(0.05)
    with pytest.raises(ValueError, match="only_seeds: expected some of"):
        across.read({"a": str(tmp_path)}, "random", seeds=[1, 3])
    # Not that the baseline has no runs: it has, of others.
    with pytest.raises(ValueError, match=r"only_seeds: expected some of \[0, 1, 2\], got 7"):
        across.read({"a": str(tmp_path)}, "random", seeds=[7])
    write(tmp_path, "emoc", 3)
    with pytest.raises(ValueError, match=r"'random' in .*, initialisations \[3\]"):
        across.read({"a": str(tmp_path)}, "random", seeds=[3])
