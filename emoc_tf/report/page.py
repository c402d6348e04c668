"""The findings of a comparison as one HTML page that needs nothing else."""

import base64
import html
import io
from collections.abc import Callable, Container, Sequence
from functools import partial
from typing import Any

import jinja2
import matplotlib.image
import numpy as np
from markupsafe import Markup

from emoc_tf import agents
from emoc_tf.analysis import families
from emoc_tf.analysis.findings import Findings
from emoc_tf.analysis.measures import CURVES, MEASURES, PRIMARY, by_agent, steps_ahead
from emoc_tf.analysis.statistics import LEVEL, MIN_BEATEN, MIN_PAIRS, PairedDifference
from emoc_tf.records.run_record import RunRecord
from emoc_tf.report import drawing, panels, plots, tables
from emoc_tf.report.first_sets import Data, Shown, class_names

# Rows of class rasters on a page, half a kilobyte each: of a hundred classes 50 rasters.
_MOST_ROWS = 5000
_DASHES = {"--": "6 3", ":": "2 3", "-.": "7 3 2 3", "-": "none"}


def write(findings: Findings, shown: Shown) -> str:
    """Returns the page.

    Args:
        findings: What to show.
        shown: Class names and images, if the data set is there.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("emoc_tf.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["jpeg"] = _jpeg
    return environment.get_template("page.html.jinja").render(_content(findings, shown))


def _content(findings: Findings, shown: Shown) -> dict[str, Any]:
    runs, configuration = findings.finished, findings.finished[0].configuration
    compared = findings.compared
    return {
        "title": f"Active exploration of {configuration['dataset']}: {_count(runs)}",
        "subtitle": _subtitle(configuration),
        "findings": findings,
        "novel": configuration["novel_classes"],
        "classes": configuration["known_classes"] + configuration["novel_classes"],
        "bold": len({run.agent for run in compared}) > 1,
        "apart": len({run.agent for run in compared}) < len(findings.agents),
        "summary_rows": _summary_rows(findings),
        "policies": [
            (family, [(agent, _described(agent)) for agent in members])
            for family, members in families.by_family(findings.agents).items()
        ],
        "key": _key(findings.agents, findings),
        "many": len(findings.agents) > drawing.TOGETHER,
        "curves": _panels(partial(plots.curves, runs=compared), findings),
        "accuracy": findings.accuracy_name,
        "tested": findings.accuracy == "test_accuracy",
        "of_task": any(run.task is not None for run in runs),
        "comparisons": [
            _comparison(findings, name)
            for name in findings.baselines
            if findings.differences[name, PRIMARY]
        ],
        "min_pairs": MIN_PAIRS,
        "min_beaten": MIN_BEATEN,
        "power": tables.power(findings),
        "penalties": [_penalties(findings, column) for column in findings.penalties],
        "ahead_rows": _ahead_rows(findings),
        "seeds": len({run.seed for run in compared}),
        "steps": len(runs[0].steps["step"]) - 1,
        "targets": list(dict.fromkeys(row.target for row in findings.reach)),
        "reach_rows": _reach_rows(findings),
        "rasters": _rasters(findings, shown.data),
        "seconds": {
            "svg": _svg(
                partial(plots.seconds, runs=runs),
                "seconds of an update step",
                *plots.seconds_size(findings.agents),
            ),
            "caption": "Seconds of an update step, medians over steps and initialisations.",
        },
        "settings": _settings(findings),
        "first_sets": shown.first_sets,
        "first_seed": findings.fullest_seed,
        "why_no_sets": shown.why,
    }


def _count(runs: Sequence[RunRecord]) -> str:
    counts = [len(group) for group in by_agent(runs).values()]
    policies = f"{len(counts)} polic{'ies' if len(counts) > 1 else 'y'}"
    return f"{policies}, {drawing.initialisations(counts)}"


def _described(agent: str) -> str:
    """Returns what a policy does; of a variant, what the policy does without its settings."""
    text, base = agents.describe(agent), families.base(agent)
    return f"A variant. Plain {base}: {text}" if text and base != agent else text


def _subtitle(configuration: dict[str, Any]) -> str:
    c = configuration
    return (
        f"A network that knows {c['known_classes']} classes chooses among "
        f"{c['num_candidate_sets']} sets of {c['set_size']} unlabelled images at each step, learns "
        f"the one that it chose, and may find {c['novel_classes']} novel classes."
    )


def _summary_rows(findings: Findings) -> list[dict[str, Any]]:
    compared = [row for row in findings.summaries if findings.is_compared(row.agent)]
    rows = []
    for row in findings.summaries:
        cells = []
        for name, _, digits, with_error in tables.COLUMNS:
            mean = getattr(row, name).mean
            best = max(getattr(other, name).mean for other in compared)
            # Seconds have no errors, and the most of them is not the best.
            is_best = len(compared) > 1 and row in compared and with_error and mean == best
            text = getattr(row, name).text(digits, with_error).replace("±", " ± ")
            cells.append({"text": text, "best": is_best})
        rows.append({"agent": findings.starred(row.agent), "runs": row.runs, "cells": cells})
    return rows


def _comparison(findings: Findings, baseline: str) -> dict[str, Any]:
    by_measure = {
        measure: {row.agent: row for row in findings.differences[baseline, measure]}
        for measure in MEASURES
    }
    rows = [
        {
            "agent": first.agent,
            "pairs": first.pairs,
            "cells": [_cell(by_measure[name][first.agent]) for name in MEASURES],
        }
        for first in findings.differences[baseline, PRIMARY]
    ]
    draw = partial(plots.differences, runs=findings.finished, baseline=baseline)
    return {
        "name": baseline,
        "panels": _panels(draw, findings, baseline),
        "headings": [findings.label(measure) for measure in MEASURES],
        "rows": rows,
    }


def _panels(draw: partial, findings: Findings, baseline: str | None = None) -> list[dict[str, Any]]:
    """Returns what each panel of curves is of, its key where it has one of its own, and figures."""
    runs = draw.keywords["runs"]
    agents_of = {run.agent for run in runs}
    references = [a for a in panels.references(findings.agents) if a in agents_of - {baseline}]
    draw = partial(draw, called=findings.curves, agents=findings.agents)
    found = []
    for family, members in panels.families_apart(agents_of, baseline).items():
        more = f", minus {baseline}'s" if baseline else ""
        more += f", {family}" if family else ""
        thin = [agent for agent in references if agent not in members]
        figures = [
            _figure(partial(draw, column=column, shown=members if family else None), named, more)
            for column, named in findings.curves.items()
        ]
        thin = thin if family else []
        # Of few policies one key stands above all panels of the page.
        own = family or len(findings.agents) > drawing.TOGETHER
        key = _key(families.ordered([*members, *thin]), findings, thin) if own else []
        found.append({"family": family, "key": key, "figures": figures, "thin": references})
    return found


def _key(
    agents_of: Sequence[str], findings: Findings, thin: Container[str] = ()
) -> list[dict[str, Any]]:
    return [
        {"agent": agent, "line": _line(agent, findings, 1.3 if agent in thin else 3)}
        for agent in agents_of
    ]


def _cell(row: PairedDifference) -> dict[str, Any]:
    mean, interval = _apart(tables.difference(row))
    return {
        "mean": mean,
        "interval": interval,
        "p": tables.p_value(row.p_corrected),
        "significant": row.measure == PRIMARY and row.p_corrected < LEVEL,
    }


def _apart(text: str) -> tuple[str, str]:
    """Returns a value and its interval, of which the page shows one below the other."""
    value, _, interval = text.partition(" ")
    return value, interval


def _penalties(findings: Findings, column: str) -> dict[str, Any]:
    order, matrix = findings.penalties[column]
    draw = partial(plots.penalty_matrix, agents=order, matrix=matrix)
    width, height = plots.penalty_size(order)
    return _figure(draw, findings.curves[column], width=width, height=height)


def _ahead_rows(findings: Findings) -> list[dict[str, Any]]:
    accuracy, classes = (steps_ahead(findings.compared, column) for column in CURVES)
    return [
        {"agent": agent, "counts": [accuracy[agent], classes[agent]]}
        for agent in findings.agents
        if agent in accuracy
    ]


def _reach_rows(findings: Findings) -> list[dict[str, Any]]:
    saved = {
        (row.agent, baseline): tables.with_interval(row.labels, row.low, row.high, 0)
        for baseline, rows in findings.saved.items()
        for row in rows
    }
    by_agent_of = {
        agent: [found for found in findings.reach if found.agent == agent]
        for agent in findings.agents
    }
    unknown = [{"median": "–", "reached": "–"}] * max(map(len, by_agent_of.values()))
    rows = []
    for agent, reach in by_agent_of.items():
        cells = []
        for found in reach:
            median = f"{found.median:.0f}" if found.median < np.inf else f"> {found.most:.0f}"
            median = median if found.runs else "–"
            cells.append({"median": median, "reached": f"{found.reached} of {found.runs}"})
        # Medians are of the same seeds; labels saved are paired, and every policy has its own.
        against = [_apart(saved.get((agent, name), "–")) for name in findings.saved]
        name = findings.starred(agent)
        rows.append({"agent": name, "cells": cells or unknown, "saved": against})
    return rows


def _rasters(findings: Findings, data: Data) -> dict[str, Any]:
    """Returns the rasters of each seed, of many the fullest or first, and how many it left out."""
    by_seed = {
        seed: found
        for seed in sorted({run.seed for run in findings.finished})
        if (found := plots.with_recalls(findings.finished, seed))
    }
    chosen: list[int] = []
    rows = 0
    for seed in sorted(by_seed, key=lambda seed: (-len(by_seed[seed]), seed)):
        rows += sum(len(run.classes) for run in by_seed[seed])
        if not chosen or rows <= _MOST_ROWS:
            chosen.append(seed)
    rasters = []
    for seed in sorted(chosen):
        svgs = []
        for run in by_seed[seed]:
            draw = partial(plots.class_raster, run=run, names=class_names(run, data))
            height = 1.0 + 0.17 * len(run.classes)
            label = f"recall of each class, {run.agent}, initialisation {seed}"
            svgs.append(_svg(draw, label, 3.6, height))
        rasters.append({"seed": seed, "svgs": svgs})
    return {"seeds": rasters, "left_out": len(by_seed) - len(chosen)}


def _jpeg(picture: np.ndarray) -> str:
    """Returns a picture in base64, at a sixth of a PNG's size."""
    buffer = io.BytesIO()
    matplotlib.image.imsave(
        buffer, picture, format="jpeg", pil_kwargs={"quality": 92, "subsampling": 0}
    )
    return base64.b64encode(buffer.getvalue()).decode()


