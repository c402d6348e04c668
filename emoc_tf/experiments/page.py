"""The findings of a comparison as one HTML page that needs nothing else."""

import base64
import html
import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jinja2
import matplotlib.image
import numpy as np
from markupsafe import Markup

from emoc_tf import drawing, plots, replay
from emoc_tf.data import ImageData, load
from emoc_tf.experiments import tables
from emoc_tf.experiments.findings import CURVES, Findings
from emoc_tf.mosaic import mosaic
from emoc_tf.results import RunRecord
from emoc_tf.statistics import LEVEL, MIN_PAIRS, PairedDifference, penalties, steps_ahead

_FIRST_SETS = 4
_MEASURES = {
    "accuracy_area": ("mean accuracy<br>on the way", 3),
    "final_accuracy": ("final accuracy", 3),
    "discovery_area": ("mean classes<br>on the way", 2),
    "final_discovered": ("classes found", 2),
}
_CAPTIONS = {"test_accuracy": "Test accuracy", "discovered_classes": "Novel classes found"}
_DASHES = {"--": "6 3", ":": "2 3", "-.": "7 3 2 3", "-": "none"}


def write(findings: Findings, data_dir: str | None) -> str:
    """Returns the page.

    Args:
        findings: What to show.
        data_dir: Where the data set lies, for class names and images; without it, ids are shown.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("emoc_tf.experiments", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(_content(findings, data_dir))


def _content(findings: Findings, data_dir: str | None) -> dict[str, Any]:
    runs, configuration = findings.finished, findings.finished[0].configuration
    data, why = _data(configuration, data_dir)
    pairs = [row.pairs for rows in findings.differences.values() for row in rows]
    content = {
        "title": f"Active exploration of {configuration['dataset']}: {_count(runs)}",
        "subtitle": _subtitle(configuration),
        "findings": findings,
        "novel": configuration["novel_classes"],
        "classes": configuration["known_classes"] + configuration["novel_classes"],
        "summary_rows": _summary_rows(findings),
        "key": [{"agent": agent, "line": _line(agent, findings)} for agent in findings.agents],
        "curves": [_figure(partial(plots.curves, runs=runs, column=c), c) for c in CURVES],
        "comparisons": [_comparison(findings, name) for name in findings.baselines],
        "min_pairs": MIN_PAIRS,
        "least_p": f"{tables.p_value(2.0 ** (1 - max(pairs)))} here" if pairs else "no pairs here",
        "penalties": [_penalties(findings, column) for column in CURVES],
        "ahead_rows": _ahead_rows(findings),
        "common_seeds": len(findings.common_seeds),
        "steps": len(runs[0].steps["step"]) - 1,
        "targets": [f"to accuracy {findings.reach[0].target:.3f}", "to all classes"],
        "reach_rows": _reach_rows(findings),
        "rasters": _rasters(findings, data),
        "seconds": {
            "svg": _svg(partial(plots.seconds, runs=runs), "seconds of an update step"),
            "caption": "Seconds of an update step, medians over steps and initialisations.",
        },
        "settings": _settings(findings),
        "first_sets": [],
        "first_seed": None,
        "why_no_sets": why,
    }
    if data is not None:
        try:
            content["first_sets"] = _first_sets(findings, data)
            content["first_seed"] = _first_seed(findings)
        except ValueError as error:
            content["why_no_sets"] = str(error)
    return content


def _count(runs: Sequence[RunRecord]) -> str:
    policies, seeds = len({run.agent for run in runs}), len({run.seed for run in runs})
    return (
        f"{policies} polic{'ies' if policies > 1 else 'y'}, {seeds} "
        f"initialisation{'s' * (seeds > 1)}"
    )


def _subtitle(configuration: dict[str, Any]) -> str:
    c = configuration
    return (
        f"A network that knows {c['known_classes']} classes chooses among "
        f"{c['num_candidate_sets']} sets of {c['set_size']} unlabelled images at each step, learns "
        f"the one that it chose, and may find {c['novel_classes']} novel classes."
    )


def _data(
    configuration: dict[str, Any], data_dir: str | None
) -> tuple[tuple[ImageData, ImageData] | None, str]:
    """Returns the data set if it is there, or why it is not."""
    try:
        return load(configuration["dataset"], data_dir), ""
    except (ValueError, FileNotFoundError) as error:
        return None, f"{error}."


def _summary_rows(findings: Findings) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"agent": row.agent, "runs": row.runs, "cells": []} for row in findings.summaries
    ]
    for name, _, digits, with_error in tables.COLUMNS:
        estimates = [getattr(row, name) for row in findings.summaries]
        best = max(estimate.mean for estimate in estimates)
        for row, estimate in zip(rows, estimates, strict=True):
            text = estimate.text(digits, with_error).replace("±", " ± ")
            # Seconds have no errors, and the most of them is not the best.
            is_best = with_error and estimate.mean == best and len(rows) > 1
            row["cells"].append({"text": text, "best": is_best})
    return rows


def _comparison(findings: Findings, baseline: str) -> dict[str, Any]:
    by_measure = {
        measure: {row.agent: row for row in findings.differences[baseline, measure]}
        for measure in _MEASURES
    }
    rows = [
        {
            "agent": first.agent,
            "pairs": first.pairs,
            "cells": [
                _cell(by_measure[measure][first.agent], digits)
                for measure, (_, digits) in _MEASURES.items()
            ],
        }
        for first in findings.differences[baseline, "accuracy_area"]
    ]
    draw = partial(plots.differences, runs=findings.finished, baseline=baseline)
    return {
        "name": baseline,
        "figures": [_figure(partial(draw, column=c), c, f", minus {baseline}'s") for c in CURVES],
        "headings": [Markup(heading) for heading, _ in _MEASURES.values()],
        "rows": rows,
    }


def _cell(row: PairedDifference, digits: int) -> dict[str, Any]:
    return {
        "text": tables.difference(row, digits),
        "p": tables.p_value(row.p_corrected),
        "significant": row.p_corrected < LEVEL,
    }


def _penalties(findings: Findings, column: str) -> dict[str, Any]:
    agents, matrix = penalties(findings.finished, column)
    draw = partial(plots.penalty_matrix, agents=agents, matrix=matrix)
    height = 1.6 + 0.42 * len(agents)
    return _figure(draw, column, width=max(5.0, 1.6 + 0.62 * len(agents)), height=height)


def _ahead_rows(findings: Findings) -> list[dict[str, Any]]:
    ahead = [steps_ahead(findings.finished, column) for column in CURVES]
    return [{"agent": a, "counts": [counts[a] for counts in ahead]} for a in findings.agents]


def _reach_rows(findings: Findings) -> list[dict[str, Any]]:
    rows = []
    for agent in findings.agents:
        cells = []
        for found in findings.reach:
            if found.agent == agent:
                median = f"{found.median:.0f}" if np.isfinite(found.median) else "never"
                cells.append({"median": median, "reached": f"{found.reached} of {found.runs}"})
        rows.append({"agent": agent, "cells": cells})
    return rows


def _first_seed(findings: Findings) -> int:
    """Returns the first initialisation that most policies have finished."""
    seeds = [run.seed for run in findings.finished]
    return min(set(seeds), key=lambda seed: (-seeds.count(seed), seed))


def _rasters(findings: Findings, data: tuple[ImageData, ImageData] | None) -> list[dict[str, Any]]:
    rasters = []
    for seed in sorted({run.seed for run in findings.finished}):
        svgs = []
        for run in findings.finished:
            if run.seed == seed and len(run.recalls) == len(run.steps["step"]) and run.classes:
                names = _names(run, data)
                draw = partial(plots.class_raster, run=run, names=names)
                height = 1.0 + 0.17 * len(names)
                label = f"recall of each class, {run.agent}, initialisation {seed}"
                svgs.append(_svg(draw, label, width=3.6, height=height))
        if svgs:
            rasters.append({"seed": seed, "svgs": svgs})
    return rasters


def _names(run: RunRecord, data: tuple[ImageData, ImageData] | None) -> list[str]:
    if data is None or max(run.classes) >= len(data[0].class_names):
        return [str(class_id) for class_id in run.classes]
    return [data[0].class_names[class_id].replace("_", " ") for class_id in run.classes]


def _first_sets(findings: Findings, data: tuple[ImageData, ImageData]) -> list[dict[str, Any]]:
    seed, policies = _first_seed(findings), []
    for run in findings.finished:
        if run.seed == seed:
            episode, sets = replay.queried_sets(run, data)
            names = dict(zip(run.classes, _names(run, data), strict=True))
            found = np.diff(run.steps["discovered_classes"]) > 0
            shown = []
            for step, indices in enumerate(sets[:_FIRST_SETS]):
                counts = np.bincount(episode.true_labels[indices])
                caption = names[int(counts.argmax())]
                if counts.max() < len(indices):
                    caption += f" and {np.count_nonzero(counts) - 1} more"
                shown.append(
                    {
                        "step": step + 1,
                        "caption": caption,
                        "new": bool(found[step]),
                        "jpeg": _jpeg(mosaic(episode.raw_images[indices])),
                    }
                )
            policies.append({"agent": run.agent, "sets": shown})
    return policies


def _jpeg(picture: np.ndarray) -> str:
    """Returns a picture in base64, at a sixth of a PNG's size."""
    buffer = io.BytesIO()
    matplotlib.image.imsave(
        buffer, picture, format="jpeg", pil_kwargs={"quality": 92, "subsampling": 0}
    )
    return base64.b64encode(buffer.getvalue()).decode()


def _settings(findings: Findings) -> list[tuple[str, Any]]:
    first = findings.finished[0]
    told = {**first.configuration, **first.environment}
    told.pop("mixed", None)
    versions = told.pop("versions", {})
    rows = [(name, value) for name, value in told.items() if value not in (None, [], {})]
    return [*rows, *((f"version of {name}", value) for name, value in versions.items())]


def _line(agent: str, findings: Findings) -> Markup:
    colour, _, dashes = drawing.style(agent, findings.agents)
    colour = "currentColor" if colour == "#000000" else colour
    return Markup(
        f'<svg viewBox="0 0 34 12" aria-hidden="true"><line x1="0" y1="6" x2="34" y2="6" '
        f'stroke="{colour}" stroke-width="3" stroke-dasharray="{_DASHES[dashes]}"/></svg>'
    )


def _figure(draw: Callable, column: str, more: str = "", **size: float) -> dict[str, Any]:
    caption = _CAPTIONS[column] + more
    return {"svg": _svg(draw, caption, **size), "caption": caption}


def _svg(draw: Callable, label: str, **size: float) -> Markup:
    svg = drawing.themed_svg(drawing.panel(draw, **size))
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label)}" ', 1))
