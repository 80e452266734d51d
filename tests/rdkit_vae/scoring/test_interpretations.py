import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from rdkit_vae import make_trial
from rdkit_vae.errors import BadInput, NotFinite
from rdkit_vae.scoring.interpretations import INTERPRETATIONS, SIGMAS
from rdkit_vae.scoring.mixture import MIXTURE_S
from rdkit_vae.scoring.scores import score
from rdkit_vae.scoring.statistics import Statistics

Stats = dict[str, Statistics]
EVERY = [*SIGMAS, "shared-oracle", "constant:0.03", "mixture:0.1..3"]


def test_the_registry_has_the_names_that_users_type() -> None:
    on_request = [name for name, entry in INTERPRETATIONS.items() if entry.on_request]
    assert list(INTERPRETATIONS) == [*SIGMAS, *on_request]


@pytest.mark.parametrize("sigma", EVERY)
def test_elbo_is_minus_rate_minus_distortion(statistics: Stats, sigma: str) -> None:
    for row in score(statistics, make_trial(beta=0.3), [sigma]):
        assert row.elbo == -(row.rate + row.distortion)
        assert row.bits_per_dim == pytest.approx(-row.elbo / 9 / math.log(2), rel=1e-15)


@pytest.mark.parametrize(
    ("sigma", "sigma2"),
    [("half", 0.5), ("beta-half", 0.15), ("own", 0.07), ("constant:0.03", 0.03)],
)
def test_fixed_variances_against_scipy(statistics: Stats, sigma: str, sigma2: float) -> None:
    test = statistics["test"]
    row = score({"test": test}, make_trial(beta=0.3), [sigma])[0]
    # A residual of length sqrt(sse) along one axis has the same density as any other.
    residual = np.zeros((15, 4, 9))
    residual[..., 0] = np.sqrt(test.sse)
    nll = -stats.norm.logpdf(residual, scale=math.sqrt(sigma2)).sum(axis=2)
    assert row.sigma2 == pytest.approx(sigma2, rel=1e-15)
    assert row.distortion == pytest.approx(nll.mean(), rel=1e-12)
    assert row.rate == pytest.approx(test.kl.mean(), rel=1e-14)


def test_own_may_differ_by_image_and_draw(statistics: Stats) -> None:
    test = statistics["test"]
    own = np.random.default_rng(4).uniform(0.02, 0.3, test.sse.shape)
    row = score({"test": replace(test, own_sigma2=own)}, make_trial(), ["own"])[0]
    nll = test.sse / (2 * own) + 9 / 2 * np.log(2 * np.pi * own)
    assert row.distortion == pytest.approx(nll.mean(), rel=1e-13)
    assert row.sigma2 == pytest.approx(own.mean(), rel=1e-13)
    with pytest.raises(BadInput, match="own_sigma2"):
        replace(test, own_sigma2=own[:3])


def test_the_oracle_is_the_best_constant_on_its_own_split_and_says_so(statistics: Stats) -> None:
    rows = score(statistics, make_trial(), ["shared-oracle", "shared"])
    told = {(row.split, row.sigma): row for row in rows}
    for split, measured in statistics.items():
        oracle = told[split, "shared-oracle"]
        assert oracle.sigma2 == pytest.approx(measured.sse.mean() / 9, rel=1e-13)
        assert oracle.elbo >= told[split, "shared"].elbo
        assert oracle.is_density
        assert oracle.caveat.startswith("optimistic")
    assert told["test", "shared"].caveat == ""
    assert told["train", "shared"].elbo == pytest.approx(told["train", "shared-oracle"].elbo)


def test_the_result_tells_the_range_of_the_mixture(statistics: Stats) -> None:
    rows = score(statistics, make_trial(), ["mixture", "mixture:0.1..3", "half"])
    assert [(row.s_min, row.s_max) for row in rows[:3]] == [MIXTURE_S, (0.1, 3.0), (None, None)]
    assert rows[1].elbo > rows[0].elbo  # a narrower range about the data loses less
    assert [row.sigma for row in rows[:3]] == ["mixture", "mixture:0.1..3.0", "half"]


def test_beta_half_takes_the_constant_of_training(statistics: Stats) -> None:
    row = score(
        statistics, make_trial(objective="constant", beta=0.3, train_sigma2=0.1), ["beta-half"]
    )[0]
    assert row.sigma2 == pytest.approx(0.03, rel=1e-15)


def test_optimal_is_the_papers_formula(statistics: Stats) -> None:
    sse = statistics["test"].sse
    expected = np.mean(9 / 2 * (np.log(2 * np.pi * sse / 9) + 1))
    row = score({"test": statistics["test"]}, make_trial(), ["optimal"])[0]
    assert row.distortion == pytest.approx(expected, rel=1e-13)
    assert not row.is_density


