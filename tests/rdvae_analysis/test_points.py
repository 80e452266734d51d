from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rdkit_vae.errors import BadInput
from rdvae_analysis.figures.rd import plot_rd
from rdvae_analysis.load import LoadWarning, scan
from rdvae_analysis.names import ELSEWHERE, in_order, is_model, objective_name
from rdvae_analysis.paper_table import table1
from rdvae_analysis.points import (
    DEFAULT_SIGMAS,
    DEFAULT_SIGMAS_OF_MODELS,
    DEFAULT_SIGMAS_OTHERS,
    POINT_COLUMNS,
    comparable,
    final_rows,
    rd_points,
    setups_in_words,
    with_beta,
    with_models_named,
    without_models,
)
from rdvae_analysis.sound import is_in, sound_rows
from rdvae_analysis.tables import elbo_table


def test_the_last_checkpoint_of_each_run(frame: pd.DataFrame) -> None:
    rows, notes = final_rows(frame)
    assert set(rows["epoch"]) == {5}
    assert len(rows) == len(frame) / 2
    assert notes == []


def test_runs_that_failed_are_left_out_and_named(frame: pd.DataFrame) -> None:
    frame.loc[(frame["run_id"] == "constant-1.0-0") & (frame["epoch"] == 5), "status"] = "diverged"
    frame.loc[frame["run_id"] == "optimal-0.1-1", "status"] = "crashed"
    rows, notes = final_rows(frame)
    assert rows["run_id"].nunique() == 10
    assert notes == [
        "left out 1 run that diverged: constant-1.0-0",
        "left out 1 run that crashed: optimal-0.1-1",
    ]


def test_a_run_that_is_not_finished_is_left_out_and_named(frame: pd.DataFrame) -> None:
    frame = frame[(frame["run_id"] != "constant-1.0-0") | (frame["epoch"] < 5)]
    rows, notes = final_rows(frame)
    assert "constant-1.0-0" not in set(rows["run_id"])
    assert notes == ["left out 1 run not finished: constant-1.0-0"]


def test_points_against_plain_pandas(frame: pd.DataFrame) -> None:
    points, _ = rd_points(frame)
    for point in points.itertuples():
        seeds = frame[
            (frame["objective"] == point.objective)
            & (frame["sigma"] == point.sigma)
            & (frame["beta"] == point.beta)
            & (frame["epoch"] == 5)
        ]
        assert point.runs == len(seeds) == 2
        assert point.rate == pytest.approx(seeds["rate"].mean(), rel=1e-14)
        assert (point.rate_low, point.rate_high) == (seeds["rate"].min(), seeds["rate"].max())
        assert point.value == pytest.approx(seeds["distortion"].mean(), rel=1e-14)
        assert point.value_high == seeds["distortion"].max()


