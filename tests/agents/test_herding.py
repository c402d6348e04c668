import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, softmax

from emoc_tf import agents
from emoc_tf.agents import herding
from tests.agents import stubs


def scores(name, state):
    return agents.make(name).score(state)


def unit(features):
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths, lengths, 1)


def literal(state, kernel, weights=None):
    """Image by image: what is covered with the set, less what is covered without."""
    x, labelled = unit(state.features.astype(np.float64)), state.pool.labelled
    k = 1.0 * kernel(cdist(x, x))
    found = np.zeros(len(state.candidates))
    for m, row in enumerate(state.candidates):
        for i in state.pool.unlabelled:
            before = max([0, *k[i, labelled]])
            after = max([before, *k[i, row[row >= 0]]])
            found[m] += (after - before) * (1 if weights is None else weights[i])
    return found


@pytest.mark.parametrize("labelled", [10, 0])
@pytest.mark.parametrize("width", [1.0, 0.4])
def test_it_is_max_herding_of_scikit_activeml(labelled, width):
    """One image at a time, labelled as it comes; all that wait are candidates, not the set."""
    pool = pytest.importorskip("skactiveml.pool")
    if not hasattr(pool, "MaxHerding"):
        pytest.skip("MaxHerding came with scikit-activeml 1.0")
    state = stubs.make_state(labelled=labelled, rejected=0)
    expected = []
    for row in state.candidates:
        y, total = np.where(state.pool.labels >= 0, 0.0, np.nan), 0.0
        for image in row[row >= 0]:
            query = pool.MaxHerding(metric="rbf", metric_dict={"gamma": width**-2}, random_state=0)
            _, utilities = query.query(
                state.features.astype(np.float64), y, candidates=None, return_utilities=True
            )
            waiting = np.isnan(y).sum()
            total += utilities[0, image] * waiting
            y[image] = 0
        expected.append(total)
    found = scores(f"herding:bandwidth={width}", state)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("block", [1 << 24, 1])
def test_coverage_written_out(block, monkeypatch):
    monkeypatch.setattr(herding, "_BLOCK", block)
    state = stubs.make_state()
    p = state.probabilities.astype(np.float64)
    ordered = np.sort(p, axis=1)
    expected = literal(state, lambda r: np.exp(-(r**2)), 1 - ordered[:, -1] + ordered[:, -2])
    np.testing.assert_allclose(scores("herding:weights=margin", state), expected, rtol=1e-6)
    hot = softmax(np.log(p) / 3, axis=1)
    entropy = -(hot * np.log(hot)).sum(axis=1) / np.log(3)
    expected = literal(state, lambda r: np.exp(-(r**2) / 0.25), entropy)
    found = scores("herding:weights=entropy:temperature=3:bandwidth=0.5", state)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    expected = literal(state, lambda r: r <= 0.8)
    np.testing.assert_allclose(scores("herding:kernel=tophat:bandwidth=0.8", state), expected)
    assert len(set(expected)) > 2


def test_only_images_that_wait_are_to_be_covered():
    """A rejected image is neither covered nor does it cover."""
    state = stubs.make_state(rejected=2, scale=1.0)
    moved = np.array(state.features)
    moved[[10, 11]] = 50.0
    np.testing.assert_array_equal(
        scores("herding", state), scores("herding", stubs.replace(state, features=moved))
    )


def test_the_nearest_labelled_images_give_the_bandwidth():
    """Of images that are the same but for rounding, the distance is none."""
    features = np.random.default_rng(3).normal(size=(30, 5)).astype(np.float32)
    features[1] = features[0]
    features[3] = features[2] * 1.7
    state = stubs.make_state(features=features)
    x = unit(features[:10].astype(np.float64))
    between = cdist(x, x)
    width = between[between > 1e-5].min()
    expected = scores(f"herding:bandwidth={width}", state)
    np.testing.assert_allclose(scores("herding:bandwidth=nearest", state), expected, rtol=1e-5)


