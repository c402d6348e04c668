import numpy as np

from emoc_tf.analysis import findings
from tests.records.written import write


def test_runs_without_test_data_are_paired(tmp_path):
    """No accuracy is none that differs."""
    for agent in ("emoc", "random"):
        write(tmp_path, agent, accuracies=[np.nan] * 3)
    assert not [note for note in findings.gather(tmp_path).notes if "alike" in note]
    write(tmp_path / "others", "emoc", accuracies=[0.5, 0.5, 0.5])
    write(tmp_path / "others", "random", accuracies=[0.25, 0.5, 0.5])
    assert [note for note in findings.gather(tmp_path / "others").notes if "alike" in note]
