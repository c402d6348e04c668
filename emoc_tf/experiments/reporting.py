"""Writes everything that is made of a comparison's run folders: figures, tables, a page."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console

from emoc_tf import checkpoint, drawing, plots, statistics
from emoc_tf.experiments import page, queried, tables
from emoc_tf.experiments.findings import CURVES, Findings, gather
from emoc_tf.experiments.queried import class_names, find_data, first_sets

PAGE = "report.html"


def write_report(
    output_dir: str | Path,
    console: Console,
    *,
    data_dir: str | None = None,
    baselines: Sequence[str] = (),
    accuracy: float | None = None,
    latex: bool = False,
) -> None:
    """Writes figures, tables and page of the finished runs in a folder, and prints the tables.

    Args:
        output_dir: The folder of a comparison; files are written into it.
        console: Where tables and notes are printed.
        data_dir: Where the data set lies, for the page's class names and images.
        baselines: See `findings.gather`.
        accuracy: See `findings.gather`.
        latex: Whether to write table.tex too.

    Raises:
        ValueError: There is no finished run, the runs have different configurations, or there is
            no such baseline.
    """
    findings = gather(output_dir, baselines, accuracy)
    folder, written = findings.output_dir, []
    for name, figure in _figures(findings, data_dir).items():
        written += drawing.save(figure, folder / name)
    texts = {
        "table.csv": tables.summary_csv(findings.summaries),
        "differences.csv": tables.difference_csv(findings.differences.values()),
        PAGE: page.write(findings, data_dir),
    }
    if latex:
        texts["table.tex"] = tables.latex(findings)
    for name, text in texts.items():
        checkpoint.write_text(folder / name, text)
        written.append(folder / name)
    for note in findings.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    console.print(tables.summary_table(findings.summaries))
    for baseline in findings.baselines:
        if findings.differences[baseline, "accuracy_area"]:
            console.print(tables.difference_table(findings, baseline))
    console.print(tables.legend(findings))
    names = ", ".join(path.name for path in written)
    console.print(f"Written into {folder}: {names}", soft_wrap=True, highlight=False)


def _figures(findings: Findings, data_dir: str | None) -> dict[str, Figure]:
    runs = findings.finished
    figures = {
        "curves": plots.learning_curves(runs),
        "seconds": drawing.panel(lambda axes: plots.seconds(axes, runs), 7.0, 3.6),
    }
    for baseline in findings.baselines:
        if findings.differences[baseline, "accuracy_area"]:
            name = f"difference_to_{baseline.replace('/', '%2F')}"
            figures[name] = plots.difference_curves(runs, baseline)
    figures["penalties"] = plots.penalty_figure(
        [statistics.penalties(runs, column) for column in CURVES]
    )
    seed, (data, _) = findings.fullest_seed, find_data(findings, data_dir)
    rasters = plots.with_recalls(runs, seed)
    if rasters:
        figures[f"classes_seed_{seed}"] = plots.class_figure(rasters, class_names(rasters[0], data))
    chosen = first_sets(findings, data)
    if any(policy.sets for policy in chosen):
        figures[f"first_sets_seed_{seed}"] = queried.draw(chosen)
    return figures