def _many(rows: int) -> pd.DataFrame:
    """Rows of runs with two checkpoints, some failed or unfinished, in no order."""
    rng = np.random.default_rng(0)
    models = pd.MultiIndex.from_product(
        [("constant", "optimal"), (0.1, 1.0, 10.0), range(rows // 24), (1, 5), ("half", "shared")],
        names=["objective", "beta", "seed", "epoch", "sigma"],
    ).to_frame(index=False)
    run = models["objective"] + "-" + models["beta"].astype(str) + "-" + models["seed"].astype(str)
    facts = {"dataset": "digits", "setup": "efgh", "split": "test", "epochs": 5, "dims": 64}
    frame = models.assign(run_id=run, curve=models["objective"] + "-abcd", status="ok", **facts)
    frame["train_sigma2"] = np.where(frame["objective"] == "constant", 0.5, np.nan)
    frame[["rate", "distortion"]] = rng.uniform(1, 50, (len(frame), 2))
    frame.loc[frame["run_id"].isin(run.unique()[::7]) & (frame["epoch"] == 5), "status"] = (
        "diverged"
    )
    frame.loc[frame["run_id"].isin(run.unique()[::11]), "status"] = "crashed"
    frame.loc[frame["status"] != "ok", ["rate", "distortion"]] = np.nan
    unfinished = frame["run_id"].isin(run.unique()[::13]) & (frame["epoch"] == 5)
    return frame[~unfinished].sample(frac=1, random_state=0)


def test_many_rows_against_plain_pandas() -> None:
    frame = _many(24_000)
    assert sound_rows(frame)[0].equals(frame)
    last = frame[(frame["status"] == "ok") & (frame["epoch"] == frame["epochs"])]
    rows, _ = final_rows(frame)
    pd.testing.assert_frame_equal(rows, last)
    points, notes = rd_points(frame)
    shown = last[(last["objective"] == "constant") | (last["sigma"] == "shared")]
    for column, name in (("rate", "rate"), ("value", "distortion")):
        groups = shown.groupby(["curve", "objective", "sigma", "beta"])[name]
        for end, expected in (("", groups.mean()), ("_low", groups.min()), ("_high", groups.max())):
            assert points[f"{column}{end}"].tolist() == expected.tolist()
    runs = frame.groupby("run_id")["status"].agg(set)
    failed = {s: int(runs.map(lambda seen, s=s: s in seen).sum()) for s in ("diverged", "crashed")}
    assert any(f"left out {failed['crashed']} runs that crashed" in note for note in notes)
    assert set(rows["run_id"]).isdisjoint(runs.index[runs != {"ok"}])


@pytest.mark.parametrize("kind", [object, "str", "category"])
def test_is_in_is_isin(kind: str) -> None:
    column = pd.Series(["a", None, "b", "a", "c", np.nan], index=[0, 0, 1, 5, 2, 3], dtype=kind)
    for values in ((), ("a",), ("c", "a", "zz"), {"b"}):
        assert is_in(column, values).tolist() == column.isin(values).tolist()


def test_what_is_drawn_by_default(frame: pd.DataFrame) -> None:
    points, _ = rd_points(frame)
    drawn = points.groupby("objective")["sigma"].agg(set).to_dict()
    assert drawn == {
        "constant": set(DEFAULT_SIGMAS["constant"]),
        "optimal": set(DEFAULT_SIGMAS_OTHERS),
    }


def test_the_users_choice(frame: pd.DataFrame) -> None:
    points, _ = rd_points(frame, sigmas=["half"], objectives=["optimal"])
    assert set(zip(points["objective"], points["sigma"], strict=True)) == {("optimal", "half")}


@pytest.mark.parametrize("distortion", ["mse", "psnr"])
def test_mse_has_one_line_per_objective(frame: pd.DataFrame, distortion: str) -> None:
    points, _ = rd_points(frame, distortion=distortion)
    assert len(points) == 6
    seeds = frame[(frame["run_id"].str.startswith("constant-1.0")) & (frame["epoch"] == 5)]
    point = points[(points["objective"] == "constant") & (points["beta"] == 1.0)].iloc[0]
    assert point["value"] == pytest.approx(seeds[distortion].mean())


def test_other_settings_are_another_curve_never_another_seed(frame: pd.DataFrame) -> None:
    other = frame.assign(
        curve="constant-wider", setup="wider", run_id=frame["run_id"] + "-wider", latents=9
    )
    points, _ = rd_points(pd.concat([frame, other]))
    assert set(points["runs"]) == {2}
    assert len(points) == 2 * len(rd_points(frame)[0])


def test_a_constant_that_was_asked_for_is_drawn(frame: pd.DataFrame) -> None:
    points, _ = rd_points(frame.assign(sigma="constant:0.01"))
    assert set(points["sigma"]) == {"constant:0.01"}


def test_nothing_to_draw_says_why(frame: pd.DataFrame) -> None:
    with pytest.raises(BadInput, match="no sigma with it"):
        rd_points(frame, distortion="mse", sigmas=["half"])
    with pytest.raises(BadInput, match="rows are there for half, beta-half, optimal, shared"):
        rd_points(frame, sigmas=["own"])
    with pytest.raises(BadInput, match="train"):
        rd_points(frame, split="train")
    with pytest.raises(BadInput, match="12 runs that diverged"):
        rd_points(frame.assign(status="diverged"))


def test_a_finished_run_counts_even_if_a_copy_of_it_crashed(frame: pd.DataFrame) -> None:
    crashed = frame[(frame["run_id"] == "constant-1.0-0") & (frame["epoch"] == 1)]
    rows, notes = final_rows(pd.concat([frame, crashed.assign(status="crashed")]))
    assert rows["run_id"].nunique() == 12
    assert notes == []


def test_models_trained_twice_with_other_checkpoints_count_once(frame: pd.DataFrame) -> None:
    again = frame[frame["objective"] == "constant"].assign(
        curve="constant-more-often", run_id="again-" + frame["run_id"]
    )
    further = again.assign(beta=again["beta"] * 100, run_id="further-" + again["run_id"])
    rows, notes = final_rows(pd.concat([frame, again, further], ignore_index=True))
    assert rows["run_id"].nunique() == 12 + 6 - 2  # beta 10 came twice in two of the six
    assert rows["curve"].nunique() == 2
    assert notes[0].startswith(
        "left out 8 runs with the settings of another run except for checkpoints"
    )


def test_runs_of_unknown_setup_are_counted_out(frame: pd.DataFrame) -> None:
    frame.loc[frame["run_id"] == "optimal-1.0-0", "setup"] = None
    rows, notes = comparable(frame)
    assert rows["run_id"].nunique() == 11
    assert notes == ["left out 1 run whose setup is not known"]
    assert comparable(rows)[1] == []


def test_tables_that_a_user_put_together_may_repeat_their_index(frame: pd.DataFrame) -> None:
    older = frame.assign(setup=None, run_id="older-" + frame["run_id"], curve="older")
    rows, _ = final_rows(pd.concat([frame, older]))
    assert set(rows["curve"]) == {"constant-abcd", "optimal-abcd", "older"}


def test_rows_without_a_number_are_counted_out(frame: pd.DataFrame) -> None:
    row = (frame["run_id"] == "optimal-1.0-0") & (frame["epoch"] == 5)
    frame.loc[row & (frame["sigma"] == "shared"), "distortion"] = None
    points, notes = rd_points(frame, sigmas=["shared"])
    assert notes == ["left out 1 row without distortion: optimal-1.0-0"]
    assert points.set_index(["objective", "beta"])["runs"].to_dict()["optimal", 1.0] == 1


def test_the_columns_of_points_suffice(sweep_folder: Path) -> None:
    few, _ = scan(sweep_folder, columns=POINT_COLUMNS)
    every, _ = scan(sweep_folder)
    assert len(few.columns) < len(every.columns)
    pd.testing.assert_frame_equal(rd_points(few)[0], rd_points(every)[0])


def test_scores_beside_results_are_left_out_and_counted(frame: pd.DataFrame) -> None:
    """The rows of `rdv.score` do not name their model."""
    names = ["split", "sigma", "sigma2", "rate", "distortion", "elbo", "mse", "psnr", "dims"]
    scores = frame.loc[frame["sigma"] == "shared", names].head(3)
    points, notes = rd_points(pd.concat([frame, scores]))
    pd.testing.assert_frame_equal(points, rd_points(frame)[0])
    (note,) = notes
    assert note.startswith("left out 3 rows without run_id, curve, dataset, architecture, latents")


@pytest.mark.parametrize("name", ["curve", "dataset", "objective", "architecture", "seed"])
def test_a_foreign_point_is_drawn_or_said(frame: pd.DataFrame, name: str) -> None:
    foreign = frame[frame["run_id"] == "optimal-1.0-0"].assign(run_id="mine", curve="c", beta=3.0)
    drawn, notes = rd_points(pd.concat([frame, foreign]))
    assert notes == []
    assert (drawn["beta"] == 3.0).sum() == 2
    points, notes = rd_points(pd.concat([frame, foreign.drop(columns=name)]))
    assert (points["beta"] == 3.0).sum() == 0
    assert notes == [f"left out 8 rows without {name}: mine"]
    with pytest.warns(LoadWarning, match=f"8 rows without {name}: mine"):
        plot_rd(pd.concat([frame, foreign.drop(columns=name)]))


def test_a_column_that_is_not_there_is_one_line(frame: pd.DataFrame) -> None:
    for function in (rd_points, final_rows, elbo_table, table1):
        with pytest.raises(BadInput, match="the table has no beta, seed: it must have"):
            function(frame.drop(columns=["beta", "seed"]))


MODELS = {"mine", "friend's VAE", "optimal"}


def _named(rows: pd.DataFrame) -> set[str]:
    return {objective_name(name) for name in rows["objective"] if is_model(name)}


def test_models_from_elsewhere_have_their_name_for_an_objective(with_models: pd.DataFrame) -> None:
    rows, notes = final_rows(with_models)
    assert notes == []
    models = rows[rows["model"].notna()]
    assert _named(rows) == MODELS
    assert set(models["setup"]) == {ELSEWHERE}
    # A model that is called `optimal` is no BS-VAE.
    own = rows[rows["objective"] == "optimal"]
    assert own["model"].isna().all()
    assert in_order(rows["objective"])[:2] == ["constant", "optimal"]
    pd.testing.assert_frame_equal(with_models_named(rows), rows)


def test_models_of_one_name_are_told_apart_by_their_run(with_models: pd.DataFrame) -> None:
    mine = with_models[with_models["model"] == "mine"]
    second = mine.assign(run_id="mine-abcdef0123", curve="mine-abcdef0123", setup="mine-abcdef0123")
    rows, notes = final_rows(pd.concat([with_models, second], ignore_index=True))
    assert notes == []
    assert _named(rows) == (MODELS - {"mine"}) | {"mine (0123456789)", "mine (abcdef0123)"}


def test_a_point_for_each_model_from_elsewhere_and_interpretation(
    with_models: pd.DataFrame,
) -> None:
    for columns in (list(with_models), [*POINT_COLUMNS]):
        points, notes = rd_points(with_models[columns])
        assert notes == []
        models = points[points["objective"].map(is_model)]
        assert _named(points) == MODELS
        for (name, sigma), part in with_models[with_models["model"].notna()].groupby(
            ["model", "sigma"]
        ):
            assert sigma in DEFAULT_SIGMAS_OF_MODELS
            (point,) = models[
                (models["curve"] == f"{name}-0123456789") & (models["sigma"] == sigma)
            ].itertuples()
            assert (point.rate, point.value) == tuple(part.iloc[0][["rate", "distortion"]])
        unknown = models[models["curve"] == "friend's VAE-0123456789"]
        assert unknown["beta"].isna().all()
    assert _named(rd_points(with_models, distortion="psnr")[0]) == MODELS


def test_results_of_models_from_elsewhere_alone(with_models: pd.DataFrame) -> None:
    alone = with_models[with_models["model"] == "friend's VAE"]
    assert _named(rd_points(alone)[0]) == {"friend's VAE"}
    assert _named(final_rows(alone)[0]) == {"friend's VAE"}


def test_models_without_beta_are_left_out_of_an_axis_of_beta_and_counted(
    with_models: pd.DataFrame,
) -> None:
    rows, notes = with_beta(with_models)
    assert notes == ["left out 1 model from elsewhere, whose beta is not known"]
    assert rows["beta"].notna().all()
    assert len(rows) == with_models["beta"].notna().sum()
    assert with_beta(rows)[1] == []
    kept, notes = without_models(rows, (rows["model"] == "mine").to_numpy(), "for a reason")
    assert notes == ["left out 1 model from elsewhere, for a reason"]
    assert "mine" not in set(kept["model"])


def test_our_own_runs_must_have_a_beta(with_models: pd.DataFrame) -> None:
    own = with_models["run_id"] == "constant-0.1-0"
    kept, (note,) = sound_rows(with_models.assign(beta=with_models["beta"].mask(own)))
    assert note == f"left out {own.sum()} rows without beta: constant-0.1-0"
    assert len(kept) == len(with_models) - own.sum()


def test_setups_in_words_count_models_from_elsewhere(with_models: pd.DataFrame) -> None:
    assert setups_in_words(with_models) == [
        "setup efgh: digits, linear, 4 latents, 5 epochs, protocol nan",
        "setup elsewhere: digits, 3 models that rdvae did not train",
    ]
