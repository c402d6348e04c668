import dataclasses
import itertools
import re

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from emoc_tf.analysis import statistics
from emoc_tf.analysis.findings import gather
from emoc_tf.records.run_record import read_runs
from emoc_tf.report import drawing, effects, first_sets, plots
from tests.records.written import write


@pytest.fixture
def runs(tmp_path):
    for agent, gain in (("random", 0.0), ("emoc", 0.1), ("emoc:output=softmax", 0.2)):
        for seed in (0, 1):
            write(tmp_path, agent, seed, accuracies=(0.4, 0.5 + 0.1 * seed + gain, 0.7))
    return read_runs(tmp_path)


def test_figures_show_every_policy(runs, tmp_path):
    figure = plots.learning_curves(runs)
    left, right = figure.axes
    labels = [line.get_label() for line in left.lines]
    assert labels == ["random", "emoc", "emoc:output=softmax"]
    np.testing.assert_allclose(left.lines[0].get_ydata(), [0.4, 0.55, 0.7])
    np.testing.assert_allclose(right.lines[0].get_ydata(), [0, 1, 2])
    np.testing.assert_array_equal(left.lines[0].get_xdata(), [40, 45, 50])
    band = left.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(0.7)
    assert {0.5, 0.6} <= set(np.round(band[band[:, 0] == 45][:, 1], 9))
    styles = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in left.lines}
    assert len(styles) == 3
    assert figure.legends[0].get_title().get_text() == (
        "mean and standard error of 2 initialisations"
    )
    first = drawing.save(figure, tmp_path / "curves")
    again = drawing.save(plots.learning_curves(runs), tmp_path / "again")
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert [path.suffix for path in first] == [".png", ".svg"]
    assert all(path.stat().st_size > 5000 for path in first)


def test_many_variants_stay_apart(tmp_path):
    for number in range(12):
        write(tmp_path, f"emoc:references={number + 1}")
    lines = plots.learning_curves(read_runs(tmp_path)).axes[0].lines
    assert (
        len({(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}) == 12
    )


def test_differences_are_paired(runs, tmp_path):
    alone = write(tmp_path, "emoc", 2, accuracies=(0, 0, 0))  # a seed that random does not have
    (alone.path / "steps.csv").write_text(
        (alone.path / "steps.csv").read_text().replace("2,50,", "2,44,")
    )
    figure = plots.difference_curves(read_runs(tmp_path), "random")
    zero, emoc, _ = figure.axes[0].lines
    np.testing.assert_allclose(zero.get_ydata(), 0)
    np.testing.assert_allclose(emoc.get_ydata(), [0, 0.1, 0], atol=1e-12)
    np.testing.assert_allclose(emoc.get_xdata(), [40, 45, 50])
    assert not figure.axes[0].collections  # no interval of two pairs
    title = figure.legends[0].get_title().get_text()
    assert title == "mean paired difference over 2 initialisations"


def test_differences_have_intervals_from_five_pairs_on(tmp_path):
    rng = np.random.default_rng(0)
    values = {name: rng.normal(0.5, 0.1, (5, 3)) for name in ("random", "emoc")}
    for name, curves in values.items():
        for seed, curve in enumerate(curves):
            write(tmp_path, name, seed, accuracies=curve)
    figure = plots.difference_curves(read_runs(tmp_path), "random")
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    last = values["emoc"][:, 2] - values["random"][:, 2]
    found = sorted(set(band[band[:, 0] == 50][:, 1]))
    np.testing.assert_allclose(found, statistics.interval(last, 1999))
    assert (
        "5 initialisations, with pointwise 95% intervals"
        in figure.legends[0].get_title().get_text()
    )


def test_penalty_matrices_are_written_out(runs, tmp_path):
    for agent, gain in (("random", 0.0), ("emoc", 0.1), ("emoc:output=softmax", 0.2)):
        write(tmp_path, agent, 2, accuracies=(0.4, 0.3 + gain, 0.7))
    runs = read_runs(tmp_path)
    agents, matrix = statistics.penalties(runs, "test_accuracy")
    axes = drawing.panel(lambda axes: plots.penalty_matrix(axes, agents, matrix)).axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert len(texts) == 12
    assert texts[0] == texts[4] == texts[8] == "–"
    # The same gain at step 1 in each seed and none of them ahead at step 2.
    assert texts[9:] == ["0.00", "0.25", "0.50"]


def test_a_raster_shows_recalls_and_queries(runs):
    axes = drawing.panel(lambda axes: plots.class_raster(axes, runs[0], ["four", "two"])).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array()[..., 3], [[1] * 3, [1 / 3] * 3])
    dots = axes.lines[0]
    np.testing.assert_array_equal(dots.get_xdata(), [1, 2])
    np.testing.assert_array_equal(dots.get_ydata(), [0, 0])  # class 4 both times
    assert [label.get_text() for label in axes.get_yticklabels()] == ["four", "two"]


