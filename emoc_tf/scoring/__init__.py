"""EMOC scores: `EMOCScorer` in batches, `reference` written out literally."""

from emoc_tf.scoring import reference
from emoc_tf.scoring.scorer import EMOCScorer

__all__ = ["EMOCScorer", "reference"]
