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
from problem import Case, Problem, make

OURS, BFLOAT16 = "emoc_tf float32", "emoc_tf bfloat16"
SELECT_SET = "emoc_tf select_set"
TORCH, TANGENTS = "torch.func", "neural-tangents"
WARM_UP = 32
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
    TORCH: peers.torch_func,
    "JAX": peers.jax_func,
    TANGENTS: peers.neural_tangents,
    "tf.vectorized_map": peers.tf_vectorized_map,
}


def measure(name: str, problem: Problem, tangents_images: int) -> dict[str, Any]:
    """Times a contestant that scores candidates.

    Returns:
        Seconds of `warm_up` (compilation is there) and of the full run, `peak_mib` of the
        process, `images`: how many reference images were measured, and `scores` over these. Ours
        also tells `tangents_scores`, over the images that neural-tangents is measured on. Or
        `missing`: why it could not be imported.
    """
    start = time.perf_counter()
    try:
        gradients, changes = SCORERS[name](problem)
    except ImportError as error:
        return {"missing": str(error)}
    reference, candidates, labels = problem.reference, problem.candidates, problem.labels
    changes(reference[:WARM_UP], gradients(candidates[:WARM_UP], labels[:WARM_UP]))
    warm = time.perf_counter()
    few = reference[:tangents_images]
    measured = few if name == TANGENTS else reference
    found = gradients(candidates, labels)
    middle = time.perf_counter()
    scores = changes(measured, found) / len(measured)
    end = time.perf_counter()
    answer = {
        "warm_up": warm - start,
        "seconds": middle - warm + (end - middle) * len(reference) / len(measured),
        "peak_mib": peak_mib(),
        "images": len(measured),
        "scores": scores.tolist(),
    }
    if name == OURS:
        answer["tangents_scores"] = (changes(few, found) / len(few)).tolist()
    return answer


def choose_set(problem: Problem) -> dict[str, Any]:
    """Times the selection of the best set; the answer has its `index` in place of scores."""
    from emoc_tf.scoring import EMOCScorer

    start = time.perf_counter()
    scorer = EMOCScorer(problem.model())
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
    problem = make(case, data_dir)
    problem.save(path)
    return problem.multiply_adds


def main() -> None:
    """Does the job and writes the answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=["problem", "sgemm", "set_scores", SELECT_SET, *SCORERS])
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
    elif args.job == SELECT_SET:
        answer = choose_set(Problem.load(args.problem))
    else:
        answer = measure(args.job, Problem.load(args.problem), args.tangents_images)
    Path(args.answer).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