def test_seconds_are_medians_side_by_side(runs):
    runs[0].timings["training_seconds"][2] = 1e6  # a night's sleep
    axes = drawing.panel(lambda axes: plots.seconds(axes, runs)).axes[0]
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axes.containers}
    assert widths["training"] == [2, 2, 2]
    assert axes.get_legend().get_texts()[1].get_text() == "training"
    assert widths["choosing"] == [0.75] * 3
    lefts = [bar.get_x() for bar in axes.containers[1]]
    assert lefts == [0.75] * 3


def test_themed_pictures_have_no_black_or_white_of_their_own(runs):
    text = drawing.themed_svg(
        drawing.panel(lambda axes: plots.curves(axes, runs, "test_accuracy")), "x"
    )
    assert text.startswith("<svg")
    assert not re.search(r"#000000|#ffffff|: black|: white", text)
    assert "currentColor" in text
    assert "var(--page)" in text
    assert "#D55E00".lower() in text
    assert "font-family" not in text  # that of the page
    assert "rotate(-0" not in text
    assert "<text" in text and "text-anchor" in text and "font-size" in text


ODD = ["US$ 5_$", "$", r"\$x_{$", "a$b$"]


@pytest.mark.parametrize("text", ODD)
def test_names_of_classes_and_values_are_written_out(runs, tmp_path, text):
    raster = plots.class_figure(runs[:2], [text, "two"])
    drawing.save(raster, tmp_path / "classes")
    picture = np.zeros((4, 6, 3), np.uint8)
    queried = first_sets.QueriedSet(1, picture, text, True)
    policies = [first_sets.FirstSets(f"emoc:output={text}", [queried], "")]
    drawing.save(first_sets.draw(policies), tmp_path / "first")
    findings = {text: gather(tmp_path, [])}
    drawing.save(effects.draw(text, findings), tmp_path / "effects")
    for name in ("classes", "first", "effects"):
        assert (tmp_path / f"{name}.svg").stat().st_size > 1000


@pytest.mark.parametrize("text", ODD)
def test_names_of_policies_are_written_out(tmp_path, text):
    for agent in ("random", f"emoc:output={text}"):
        for seed in (0, 1):
            write(tmp_path, agent, seed)
    runs = read_runs(tmp_path)
    agents, matrix = statistics.penalties(runs, "test_accuracy")
    for draw in (
        lambda axes: plots.curves(axes, runs, "test_accuracy"),
        lambda axes: plots.seconds(axes, runs),
        lambda axes: plots.differences(axes, runs, f"emoc:output={text}", "test_accuracy"),
        lambda axes: plots.penalty_matrix(axes, agents, matrix),
        lambda axes: plots.class_raster(axes, runs[0], ["a", "b"]),
    ):
        drawing.save(drawing.panel(draw), tmp_path / "panel")
    drawing.save(plots.learning_curves(runs), tmp_path / "curves")


MANY = [
    "random", "min", "min-literal", "1-vs-2", "entropy", "novel", "emoc", "emoc-new",
    "emoc:output=softmax", "bait", "mine",
]  # fmt: skip


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    for place, agent in enumerate(MANY):
        for seed in (0, 1, 2):
            write(folder, agent, seed, accuracies=(0.4, 0.5 + 0.01 * place, 0.6 + 0.01 * seed))
    return read_runs(folder)


def named(axes):
    """Lines with a name by their widths: those of the panel, those that it refers to."""
    lines = [line for line in axes.lines if not line.get_label().startswith("_")]
    return (
        [line.get_label() for line in lines if line.get_linewidth() > 1],
        [line.get_label() for line in lines if line.get_linewidth() < 1],
    )


def test_many_policies_have_a_panel_a_family(many):
    figure = plots.learning_curves(many)
    panels = [axes for axes in figure.axes if axes.lines]
    assert len(panels) == 10
    first = [axes for axes in panels if axes.get_legend()]
    shown = {axes.get_legend().get_title().get_text(): named(axes) for axes in first}
    assert shown == {
        "uncertainty": (["min", "min-literal", "1-vs-2", "entropy"], ["random", "emoc"]),
        "novelty": (["novel"], ["random", "emoc"]),
        "EMOC": (["emoc", "emoc:output=softmax", "emoc-new"], ["random"]),
        "Bayesian": (["bait"], ["random", "emoc"]),
        "policies of your own": (["mine"], ["random", "emoc"]),
    }
    for axes in panels:
        assert len(axes.lines) == len(MANY)
        (grey,) = {line.get_color() for line in axes.lines if line.get_label().startswith("_")}
        assert grey == "#888888"
        full, thin = named(axes)
        assert len(axes.collections) == len(full)  # bands of the panel's own only
        for line in axes.lines:
            if line.get_label() in full + thin:
                colour, _, dashes = drawing.style(line.get_label(), MANY)
                assert (line.get_color(), line.get_linestyle()) == (colour, dashes)
    # Panels of one measure have one range, so that they can be compared.
    assert len({axes.get_ylim() for axes in panels}) == 2
    assert {axes.get_ylim()[1] > 1 for axes in first} == {False}


