"""Compares policies under several values of one setting, and draws what the setting does.

Each value has a folder of its own, OUTPUT_DIR/SETTING=VALUE, as `compare` writes it. The runs of a
seed are paired across values too where the setting leaves classes and images alone. The same
command resumes where it was stopped.

Example: python -m emoc_tf.experiments.vary --setting=old_fraction --values=0.5,0.9 --output_dir=out
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from absl import flags
from rich.console import Console

from emoc_tf.analysis.findings import Findings
from emoc_tf.config import ExplorationConfig
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.experiments import flags as shared
from emoc_tf.experiments.binary import run_binary
from emoc_tf.experiments.comparison import compare
from emoc_tf.records.run_record import check_output_dir
from emoc_tf.report import drawing, effects, tables
from emoc_tf.running.console import say
from emoc_tf.running.grid import check_distinct
from emoc_tf.running.single_run import Grid
from emoc_tf.storage import atomic, csv_files
from emoc_tf.values import parse_value

SETTING = flags.DEFINE_string(
    "setting", None, "The setting to vary, such as sampler or old_fraction.", required=True
)
VALUES = flags.DEFINE_list("values", None, "Its values.", required=True)
GRID, AGENTS = shared.grid(), shared.policies()
SEEDS, POOL = shared.seeds(), shared.pool()


def grids(grid: Grid, setting: str, texts: list[str]) -> dict[Any, Grid]:
    """Returns a grid a value.

    Args:
        grid: The settings that stay.
        setting: A field of `ExplorationConfig`.
        texts: Its values as they are typed: JSON values, or else strings.

    Raises:
        ValueError: There is no such setting, or a value is given twice or out of range.
    """
    names = [field.name for field in dataclasses.fields(ExplorationConfig)]
    if setting not in names:
        raise ValueError(f"setting: expected one of {names}, got {setting!r}")
    values = [parse_value(text) for text in texts]
    if any(isinstance(value, list | dict) for value in values):
        raise ValueError(f"values: expected numbers or words, got {texts}")
    check_distinct("values", values)
    return {
        value: dataclasses.replace(
            grid,
            config=grid.config.replace(**{setting: value}),
            output_dir=Path(grid.output_dir) / f"{setting}={value}",
        )
        for value in values
    }


def main(argv: list[str]) -> None:
    """Runs a grid a value, prints a table of each and draws the figure."""
    shared.check_no_arguments(argv)
    setting, seeds, base, console = SETTING.value, SEEDS(), GRID(), Console()
    varied = grids(base, setting, VALUES.value)
    for grid in varied.values():  # before any of them runs
        ActiveExplorationEnv(grid.config)
        check_output_dir(grid.output_dir, grid.config)
    problems: list[str] = []
    findings: dict[Any, Findings] = {}
    values = list(varied)
    with POOL() as pool:
        for value, grid in varied.items():
            say(console, f"{setting}={value}")
            found, failed = compare(grid, AGENTS.value, seeds, console, pool=pool)
            if failed:
                problems.append(failed)
            if found is not None:
                findings[value] = found
    if values[0] in findings:
        folder = Path(base.output_dir)
        rows = effects.differences(setting, findings)
        console.print(effects.table(setting, rows))
        written = drawing.save(effects.draw(setting, findings), folder / setting)
        texts = {
            f"{setting}.csv": effects.summary_rows(setting, findings),
            f"{setting}_differences.csv": tables.difference_rows(rows.values()),
        }
        for name, lines in texts.items():
            atomic.write_text(folder / name, csv_files.text(lines))
        names = ", ".join([*(path.name for path in written), *texts])
        say(console, f"Written into {folder}: {names}")
    elif findings:
        say(console, f"no figure: there is no report of the first value, {setting}={values[0]}")
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    run_binary(main)
