"""The share of the prior against plain pandas, and which distances are compared at all."""

import math
from collections.abc import Callable

import pandas as pd
import pytest

from rdkit_vae.errors import BadInput
from rdvae_analysis.measurements import compared
from rdvae_analysis.shares import prior_rates, prior_shares

Made = Callable[..., pd.DataFrame]


def test_shares_are_those_of_plain_pandas(generation: pd.DataFrame, priors: pd.DataFrame) -> None:
    table, notes = prior_shares(generation, priors)
    assert notes == []
    assert len(table) == 6
    assert table["objective"].tolist() == ["constant"] * 3 + ["optimal"] * 3
    for row in table.itertuples():
        here = generation[
            (generation["objective"] == row.objective) & (generation["beta"] == row.beta)
        ]
        distance = here.groupby(["source", "prior"])["frechet"].mean()
        assert row.frechet == pytest.approx(distance["prior", "standard"], rel=1e-12)
        assert row.best_prior == "mixture"
        assert row.frechet_best == pytest.approx(distance["prior", "mixture"], rel=1e-12)
        share = distance["prior", "standard"] - distance["prior", "mixture"]
        assert row.share == pytest.approx(share, rel=1e-9)
        rebuilt = here[here["source"] == "reconstruction"]
        assert row.frechet_reconstruction == pytest.approx(rebuilt["frechet"].mean(), rel=1e-12)
        assert row.psnr == pytest.approx(rebuilt["psnr"].mean(), rel=1e-12)
        assert row.floor == pytest.approx(0.8, rel=1e-12)
        assert row.seeds == 2
        assert row.kid_se == pytest.approx(0.01 / math.sqrt(2))
        assert (row.n_samples, row.n_reconstructions) == (1000, 500)
        standard = here[here["prior"] == "standard"]["frechet"]
        assert (row.frechet_low, row.frechet_high) == (standard.min(), standard.max())


def test_the_best_prior_is_that_of_the_lowest_rate_not_of_the_lowest_distance(
    generation: pd.DataFrame, priors: pd.DataFrame
) -> None:
    of_gaussian = priors["prior"] == "gaussian"
    cheaper = priors.assign(rate=priors["rate"].mask(of_gaussian, priors["rate"] / 2))
    table, _ = prior_shares(generation, cheaper)
    assert set(table["best_prior"]) == {"gaussian"}
    assert (table["frechet_best"] > prior_shares(generation, priors)[0]["frechet_best"]).all()


def test_a_bound_counts_as_what_it_is_at_most(
    generation: pd.DataFrame, priors: pd.DataFrame
) -> None:
    bounded = priors["is_bound"]
    assert set(priors.loc[bounded, "prior"]) == {"two-stage"}
    cheaper = priors.assign(rate=priors["rate"].mask(bounded, priors["rate"] / 2))
    assert set(prior_shares(generation, cheaper)[0]["best_prior"]) == {"two-stage"}


def test_if_no_fitted_prior_is_better_its_share_is_nothing(
    generation: pd.DataFrame, priors: pd.DataFrame
) -> None:
    standard = priors["prior"] == "standard"
    cheaper = priors.assign(rate=priors["rate"].mask(standard, 0.0))
    table, _ = prior_shares(generation, cheaper)
    assert set(table["best_prior"]) == {"standard"}
    assert set(table["share"]) == {0.0}


def test_a_prior_that_was_not_sampled_for_all_seeds_is_not_compared(
    generation: pd.DataFrame, priors: pd.DataFrame
) -> None:
    gone = (generation["prior"] == "mixture") & (generation["seed"] == 1)
    table, notes = prior_shares(generation[~gone], priors)
    assert set(table["best_prior"]) == {"two-stage"}
    assert notes == [
        "mixture fits 12 runs best but was not sampled; the best of the sampled priors stands for "
        "it"
    ]


