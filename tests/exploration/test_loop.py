"""The loop itself, on digits."""

import numpy as np
import pytest
import tensorflow as tf

from emoc_tf.exploration import Exploration
from emoc_tf.models.learner import Learner
from emoc_tf.records.pretrained import PretrainedFile
from tests.exploration.runs import assert_same_run, run, weights


@pytest.mark.parametrize("sampler", ["single_class", "uniform", "cluster"])
def test_same_root_same_run_bit_for_bit(tiny, sampler):
    """Also in another object, and after other work has moved global random state."""
    config = tiny.replace(sampler=sampler)
    first = run(Exploration(config), [0, 5, 2])
    np.random.seed(1)
    tf.random.set_seed(1)
    again = Exploration(config)
    run(again, [1], root=8)
    assert_same_run(first, run(again, [0, 5, 2]))
    other = run(again, [0, 5, 2], root=8)
    assert other[0] != first[0]


def test_policies_of_one_root_share_all_but_their_choices(tiny):
    first = run(Exploration(tiny), [0])
    second = run(Exploration(tiny), [1])
    assert first[0][0] == second[0][0]
    np.testing.assert_array_equal(first[1][0].candidates, second[1][0].candidates)
    np.testing.assert_array_equal(first[1][0].probabilities, second[1][0].probabilities)
    assert first[1][0].known_classes == second[1][0].known_classes


def test_the_books_are_kept(tiny):
    exploration = Exploration(tiny)
    exploration.reset(3)
    assert len(exploration.state.pool) == 2 * 5 + 5 * 6
    assert list(exploration.state.pool.labels[:10]) == [0] * 5 + [1] * 5
    for step in range(1, 5):
        before = exploration.state
        outcome = exploration.advance(step)
        state, chosen = exploration.state, before.candidates[step]
        changed = np.flatnonzero(state.pool.labels != before.pool.labels)
        np.testing.assert_array_equal(changed, chosen)
        assert (before.pool.labels[chosen] == -1).all()
        assert outcome.step == state.step == step
        assert outcome.labelled == 10 + 3 * step == (state.pool.labels >= 0).sum()
        assert outcome.discovered_classes == len(state.known_classes) - 2
        assert state.model.output_shape == (None, len(state.known_classes))
        assert state.probabilities.shape == (40, len(state.known_classes))
        np.testing.assert_allclose(state.probabilities.sum(axis=1), 1, rtol=1e-5)
        assert (state.pool.labels[state.candidates[state.candidate_mask]] == -1).all()


@pytest.mark.parametrize("root", range(4))
def test_labels_map_to_the_right_columns_in_any_order_of_discovery(tiny, root):
    exploration = Exploration(tiny.replace(sampler="uniform", set_size=4, novel_classes=5))
    exploration.reset(root)
    order = list(exploration.state.known_classes)
    for step in range(4):
        chosen = exploration.state.candidates[step]
        for class_id in exploration.episode.true_labels[chosen]:
            if class_id not in order:
                order.append(int(class_id))
        exploration.advance(step)
        state = exploration.state
        assert list(state.known_classes) == order
        labelled = np.flatnonzero(state.pool.labels >= 0)
        np.testing.assert_array_equal(
            np.array(state.known_classes)[state.pool.labels[labelled]],
            exploration.episode.true_labels[labelled],
        )
    assert len(order) > 4


def test_accuracy_counts_undiscovered_classes_as_errors(tiny):
    exploration = Exploration(tiny)
    outcome = exploration.reset(0)
    episode, state = exploration.episode, exploration.state
    logits = state.model(episode.test_images).numpy()
    predicted = np.array(state.known_classes)[logits.argmax(axis=1)]
    correct = predicted == episode.test_labels
    known = np.isin(episode.test_labels, state.known_classes)
    assert outcome.test_accuracy == pytest.approx(correct.mean())
    assert outcome.known_accuracy == pytest.approx(correct[known].mean())
    assert outcome.known_accuracy > 0.8
    assert outcome.novel_accuracy == 0
    assert list(outcome.class_recall[2:]) == [0, 0, 0]
    counts = [(episode.test_labels == c).sum() for c in episode.classes]
    assert outcome.test_accuracy == pytest.approx(np.average(outcome.class_recall, weights=counts))


