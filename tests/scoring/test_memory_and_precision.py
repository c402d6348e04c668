"""Budgets, traces and precisions."""

import threading
import time
import warnings
import weakref

import numpy as np
import pytest
import tensorflow as tf

from emoc_tf.scoring import EMOCScorer, blocks, precision, reference
from tests.scoring import models


@pytest.fixture
def problem():
    model = models.make("convolutional")
    images = models.images(300, model.input_shape[1:])
    return model, images[:150], images[150:]


def test_any_budget_gives_the_same_scores(problem):
    model, x, candidates = problem
    want = EMOCScorer(model).scores(x, candidates)
    for budget, count in ((1, 3), (1 << 14, 50), (1 << 17, 150), (1 << 20, 150)):
        scores = EMOCScorer(model, memory_budget=budget).scores(x, candidates[:count])
        np.testing.assert_allclose(scores, want[:count], rtol=1e-5)


@pytest.mark.parametrize("budget", [1 << 18, 1 << 20])
def test_what_is_held_fits_the_budget(problem, budget, monkeypatch):
    """Gradients that are alive at a time, counted as they meet."""
    model, x, candidates = problem
    scorer = EMOCScorer(model, memory_budget=budget)
    changes = scorer._changes.changes
    assert scorer._changes.last_changes  # traced
    made, most = [], 0

    def remembered(function):
        def call(*parts):
            result = function(*parts)
            made.extend(weakref.ref(tensor) for tensor in tf.nest.flatten(result))
            return result

        return call

    def counted(jacobian, gradients):
        nonlocal most
        alive = {id(t): t for ref in made if (t := ref()) is not None}
        alive |= {id(t): t for t in tf.nest.flatten(gradients)}  # joined ones are made elsewhere
        most = max(most, sum(t.dtype.size * int(tf.size(t)) for t in alive.values()))
        return changes(jacobian, gradients)

    for name in ("gradients", "jacobian", "last"):
        monkeypatch.setattr(scorer._changes, name, remembered(getattr(scorer._changes, name)))
    monkeypatch.setattr(scorer._changes, "changes", counted)
    scorer.scores(x, candidates)
    assert budget / 20 < most < budget
    most = 0
    scorer.select_set(x, candidates, np.arange(150).reshape(50, 3))
    assert budget / 20 < most < budget


def most_alive(monkeypatch, scorer, name):
    """Returns a list whose number will be the most bytes of results of a function at a time."""
    original, made, most = getattr(scorer._changes, name), [], [0]

    def counted(*parts):
        result = original(*parts)
        made.extend(weakref.ref(tensor) for tensor in tf.nest.flatten(result))
        held = [tensor for ref in made if (tensor := ref()) is not None]
        most[0] = max(most[0], sum(int(tf.size(tensor)) * 4 for tensor in held))
        return result

    monkeypatch.setattr(scorer._changes, name, counted)
    return most


@pytest.mark.parametrize(("name", "budget"), [("last_changes", 1 << 22), ("last", 1 << 20)])
def test_the_control_of_many_reference_images_fits_the_budget(name, budget, monkeypatch):
    """What the last layers have of J, if that is kept at all, and what they make of it."""
    model = models.make("dense")
    images = models.images(2000, model.input_shape[1:])
    sets = np.random.default_rng(0).integers(2000, size=(100, 3))
    want = EMOCScorer(model).select_set(images, images, sets)
    scorer = EMOCScorer(model, memory_budget=budget)
    most = most_alive(monkeypatch, scorer, name)
    found = scorer.select_set(images, images, sets)
    assert 0 < most[0] < budget / 4
    if name == "last":  # they are not kept: two batches of eight
        assert most[0] < 2000 * 300 / 4
    assert found.index == want.index
    assert found.score == pytest.approx(want.score, rel=0.1)


def test_nothing_is_traced_again_whatever_the_sizes(problem):
    model, x, candidates = problem
    scorer = EMOCScorer(model)
    sets = np.arange(30).reshape(10, 3)
    traced = 0

    def count(*_):
        nonlocal traced
        traced += 1

    scorer.expected_scores(x[:3], candidates[:3])
    scorer.select_set(x[:40], candidates[:3], np.arange(3)[:, None])
    original = tf.function
    tf.function = lambda f: (count(), original(f))[1]
    try:
        for n, m in ((1, 1), (3, 7), (64, 65), (150, 149)):
            scorer.scores(x[:n], candidates[:m])
            scorer.expected_scores(x[:n], candidates[:m])
        scorer.select_set(x, candidates, sets)
    finally:
        tf.function = original
    assert traced == 0


