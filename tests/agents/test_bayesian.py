import warnings

import keras
import numpy as np
import pytest

from emoc_tf import agents
from emoc_tf.agents import bayesian, head_gram, information
from tests.agents import stubs

NAMES = ["bait", "bald", "bald:information=labels:samples=20", "bald:information=images:samples=20"]


def scores(name, state):
    return agents.make(name).score(state)


def inputs(state, factor=1.0):
    h = state.features.astype(np.float64) / factor
    if state.model.layers[-1].use_bias:
        h = np.concatenate([h, np.ones((len(h), 1))], axis=1)
    return h


def jacobians(state, factor=1.0):
    """V of each image, D × C, with columns √p_y·(p − e_y) ⊗ h: written out, (n, D, C)."""
    found = []
    for p, h in zip(state.probabilities.astype(np.float64), inputs(state, factor), strict=True):
        p = p / p.sum()
        columns = [np.sqrt(p[y]) * np.kron(p - np.eye(len(p))[y], h) for y in range(len(p))]
        found.append(np.stack(columns, 1))
    return np.stack(found)


def total(v):
    """Σ V Vᵀ over images."""
    return np.einsum("nik,njk->ij", v, v)


def trace_before_and_after(state, prior):
    """tr[(λI + F_L·n_L/N + V_S V_Sᵀ/N)⁻¹ F_pool] without and with each set, N = n_L + K."""
    v = jacobians(state, np.sqrt(np.mean(state.features.astype(np.float64) ** 2)))
    labelled, number = state.pool.labelled, len(state.pool.labelled) + state.candidates.shape[1]
    pool = total(v) / len(v)
    before = prior * np.eye(len(pool)) + total(v[labelled]) / number
    found = []
    for row in state.candidates:
        after = before + total(v[row[row >= 0]]) / number
        traces = [np.trace(np.linalg.inv(each) @ pool) for each in (before, after)]
        found.append(traces[0] - traces[1])
    return np.array(found)


@pytest.mark.parametrize("prior", [1.0, 0.01])
@pytest.mark.parametrize(
    "changes", [{}, {"use_bias": False, "scale": 30.0}, {"labelled": 0}, {"labelled": 2, "size": 9}]
)
def test_bait_is_the_drop_of_the_trace(prior, changes):
    state = stubs.make_state(**changes)
    expected = trace_before_and_after(state, prior)
    found = scores(f"bait:prior={prior}", state)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    assert (found[[0, 1, 3, 4, 5]] > 0).all()


def test_bait_does_not_depend_on_the_scale_of_features():
    one, other = stubs.make_state(use_bias=False), stubs.make_state(use_bias=False, scale=1000.0)
    np.testing.assert_allclose(scores("bait", one), scores("bait", other), rtol=1e-5)


@pytest.mark.parametrize("name", ["bait", "bald"])
def test_blocks_do_not_matter(name, monkeypatch):
    state = stubs.make_state()
    expected = scores(name, state)
    monkeypatch.setattr(head_gram, "BLOCK_BYTES", 1)
    monkeypatch.setattr(head_gram, "PRODUCT_BYTES", 1)
    np.testing.assert_allclose(scores(name, state), expected, rtol=1e-9)


@pytest.mark.parametrize("decay", [5e-4, 0.1])
@pytest.mark.parametrize("changes", [{}, {"use_bias": False}, {"labelled": 0}, {"size": 20}])
def test_bald_is_the_dense_log_determinant(decay, changes):
    """½ log of how much the determinant of the precision grows by the set."""
    state = stubs.make_state(**changes)
    v, labelled = jacobians(state), state.pool.labelled
    before = total(v[labelled]) + max(1, len(labelled)) * decay * np.eye(v.shape[1])
    expected = [
        (np.linalg.slogdet(before + total(v[row[row >= 0]]))[1] - np.linalg.slogdet(before)[1]) / 2
        for row in state.candidates
    ]
    found = scores(f"bald:weight_decay={decay}", state)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["bait", "bald"])