def test_without_novel_classes_there_is_no_novel_accuracy(tiny):
    assert Exploration(tiny.replace(novel_classes=0)).reset(0).novel_accuracy is None


def test_a_discovered_class_is_recognised_and_the_known_ones_are_kept():
    from emoc_tf import ExplorationConfig

    exploration = Exploration(ExplorationConfig.preset("demo"))
    start = exploration.reset(0)
    found = 0
    for _ in range(5):
        outcome = exploration.advance(0)
        new = outcome.discovered_classes > found
        if new:
            column = exploration.episode.classes.index(outcome.queried_class)
            assert outcome.class_recall[column] > 0
        found = outcome.discovered_classes
    assert found >= 2
    assert outcome.known_accuracy > start.known_accuracy - 0.15


def test_training_gets_the_labelled_set_as_novel_and_all_before_as_old(tiny, monkeypatch):
    calls = []
    original = Learner.train

    def spy(self, iterations, seed, labels, old, novel=None):
        calls.append(
            (iterations, labels.copy(), old.copy(), None if novel is None else novel.copy())
        )
        return original(self, iterations, seed, labels, old, novel)

    monkeypatch.setattr(Learner, "train", spy)
    exploration = Exploration(tiny)
    exploration.reset(0)
    asked = [exploration.state.candidates[4]]
    exploration.advance(4)
    asked.append(exploration.state.candidates[1])
    exploration.advance(1)
    assert [call[0] for call in calls] == [60, 30, 30]
    for number, (_, labels, old, novel) in enumerate(calls):
        before = np.concatenate([np.arange(10), *asked[: max(0, number - 1)]])
        np.testing.assert_array_equal(np.sort(before), old)
        if number:
            np.testing.assert_array_equal(novel, asked[number - 1])
            assert not set(old) & set(novel)
            assert (labels[novel] >= 0).all()
        else:
            assert novel is None
    assert exploration._network._learner._old_fraction == tiny.old_fraction


def test_without_learning_the_set_the_same_old_images_are_learnt(tiny):
    """As with λ = 1, in the same iterations; the set is labelled all the same."""
    config = tiny.replace(old_fraction=0.999, update_iterations=2)  # draws no novel image
    both = []
    for learn_set in (True, False):
        exploration = Exploration(config)
        exploration.reset(7)
        known = exploration.episode.true_labels[exploration.state.candidates][:, 0]
        choice = int(np.flatnonzero(np.isin(known, exploration.state.known_classes))[0])
        outcome = exploration.advance(choice, learn_set=learn_set)
        both.append((outcome.labelled, weights(exploration)))
    assert both[0][0] == both[1][0] == 13
    for one, other in zip(both[0][1], both[1][1], strict=True):
        np.testing.assert_array_equal(one, other)
    learnt = run(Exploration(tiny), [choice])[2]
    exploration = Exploration(tiny)
    exploration.reset(7)
    exploration.advance(choice, learn_set=False)
    pairs = zip(learnt, weights(exploration), strict=True)
    assert not all(np.array_equal(one, other) for one, other in pairs)


def test_episodes_end_when_no_set_can_be_formed(tiny):
    config = tiny.replace(max_steps=None, update_iterations=1, known_classes=2, novel_classes=1)
    exploration = Exploration(config)
    exploration.reset(0)
    steps = 0
    while not exploration.finished:
        exploration.advance(0)
        steps += 1
    assert steps == config.num_steps == 6
    assert not (exploration.state.pool.labels < 0).any()


def test_bad_choices_change_nothing(tiny):
    exploration = Exploration(tiny)
    exploration.reset(0)
    before = exploration.state
    for choice in (-1, 8, 100):
        with pytest.raises(ValueError, match=f"choice: expected .*8 candidate sets, got {choice}"):
            exploration.advance(choice)
    assert exploration.state is before


