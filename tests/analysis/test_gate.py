import numpy as np
import pytest

from emoc_tf.analysis import correlations, gate

HEADER = (
    "seed", "set", "novel_share", "true_label", "iterations", "output_change", "own_change",
    "accuracy_gain", "emoc-new", "min",
)  # fmt: skip


@pytest.fixture
def changes(tmp_path):
    """A file of changes in which the own change after 9 iterations is what `emoc-new` says."""

    def write(known_sign=1, novel_sign=1, columns=HEADER, labels=(0, 1)):
        rng, rows = np.random.default_rng(0), [",".join(columns)]
        for seed in (0, 1):
            for i in range(16):
                score, novel = rng.normal(), i % 2
                sign = novel_sign if novel else known_sign
                for label in labels:
                    for count in (3, 9):
                        noise = rng.normal(0, 0.1 if (label, count) == (1, 9) else 9)
                        own = sign * score + noise
                        values = seed, i, novel, label, count, noise, own, noise, score, i % 3
                        row = dict(zip(HEADER, values, strict=True))
                        rows.append(",".join(str(row[name]) for name in columns))
        file = tmp_path / "changes.csv"
        file.write_text("\n".join([*rows, ""]))
        return correlations.read(file, len(columns) - 2)

    return write


@pytest.mark.parametrize(
    ("known", "novel", "passes"), [(1, 1, True), (1, -1, False), (-1, 1, False), (-1, -1, False)]
)
def test_the_own_change_with_the_true_label_after_most_iterations_decides(
    changes, known, novel, passes
):
    found = changes(known, novel)
    row, other = gate.gates(found)
    assert (row.score, row.family, row.iterations) == ("emoc-new", "EMOC", 9)
    assert (other.score, other.family) == ("min", "uncertainty")
    assert row.passes == passes
    for part, sign in (("known", known), ("novel", novel)):
        (expected,) = (
            each
            for each in found
            if (each.score, each.among, each.measure, each.true_label, each.iterations)
            == ("emoc-new", part, "own_change", True, 9)
        )
        numbers = {name: getattr(row, f"{part}_{name}") for name in ("rho", "low", "high", "sets")}
        assert numbers == {name: getattr(expected, name) for name in numbers}
        assert sign * numbers["rho"] > 0.9
        assert getattr(row, f"{part}_models") == expected.seeds == 2
    assert row.total == row.known_rho + row.novel_rho


@pytest.mark.parametrize(
    ("known", "novel", "passes"),
    [
        (0.5, 0.0, True), (0.499, 0.9, False), (0.9, -0.001, False), (0.6, 0.1, True),
        (np.nan, 0.5, False), (0.9, np.nan, False),
    ],
)  # fmt: skip
def test_limits_belong_to_it_and_what_is_unknown_does_not_pass(known, novel, passes):
    found = [
        correlations.Correlation(
            "emoc", among, "own_change", True, 9, 4, 60, rho, rho - 0.4, rho + 0.4, rho, rho, 0.5
        )
        for among, rho in (("all", 0.9), ("known", known), ("novel", novel))
    ]
    (row,) = gate.gates(found)
    assert row.passes == passes


def test_one_variant_of_emoc_is_chosen_whatever_else_passes():
    def rows(scores):
        return [
            correlations.Correlation(
                name, among, "own_change", True, 9, 4, 60, rho, rho, rho, rho, rho, 0.5
            )
            for name, rho in scores.items()
            for among in ("known", "novel")
        ]  # fmt: skip

    scores = {
        "novel": 0.95, "badge": 0.9, "emoc": 0.85, "emoc-expected": 0.84, "emoc-old": 0.83,
        "emoc-new:new_unit=1": 0.6, "emoc:labels=joint": 0.7, "lookahead": 0.65,
        "lookahead:kernel=pntk": 0.4, "gp-emoc": 0.55, "gp-emoc:kernel=linear": 0.52,
    }  # fmt: skip
    found = gate.gates(rows(scores))
    assert {row.score for row in found if row.passes} == set(scores) - {"lookahead:kernel=pntk"}
    assert [row.score for row in found if row.eligible] == list(scores)[5:]
    assert gate.chosen(found).score == "emoc:labels=joint"
    assert gate.chosen([row for row in found if not row.eligible]) is None
    assert gate.chosen(gate.gates(rows({"lookahead": np.nan, "emoc-new": 0.4}))) is None


def test_without_the_numbers_there_is_no_gate(changes):
    assert gate.gates([]) == []
    assert gate.gates(changes(labels=(0,))) == []
    assert len(gate.gates(changes())) == 2
    without = [row for row in changes() if row.measure != "own_change"]
    assert gate.gates(without) == []
