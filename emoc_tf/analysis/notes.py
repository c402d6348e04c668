"""What a reader of measures must know of how a comparison's runs were answered, in sentences."""

from collections.abc import Sequence

from emoc_tf.records.run_record import RunRecord


def of_answers(runs: Sequence[RunRecord]) -> list[str]:
    """Returns what answers that are wrong, or that do not come, do to what runs are measured by.

    Args:
        runs: Finished runs of one configuration and one length, at least one.
    """
    notes = []
    wrong = runs[0].configuration["wrong_answers"]
    if wrong:
        notes.append(
            f"Of the answers {100 * wrong:.3g}% are wrong, and a class counts as found once it is "
            f"named, by a wrong answer too: classes found tell little here"
        )
    ends = [int(run.steps["labelled"][-1]) for run in runs]
    if min(ends) < max(ends):
        notes.append(
            f"At the end {min(ends)} to {max(ends)} images are labelled: final values, and "
            f"differences step by step, are after equally many queries, not labels"
        )
    return notes
