"""Panels and figures from run records."""

import math
from collections.abc import Container, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from emoc_tf.analysis import families
from emoc_tf.analysis.measures import CURVES, by_agent
from emoc_tf.analysis.statistics import MIN_PAIRS, interval
from emoc_tf.analysis.untested import ACCURACIES
from emoc_tf.data.figures import literal
from emoc_tf.records.run_record import RunRecord
from emoc_tf.report import drawing, panels

# Class rasters of many policies side by side.
_ACROSS = 6
_LABEL, _SMALL_LABEL = 40, 22  # letters along a panel, and along one among those of families
_PARTS = {
    "selection_seconds": ("choosing", "#D55E00"),
    "training_seconds": ("training", "#56B4E9"),
    "evaluation_seconds": ("testing", "#009E73"),
    "candidate_seconds": ("drawing sets", "#999999"),
    "prediction_seconds": ("posteriors of the pool", "#E69F00"),
}


def curves(
    axes: Axes,
    runs: Sequence[RunRecord],
    column: str,
    called: Mapping[str, str] = CURVES,
    shown: Container[str] | None = None,
    agents: Sequence[str] | None = None,
) -> None:
    """Draws a column of `steps.csv` over labelled images: means, bands of one standard error.

    A single run of an audit has the audit's 95% interval as its band.

    Args:
        axes: To draw on.
        runs: Finished runs of one configuration.
        column: One of `CURVES`.
        called: What columns are called, see `Findings.curves`.
        shown: The policies of the panel, see `panels.families_apart`; None for all. Of the
            others `REFERENCES` are thin lines and the rest grey ones without a name.
        agents: Those that figures beside it show too, for one style in all; None: those of `runs`.
    """
    groups = by_agent(runs)
    agents = agents or list(groups)
    for agent in families.ordered(groups):
        values = np.stack([run.steps[column] for run in groups[agent]])
        mean, labelled, band = values.mean(axis=0), _labelled(groups[agent]), None
        if len(values) > 1:
            error = stats.sem(values, axis=0)
            band = mean - error, mean + error
        elif called[column] == ACCURACIES["audit_accuracy"]:
            band = groups[agent][0].steps["audit_low"], groups[agent][0].steps["audit_high"]
        if not panels.draw_behind(axes, agent, agents, shown, labelled, mean):
            drawing.line(axes, agent, agents, labelled, mean, band)
    drawing.finish(axes, "labelled images", called[column])


def _labelled(runs: Sequence[RunRecord]) -> np.ndarray:
    """Returns labelled images by step, the mean where images were skipped or rejected."""
    return np.mean([run.steps["labelled"] for run in runs], axis=0)


def differences(
    axes: Axes,
    runs: Sequence[RunRecord],
    baseline: str,
    column: str,
    called: Mapping[str, str] = CURVES,
    shown: Container[str] | None = None,
    agents: Sequence[str] | None = None,
) -> None:
    """Draws mean paired differences to a policy with their 95% intervals, step by step.

    They stand at the images that the policy itself has labelled, in the mean of its pairs.

    Args:
        axes: To draw on.
        runs: Finished runs of one configuration.
        baseline: The policy.
        column: One of `CURVES`.
        called: What columns are called, see `Findings.curves`.
        shown: See `curves`.
        agents: See `curves`.
    """
    groups = by_agent(runs)
    agents = agents or list(groups)
    own = {run.seed: run.steps[column] for run in groups[baseline]}
    axes.axhline(0, color=drawing.style(baseline, agents)[0], linestyle="--", linewidth=1)
    for agent in families.ordered(groups):
        paired = [run for run in groups[agent] if run.seed in own]
        if agent != baseline and paired:
            values = np.stack([run.steps[column] - own[run.seed] for run in paired])
            labelled = _labelled(paired)
            mean = values.mean(axis=0)
            if not panels.draw_behind(axes, agent, agents, shown, labelled, mean):
                band = tuple(np.transpose([interval(step, 1999) for step in values.T]))
                drawing.line(axes, agent, agents, labelled, mean, band)
    named, to, whom = f"{called[column]}:", "difference to", drawing.named(baseline)
    room = _LABEL if shown is None else _SMALL_LABEL
    ways = f"{named} {to} {whom}", f"{named}\n{to} {whom}", f"{named}\n{to}\n{whom}"
    fits = (way for way in ways if max(map(len, way.split("\n"))) <= room)
    drawing.finish(axes, "labelled images", next(fits, ways[-1]))


