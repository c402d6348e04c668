import csv

import numpy as np
import pytest

from emoc_tf.storage import csv_files


def test_what_is_written_is_read_back(tmp_path):
    """Commas, quotes and line breaks in names stay in their cells; floats keep all digits."""
    rows = [["agent", "a,b", "value"], ['says "no"', "two\nlines", 0.1 + 0.2], ["x", None, 3]]
    text = csv_files.text(rows)
    assert list(csv.reader(text.splitlines(keepends=True))) == [
        ["agent", "a,b", "value"],
        ['says "no"', "two\nlines", "0.30000000000000004"],
        ["x", "", "3"],
    ]
    file = tmp_path / "numbers.csv"
    file.write_text(csv_files.text([["a", "b,c"], [1, 0.1 + 0.2], [None, np.float64(2.5)]]) + "7")
    header, values = csv_files.read_numbers(file)
    assert header == ("a", "b,c")
    np.testing.assert_array_equal(values, [[1, 0.1 + 0.2], [np.nan, 2.5]])


def test_floats_are_rounded_and_nothing_else():
    assert csv_files.rounded(["a", 3, 1 / 3, None]) == ["a", 3, "0.333333", None]


@pytest.mark.parametrize("content", ["a,b\n1,2\n3\n", "a\nword\n"])
def test_other_files_are_refused(tmp_path, content):
    file = tmp_path / "numbers.csv"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"numbers.csv: expected columns of numbers, got a file"):
        csv_files.read_numbers(file)
