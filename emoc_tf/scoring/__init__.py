"""EMOC scores: `EMOCScorer` in batches, `reference` written out literally."""

from emoc_tf.scoring import reference
from emoc_tf.scoring.scorer import EMOCScorer
from emoc_tf.scoring.selection import Selection

__all__ = ["EMOCScorer", "Selection", "reference"]
