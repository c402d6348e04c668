"""Pictures and text of an episode: the set just labelled, the curves so far, the classes known."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator

from emoc_tf.data import mosaic
from emoc_tf.data.figures import literal
from emoc_tf.exploration.answers import REJECT, SKIP
from emoc_tf.exploration.loop import Exploration
from emoc_tf.exploration.outcome import StepOutcome

# Pixels; even numbers, as video codecs want them.
WIDTH, HEIGHT = 1280, 720
_KNOWN, _FOUND, _WAITING = "#0072B2", "#D55E00", "#BBBBBB"
# Images of a set that got no class.
_UNNAMED = {SKIP: "skipped", REJECT: "rejected"}


@dataclass(frozen=True, eq=False)
class Frame:
    """What a picture shows.

    Attributes:
        images: (k, H, W, channels) as in the data set: the set labelled last, or some of the
            initial images before any.
        outcomes: Of all steps so far, the one after pretraining first.
        classes: Names of the known classes, those known at the start first.
        num_known: How many classes were known at the start.
        num_classes: Known and novel classes; None where nobody knows how many there are.
        num_steps: Steps of the episode.
        labels: Of the set labelled last, the name of each image's class; None before any.
        measure: What `accuracy` is measured on.
    """

    images: np.ndarray
    outcomes: Sequence[StepOutcome]
    classes: Sequence[str]
    num_known: int
    num_classes: int | None
    num_steps: int
    labels: Sequence[str] | None
    measure: str = "test"

    @classmethod
    def of(cls, exploration: Exploration) -> "Frame":
        """Returns the frame of an exploration as it is.

        Args:
            exploration: Whose episode is shown.
        """
        episode, state, outcomes = exploration.episode, exploration.state, exploration.outcomes
        answers = [entry.indices for entry in exploration.journal if entry.kind == "answer"]
        queried_set = np.array(answers[-1], np.int64) if answers else None
        classes = [exploration.class_names[class_id] for class_id in state.known_classes]
        shown, labels = queried_set, None
        if queried_set is not None:
            columns = state.pool.labels[queried_set]
            labels = [classes[c] if c >= 0 else _UNNAMED[int(c)] for c in columns]
        else:
            initial = np.flatnonzero(episode.task.labels >= 0)
            initial = initial if len(initial) else np.arange(len(episode.task.labels))
            places = np.linspace(0, len(initial) - 1, min(len(initial), mosaic.MOST))
            shown = initial[places.astype(int)]
        measure = "test"
        if outcomes[-1].test_accuracy is None:
            measure = "answer" if outcomes[-1].audit_accuracy is None else "audit"
        return cls(
            images=episode.raw_images[shown],
            outcomes=outcomes,
            classes=classes,
            num_known=episode.num_known,
            num_classes=None if episode.true_labels is None else len(episode.classes),
            num_steps=max(episode.num_steps(exploration.config), outcomes[-1].step),
            labels=labels,
            measure=measure,
        )

    @property
    def accuracy(self) -> list[tuple[int, float]]:
        """Step and accuracy, where there is one: on test data, the audit, or the answers."""
        values = [(o.step, getattr(o, f"{self.measure}_accuracy")) for o in self.outcomes]
        return [(step, value) for step, value in values if value is not None]

    @property
    def measured_on(self) -> str:
        """What the accuracy is, for a title."""
        return {
            "test": "test accuracy, all classes",
            "audit": "accuracy on the audit images",
            "answer": "answers that were predicted",
        }[self.measure]

    @property
    def discovered(self) -> list[str]:
        """Names of the classes that the last step discovered."""
        found = [outcome.discovered_classes for outcome in self.outcomes[-2:]]
        return list(self.classes[len(self.classes) - (found[-1] - found[0]) :])

    @property
    def title(self) -> str:
        """What the mosaic shows."""
        if self.labels is None:
            some = "labelled at the start" if self.classes else "of the pool"
            return f"From the images {some}"
        counts = Counter(self.labels).most_common()
        images = f"{len(self.labels)} image{'s' * (len(self.labels) > 1)}"
        if len(counts) == 1:
            return f"{images}, labelled “{counts[0][0]}”"
        named = ", ".join(f"{name} ×{count}" for name, count in counts[:3])
        return f"{images}: {named}{', …' * (len(counts) > 3)}"

    @property
    def news(self) -> str:
        """What was discovered, to follow the title."""
        if not self.discovered:
            return ""
        if len(set(self.labels or ())) == 1:
            return ", a new class"
        return f"; new: {', '.join(self.discovered)}"


def describe(frame: Frame) -> str:
    """Returns the frame as a few lines of text."""
    last, found = frame.outcomes[-1], frame.classes[frame.num_known :]
    accuracy = f"{frame.accuracy[-1][1]:.3f}" if frame.accuracy else "not known yet"
    of = "" if frame.num_classes is None else f" of {frame.num_classes}"
    lines = [
        f"step {last.step} of {frame.num_steps}: {frame.title}{frame.news}",
        f"labelled {last.labelled}   {frame.measure} accuracy {accuracy}   "
        f"classes known {len(frame.classes)}{of}",
        f"known from the start: {', '.join(frame.classes[: frame.num_known]) or 'none'}",
        f"discovered: {', '.join(found) or 'none yet'}",
    ]
    return "\n".join(lines) + "\n"


def draw(frame: Frame) -> np.ndarray:
    """Returns the frame as an image, (HEIGHT, WIDTH, 3) uint8."""
    canvas = FigureCanvasAgg(compose(frame))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def compose(frame: Frame) -> Figure:
    """Returns the frame as a figure."""
    figure = Figure(figsize=(WIDTH / 100, HEIGHT / 100), dpi=100, facecolor="white")
    grid = figure.add_gridspec(
        3, 2, width_ratios=(1.05, 1), height_ratios=(1, 1, 0.36),
        left=0.03, right=0.97, top=0.86, bottom=0.04, wspace=0.16, hspace=0.42,
    )  # fmt: skip
    last = frame.outcomes[-1]
    figure.text(0.03, 0.925, f"Step {last.step} of {frame.num_steps}", fontsize=22, weight="bold")
    figure.text(
        0.97, 0.925, f"{last.labelled} images labelled", fontsize=18, ha="right", color="#444444"
    )
    _mosaic(figure.add_subplot(grid[:2, 0]), frame)
    axes = figure.add_subplot(grid[0, 1])
    _curve(axes, frame, frame.accuracy, frame.measured_on, 1.0, "{:.3f}")
    known = [(o.step, frame.num_known + o.discovered_classes) for o in frame.outcomes]
    axes, count = figure.add_subplot(grid[1, 1]), frame.num_classes
    highest = count or max(4, *(number for _, number in known))
    _curve(axes, frame, known, "classes known", highest, f"{{}} of {count}" if count else "{}")
    axes.set_xlabel("step", fontsize=13)
    _chips(figure.add_subplot(grid[2, :]), frame)
    return figure


def _mosaic(axes: Axes, frame: Frame) -> None:
    axes.imshow(mosaic.mosaic(frame.images), interpolation="nearest")
    axes.set_axis_off()
    axes.set_anchor("NW")
    title, size = _fitted(frame.title + frame.news, 0.47 * WIDTH * 72 / 100, 16)
    colour = _FOUND if frame.discovered else "black"
    axes.set_title(title, fontsize=size, loc="left", color=colour)


def _curve(
    axes: Axes,
    frame: Frame,
    values: Sequence[tuple[int, float]],
    title: str,
    highest: float,
    last: str,
) -> None:
    """Draws (step, value) up to `highest`; `last` formats the last value."""
    if values:
        axes.plot(*zip(*values, strict=True), "-o", color=_KNOWN, linewidth=2.4, markersize=6)
        step, value = values[-1]
        place = step / frame.num_steps
        axes.annotate(
            last.format(value),
            (step, value), textcoords="offset points", xytext=(4, 10),
            ha="left" if place < 0.1 else "right" if place > 0.9 else "center",
            fontsize=14, weight="bold", color=_KNOWN,
        )  # fmt: skip
    # Room for the last points, and for the number above.
    axes.set_xlim(-0.02 * frame.num_steps, 1.04 * frame.num_steps)
    axes.set_ylim(0, 1.22 * highest)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    ticks = MaxNLocator(4, integer=isinstance(highest, int)).tick_values(0, highest)
    axes.set_yticks([tick for tick in ticks if tick <= highest])
    axes.set_title(title, fontsize=16, loc="left")
    axes.tick_params(labelsize=12)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _chips(axes: Axes, frame: Frame) -> None:
    """Draws a field for each class: known from the start, discovered, or not found yet.

    Up to 40 classes are named, ten a row; of more, only the colours are shown.
    """
    axes.set_axis_off()
    missing = (frame.num_classes or len(frame.classes)) - len(frame.classes)
    names = [*frame.classes, *["?"] * max(missing, 0)]
    if not names:
        return
    columns = min(10, len(names)) if len(names) <= 40 else -(-len(names) // 4)
    rows = -(-len(names) // columns)
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)
    counted = frame.num_classes is not None  # of a task nobody knows how many are to be found
    first = counted or frame.num_known > 0
    for x, text, colour in (
        *([(0.002, "known from the start", _KNOWN)] if first else []),
        (0.19 if first else 0.002, "discovered", _FOUND),
        *([(0.30, "not found yet", "#777777")] if counted else []),
    ):
        axes.text(x, 1.12, text, color=colour, fontsize=13, weight="bold", transform=axes.transAxes)
    width = 0.94 * WIDTH * 0.88 / columns * 72 / 100  # points
    height = 13 if rows <= 2 else 26 / rows
    for i, name in enumerate(names):
        known = i < len(frame.classes)
        colour = _WAITING if not known else _KNOWN if i < frame.num_known else _FOUND
        left, top = i % columns, i // columns
        axes.add_patch(Rectangle((left + 0.03, top + 0.06), 0.94, 0.86, color=colour))
        if len(names) <= 40:
            text, size = _fitted(name, width, height)
            axes.text(
                left + 0.5, top + 0.49, text,
                ha="center", va="center", color="white", fontsize=size,
            )  # fmt: skip


def _fitted(text: str, width: float, size: float) -> tuple[str, float]:
    """Returns the text, shortened if need be, and its font size, at most `size`, for a width."""
    wanted = TextPath((0, 0), literal(text), size=10).get_extents().width / 10
    smallest = 6.5
    size = min(size, max(smallest, width / wanted)) if wanted else size
    if wanted * size > width:
        text = f"{text[: int(len(text) * width / (wanted * size)) - 1]}…"
    return literal(text), size