def test_all_principal_directions_are_all_features(name):
    state = stubs.make_state(size=6)
    whole = scores(name, state)
    np.testing.assert_allclose(scores(f"{name}:components=6", state), whole, rtol=1e-9)
    rank_three = np.random.default_rng(0).normal(size=(30, 3)) @ np.eye(3, 6)
    flat = stubs.make_state(features=rank_three)
    some, all_of_them = (scores(f"{name}:components={k}", flat) for k in (3, 6))
    np.testing.assert_allclose(some, all_of_them, rtol=1e-6)
    assert not np.allclose(scores(f"{name}:components=2", state), whole, rtol=1e-3)


@pytest.mark.parametrize("name", ["bait", "bald", "bald:information=labels"])
def test_of_heads_that_are_too_large_as_much_as_fits_may_change(name, monkeypatch):
    """Classes are discovered within an episode: what fits at its start may not later on."""
    monkeypatch.setattr(bayesian, "LARGEST_HEAD", 60)
    for classes, fits in ((2, 20), (3, 19), (4, 14), (5, 11), (30, 1)):
        state = stubs.make_state(size=20, classes=classes)
        expected = scores(f"{name}:components={fits}", state)
        np.testing.assert_array_equal(scores(name, state), expected)
        if fits < 20:
            more = agents.make(f"{name}:components={fits + 1}")
            with pytest.raises(ValueError, match=rf"components: .*take components={fits} or less"):
                more.score(state)
    with pytest.raises(ValueError, match="take another policy, such as badge"):
        scores(name, stubs.make_state(classes=31))


@pytest.mark.parametrize("name", ["bait", "bald"])
def test_a_fixed_number_of_components_is_kept_or_refused(name):
    state = stubs.make_state(size=700, classes=10)
    with pytest.raises(ValueError, match=r"components: .*6,000 weights.*10 classes times 701"):
        scores(f"{name}:components=900", state)
    assert np.isfinite(scores(f"{name}:components=20", state)).all()


