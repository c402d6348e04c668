import numpy as np
import pytest
from scipy import stats

from emoc_tf.analysis import correlations


def test_rank_correlations_by_hand():
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=(2, 30))
    truth = np.round(truth + scores, 1)  # with ties
    groups = [np.arange(14), np.arange(14, 30)]
    rho, low, high, least, greatest, p_alike = correlations.rank_correlation(scores, truth, groups)
    z = [np.arctanh(stats.spearmanr(scores[g], truth[g]).statistic) for g in groups]
    assert np.arctanh(rho) == pytest.approx((11 * z[0] + 13 * z[1]) / 24)
    assert -1 < low < rho < high < 1
    assert (least, greatest) == pytest.approx((np.tanh(min(z)), np.tanh(max(z))))
    # For two groups Q is the squared difference over the sum of the variances.
    variances = [(1 + np.tanh(v) ** 2 / 2) / n for v, n in zip(z, (11, 13), strict=True)]
    q = (z[0] - z[1]) ** 2 / sum(variances)
    assert p_alike == pytest.approx(stats.chi2.sf(q, 1))
    one, *ends = correlations.rank_correlation(scores, truth, groups[:1])[:3]
    assert np.isnan(correlations.rank_correlation(scores, truth, groups[:1])[-1])
    assert one == pytest.approx(np.tanh(z[0]))
    width = 1.959964 * np.sqrt((1 + one**2 / 2) / 11)
    assert np.arctanh(ends) == pytest.approx([z[0] - width, z[0] + width], rel=1e-5)
    assert np.isnan(correlations.rank_correlation(scores, truth, [])).all()
    # A constant tells nothing; a monotone function everything.
    assert np.isnan(correlations.rank_correlation(np.ones(30), truth, groups)).all()
    assert correlations.rank_correlation(scores, np.exp(scores), groups)[0] > 0.998
    # Models are not compared with one another: another scale for each changes nothing.
    shifted = truth + 100 * (np.arange(30) >= 14)
    assert correlations.rank_correlation(scores, shifted, groups)[:3] == (rho, low, high)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.95])
@pytest.mark.parametrize("models", [1, 4])
def test_intervals_of_correlations_hold_the_truth(correlation, models):
    rng, sets, trials = np.random.default_rng(1), 20, 400
    truth = 6 / np.pi * np.arcsin(correlation / 2)  # Spearman's of a normal pair
    groups = np.split(np.arange(models * sets), models)
    covariance = [[1, correlation], [correlation, 1]]
    held = 0
    for _ in range(trials):
        x, y = rng.multivariate_normal([0, 0], covariance, models * sets).T
        _, low, high, *_ = correlations.rank_correlation(x, y, groups)
        held += low <= truth <= high
    assert held / trials > 0.9
