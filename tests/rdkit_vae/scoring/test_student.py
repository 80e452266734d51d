import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from rdkit_vae import make_trial
from rdkit_vae.errors import BadInput
from rdkit_vae.scoring.bounds import score_bounds
from rdkit_vae.scoring.interpretations import ON_ITSELF, UNBOUNDED
from rdkit_vae.scoring.scores import gaussian_nll, interpret, score
from rdkit_vae.scoring.statistics import Statistics
from rdkit_vae.scoring.student import fit_student, student_nll

Stats = dict[str, Statistics]
FLOOR = 1e-6


def _drawn(nu: float, dims: int, count: int, seed: int = 0) -> np.ndarray:
    """Squared errors of a Student t of scale 0.02: a Gaussian of variance 0.02 nu/chi2(nu)."""
    rng = np.random.default_rng(seed)
    return np.asarray(0.02 * nu / rng.chisquare(nu, count) * rng.chisquare(dims, count))


@pytest.mark.parametrize("dims", [1, 3, 784])
@pytest.mark.parametrize("nu", [0.01, 2.5, 1e4])
def test_the_density_against_scipy(dims: int, nu: float) -> None:
    sse = np.array([[0.0, 1e-9, 0.3], [1.0, 20.0, 1e9]])
    residual = np.zeros((6, dims))
    residual[:, 0] = np.sqrt(sse.ravel())
    scipy = stats.multivariate_t(loc=np.zeros(dims), shape=0.02 * np.eye(dims), df=nu)
    np.testing.assert_allclose(
        student_nll(sse, dims, nu, 0.02).ravel(), -scipy.logpdf(residual), rtol=1e-10
    )


@pytest.mark.parametrize(("dims", "nu"), [(1, 0.5), (2, 3.0), (9, 30.0)])
def test_the_density_integrates_to_one(dims: int, nu: float) -> None:
    sphere = 2 * math.pi ** (dims / 2) / math.gamma(dims / 2)

    def density(log_radius: float) -> float:
        nll = float(student_nll(np.array([math.exp(2 * log_radius)]), dims, nu, 0.02)[0])
        return sphere * math.exp(dims * log_radius - nll)

    assert integrate.quad(density, -40, 60, limit=400, points=[-3])[0] == pytest.approx(1, abs=1e-8)


def test_with_unbounded_nu_it_is_the_gaussian() -> None:
    sse = np.array([0.0, 0.3, 50.0])
    gaussian = gaussian_nll(sse, 0.02, 64)
    np.testing.assert_array_equal(student_nll(sse, 64, math.inf, 0.02), gaussian)
    for nu in (1e7, 1e9, 1e12):  # the difference falls as 1/nu
        difference = np.abs(student_nll(sse, 64, nu, 0.02) - gaussian).max()
        assert difference < 2 * (2500.0 / 2) ** 2 / nu + 1e-9


@pytest.mark.parametrize("dims", [3, 64, 12288])
@pytest.mark.parametrize("nu", [0.2, 3.0, 30.0])
def test_the_fit_is_the_best_that_a_general_optimiser_finds(dims: int, nu: float) -> None:
    sse = _drawn(nu, dims, 3000)

    def mean_nll(log: np.ndarray) -> float:
        return float(student_nll(sse, dims, math.exp(log[0]), math.exp(log[1])).mean())

    found = fit_student(sse, dims, FLOOR)
    best = optimize.minimize(
        mean_nll, [1.0, -3.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}
    )
    assert mean_nll(np.log(found)) <= best.fun + 1e-9
    np.testing.assert_allclose(np.log(found), best.x, atol=1e-4)


@pytest.mark.parametrize("nu", [0.5, 4.0, 50.0])
def test_the_fit_finds_the_density_that_the_errors_come_from(nu: float) -> None:
    found = fit_student(_drawn(nu, 784, 60_000).reshape(-1, 4), 784, FLOOR)
    assert found == pytest.approx((nu, 0.02), rel=0.03)


@pytest.mark.parametrize("dims", [64, 784])
@pytest.mark.parametrize("share", [0.8, 1.0, 1.2])
def test_of_several_maxima_it_takes_the_highest_in_any_order(dims: int, share: float) -> None:
    """About one image in D reconstructed perfectly gives the likelihood two maxima."""
    rng = np.random.default_rng(0)
    sse = np.where(rng.random(40_000) < share / dims, 0.0, 0.02 * rng.chisquare(dims, 40_000))
    raised = np.maximum(sse, dims * FLOOR)

    def mean_nll(nu: float, sigma2: float) -> float:
        return float(student_nll(raised, dims, nu, sigma2).mean())

    found = fit_student(sse, dims, FLOOR)
    assert fit_student(rng.permutation(sse), dims, FLOOR) == found
    everywhere = [
        mean_nll(nu, sigma2)
        for nu in np.geomspace(0.01, 1e5, 60)
        for sigma2 in np.geomspace(1e-5, 0.05, 60)
    ]
    assert mean_nll(*found) <= min(everywhere)


