"""EMOC scores: `EMOCScorer` in batches, `RayScorer` on a cluster, `reference` literally."""

from emoc_tf.scoring import reference
from emoc_tf.scoring.ray_scorer import RayScorer, scoring_on
from emoc_tf.scoring.scorer import EMOCScorer
from emoc_tf.scoring.selection import Selection

__all__ = ["EMOCScorer", "RayScorer", "Selection", "reference", "scoring_on"]