def test_shared_is_fitted_on_train_and_frozen(statistics: Stats) -> None:
    rows = {row.split: row for row in score(statistics, make_trial(), ["shared"])}
    fitted = statistics["train"].sse.mean() / 9
    assert rows["train"].sigma2 == rows["test"].sigma2 == pytest.approx(fitted, rel=1e-14)
    with pytest.raises(BadInput, match="train split"):
        score({"test": statistics["test"]}, make_trial(), ["shared"])


@pytest.mark.parametrize("value", [1e-4, 0.01, 0.05, 0.066, 0.5, 3.0])
def test_no_scalar_variance_beats_shared_and_shared_never_beats_optimal(
    statistics: Stats, value: float
) -> None:
    train = {"train": statistics["train"]}
    rows = score(train, make_trial(), ["optimal", "shared", f"constant:{value}"])
    optimal, shared, constant = (row.distortion for row in rows)
    assert optimal <= shared <= constant


def test_the_mixture_is_above_optimal_by_no_more_than_its_constant(statistics: Stats) -> None:
    # -log of an average of densities is at least the least of them.
    optimal, mixture = score(statistics, make_trial(), ["optimal", "mixture"])[:2]
    assert optimal.distortion <= mixture.distortion
    # Laplace: the mixture loses about log(L sqrt(D/pi)) against the best scale inside its range.
    span = math.log(MIXTURE_S[1] / MIXTURE_S[0])
    assert mixture.distortion - optimal.distortion < math.log(span * math.sqrt(9 / math.pi)) + 0.1


def test_the_floor_is_applied_and_told(statistics: Stats) -> None:
    train = replace(statistics["train"], sse=np.full((20, 4), 1e-9))
    rows = {row.sigma: row for row in score({"train": train}, make_trial(sigma2_floor=1e-4), EVERY)}
    for fitted in ("optimal", "shared"):
        assert rows[fitted].sigma2 == pytest.approx(1e-4, rel=1e-15)
        assert rows[fitted].floored == 1
        assert rows[fitted].sigma2_floor == 1e-4
    assert rows["half"].floored == 0
    assert rows["half"].sigma2_floor is None


def test_own_gives_no_row_for_a_model_without_a_variance(statistics: Stats) -> None:
    bare = {"test": replace(statistics["test"], own_sigma2=None)}
    assert score(bare, make_trial(), ["own"]) == []
    assert [row.sigma for row in score(bare, make_trial(), ["own", "half"])] == ["half"]


@pytest.mark.parametrize("sigma", [name for name in EVERY if name != "shared-oracle"])
def test_standard_errors_are_over_images(statistics: Stats, sigma: str) -> None:
    row = score(statistics, make_trial(), [sigma])[-1]
    one_by_one = [
        score(
            {
                "train": statistics["train"],
                "test": replace(
                    statistics["test"],
                    image=statistics["test"].image[i : i + 1],
                    kl=statistics["test"].kl[i : i + 1],
                    sse=statistics["test"].sse[i : i + 1],
                    log_ratio=statistics["test"].log_ratio[i : i + 1],
                ),
            },
            make_trial(),
            [sigma],
        )[-1]
        for i in range(15)
    ]
    for name in ("rate", "distortion", "elbo"):
        values = [getattr(single, name) for single in one_by_one]
        assert getattr(row, name) == pytest.approx(np.mean(values), rel=1e-12)
        assert getattr(row, f"{name}_se") == pytest.approx(stats.sem(values), rel=1e-10)
    assert math.isnan(one_by_one[0].elbo_se)


def test_mse_and_psnr_do_not_depend_on_the_interpretation(statistics: Stats) -> None:
    rows = [row for row in score(statistics, make_trial(), EVERY) if row.split == "test"]
    mse = statistics["test"].sse.mean() / 9
    assert [row.mse for row in rows] == pytest.approx([mse] * len(EVERY))
    assert [row.psnr for row in rows] == pytest.approx([-10 * math.log10(mse)] * len(EVERY))
    assert len({row.mse for row in rows}) == len({row.psnr for row in rows}) == 1


def test_statistics_that_disagree_in_shape_are_refused(statistics: Stats) -> None:
    with pytest.raises(BadInput):
        replace(statistics["test"], kl=np.zeros(3))


@pytest.mark.parametrize("name", ["kl", "sse", "log_ratio", "own_sigma2"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_statistics_that_are_not_finite_are_refused(
    name: str, value: float, statistics: Stats
) -> None:
    test = replace(statistics["test"], own_sigma2=np.full((15, 4), 0.1))
    values = getattr(test, name).copy()
    values[3] = value
    damaged = {**statistics, "test": replace(test, **{name: values})}
    share = f"{values[3].size} of {values.size} numbers"
    with pytest.raises(
        NotFinite, match=f"{name} of the test split is not finite: {value} in {share}"
    ):
        score(damaged, make_trial(), ["half"])
    assert not damaged["test"].finite
