"""The findings of a comparison as tables: for the console, as CSV and as LaTeX."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from emoc_tf.analysis.findings import Findings
from emoc_tf.analysis.measures import MEASURES, PRIMARY
from emoc_tf.analysis.savings import Saving
from emoc_tf.analysis.statistics import LEVEL, MIN_TESTED, PairedDifference, least_p
from emoc_tf.storage import csv_files

# Attribute of `PolicySummary`, heading, digits, whether its standard error is printed too.
COLUMNS = (
    *(
        (name, MEASURES[name].label, MEASURES[name].digits, True)
        for name in ("final_accuracy", "accuracy_area", "final_discovered", "discovery_area")
    ),
    ("selection_seconds", "s per choice", 2, False),
    ("update_seconds", "s per update", 2, False),
)
# Measures whose differences are printed.
COMPARED = ("accuracy_area", "discovery_area")


def number(value: float, digits: int, signed: bool = False) -> str:
    """Returns a number with a real minus sign, `–` for NaN; what rounds to 0 has no sign."""
    if np.isnan(value):
        return "–"
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def difference(row: PairedDifference) -> str:
    """Returns `mean [low, high]`, or the mean alone where there are too few pairs."""
    return with_interval(row.mean, row.low, row.high, MEASURES[row.measure].digits)


def with_interval(value: float, low: float, high: float, digits: int) -> str:
    """Returns `value [low, high]`, signed, or the value alone where an end is NaN."""
    text = number(value, digits, signed=True)
    if np.isnan(low):
        return text
    return f"{text} [{number(low, digits)}, {number(high, digits)}]"


def p_value(p: float) -> str:
    """Returns a p-value with two digits that count, such as 0.31, 0.020 or 0.0039; `–` for NaN."""
    if np.isnan(p):
        return "–"
    return f"{p:.2f}" if p >= 0.1 else f"{p:#.2g}"


def summary_table(findings: Findings) -> Table:
    """Returns the table to print; it fits 80 characters where the policies' names are short.

    Policies with other initialisations than the rest have a star.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    table.add_column("\npolicy", overflow="fold")
    table.add_column("\nruns", justify="right")
    for name, heading, _, _ in COLUMNS:
        heading = findings.label(name) if name in MEASURES else heading
        head, last = heading.rsplit(" ", 1)
        table.add_column(f"{head}\n{last}", justify="right", no_wrap=True)
    for row in findings.summaries:
        cells = [getattr(row, name).text(digits, error) for name, _, digits, error in COLUMNS]
        table.add_row(Text(findings.starred(row.agent)), str(row.runs), *cells)
    return table


def difference_table(findings: Findings, baseline: str) -> Table:
    """Returns the paired differences to one policy, to print."""
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    table.add_column(Text(f"difference\nto {baseline}"), overflow="fold")
    table.add_column("\npairs", justify="right")
    for measure in COMPARED:
        table.add_column(f"\n{findings.label(measure)}", justify="right", no_wrap=True)
        table.add_column("Holm's\np", justify="right", no_wrap=True)
    columns = [findings.differences[baseline, measure] for measure in COMPARED]
    others = {row.agent: row for row in columns[1]}
    for row in columns[0]:
        pair = (row, others[row.agent])
        cells = [text for r in pair for text in (difference(r), p_value(r.p_corrected))]
        table.add_row(Text(row.agent), str(row.pairs), *cells)
    return table


def legend(findings: Findings) -> str:
    """Returns what the tables' numbers are, and what their tests can show."""
    text = "Mean ± standard error over runs; mean accuracy and classes: along the curve."
    if not any(findings.differences.values()):
        return text
    return f"{text} Differences: mean [95% interval]. {power(findings)}"


def power(findings: Findings) -> str:
    """Returns in words which tests there are and the least p-value that they can give."""
    families = findings.differences.values()
    least = [least_p(rows) for rows in families]
    if np.isnan(least).all():
        return f"Tests need {MIN_TESTED} pairs: none was made."
    floor = float(np.nanmin(least))
    text = f"p: Wilcoxon's test, corrected by Holm; here it is at least {p_value(floor)}"
    if floor >= LEVEL:
        text += f", so that no difference can be significant at {LEVEL}"
    if any(row.pairs < MIN_TESTED for rows in families for row in rows):
        text += (
            f". Policies with fewer than {MIN_TESTED} pairs (–) are not tested, and the correction "
            f"does not count them"
        )
    return f"{text}."


def summary_rows(findings: Findings, called: Callable[[str], str] = str) -> list[list[Any]]:
    """Returns all summaries with standard errors, a heading first.

    The last column is 0 for policies with a star, whose means compare with nothing, else 1.

    Args:
        findings: With a summary a policy.
        called: Gives what a measure is called in the heading, see `Findings.name`.
    """
    names = [name for name, *_ in COLUMNS]
    headings = (f"{called(name)}{end}" for name in names for end in ("", "_standard_error"))
    rows: list[list[Any]] = [["agent", "runs", *headings, "compared"]]
    for row in findings.summaries:
        estimates = [getattr(row, name) for name in names]
        values = [value for e in estimates for value in (e.mean, e.standard_error)]
        rows.append([row.agent, row.runs, *values, int(findings.is_compared(row.agent))])
    return rows


def difference_rows(
    families: Iterable[Sequence[PairedDifference]],
    called: Callable[[str], str] = str,
    saved: Iterable[Saving] = (),
) -> list[list[Any]]:
    """Returns paired differences, a heading first, and labels saved, which are not tested.

    Args:
        families: Differences to each baseline in each measure.
        called: As for `summary_rows`.
        saved: The labels that policies save.
    """
    header = ["measure", "agent", "baseline", "pairs", "mean", "low", "high", "p", "p_corrected"]
    rows = [
        [called(row.measure), *(getattr(row, name) for name in header[1:])]
        for rows in families
        for row in rows
    ]
    untested = float("nan"), float("nan")
    rows += [
        ["labels_saved", s.agent, s.baseline, s.pairs, s.labels, s.low, s.high, *untested]
        for s in saved
    ]
    return [header, *map(csv_files.rounded, rows)]


def latex(findings: Findings) -> str:
    """Returns the summary and the differences to the first baseline as a `booktabs` table."""
    baseline = findings.baselines[0]
    tested = {row.agent: row for row in findings.differences[baseline, PRIMARY]}
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{tabular}{lrcccccc}",
        r"\toprule",
        f"policy & runs & {' & '.join(findings.label(name) for name, *_ in COLUMNS[:4])} & "
        rf"difference to {_escaped(baseline)} & $p$ \\",
        r"\midrule",
    ]
    for row in findings.summaries:
        cells = [_escaped(findings.starred(row.agent)), str(row.runs)]
        for name, _, digits, _ in COLUMNS[:4]:
            cells.append("$" + getattr(row, name).text(digits).replace("±", r" \pm ") + "$")
        found = tested.get(row.agent)
        if found is None:
            cells += ["", ""]
        else:
            cells += [f"${difference(found)}$".replace("−", "-"), p_value(found.p_corrected)]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _escaped(text: str) -> str:
    words = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(f"\\{c}" if c in "&%$#_{}" else words.get(c, c) for c in text)