def test_pixels_are_fed_minus_the_mean_of_the_initial_images(tiny):
    exploration = Exploration(tiny)
    exploration.reset(0)
    pool, raw = exploration.state.pool, exploration.episode.raw_images
    np.testing.assert_allclose(pool.images[:10].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(pool.images, raw - raw[:10].mean(axis=0), atol=1e-4)


def test_a_step_that_breaks_off_needs_a_reset(tiny, monkeypatch):
    exploration = Exploration(tiny)
    with pytest.raises(RuntimeError, match="advance: expected a call of reset first"):
        exploration.advance(0)
    exploration.reset(0)
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "train", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            exploration.advance(0)
    with pytest.raises(RuntimeError, match="its last step was broken off"):
        exploration.advance(0)
    exploration.reset(0)
    exploration.advance(0)


def test_outputs_that_overflow_are_divergence_too(tiny):
    """Loss and weights were finite: the last update did it."""
    config = tiny.replace(pretrain_iterations=0, update_iterations=1, learning_rate=1e12)
    exploration = Exploration(config)
    exploration.reset(0)
    with pytest.raises(FloatingPointError, match=r"update step 1: training diverged: outputs that"):
        exploration.advance(0)
    with pytest.raises(RuntimeError, match=r"save: .* whose last step was broken off"):
        exploration.save()


def test_pretrained_weights_are_shared_through_a_file(tiny, tmp_path, monkeypatch):
    shared = PretrainedFile(tmp_path / "shared" / "pretrained.npz")
    plain = run(Exploration(tiny), [0, 1])
    written = run(Exploration(tiny), [0, 1], pretrained=shared)
    assert_same_run(plain, written)
    read = Exploration(tiny)
    monkeypatch.setattr(
        "emoc_tf.models.learner.Learner.train", lambda *_: pytest.fail("pretrained a second time")
    )
    read.reset(7, shared)
    monkeypatch.undo()
    assert_same_run(plain, run(read, [0, 1], pretrained=shared))


@pytest.mark.parametrize("change", [{"root": 8}, {"pretrain_iterations": 61}, {"momentum": 0.8}])
def test_pretrained_weights_of_another_run_are_refused(tiny, tmp_path, change):
    path = tmp_path / "pretrained.npz"
    Exploration(tiny).reset(7, PretrainedFile(path))
    content = path.read_bytes()
    root = change.pop("root", 7)
    with pytest.raises(ValueError, match="expected pretrained weights of this configuration"):
        Exploration(tiny.replace(**change)).reset(root, PretrainedFile(path))
    assert path.read_bytes() == content


def test_the_papers_protocol_in_small(cifar_dir):
    """Real CIFAR-100 and the paper's network through all parts, with few iterations."""
    from emoc_tf import ExplorationConfig, agents

    config = ExplorationConfig.preset(
        "paper", data_dir=cifar_dir, num_candidate_sets=12, pretrain_iterations=60,
        update_iterations=20,
    )  # fmt: skip
    exploration = Exploration(config)
    outcome = exploration.reset(0)
    assert outcome.labelled == 1000
    assert len(exploration.state.pool) == 3000
    assert len(exploration.episode.test_images) == 2000
    choice = agents.make("emoc:references=16").act({}, exploration.state)
    after = exploration.advance(choice)
    assert after.labelled == 1025
    assert np.isfinite(exploration.state.probabilities).all()


def test_episodes_keep_to_the_classes_named(tiny):
    exploration = Exploration(tiny.replace(classes="1-3,5,7-8", update_iterations=1))
    drawn = set()
    for root in range(8):
        exploration.reset(root)
        drawn |= set(exploration.episode.classes)
    assert drawn == {1, 2, 3, 5, 7, 8}
    with pytest.raises(ValueError, match=r"classes: expected class ids in \[0, 10\), the classes"):
        Exploration(tiny.replace(classes="0-10"))


def test_naming_all_classes_changes_nothing(tiny):
    first, second = Exploration(tiny), Exploration(tiny.replace(classes="0-9"))
    assert_same_run(run(first, [0, 1]), run(second, [0, 1]))
