"""What the child processes of `scoring.py` do: one job each, so that none disturbs another.

    python benchmarks/workers.py JOB ANSWER.json PROBLEM.npz [--case=JSON] ...

Only the libraries that a job needs are imported, for its peak memory is reported.
"""

import argparse
import functools
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import peers
import peers_projected
from problem import Case, Problem

OURS, BFLOAT16 = "emoc_tf float32", "emoc_tf bfloat16"
SKETCH, SELECT_SKETCHED = "emoc_tf sketch", "emoc_tf select_set, sketch"
SELECT_SET = "emoc_tf select_set"
EXPLICIT = TORCH, JAX, VECTORIZED = "torch.func", "JAX", "tf.vectorized_map"
TANGENTS, TRAK, LOGRA = "neural-tangents", "TRAK", "LoGra"
WARM_UP = 32
LARGEST = 4 << 30  # bytes of gradients that a contestant holds; more are made in parts
PEAK_SIZE, PEAK_REPEATS = 4096, 5


def emoc_tf(problem: Problem, **options: str) -> peers.Contestant:
    """The library, as a contestant that does all its work in the second function."""
    from emoc_tf.scoring import EMOCScorer

    scorer = EMOCScorer(problem.model(), **options)

    def changes(reference: np.ndarray, candidates: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return scorer.scores(reference, *candidates) * len(reference)

    return lambda images, labels: (images, labels), changes


SCORERS = {
    OURS: emoc_tf,
    BFLOAT16: functools.partial(emoc_tf, precision="bfloat16"),
    SKETCH: functools.partial(emoc_tf, method="sketch"),
    TORCH: peers.torch_func,
    JAX: peers.jax_func,
    VECTORIZED: peers.tf_vectorized_map,
    TANGENTS: peers.neural_tangents,
    TRAK: peers_projected.trak,
    LOGRA: peers_projected.logra,
}
SELECTORS = {SELECT_SET: "exact", SELECT_SKETCHED: "sketch"}


def measure(name: str, problem: Problem, tangents_images: int) -> dict[str, Any]:
    """Times a contestant that scores candidates.

    Returns:
        Seconds of `warm_up` (compilation is there) and of the full run, `peak_mib` of the
        process, `images`: how many reference images were measured, and `scores` over these. Ours
        also tells `tangents_scores`, over the images that neural-tangents is measured on. Or
        `missing`: why it could not be imported, or what is too large.
    """
    began = time.perf_counter()
    try:
        gradients, changes = SCORERS[name](problem)
    except (ImportError, MemoryError) as error:
        return {"missing": str(error)}
    reference, candidates, labels = problem.reference, problem.candidates, problem.labels
    changes(reference[:WARM_UP], gradients(candidates[:WARM_UP], labels[:WARM_UP]))
    warm = time.perf_counter()
    few = reference[:tangents_images]
    measured = few if name == TANGENTS else reference
    size = 4 * sum(value.size for value in problem.trainable().values())  # of one gradient
    parts = -(-len(candidates) * size // LARGEST) if name in EXPLICIT else 1
    made, used, scores = 0.0, 0.0, []
    for part in np.array_split(np.arange(len(candidates)), parts):
        start = time.perf_counter()
        found = gradients(candidates[part], labels[part])
        middle = time.perf_counter()
        scores.append(changes(measured, found) / len(measured))
        made += middle - start
        used += time.perf_counter() - middle
    answer = {
        "warm_up": warm - began,
        "seconds": made + used * len(reference) / len(measured),
        "peak_mib": peak_mib(),
        "images": len(measured),
        "scores": np.concatenate(scores).tolist(),
    }
    if name == OURS:
        answer["tangents_scores"] = (changes(few, found) / len(few)).tolist()
    return answer


def choose_set(name: str, problem: Problem) -> dict[str, Any]:
    """Times the selection of the best set; the answer has its `index` in place of scores."""
    from emoc_tf.scoring import EMOCScorer

    start = time.perf_counter()
    scorer = EMOCScorer(problem.model(), method=SELECTORS[name])
    scorer.select_set(problem.reference[:WARM_UP], problem.candidates, problem.sets[:50])
    warm = time.perf_counter()
    selection = scorer.select_set(problem.reference, problem.candidates, problem.sets, labels="set")
    return {
        "warm_up": warm - start,
        "seconds": time.perf_counter() - warm,
        "peak_mib": peak_mib(),
        "images": len(problem.reference),
        "index": int(selection.index),
    }


def set_scores(problem: Problem) -> dict[str, Any]:
    """Returns the exact scores of all candidate sets."""
    from emoc_tf.scoring import EMOCScorer

    scorer = EMOCScorer(problem.model())
    scores = scorer.set_scores(problem.reference, problem.candidates, problem.sets)
    return {"scores": scores.tolist()}


def peak_mib() -> float:
    """Returns the most memory that this process has held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def sgemm() -> dict[str, Any]:
    """Returns the multiply-adds per second of a large float32 product, in units of 1e9."""
    import tensorflow as tf

    matrix = tf.random.normal([PEAK_SIZE, PEAK_SIZE])
    seconds = []
    for _ in range(PEAK_REPEATS):
        start = time.perf_counter()
        tf.matmul(matrix, matrix).numpy()
        seconds.append(time.perf_counter() - start)
    return {"peak": PEAK_SIZE**3 / 1e9 / min(seconds)}


def make_problem(path: str, case: Case, data_dir: str | None) -> dict[str, Any]:
    """Writes the problem and returns the multiply-adds per pair of images."""
    from making import make

    problem = make(case, data_dir)
    problem.save(path)
    return problem.multiply_adds


def main() -> None:
    """Does the job and writes the answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=["problem", "sgemm", "set_scores", *SELECTORS, *SCORERS])
    parser.add_argument("answer")
    parser.add_argument("problem")
    parser.add_argument("--case", type=json.loads)
    parser.add_argument("--data_dir")
    parser.add_argument("--tangents_images", type=int)
    args = parser.parse_args()
    if args.job == "problem":
        answer = make_problem(args.problem, Case(*args.case), args.data_dir)
    elif args.job == "sgemm":
        answer = sgemm()
    elif args.job == "set_scores":
        answer = set_scores(Problem.load(args.problem))
    elif args.job in SELECTORS:
        answer = choose_set(args.job, Problem.load(args.problem))
    else:
        answer = measure(args.job, Problem.load(args.problem), args.tangents_images)
    Path(args.answer).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