@pytest.mark.parametrize(
    ("spec", "setting", "changes"),
    [
        ("bait:prior=1e-300", "prior: expected a larger one, got 1e-300", {}),
        ("bait:prior=1e-17", "prior: expected a larger one, got 1e-17", {"labelled": 2}),
        ("bald:weight_decay=1e-300", "weight_decay: expected a larger one, got 1e-300", {}),
        ("bald", "weight_decay: expected a larger one, got 0.0005", {"scale": 1e7}),
        ("bald:information=labels", "weight_decay: expected a larger one", {"scale": 1e7}),
        ("bald:information=images:weight_decay=1e-300", "weight_decay: expected a larger", {}),
    ],
)
def test_rounding_is_no_information(spec, setting, changes):
    with pytest.raises(ValueError, match=setting):
        scores(spec, stubs.make_state(**changes))


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_features_of_another_size_are_no_rounding_yet(scale):
    state = stubs.make_state(use_bias=False, scale=scale)
    v = jacobians(state) / scale  # in units in which nothing is lost
    prior = 10 * 5e-4 / scale**2 * np.eye(v.shape[1])
    before = prior + total(v[state.pool.labelled])
    expected = [
        (np.linalg.slogdet(before + total(v[r[r >= 0]]))[1] - np.linalg.slogdet(before)[1]) / 2
        for r in state.candidates
    ]
    np.testing.assert_allclose(scores("bald", state), expected, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("name", ["bait", "bald"])
def test_a_choice_that_takes_long_is_told_once(name, monkeypatch):
    state, agent = stubs.make_state(), agents.make(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = agent.score(state)
    monkeypatch.setattr(bayesian, "LONG", 0)
    text = r"expected to take .* for 6 candidate sets of 4 images and 3 classes; fewer"
    with pytest.warns(UserWarning, match=text):
        np.testing.assert_array_equal(agent.score(state), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent.score(state)


def test_samples_of_the_head_have_its_covariance():
    """The logits of all images come from the same weights: images that are alike stay alike."""
    features = np.random.default_rng(0).normal(size=(30, 3))
    features[25] = features[20]
    state = stubs.make_state(features=features, sets=[[20, 25], [21, 22]], classes=2)
    exact = scores("bald:weight_decay=0.3", state)
    agent = agents.make("bald:weight_decay=0.3:samples=4000:information=images")
    agent.score(state)  # makes the sampler
    logits = agent._logits(state, np.array([20, 21, 22, 25]))
    np.testing.assert_allclose(logits[:, 0], logits[:, 3], rtol=1e-9)
    p = head_gram.posteriors(state)[[20, 21, 22, 25]]
    np.testing.assert_allclose(logits.mean(axis=0) - np.log(p), 0, atol=0.1)
    found = information.gaussian(logits, p, np.array([[0, 3], [1, 2]]))
    np.testing.assert_allclose(found, exact, rtol=0.05)


def with_dropout(state, rate=0.5):
    image = keras.Input(state.features.shape[1:])
    x = keras.layers.Dropout(rate)(image)
    x = keras.layers.Dense(state.probabilities.shape[1])(x)
    return stubs.replace(state, model=keras.Model(image, x))


@pytest.mark.parametrize("name", ["bald", "bald:information=labels", "bald:information=images"])
def test_models_with_dropout_are_sampled(name):
    state = with_dropout(stubs.make_state())
    before = [variable.numpy() for variable in state.model.variables]
    first, again = scores(name, state), scores(name, state)
    np.testing.assert_array_equal(first, again)
    assert first[2] == 0
    assert (first[[0, 1, 3, 4, 5]] > 0).all()
    assert not np.allclose(first, scores(f"{name}:weight_decay=0.1", stubs.make_state()))
    np.testing.assert_array_equal(first, scores(f"{name}:weight_decay=0.1", state))
    other_seed = agents.make(name, seed=1).score(state)
    assert not np.allclose(first, other_seed)
    np.testing.assert_allclose(first, other_seed, rtol=1)
    assert not np.allclose(first, scores(name, stubs.replace(state, step=2)))
    for old, new in zip(before, state.model.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


def test_a_large_model_with_dropout_is_sampled_all_the_same():
    state = with_dropout(stubs.make_state(size=700, classes=10))
    assert np.isfinite(scores("bald:samples=5", state)).all()


def test_another_model_is_sampled_anew():
    agent, plain = agents.make("bald"), stubs.make_state()
    expected = agent.score(plain)
    agent.score(with_dropout(plain))
    np.testing.assert_array_equal(agent.score(plain), expected)


@pytest.mark.parametrize("name", NAMES)
def test_images_are_sets_of_their_own(name):
    state = stubs.make_state()
    indices = state.pool.unlabelled[::3]
    alone = stubs.replace(state, candidates=indices[:, None], candidate_mask=indices >= 0)
    agent = agents.make(name)
    np.testing.assert_array_equal(agent.score_images(state, indices), agent.score(alone))


@pytest.mark.parametrize("name", NAMES)
def test_states_with_little_to_tell_apart(name):
    stubs.check_edge_states(agents.make(name))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("bait:prior=0", "prior: expected a number above 0, got 0"),
        ("bait:components=0", "components: expected None or an integer above 0, got 0"),
        ("bald:weight_decay=-1", "weight_decay: expected a number above 0, got -1"),
        ("bald:weight_decay=true", "weight_decay: expected a number above 0, got True"),
        ("bald:samples=1", "samples: expected an integer above 1, got 1"),
        ("bald:information=all", r"information: expected one of \['gaussian', .*got 'all'"),
    ],
)
def test_settings_out_of_range(spec, message):
    with pytest.raises(ValueError, match=message):
        agents.make(spec)
