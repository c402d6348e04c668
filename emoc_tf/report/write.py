"""Writes everything that is made of a comparison's run folders: figures, tables, a page."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from emoc_tf.analysis.findings import Findings, gather
from emoc_tf.analysis.measures import PRIMARY
from emoc_tf.records.run_record import file_name, make_output_dir
from emoc_tf.report import drawing, first_sets, page, plots, tables
from emoc_tf.report.first_sets import Shown, class_names
from emoc_tf.storage import atomic, csv_files

PAGE = "report.html"


def write_report(
    output_dir: str | Path,
    *,
    data_dir: str | None = None,
    baselines: Sequence[str] = (),
    accuracy: float | None = None,
    latex: bool = False,
    only_agents: Sequence[str] = (),
    only_seeds: Sequence[int] = (),
    report_dir: str | Path | None = None,
) -> tuple[Findings, list[Path]]:
    """Writes figures, tables and page of the finished runs in a folder.

    Args:
        output_dir: The folder of a comparison.
        data_dir: Where the data set lies, for the page's class names and images.
        baselines: See `findings.gather`.
        accuracy: See `findings.gather`.
        latex: Whether to write table.tex too.
        only_agents: See `findings.gather`.
        only_seeds: See `findings.gather`.
        report_dir: Where files are written; `output_dir` if not given.

    Returns:
        What is shown, and the files written.

    Raises:
        ValueError: There is no finished run, the runs have different configurations, or there is
            no such policy, initialisation, baseline or accuracy, or the files cannot be written.
    """
    findings = gather(
        output_dir, baselines, accuracy, only_agents=only_agents, only_seeds=only_seeds
    )
    shown = first_sets.look_up(findings, data_dir)
    folder, written = Path(output_dir if report_dir is None else report_dir), []
    make_output_dir(folder, "output_dir" if report_dir is None else "report_dir")
    for name, figure in _figures(findings, shown).items():
        written += drawing.save(figure, folder / name)
    texts = {
        "table.csv": csv_files.text(tables.summary_rows(findings, findings.name)),
        "differences.csv": csv_files.text(
            tables.difference_rows(
                findings.differences.values(),
                findings.name,
                [saving for rows in findings.saved.values() for saving in rows],
            )
        ),
        PAGE: page.write(findings, shown),
    }
    if latex:
        texts["table.tex"] = tables.latex(findings)
    for name, text in texts.items():
        atomic.write_text(folder / name, text)
        written.append(folder / name)
    return findings, written


def _figures(findings: Findings, shown: Shown) -> dict[str, Figure]:
    runs = findings.finished
    figures = {
        "curves": plots.learning_curves(findings.compared, findings.curves, findings.agents),
        "seconds": drawing.panel(
            lambda axes: plots.seconds(axes, runs), *plots.seconds_size(findings.agents)
        ),
    }
    for baseline in findings.baselines:
        if findings.differences[baseline, PRIMARY]:
            name = f"difference_to_{file_name(baseline)}"
            figures[name] = plots.difference_curves(
                runs, baseline, findings.curves, findings.agents
            )
    if findings.penalties:
        figures["penalties"] = plots.penalty_figure(
            list(findings.penalties.values()),
            [findings.curves[column] for column in findings.penalties],
        )
    seed = findings.fullest_seed
    rasters = plots.with_recalls(runs, seed)
    if rasters:
        names = class_names(rasters[0], shown.data)
        figures[f"classes_seed_{seed}"] = plots.class_figure(rasters, names)
    if any(policy.sets for policy in shown.first_sets):
        figures[f"first_sets_seed_{seed}"] = first_sets.draw(shown.first_sets)
    return figures