def test_without_rates_or_samples_no_share_is_claimed(
    generation: pd.DataFrame, priors: pd.DataFrame
) -> None:
    table, notes = prior_shares(generation, priors[:0])
    assert table["share"].isna().all()
    assert table["best_prior"].isna().all()
    assert "rdvae describe --priors" in notes[0]
    only_standard = generation[generation["prior"].isin(["", "standard"])]
    assert prior_shares(only_standard, priors)[0]["share"].isna().all()
    stale = priors.assign(checkpoint_sha256="cd" * 32)
    assert prior_shares(generation, stale)[0]["share"].isna().all()
    none = generation[generation["source"] != "prior"]
    table, notes = prior_shares(none, priors)
    assert table.empty
    assert "left out 12 runs without samples of the standard prior" in notes[0]


def test_only_last_checkpoints_are_compared(generation: pd.DataFrame, priors: pd.DataFrame) -> None:
    early = generation.assign(epoch=1, frechet=1e6)
    both = pd.concat([generation, early], ignore_index=True)
    pd.testing.assert_frame_equal(
        prior_shares(both, priors)[0], prior_shares(generation, priors)[0]
    )
    unfinished = both[(both["epoch"] == 1) | (both["seed"] == 0)]
    table, notes = prior_shares(unfinished, priors)
    assert set(table["seeds"]) == {1}
    assert notes[0].startswith("left out 6 runs not finished: ")


def test_distances_of_different_kinds_are_never_mixed(
    frame: pd.DataFrame, generation: pd.DataFrame, distances_of: Made
) -> None:
    some = frame[frame["seed"] == 0]
    for other in (
        {"features": "inception", "features_sha256": "6726825d" * 8},
        {"features_sha256": "99" * 32},
        {"split": "train"},
        {"pixels": "stretched"},
        {"n_samples": 10_000},
    ):
        extra = distances_of(some, **other).assign(frechet=1e6)
        rows, (note,) = compared(pd.concat([extra, generation], ignore_index=True))
        assert rows["frechet"].max() < 1e6
        assert len(rows) == len(generation)
        assert note.startswith("digits: of classifier 3f2a9c1b, 1,000 pictures against test")
        assert "left out" in note


@pytest.mark.parametrize("asked", ["inception", "inception 6726825d", "inception 67"])
def test_features_are_chosen_by_name(
    frame: pd.DataFrame, generation: pd.DataFrame, distances_of: Made, asked: str
) -> None:
    other = distances_of(frame, features="inception", features_sha256="6726825d" * 8)
    both = pd.concat([generation, other], ignore_index=True)
    rows, _ = compared(both, features=asked)
    assert set(rows["features"]) == {"inception"}
    with pytest.raises(BadInput, match="no distances in nope; there are distances in classifier"):
        compared(both, features="nope")
    with pytest.raises(BadInput, match="against train"):
        compared(both, features=asked, split="train")


def test_models_from_elsewhere_stand_under_their_names(
    with_models: pd.DataFrame, distances_of: Made, rates_of: Made
) -> None:
    known = with_models.assign(beta=with_models["beta"].fillna(3.0))
    table, _ = prior_shares(distances_of(known), rates_of(known))
    elsewhere = table[table["setup"] == "elsewhere"]
    assert set(elsewhere["objective"]) == {"model mine", "model friend's VAE", "model optimal"}
    assert elsewhere["share"].notna().all()


def test_rates_are_means_over_seeds_in_the_order_of_the_ladder(priors: pd.DataFrame) -> None:
    table, _ = prior_rates(priors)
    first = table[(table["objective"] == "constant") & (table["beta"] == 1)]
    names = ["standard", "per-latent", "gaussian", "mixture", "two-stage"]
    assert first["prior"].tolist() == names
    for row in table.itertuples():
        here = priors[
            (priors["objective"] == row.objective)
            & (priors["beta"] == row.beta)
            & (priors["prior"] == row.prior)
        ]["rate"]
        assert row.rate == pytest.approx(here.mean(), rel=1e-12)
        assert (row.rate_low, row.rate_high, row.seeds) == (here.min(), here.max(), 2)
    again = pd.concat([priors, priors.assign(fit_seed=1)], ignore_index=True)
    assert prior_rates(again)[0]["seeds"].max() == 2  # fits of one model are no seeds
    assert prior_rates(priors, split="train")[0].empty
