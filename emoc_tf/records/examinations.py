"""The folder of an examination: its settings, and a table of numbers that is resumed row by row."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emoc_tf.config import ExplorationConfig
from emoc_tf.records.record_folder import RecordFolder
from emoc_tf.records.sinks import Table
from emoc_tf.storage.csv_files import read_numbers
from emoc_tf.storage.provenance import differences


def rows_there(
    folder: RecordFolder, file: str, header: Sequence[str], told: Mapping[str, Any]
) -> np.ndarray:
    """Returns the rows that a folder holds, (rows, columns).

    Args:
        folder: Of the examination.
        file: Name of the table in it, a CSV file of numbers.
        header: Its columns.
        told: What `config.json` says in a folder of this examination: `configuration`,
            `environment`, which is not compared, and whatever else its rows depend on.

    Raises:
        ValueError: The folder holds rows of other settings, or other columns.
    """
    found = folder.read_config()
    if found is None:
        return np.empty((0, len(header)))
    config = ExplorationConfig().replace(**told["configuration"])
    differing = []
    if config.differences(found.get("configuration", {})):
        differing.append("configuration")
    others = [name for name in told if name not in ("configuration", "environment")]
    differing += [name for name in others if found.get(name) != told[name]]
    if differing:
        raise ValueError(
            f"output_dir: expected a folder of the same settings, got {folder.path}, which differs "
            f"in {differing}"
        )
    columns, rows = read_numbers(folder.path / file)
    if columns and list(columns) != list(header):
        raise ValueError(
            f"{folder.path / file}: expected columns {list(header)}, got {list(columns)}"
        )
    return rows.reshape(-1, len(header))


def begin(
    folder: RecordFolder,
    file: str,
    header: Sequence[str],
    told: Mapping[str, Any],
    rows: np.ndarray,
    source: Sequence[str],
) -> None:
    """Makes the folder ready for more rows.

    Args:
        folder: Of the examination.
        file: See `rows_there`, as for the following.
        header: Its columns.
        told: What `config.json` is to say.
        rows: Those there are.
        source: The modules that `environment` was called with.

    Raises:
        ValueError: The rows there were made with other versions or on another machine.
    """
    found = folder.read_config()
    if found is None:
        folder.write_config(told)
    elif differing := differences(found.get("environment", {}), *source):
        raise ValueError(
            f"output_dir: expected a folder of the same versions and machine to resume in, got "
            f"{folder.path}, which differs in {differing}"
        )
    table = Table(folder.path / file, header, digits=10, durable=True)
    folder.begin([table], [dict(zip(header, row, strict=True)) for row in rows.tolist()])
