"""EMOC scores of a large pool, computed by actors of a Ray cluster."""

import uuid
import weakref
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.scoring.checks import MEMORY_BUDGET, check_logits, is_integer
from emoc_tf.scoring.images import Images, check_images
from emoc_tf.scoring.ray_pairs import RayPairs
from emoc_tf.scoring.ray_team import Predictor, shared
from emoc_tf.scoring.scored_part import ScoredPart
from emoc_tf.scoring.scorer import EMOCScorer
from emoc_tf.scoring.sketches.changes import SketchedChanges
from emoc_tf.scoring.sketches.sketch import Sketch, SketchReport
from emoc_tf.storage import provenance


class Prediction(NamedTuple):
    """What a model computes of images.

    Attributes:
        features: (n, d), the inputs of its head.
        logits: (n, C).
    """

    features: np.ndarray
    logits: np.ndarray

    @property
    def probabilities(self) -> np.ndarray:
        """(n, C), the posterior."""
        return tf.nn.softmax(self.logits).numpy()


class RayScorer(EMOCScorer):
    """`EMOCScorer` whose work is shared out to a cluster, with the same bits.

    Its bits are those that `EMOCScorer` has in a process with as many threads as `cpus`, however
    many actors there are and wherever they live. Models and weights are sent when they change;
    images that lie in a file are read there by the actors, if they see it, others are sent once.
    An actor that dies costs the pieces of work it was at, which others do again; a line of the log
    (`emoc_tf.cluster`) tells.

    The connection is that which `ray.init` made in this process. Without one, it is made when there
    is work, and lasts until `close` or the end of the process. All scorers of a process share their
    actors. Where the cluster has GPUs, an actor has one of them.

    Args:
        model: As in `EMOCScorer`, as for the following. Keras must be able to save it; layers of
            your own are in a module that all machines have, or in the script itself.
        output: See there.
        regularizer: See there.
        precision: See there.
        memory_budget: See there; of each actor.
        method: See there.
        sketch_size: See there.
        seed: See there.
        cpus: CPUs that an actor reserves and threads that it uses, at least 1.
        address: `"auto"`, `"local"` or HOST:PORT, see `emoc_tf.cluster.connection.connect`; None:
            the connection of `ray.init`, or a cluster of this machine alone.

    Raises:
        ValueError: As `EMOCScorer`; or Ray is not installed, no cluster is there, or its machines
            do not lend so many CPUs, differ in what decides bits, or have other versions than this
            process; or scorers of this process have actors with another number of CPUs there.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from emoc_tf.scoring import EMOCScorer, RayScorer
        >>> layers = [keras.layers.Dense(8), keras.layers.Dense(3)]
        >>> model = keras.Sequential([keras.Input((4,)), *layers])
        >>> images = np.random.default_rng(0).normal(size=(40, 4))
        >>> scorer = RayScorer(model, address="local")
        >>> scores = scorer.scores(images, images)
        >>> np.allclose(scores, EMOCScorer(model).scores(images, images))
        True
        >>> scorer.close()
    """

    def __init__(
        self,
        model: keras.Model,
        output: str = "logits",
        regularizer: bool = True,
        precision: str = "float32",
        memory_budget: int = MEMORY_BUDGET,
        method: str = "exact",
        sketch_size: int | None = None,
        seed: int = 0,
        *,
        cpus: int = 1,
        address: str | None = None,
    ) -> None:
        if not is_integer(cpus) or cpus < 1:
            raise ValueError(f"cpus: expected an integer of at least 1, got {cpus!r}")
        how = precision, memory_budget, method, sketch_size, seed
        super().__init__(model, output, regularizer, *how)
        self._team = shared(address, int(cpus))
        self._team.begin()
        names = "output", "regularizer", "precision", "memory_budget", "method", "sketch_size"
        given = output, bool(regularizer), *how[:-1]
        self._settings = {**dict(zip(names, given, strict=True)), "seed": int(seed)}
        self._key = uuid.uuid4().hex
        weakref.finalize(self, self._team.forget_model, self._key)
        self._part = _Part(self._part, self)
        if self._sketch is not None:
            self._sketch = _Sketch(self._sketch)
        self._predictor = Predictor(self._team)

    def predict(self, images: Any) -> Prediction:
        """Returns features and logits of images (n, ...), n > 0.

        Raises:
            ValueError: Images that the model does not take.
        """
        self._snapshot.check()
        return Prediction(*self._predictor.predict(self.model, images))

    def expected_seconds(self, num_reference: int, num_pairs: int) -> float:
        """Returns what N reference images and so many pairs will take, see `EMOCScorer`.

        Measured in this process, and shared by the actors.
        """
        return super().expected_seconds(num_reference, num_pairs) / max(1, len(self._team))

    def close(self) -> None:
        """Ends the actors, which are the other scorers' too, and a connection that was made here.

        Whoever computes next begins others.
        """
        self._team.close()

    def forward(self, what: str, images: Images) -> np.ndarray:
        """Returns outputs of the model's frozen prefix or of what is behind it, see `Job`."""
        sent = self._team.model(self._key, self.model)
        return self._team.forward(sent, what, self._settings, images)[0]

    def _pairs(self, reference: Images, images: Images, *pairs: Any) -> RayPairs:
        here = super()._pairs(reference, images, *pairs)
        sent = self._team.model(self._key, self.model)
        own = (*pairs, None)[:3]
        more = {"reference": reference, "pairs": own}
        work = self._team.work(sent, "pairs", self._settings, images, **more)
        return RayPairs(self._team, here, work)