def test_balls_are_pure_up_to_the_bandwidth(monkeypatch):
    state = stubs.make_state(num_images=200, labelled=100, rejected=0, size=3)
    labels, x = state.pool.labels[:100], unit(state.features[:100].astype(np.float64))
    between = cdist(x, x)
    between[labels[:, None] == labels] = np.inf

    def pure(width):
        return (between > width).all(axis=1).mean()

    width = herding._bandwidth("pure", x, labels)
    assert pure(width) >= 0.95
    assert pure(width * (1 + 1e-6)) < 0.95
    monkeypatch.setattr(herding, "_BLOCK", 1)
    assert herding._bandwidth("pure", x, labels) == pytest.approx(width, rel=1e-9)
    default = scores("herding:kernel=tophat", state)
    np.testing.assert_array_equal(default, scores("herding:kernel=tophat:bandwidth=pure", state))
    assert len(set(default)) > 1


def test_without_two_classes_the_bandwidth_is_one():
    for rule in ("nearest", "pure"):
        for labelled in (0, 1):
            state = stubs.make_state(labelled=labelled)
            np.testing.assert_array_equal(
                scores(f"herding:bandwidth={rule}", state), scores("herding", state)
            )
    one = stubs.make_state(classes=1)
    np.testing.assert_array_equal(scores("herding:bandwidth=pure", one), scores("herding", one))


@pytest.mark.parametrize("true", [0.5, 4.0])
def test_the_temperature_is_the_likeliest(true):
    rng = np.random.default_rng(0)
    logits = 5 * rng.normal(size=(4000, 3))
    p = softmax(logits / true, axis=1).cumsum(axis=1)
    labels = (rng.random(4000)[:, None] > p[:, :2]).sum(axis=1)
    found = herding._fitted(logits, labels)
    assert found == pytest.approx(true, rel=0.1)

    def loss(temperature):
        return -log_softmax(logits / temperature, axis=1)[np.arange(4000), labels].mean()

    assert loss(found) <= min(loss(found * 1.01), loss(found / 1.01))


def test_a_fitted_temperature_is_used():
    state = stubs.make_state(sharpness=3.0)
    logits = np.log(state.probabilities.astype(np.float64))
    fitted = herding._fitted(logits[:10], state.pool.labels[:10])
    expected = scores(f"herding:weights=margin:temperature={fitted}", state)
    found = scores("herding:weights=margin:temperature=fitted", state)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert not np.allclose(found, scores("herding:weights=margin", state), rtol=1e-3)


def test_images_are_sets_of_their_own():
    state = stubs.make_state()
    indices = state.pool.unlabelled[::3]
    alone = stubs.replace(state, candidates=indices[:, None], candidate_mask=indices >= 0)
    agent = agents.make("herding")
    np.testing.assert_array_equal(agent.score_images(state, indices), agent.score(alone))


@pytest.mark.parametrize(
    "name",
    [
        "herding",
        "herding:weights=margin:bandwidth=nearest:temperature=fitted",
        "herding:kernel=tophat:weights=entropy",
    ],
)
def test_states_with_little_to_tell_apart(name):
    stubs.check_edge_states(agents.make(name))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("kernel=linear", r"kernel: expected one of \['gaussian', 'tophat'\], got 'linear'"),
        ("weights=min", r"weights: expected one of \['uniform', .*got 'min'"),
        ("bandwidth=0", r"bandwidth: expected a number above 0 or one of \['nearest', .*got 0"),
        ("bandwidth=far", "bandwidth: expected a number above 0 or .*got 'far'"),
        (
            "temperature=-1",
            r"temperature: expected a number above 0 or .*'fitted'\], got -1",
        ),
        ("temperature=true", "temperature: expected a number above 0 or .*got True"),
    ],
)
def test_settings_out_of_range(spec, message):
    with pytest.raises(ValueError, match=message):
        agents.make(f"herding:{spec}")


def test_coverage_of_a_sample_of_the_waiting_images():
    state = stubs.make_state()
    whole, waits = scores("herding", state), len(state.pool.unlabelled)
    assert waits > 3
    for images in (waits, 10 * waits):
        np.testing.assert_array_equal(scores(f"herding:images={images}", state), whole)
    found = [agents.make("herding:images=3", seed=seed).score(state) for seed in (0, 0, 1, 2)]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert all((each <= whole + 1e-12).all() for each in found)
    # Each image is as likely as any other.
    many = [agents.make("herding:images=3", seed=seed).score(state) for seed in range(400)]
    np.testing.assert_allclose(np.mean(many, axis=0), whole * 3 / waits, rtol=0.15, atol=1e-3)
    for bad in (0, 2.5, "all"):
        with pytest.raises(ValueError, match="images: expected None or an integer above 0, got "):
            agents.make(f"herding:images={bad}")