def penalty_matrix(axes: Axes, agents: Sequence[str], matrix: np.ndarray) -> None:
    """Draws a matrix of `statistics.penalties`, with the means of its columns below."""
    count = len(agents)
    size, slope = ("small", 30) if count <= drawing.TOGETHER else ("x-small", 45)
    means = [np.mean(c[np.isfinite(c)]) if np.isfinite(c).any() else np.nan for c in matrix.T]
    for row, values in enumerate([*matrix, means]):
        y = row + 0.25 * (row == count)
        for x, value in enumerate(values):
            if np.isfinite(value):
                axes.fill_between([x, x + 1], y, y + 1, color="#D55E00", alpha=0.75 * value, lw=0)
            text = f"{value:.2f}" if np.isfinite(value) else "–" if x == row else "·"
            axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=size)
    short = [drawing.cut(agent) for agent in agents]  # two slanted lines would meet others
    axes.set_xticks(np.arange(count) + 0.5, short, rotation=slope, ha="left")
    names = [drawing.named(agent) for agent in agents]
    axes.set_yticks([*np.arange(count) + 0.5, count + 0.75], [*names, "mean of column"])
    drawing.lessen(axes)
    axes.xaxis.tick_top()
    axes.set(xlim=(0, count), ylim=(count + 1.25, 0))
    axes.set_xlabel("steps at which\nrow beats column")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def with_recalls(runs: Sequence[RunRecord], seed: int) -> list[RunRecord]:
    """Returns the runs of a seed whose recalls were recorded."""
    return [
        run
        for run in runs
        if run.seed == seed and run.classes and len(run.recalls) == len(run.steps["step"])
    ]


def class_raster(axes: Axes, run: RunRecord, names: Sequence[str]) -> None:
    """Draws the recall of each class after each step; dots mark the classes that were queried.

    Args:
        axes: To draw on.
        run: With `recalls`.
        names: One a class of `run.classes`, those known at the start first.
    """
    steps = run.steps["step"]
    colours = np.empty((*run.recalls.T.shape, 4))
    colours[..., :3], colours[..., 3] = to_rgb("#0072B2"), run.recalls.T
    axes.imshow(colours, aspect="auto", interpolation="none")
    queried = [(s, c) for s, c in zip(steps, run.steps["queried_class"], strict=True) if c == c]
    axes.plot(
        [step for step, _ in queried],
        [run.classes.index(int(class_id)) for _, class_id in queried],
        "o",
        color="#D55E00",
        markeredgecolor="white",
        markersize=5,
    )
    known = run.configuration["known_classes"]
    axes.axhline(known - 0.5, color="#000000", linewidth=0.8)
    axes.set_yticks(range(len(names)), map(literal, names), fontsize="small")
    axes.set(xlim=(-0.5, steps[-1] + 0.5), ylim=(len(names) - 0.5, -0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("update step")
    axes.set_title(drawing.named(run.agent), fontsize="medium")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def seconds(axes: Axes, runs: Sequence[RunRecord]) -> None:
    """Draws what an update step takes: medians over steps and seeds, part by part."""
    groups = by_agent(runs)
    agents = families.ordered(list(groups))[::-1]
    left = np.zeros(len(agents))
    for column, (label, colour) in _PARTS.items():
        parts = {
            agent: np.concatenate([run.timings[column][1:] for run in groups[agent]])
            for agent in agents
        }
        widths = [
            np.nanmedian(parts[agent]) if np.isfinite(parts[agent]).any() else 0 for agent in agents
        ]
        axes.barh(
            [drawing.named(agent) for agent in agents],
            widths,
            left=left,
            label=label,
            color=colour,
            height=0.65,
        )
        left += widths
    drawing.finish(axes, "seconds", "")
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1), ncols=2, frameon=False)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def seconds_size(agents: Sequence[str]) -> tuple[float, float]:
    """Returns width and height in inches that `seconds` needs for some policies."""
    return 5.0, 1.5 + 0.3 * len(agents)