@pytest.mark.parametrize("name", ["convolutional", "unusual", "words"])
def test_bfloat16(name):
    model = models.make(name)
    images = models.inputs(model, 60)
    exact = reference.scores(model, images[:40], images[40:])
    scores = EMOCScorer(model, precision="bfloat16").scores(images[:40], images[40:])
    assert 0 < np.abs(scores / exact - 1).max() < 5e-3


EPYC_7003 = (
    "processor\t: 0\nflags\t\t: fpu sse avx avx2 fma\n\nprocessor\t: 1\nflags\t\t: fpu avx2\n"
)
EPYC_9004 = EPYC_7003.replace("avx2", "avx512f avx512_bf16 avx512_vnni")
XEON = "vendor_id\t: GenuineIntel\n" + EPYC_9004.replace("bf16", "bf16 amx_bf16")
XEON_WITHOUT_TILES = XEON.replace("amx_bf16", "amx_int8")
ARM = "processor\t: 0\nFeatures\t: fp asimd\n"


@pytest.mark.parametrize(
    ("told", "has"),
    [
        (EPYC_7003, False),
        ("vendor_id\t: AuthenticAMD\n" + EPYC_9004, True),
        (XEON, True),
        (XEON_WITHOUT_TILES, False),
        (ARM, None),
        ("", None),
        (None, None),
    ],
)
def test_bfloat16_is_said_to_be_slow_where_it_is(told, has, problem, tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    if told is not None:
        info.write_text(told)
    monkeypatch.setattr(precision, "_CPU_INFO", info)
    assert precision.has_bfloat16() is has
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for kind in ("float32", "bfloat16", "tf32"):
            EMOCScorer(problem[0], precision=kind)
    said = [str(warning.message) for warning in found]
    assert len(said) == (has is False)
    if said:
        assert said[0].startswith("precision: 'bfloat16' is about half as fast as 'float32' on")
        assert found[0].filename == __file__


def test_a_gpu_has_bfloat16_whatever_the_processor(problem, tmp_path, monkeypatch, recwarn):
    (tmp_path / "cpuinfo").write_text(EPYC_7003)
    monkeypatch.setattr(precision, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU"])
    EMOCScorer(problem[0], precision="bfloat16")
    assert not recwarn.list


def test_tensor_float_32_is_off_unless_asked_for(problem, monkeypatch):
    model, x, candidates = problem
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    for kind, before in (("float32", True), ("float32", False), ("tf32", False)):
        scorer = EMOCScorer(model, precision=kind)
        seen = []
        changes = scorer._changes.changes

        def look(*parts, changes=changes, seen=seen):
            seen.append(enabled())
            return changes(*parts)

        monkeypatch.setattr(scorer._changes, "changes", look)
        tf.config.experimental.enable_tensor_float_32_execution(before)
        try:
            scorer.scores(x[:4], candidates[:4])
            assert enabled() == before
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(True)
        assert set(seen) == {kind == "tf32"}


def test_bad_settings(problem):
    model, _, _ = problem
    with pytest.raises(ValueError, match=r"precision: expected one of .*'half'"):
        EMOCScorer(model, precision="half")
    for budget in (0, -1, 1.5, None):
        with pytest.raises(ValueError, match="memory_budget: expected a number of bytes above 0"):
            EMOCScorer(model, memory_budget=budget)


def test_threads_do_not_compute_with_each_others_tensor_float_32(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU"])
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    inside, wanted, seen = threading.Event(), [False, True], []

    def work(number):
        with precision.tensor_float_32(wanted[number]):
            inside.set()
            time.sleep(0.05)  # the other one is here by now
            seen.append((number, enabled()))

    before = enabled()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    threads[0].start()
    inside.wait()
    threads[1].start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [(0, False), (1, True)]
    assert enabled() == before


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_pairs_of_an_image_stay_together(count, monkeypatch):
    """Every pair once, in rows of one image whose lengths are powers of two."""
    monkeypatch.setattr(blocks, "MANY_PAIRS", 4)
    image_of = np.repeat([0, 2, 5], [count, 1, 4])
    index = np.arange(len(image_of)) + 7
    groups = list(blocks.by_image(index, image_of, widest=4))
    assert sorted(pair for group in groups for pair in group.ravel()) == list(index)
    for group in groups:
        assert group.shape[1] in (1, 2, 4)
        for row in group:
            assert len(set(image_of[row - 7])) == 1


@pytest.mark.gpu
def test_on_a_gpu(problem):
    model, x, candidates = problem
    with tf.device("/GPU:0"):
        scores = EMOCScorer(model).scores(x[:20], candidates[:20])
    literal = reference.scores(model, x[:20], candidates[:20])
    np.testing.assert_allclose(scores, literal, rtol=1e-4)