def test_a_variant_alone_is_what_panels_refer_to(many):
    named_so = {"emoc": "emoc:references=9", "emoc-new": "egl", "emoc:output=softmax": "badge"}
    runs = [dataclasses.replace(run, agent=named_so.get(run.agent, run.agent)) for run in many]
    panels = [axes for axes in plots.learning_curves(runs).axes if axes.get_legend()]
    shown = {axes.get_legend().get_title().get_text(): named(axes) for axes in panels}
    assert shown["novelty"] == (["novel"], ["random", "emoc:references=9"])
    assert shown["EMOC"] == (["emoc:references=9"], ["random"])


def test_names_above_a_panel_stay_within_its_width(many):
    figure = plots.learning_curves(many)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axes in figure.axes:
        if axes.get_legend():
            legend = axes.get_legend().get_window_extent(canvas.get_renderer())
            assert legend.x1 <= axes.get_window_extent().x1 + 10


def test_names_beside_panels_stay_beside_them(many):
    long = "lookahead:learning_rate=0.01:iterations=250:references=256"
    runs = [r if r.agent != "mine" else dataclasses.replace(r, agent=long) for r in many]
    for few, baseline in ((runs, long), (many, "random")):
        figure = plots.difference_curves(few, baseline)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        left = [axes for axes in figure.axes if axes.get_ylabel()]
        extents = [axes.yaxis.label.get_window_extent(canvas.get_renderer()) for axes in left]
        assert len(extents) > 1
        for axes, extent in zip(left, extents, strict=True):
            assert baseline == long or extent.height <= axes.get_window_extent().height
        assert not any(a.overlaps(b) for a, b in itertools.combinations(extents, 2))


def test_up_to_eight_policies_are_together(many):
    eight = [run for run in many if run.agent in MANY[:8]]
    figure = plots.learning_curves(eight)
    assert len(figure.axes) == 2
    assert named(figure.axes[0])[0] == MANY[:8]
    assert figure.legends


@pytest.mark.parametrize("baseline", ["random", "emoc", "mine", "entropy"])
def test_differences_of_many_policies_leave_out_the_baseline(many, baseline):
    figure = plots.difference_curves(many, baseline)
    panels = [axes for axes in figure.axes if axes.get_legend()]
    full = [name for axes in panels for name in named(axes)[0]]
    assert sorted(full) == sorted(set(MANY) - {"random", baseline})
    for axes in panels:
        assert baseline not in [name for names in named(axes) for name in names]
        assert set(named(axes)[1]) <= {"random", "emoc"} - {baseline}
        assert len(axes.lines) == len(MANY)  # the baseline is the line at 0


def test_rasters_of_many_policies_stand_in_rows(many):
    rasters = plots.with_recalls(many, 0)
    figure = plots.class_figure(rasters, ["four", "two"])
    assert [axes.get_title() for axes in figure.axes if axes.images] == [r.agent for r in rasters]
    grid = figure.axes[0].get_gridspec()
    assert (grid.nrows, grid.ncols) == (2, 6)
    texts = [[label.get_text() for label in axes.get_yticklabels()] for axes in figure.axes]
    assert texts[0] == texts[6] == ["four", "two"]
    assert set(map(tuple, texts[1:6])) == {("", "")}
    eight = plots.class_figure(rasters[:8], ["four", "two"])
    assert (eight.axes[0].get_gridspec().nrows, len(eight.axes)) == (1, 8)


def test_texts_of_a_penalty_matrix_stay_in_their_cells():
    for count in (2, 8, 9, 21):
        agents = [f"emoc-expected-{i}" for i in range(count)]
        figure = plots.penalty_figure([(agents, np.full((count, count), 0.25))] * 2)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        for axes in figure.axes:
            cell = axes.transData.transform([(0, 0), (1, 1)])
            width, height = np.abs(np.diff(cell, axis=0)[0])
            for text in axes.texts:
                box = text.get_window_extent(canvas.get_renderer())
                assert box.width < width, count
                assert box.height < height, count


def test_first_sets_of_many_policies_stand_side_by_side():
    picture = np.zeros((6, 4, 3), np.uint8)
    for count, across in ((1, 4), (8, 4), (9, 8), (21, 8)):
        policies = [
            first_sets.FirstSets(
                f"policy-{i}",
                [first_sets.QueriedSet(s + 1, picture, "a", False) for s in range(4)],
                "",
            )
            for i in range(count)
        ]
        figure = first_sets.draw(policies)
        assert figure.axes[0].get_gridspec().ncols == across
        shown = [axes for axes in figure.axes if axes.images]
        assert len(shown) == 4 * count
        names = [axes.get_ylabel() for axes in shown if axes.get_ylabel()]
        assert names == [f"policy-{i}" for i in range(count)]


@pytest.mark.parametrize(("shown", "grid"), [(MANY[:8], (1, 2)), (MANY, (2, 1))])
def test_what_a_setting_does_to_many_policies_is_drawn_wide(tmp_path, shown, grid):
    for agent in shown:
        write(tmp_path, agent)
    axes = effects.draw("momentum", {0.1: gather(tmp_path)}).axes[0]
    assert (axes.get_gridspec().nrows, axes.get_gridspec().ncols) == grid
    assert len(axes.containers) == len(shown)
