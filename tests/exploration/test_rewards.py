import numpy as np
import pytest

from emoc_tf.analysis.measures import normalised_area
from emoc_tf.exploration import rewards
from emoc_tf.exploration.outcome import StepOutcome
from tests.envs.test_active_exploration import make


def outcome(accuracy, discovered, step=0):
    return StepOutcome(step, 10, accuracy, accuracy, None, discovered, None, None, np.zeros(1))


BEFORE, AFTER = outcome(0.25, 1), outcome(0.75, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accuracy_gain", 0.5),
        ("discovery", 2.0),
        ("area", 0.5),
        ("accuracy_gain+0.1*discovery", 0.7),
        (" 2*area + -1.5 * discovery ", -2.0),
        ("1e+1*area+1e-1*discovery+accuracy_gain", 5.7),
    ],
)
def test_names_and_weighted_sums(text, expected):
    assert rewards.parse(text)(BEFORE, AFTER) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    ["fame", "", "area+", "area-discovery", "*area", "area*2", "0.5", "1 0*area", "1e999*area"],
)
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match=r"reward: expected one of \['accuracy_gain', 'area', "):
        rewards.parse(text)
    with pytest.raises(ValueError, match="reward: expected one of"):
        make(reward=text)


def test_areas_add_up_to_the_area_under_the_curve():
    env = make(reward="area")
    curve, gained = [env.reset(seed=0)[1]["test_accuracy"]], []
    for _ in range(3):
        _, reward, _, _, info = env.step(0)
        curve.append(info["test_accuracy"])
        gained.append(reward)
    assert np.mean(gained) == pytest.approx(normalised_area(np.arange(4), np.array(curve)))


def test_a_sum_is_what_the_environment_pays():
    env = make(reward="accuracy_gain+0.25*discovery")
    _, before = env.reset(seed=0)
    _, reward, _, _, after = env.step(0)
    expected = after["test_accuracy"] - before["test_accuracy"]
    expected += 0.25 * (after["discovered_classes"] - before["discovered_classes"])
    assert reward == pytest.approx(expected)