def test_its_scale_and_nu_follow_the_unit_of_pixels() -> None:
    sse = _drawn(4.0, 64, 500)
    nu, sigma2 = fit_student(sse, 64, FLOOR)
    assert fit_student(1e6 * sse, 64, FLOOR) == pytest.approx((nu, 1e6 * sigma2), rel=1e-7)


@pytest.mark.parametrize(
    "sse",
    [
        np.array([0.3]),  # a single image
        np.full(50, 0.3),
        np.zeros(5),
        0.02 * np.random.default_rng(0).chisquare(64, 5000) * 0.9 + 0.1,  # less than a Gaussian's
    ],
)
def test_errors_that_hardly_vary_leave_a_gaussian(sse: np.ndarray) -> None:
    nu, sigma2 = fit_student(sse, 64, FLOOR)
    assert nu == math.inf
    assert sigma2 == pytest.approx(max(sse.mean() / 64, FLOOR), rel=1e-12)


@pytest.mark.parametrize("zeros", [1, 40])
def test_perfect_reconstructions_count_as_the_floor(zeros: int) -> None:
    sse = np.append(np.zeros(zeros), _drawn(4.0, 64, 50))
    raised = np.maximum(sse, 64 * FLOOR)
    found = fit_student(sse, 64, FLOOR)
    assert found == fit_student(raised, 64, FLOOR)
    assert FLOOR <= found[1] <= raised.mean() / 64
    assert np.isfinite(student_nll(sse, 64, *found)).all()


def test_it_is_fitted_on_train_and_says_where_it_scores_that_split(statistics: Stats) -> None:
    rows = {row.split: row for row in score(statistics, make_trial(), ["student"])}
    nu, sigma2 = fit_student(statistics["train"].sse, 9, 1e-6)
    for split, row in rows.items():
        assert (row.nu, row.sigma2) == (nu, sigma2)
        assert row.is_density
        nll = student_nll(statistics[split].sse, 9, nu, sigma2)
        assert row.distortion == pytest.approx(nll.mean(), rel=1e-14)
    assert (rows["train"].caveat, rows["test"].caveat) == (ON_ITSELF, "")


@pytest.mark.parametrize(
    "bad",
    [
        {"own_nu": -1.0},
        {"own_nu": 0.0},
        {"own_nu": math.inf},
        {"own_nu": 3.0, "own_sigma2": None},
        {"own_nu": 3.0, "own_nll": np.ones((15, 4))},
    ],
)
def test_impossible_degrees_of_freedom_are_refused(
    statistics: Stats, bad: dict[str, object]
) -> None:
    with pytest.raises(BadInput, match="own_nu must be positive"):
        replace(statistics["test"], **bad)


def test_without_a_train_split_it_says_so(statistics: Stats) -> None:
    with pytest.raises(BadInput, match="sigma student is fitted on the train split, whose"):
        score({"test": statistics["test"]}, make_trial(), ["student"])


def test_of_one_image_it_says_that_nu_is_unbounded(statistics: Stats) -> None:
    train = statistics["train"]
    one = replace(
        train,
        image=train.image[:1],
        kl=train.kl[:1],
        sse=train.sse[:1, :1],
        log_ratio=train.kl[:1, None],
    )
    rows = score({**statistics, "train": one}, make_trial(), ["student", "shared"])
    student, shared = (row for row in rows if row.split == "test")
    assert (student.nu, student.caveat) == (None, UNBOUNDED)
    assert student.elbo == pytest.approx(shared.elbo, rel=1e-12)
    assert student.sigma2 == shared.sigma2


def test_on_its_own_split_it_is_no_worse_than_shared_and_below_optimal(statistics: Stats) -> None:
    """`shared` is one of the Student t; no density of sse exceeds each image's best variance."""
    rows = score(statistics, make_trial(), ["student", "shared", "optimal"])
    elbo = {row.sigma: row.elbo for row in rows if row.split == "train"}
    assert elbo["shared"] < elbo["student"] < elbo["optimal"]


def test_iwae_works_under_it(statistics: Stats) -> None:
    bounds = score_bounds(interpret(statistics, make_trial(), ["student"]), [1, 4], {})
    test = {bound.k: bound.value for bound in bounds if bound.split == "test"}
    assert test[1] < test[4]
    measured = statistics["test"]
    nu, sigma2 = fit_student(statistics["train"].sse, 9, 1e-6)
    log_weights = measured.log_ratio - student_nll(measured.sse, 9, nu, sigma2)
    assert test[4] == pytest.approx(np.log(np.exp(log_weights).mean(axis=1)).mean(), rel=1e-12)


def test_own_is_the_student_t_that_was_trained(statistics: Stats) -> None:
    test = replace(statistics["test"], own_sigma2=0.05, own_nu=3.5)
    (row,) = score({"test": test}, make_trial(), ["own"])
    assert (row.sigma2, row.nu, row.is_density) == (0.05, 3.5, True)
    assert row.distortion == pytest.approx(student_nll(test.sse, 9, 3.5, 0.05).mean(), rel=1e-14)