def _settings(findings: Findings) -> list[tuple[str, str]]:
    """Returns what the runs were made with; all values where they differ."""
    values: dict[str, dict[str, None]] = {}
    for run in findings.finished:
        told = {**run.configuration, **run.environment}
        told.pop("mixed", None)
        told.pop("fingerprint", None)  # of a policy, not of the comparison
        versions = told.pop("versions", {})
        told.update((f"version of {name}", value) for name, value in versions.items())
        for name, value in told.items():
            if value not in (None, [], {}):
                values.setdefault(name, {})[str(value)] = None
    return [(name, "; ".join(different)) for name, different in values.items()]


def _line(agent: str, findings: Findings, width: float) -> Markup:
    colour, _, dashes = drawing.style(agent, findings.agents)
    colour = "currentColor" if colour == "#000000" else colour
    return Markup(
        f'<svg viewBox="0 0 34 12" aria-hidden="true"><line x1="0" y1="6" x2="34" y2="6" '
        f'stroke="{colour}" stroke-width="{width}" stroke-dasharray="{_DASHES[dashes]}"/></svg>'
    )


def _figure(draw: partial, named: str, more: str = "", **size: float) -> dict[str, Any]:
    caption = named.capitalize() + more
    svg = _svg(draw, f"{caption}: {draw.func.__name__.replace('_', ' ')}", **size)
    return {"svg": svg, "caption": caption}


def _svg(draw: Callable, label: str, width: float = 5.0, height: float = 3.6) -> Markup:
    svg = drawing.themed_svg(drawing.panel(draw, width, height), label)
    # Letters of one size in all pictures: none is drawn larger than the others.
    attributes = (
        f'role="img" aria-label="{html.escape(label)}" style="max-width: {6.6 * width:.1f}rem"'
    )
    return Markup(svg.replace("<svg ", f"<svg {attributes} ", 1))