class RayScoring:
    """What an exploration computes on a cluster: scores, and predictions of its pool.

    An actor has as many threads as this process, and another kind of processor is refused, so that
    the bits are those without a cluster.

    Args:
        address: See `RayScorer`.

    Attributes:
        predict: See `Predictor.predict`.
        outputs: See `Predictor.outputs`.

    Raises:
        ValueError: See `RayScorer`.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._cpus = provenance.threads()
        self._team = shared(address, self._cpus)
        self._team.alike = True
        self._team.begin()
        predictor = Predictor(self._team)
        self.predict, self.outputs = predictor.predict, predictor.outputs

    def scorer(self, model: keras.Model, *settings: Any, **more: Any) -> RayScorer:
        """Returns a scorer, with the arguments of `EMOCScorer`."""
        return RayScorer(model, *settings, **more, cpus=self._cpus, address=self._address)

    def close(self) -> None:
        """Ends the actors, see `RayScorer.close`."""
        self._team.close()


def scoring_on(address: str | None) -> RayScoring | None:
    """Returns what an exploration computes on a cluster; None without an address.

    It has `scorer`, `predict` and `outputs`, with the bits of this process.

    Args:
        address: `"auto"`, `"local"` or HOST:PORT, see `RayScorer`.

    Raises:
        ValueError: See `RayScorer`; or no machine lends as many CPUs as this process has threads:
            then the variable TF_NUM_INTRAOP_THREADS helps.

    Example:
        >>> from emoc_tf.scoring import scoring_on
        >>> print(scoring_on(None))  # in this process
        None
    """
    return None if address is None else RayScoring(address)


class _Part:
    """The scored part of a model, whose forward passes are made elsewhere, see `ScoredPart`."""

    def __init__(self, part: ScoredPart, scorer: RayScorer) -> None:
        self.has_prefix, self._scorer = part.has_prefix, scorer
        self.model, self.is_linear = part.model, part.is_linear
        self.check_masks = part.check_masks  # of few models, and computed here

    def inputs(self, images: Images) -> Images:
        if not self.has_prefix:
            return images
        return check_images(self._scorer.forward("inputs", images), images.name, self.model)

    def logits(self, inputs: Images) -> np.ndarray:
        logits = self._scorer.forward("logits", inputs)
        check_logits(logits, inputs.name)
        return logits


class _Sketch:
    """A sketch whose directions are fitted elsewhere, see `Sketch`."""

    def __init__(self, sketch: Sketch) -> None:
        self._sketch = sketch
        self.plan = sketch.plan
        self.report: SketchReport | None = None

    @property
    def usual(self) -> SketchedChanges:
        return self._sketch.usual

    def apply(self, pairs: RayPairs) -> RayPairs:
        directions, self.report = pairs.fit()
        changes = self._sketch.along(directions)
        self.plan = changes.factors.plan
        return pairs.along(pairs.pairs.by(changes), directions)
