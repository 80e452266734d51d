"""Curves against brute force, closed forms and an independent package."""

import bjontegaard as oracle
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.spatial import ConvexHull

from rdkit_vae.errors import BadInput
from rdkit_vae.objectives.losses import OBJECTIVES
from rdvae_analysis import curves
from rdvae_analysis.deltas import bjontegaard
from rdvae_analysis.intervals import mean_interval, over_seeds
from rdvae_analysis.paper_table import table1
from rdvae_analysis.theory import linear_optimum

EIGENVALUES = 0.05 * 0.8 ** np.arange(24)


def scattered(n: int = 60, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rate = rng.uniform(1, 50, n)
    return pd.DataFrame(
        {"rate": rate, "distortion": 100 / rate + rng.gamma(1, 3, n), "beta": 10 / rate}
    )


def linear_curve(betas: np.ndarray, sigma2: float = 0.02, seed: int = 0) -> pd.DataFrame:
    """Linear VAEs at their optimum, under the variance they were trained with."""
    optima = [linear_optimum(EIGENVALUES, latents=24, beta=b, sigma2=sigma2) for b in betas]
    return pd.DataFrame(
        {
            "rate": [o.rate for o in optima],
            "distortion": [o.distortion for o in optima],
            "sse": [o.sse for o in optima],
            "beta": betas,
            "seed": seed,
        }
    )


def test_the_frontier_is_what_no_other_point_beats() -> None:
    points = scattered()
    kept, notes = curves.frontier(points)
    at = points[["rate", "distortion"]].to_numpy()
    beaten = [(np.delete(at, i, axis=0) <= at[i]).all(axis=1).any() for i in range(len(at))]
    assert sorted(kept.index) == [i for i, lost in enumerate(beaten) if not lost]
    assert notes == [f"left out {sum(beaten)} points not on the frontier"]
    assert (np.diff(kept["rate"]) > 0).all()
    assert (np.diff(kept["distortion"]) < 0).all()


def test_the_hull_is_the_lower_left_of_the_convex_hull() -> None:
    points = scattered()
    kept, notes = curves.hull(points)
    edge = set(ConvexHull(points[["rate", "distortion"]]).vertices)
    front = curves.frontier(points)[0]
    assert set(kept.index) == edge & set(front.index)
    assert notes[-1] == f"left out {len(front) - len(kept)} points above the hull"


def test_equal_points_count_once_and_what_is_not_finite_is_counted() -> None:
    points = scattered(10)
    doubled = pd.concat([points, points, pd.DataFrame({"rate": [np.nan], "distortion": [1.0]})])
    front, _ = curves.frontier(points)
    kept, notes = curves.frontier(doubled)
    assert kept["rate"].tolist() == front["rate"].tolist()
    assert notes[0] == "left out 1 point not finite"


def test_interpolation_goes_through_its_points_and_inverts_itself() -> None:
    curve = linear_curve(np.geomspace(0.05, 1, 9))
    there, notes = curves.at_rate(curve, curve["rate"])
    assert notes == []
    np.testing.assert_allclose(there["distortion"], curve["distortion"], rtol=1e-12)
    np.testing.assert_allclose(there["beta"], curve["beta"], rtol=1e-12)
    between = np.linspace(curve["rate"].min(), curve["rate"].max(), 50)
    forth, _ = curves.at_rate(curve, between)
    assert (np.diff(forth["distortion"]) < 0).all()
    back, _ = curves.at_distortion(curve, forth["distortion"])
    np.testing.assert_allclose(back["rate"], between, rtol=1e-9)
    np.testing.assert_allclose(back["beta"], forth["beta"], rtol=1e-9)


def test_the_beta_that_reaches_a_rate_is_that_of_theory() -> None:
    curve = linear_curve(np.geomspace(0.01, 2, 100))
    truth = linear_optimum(EIGENVALUES, latents=24, beta=0.123, sigma2=0.02)
    result, _ = curves.at_rate(curve, truth.rate)
    assert result["beta"].item() == pytest.approx(0.123, rel=1e-3)
    assert result["distortion"].item() == pytest.approx(truth.distortion, abs=1e-3)


def test_beyond_the_ends_there_is_no_number() -> None:
    curve = linear_curve(np.geomspace(0.05, 1, 5))
    result, notes = curves.at_rate(curve, [0.0, curve["rate"].mean(), 1e4])
    assert result["distortion"].isna().tolist() == [True, False, True]
    assert notes == ["2 values beyond the ends of the curve"]


def test_on_an_optimal_curve_the_slope_is_beta() -> None:
    result, _ = curves.slopes(linear_curve(np.geomspace(0.01, 2, 40)))
    inner = result.dropna(subset="slope")
    assert len(inner) == len(result) - 2
    np.testing.assert_allclose(inner["slope"], inner["beta"], rtol=0.01)
    assert inner["beta"].between(inner["flatter"], inner["steeper"]).all()


def test_even_decades_apart_beta_lies_between_the_chords() -> None:
    result, _ = curves.slopes(linear_curve(10.0 ** np.arange(-3, 1)))
    inner = result.dropna(subset="slope")
    assert len(inner) == 2
    assert inner["beta"].between(inner["flatter"], inner["steeper"]).all()


def test_training_that_is_off_shows_in_the_slope() -> None:
    curve = linear_curve(np.geomspace(0.02, 1, 20))
    result, _ = curves.slopes(curve.assign(beta=curve["beta"] * 3))
    inner = result.dropna(subset="slope")
    assert (inner["slope"] < 0.5 * inner["beta"]).all()


def test_areas_against_fine_sums() -> None:
    a, b = linear_curve(np.geomspace(0.05, 1, 15)), linear_curve(np.geomspace(0.02, 0.5, 15))
    both = pd.concat([a.assign(name="a"), b.assign(name="b", distortion=b["distortion"] + 2)])
    result, _ = curves.areas(both, ["name"])
    low, high = curves.shared_range([a, b])
    assert (result["low"] == low).all()
    assert (result["high"] == high).all()
    grid = np.linspace(low, high, 20_001)
    for row, part in zip(result.itertuples(), (a, b), strict=True):
        line = curves.at_rate(part, grid)[0]["distortion"] + (2 if row.name == "b" else 0)
        assert row.area == pytest.approx(np.trapezoid(line, grid), rel=1e-6)
    assert result["mean"].diff().iloc[1] == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_bjontegaard_against_the_package_of_that_name(seed: int) -> None:
    rng = np.random.default_rng(seed)
    anchor, test = (linear_curve(np.geomspace(low, 1, 7)) for low in (0.05, 0.03))
    anchor["distortion"] = -10 * np.log10(24 / anchor["sse"])  # less PSNR
    test["distortion"] = -10 * np.log10(24 / test["sse"]) + rng.normal(0, 0.3)
    result = bjontegaard(anchor, test)
    quality = [anchor["rate"], -anchor["distortion"], test["rate"], -test["distortion"]]
    settings = {"method": "pchip", "require_matching_points": False, "min_overlap": 0.0}
    assert result.rate == pytest.approx(oracle.bd_rate(*quality, **settings), rel=1e-9)
    assert -result.distortion == pytest.approx(oracle.bd_psnr(*quality, **settings), rel=1e-9)
    assert result.notes == ()


def test_half_the_rate_at_the_same_distortion_is_minus_fifty_percent() -> None:
    curve = linear_curve(np.geomspace(0.05, 1, 9))
    halved = curve.assign(rate=curve["rate"] / 2)
    assert bjontegaard(curve, halved).rate == pytest.approx(-50, abs=1e-9)
    lower = curve.assign(distortion=curve["distortion"] - 1.5)
    assert bjontegaard(curve, lower).distortion == pytest.approx(-1.5, abs=1e-9)


def test_deltas_are_refused_with_a_reason() -> None:
    curve = linear_curve(np.geomspace(0.05, 1, 9))
    with pytest.raises(BadInput, match=r"anchor curve has 3 points, 4 are needed"):
        bjontegaard(curve.head(3), curve)
    with pytest.raises(BadInput, match=r"overlap in \d+% of the shorter one's range of rate"):
        bjontegaard(curve, curve.assign(rate=curve["rate"] * 20))
    rising = curve.assign(distortion=-curve["distortion"])
    with pytest.raises(BadInput, match=r"test curve has 1 point, .* 8 points not on the frontier"):
        bjontegaard(curve, rising)


def test_collapsed_models_do_not_decide_a_delta() -> None:
    curve = linear_curve(np.geomspace(0.05, 1, 9))
    collapsed = curve.iloc[-1:].assign(rate=1e-9, distortion=curve["distortion"].max() + 1)
    result = bjontegaard(curve, pd.concat([curve, collapsed]))
    assert result.rate == pytest.approx(0, abs=1e-9)
    assert result.notes == ("test: left out 1 point collapsed (rate below 0.5)",)


def test_means_over_seeds_against_scipy() -> None:
    rng = np.random.default_rng(3)
    rows = pd.DataFrame(
        {
            "beta": np.repeat([0.1, 1.0], 5),
            "seed": list(range(5)) * 2,
            "elbo": rng.normal(size=10),
        }
    )
    result, notes = over_seeds(rows, ["beta"], ["elbo"], confidence=0.9)
    assert notes == []
    for row, (_, part) in zip(result.itertuples(), rows.groupby("beta"), strict=True):
        assert (row.seeds, row.elbo) == (5, pytest.approx(part["elbo"].mean()))
        assert row.elbo_sd == pytest.approx(part["elbo"].std(ddof=0))
        interval = stats.ttest_1samp(part["elbo"], 0).confidence_interval(0.9)
        assert (row.elbo_low, row.elbo_high) == pytest.approx(interval, rel=1e-12)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_cover_what_they_say(seeds: int) -> None:
    """Of normal values; percentiles of resampled means, which were here before, do not."""
    replicates, confidence = 4000, 0.95
    values = np.random.default_rng(seeds).normal(size=(seeds, replicates))
    _, low, high = mean_interval(values, confidence)
    covered = int(((low <= 0) & (high >= 0)).sum())
    # Chances of one in a million that an interval of this confidence is beyond these counts.
    least, most = stats.binom.ppf([5e-7, 1 - 5e-7], replicates, confidence)
    assert least <= covered <= most
    rng = np.random.default_rng(0)
    places = rng.integers(seeds, size=(seeds, 400, 1))
    means = np.take_along_axis(values[:, None], places, axis=0).mean(axis=0)  # (400, replicates)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    assert ((low <= 0) & (high >= 0)).sum() < least


def test_table_1_covers_with_the_same_interval(frame: pd.DataFrame) -> None:
    frame["elbo"] += np.random.default_rng(0).normal(size=len(frame))
    table, _ = table1(frame, sigma="shared")
    rows = frame[(frame["sigma"] == "shared") & (frame["epoch"] == 5)]
    for row in table.itertuples():
        mine = rows[(rows["objective"] == row.objective) & (rows["beta"] == row.beta)]["elbo"]
        interval = stats.ttest_1samp(mine, 0).confidence_interval(0.95)
        assert (row.test_low, row.test_high) == pytest.approx(interval, rel=1e-9)


def test_one_seed_has_no_interval_and_two_rows_of_a_seed_are_refused() -> None:
    rows = pd.DataFrame({"beta": [1.0, 1.0], "seed": [0, 1], "elbo": [2.0, np.nan]})
    result, notes = over_seeds(rows, ["beta"], ["elbo"])
    assert result["elbo"].item() == 2.0
    assert result[["elbo_sd", "elbo_low", "elbo_high"]].isna().all(axis=None)
    assert notes == ["left out 1 point not finite"]
    with pytest.raises(BadInput, match="several rows of one seed"):
        over_seeds(rows.assign(elbo=1.0, seed=0), ["beta"], ["elbo"])


def test_every_objective_has_the_interpretation_that_it_is_trained_under() -> None:
    assert curves.TRAINING_SIGMA.keys() == OBJECTIVES.keys()


def test_curves_without_a_constant_are_curves_too() -> None:
    a = linear_curve(np.geomspace(0.05, 1, 9))
    both = pd.concat(
        [a.assign(objective="constant", c=0.5), a.assign(objective="optimal", c=np.nan)]
    )
    result, _ = curves.areas(both, ["objective", "c"])
    assert result["objective"].tolist() == ["constant", "optimal"]
    with pytest.raises(BadInput, match="no curve"):
        curves.shared_range([])


@pytest.mark.parametrize("name", ["split", "sigma", "dataset", "objective", "seed"])
def test_points_of_several_curves_are_refused(name: str) -> None:
    curve = linear_curve(np.geomspace(0.05, 1, 9))
    mixed = pd.concat([curve.assign(**{name: 0}), curve.assign(**{name: 1})], ignore_index=True)
    for function in (
        lambda points: curves.at_rate(points, [5.0]),
        lambda points: curves.at_distortion(points, [5.0]),
        curves.slopes,
        lambda points: bjontegaard(curve, points),
    ):
        with pytest.raises(BadInput, match=f"a curve has one {name}, these points have 0, 1"):
            function(mixed)
