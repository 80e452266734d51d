import pandas as pd
import pytest

from rdkit_vae.scoring.interpretations import SIGMAS
from rdvae_analysis.names import is_model
from rdvae_analysis.tables import elbo_table, to_text


def test_elbos_are_means_over_seeds(frame: pd.DataFrame) -> None:
    table, notes = elbo_table(frame)
    assert notes == []
    assert list(table) == ["objective", "beta", "rate", "mse", *list(SIGMAS)[:4]]
    assert len(table) == 6
    for row in table.itertuples():
        seeds = frame[
            (frame["objective"] == row.objective)
            & (frame["beta"] == row.beta)
            & (frame["epoch"] == 5)
            & (frame["sigma"] == "shared")
        ]
        assert row.shared == pytest.approx(seeds["elbo"].mean(), rel=1e-14)
        assert row.rate == pytest.approx(seeds["rate"].mean(), rel=1e-14)


def test_settings_that_differ_keep_their_column(frame: pd.DataFrame) -> None:
    other = frame.assign(curve=frame["curve"] + "x", setup="x", run_id=frame["run_id"] + "x")
    table, _ = elbo_table(pd.concat([frame, other]))
    assert table["curve"].nunique() == 4
    assert len(table) == 12


def test_all_runs_failed(frame: pd.DataFrame) -> None:
    table, notes = elbo_table(frame.assign(status="diverged"))
    assert table.empty
    assert notes[0].startswith("left out 12 runs that diverged")


def test_text_shows_digits_that_can_be_used() -> None:
    table = pd.DataFrame({"beta": [1e-4], "elbo": [-123.456], "own": [float("nan")]})
    assert to_text(table).split() == ["beta", "elbo", "own", "0.0001", "-123.46", "-"]


def test_tables_of_pairs_show_the_constant_and_no_hash(frame: pd.DataFrame) -> None:
    other = frame[frame["objective"] == "constant"].assign(
        train_sigma2=0.05, curve="constant-efgh", run_id="c" + frame["run_id"]
    )
    table, _ = elbo_table(pd.concat([frame, other], ignore_index=True))
    assert list(table)[:5] == ["objective", "beta", "C", "rate", "mse"]
    assert table["C"].isna().tolist() == [False] * 6 + [True] * 3
    assert set(table["C"].dropna()) == {0.5, 0.05}
    assert "constant-" not in to_text(table)


def test_networks_that_differ_are_told_by_what_differs(frame: pd.DataFrame) -> None:
    other = frame.assign(curve="wider", setup="x", latents=9, run_id="w" + frame["run_id"])
    table, _ = elbo_table(pd.concat([frame, other], ignore_index=True))
    assert list(table)[:3] == ["latents", "objective", "beta"]
    assert "curve" not in table


def test_models_from_elsewhere_have_a_row_without_epochs(with_models: pd.DataFrame) -> None:
    table, notes = elbo_table(with_models)
    assert notes == []
    unknown = table[table["beta"].isna()]
    assert list(unknown["objective"]) == ["model friend's VAE"]
    rows = with_models[with_models["model"] == "friend's VAE"].set_index("sigma")
    for sigma in ("half", "optimal", "shared"):
        assert unknown[sigma].iloc[0] == rows.loc[sigma, "elbo"]
    assert unknown["beta-half"].isna().all()
    assert "epochs" not in table  # all that are known are the same
    varied = with_models.assign(epochs=with_models["epochs"] * (1 + (with_models["seed"] == 1)))
    for name in ("curve", "setup"):
        varied[name] += varied["seed"].map(str)
    varied["epoch"] = varied["epochs"]
    epochs, _ = elbo_table(varied[with_models["epoch"].isin([0, 5])])
    assert epochs.loc[epochs["objective"].map(is_model), "epochs"].isna().all()
    assert set(epochs["epochs"].dropna()) == {5, 10}
    text = to_text(table)
    assert "friend's VAE" in text
    assert "nan" not in text