def learning_curves(
    runs: Sequence[RunRecord],
    called: Mapping[str, str] = CURVES,
    agents: Sequence[str] | None = None,
) -> Figure:
    """Draws accuracy and discovered classes over labelled images, as the paper's Fig. 1.

    Lines are means over seeds, bands one standard error to either side. Many policies have a panel
    a family.

    Args:
        runs: Finished runs of one configuration.
        called: See `curves`.
        agents: See `curves`.
    """
    title = f"mean and standard error of {drawing.initialisations(_counts(runs))}"
    return panels.figure(
        lambda axes, column, shown: curves(axes, runs, column, called, shown, agents),
        by_agent(runs),
        called,
        title,
    )


def difference_curves(
    runs: Sequence[RunRecord],
    baseline: str,
    called: Mapping[str, str] = CURVES,
    agents: Sequence[str] | None = None,
) -> Figure:
    """Draws both curves as paired differences to a policy, with 95% bootstrap intervals.

    Args:
        runs: Finished runs of one configuration.
        baseline: The policy.
        called: See `curves`.
        agents: See `curves`.
    """
    seeds = {run.seed for run in runs if run.agent == baseline}
    pairs = [run for run in runs if run.seed in seeds and run.agent != baseline]
    title = f"mean paired difference over {drawing.initialisations(_counts(pairs))}"
    if max(_counts(pairs), default=0) >= MIN_PAIRS:
        title += ", with pointwise 95% intervals"
    return panels.figure(
        lambda axes, column, shown: differences(
            axes, runs, baseline, column, called, shown, agents
        ),
        by_agent(runs),
        called,
        title,
        baseline,
    )


def class_figure(runs: Sequence[RunRecord], names: Sequence[str]) -> Figure:
    """Draws rasters of one seed, see `class_raster`: side by side, those of many policies in rows.

    Args:
        runs: A run a policy.
        names: One a class, those known at the start first.
    """
    across = len(runs) if len(runs) <= drawing.TOGETHER else _ACROSS
    down = math.ceil(len(runs) / across)
    size = (1 + 2.6 * across, (1 + 0.17 * len(names)) * down)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).flat
    for i, (axes, run) in enumerate(zip(grid, runs, strict=False)):
        class_raster(axes, run, [""] * len(names) if i % across else names)
    for axes in grid[len(runs) :]:
        axes.set_axis_off()
    return figure


def penalty_size(agents: Sequence[str]) -> tuple[float, float]:
    """Returns width and height in inches that a penalty matrix needs."""
    longest = max(14, drawing.width_of(map(drawing.named, agents)))
    if len(agents) <= drawing.TOGETHER:
        return 0.7 + 0.62 * len(agents) + 0.14 * longest, 1.5 + 0.42 * len(agents) + 0.05 * longest
    return 0.4 + 0.38 * len(agents) + 0.1 * longest, 1.4 + 0.27 * len(agents) + 0.07 * longest


def penalty_figure(
    matrices: Sequence[tuple[list[str], np.ndarray]],
    labels: Sequence[str] = tuple(CURVES.values()),
) -> Figure:
    """Draws penalty matrices, see `statistics.penalties`: side by side, of many below each other.

    Args:
        matrices: One a curve.
        labels: Of each.
    """
    width, height = penalty_size(matrices[0][0])
    down, across = 1, len(matrices)
    if len(matrices[0][0]) > drawing.TOGETHER:
        down, across = across, down
    figure = Figure(figsize=(across * width, down * height), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).flat
    for axes, (agents, matrix), label in zip(grid, matrices, labels, strict=True):
        penalty_matrix(axes, agents, matrix)
        axes.set_title(label)
    return figure


def _counts(runs: Sequence[RunRecord]) -> list[int]:
    return [len(group) for group in by_agent(runs).values()]
