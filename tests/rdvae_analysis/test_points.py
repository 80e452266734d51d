import pandas as pd
import pytest

from rdkit_vae.errors import BadInput
from rdvae_analysis.points import DEFAULT_SIGMAS, DEFAULT_SIGMAS_ELSEWHERE, final_rows, rd_points


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


def test_what_is_drawn_by_default(frame: pd.DataFrame) -> None:
    points, _ = rd_points(frame)
    drawn = points.groupby("objective")["sigma"].agg(set).to_dict()
    assert drawn == {
        "constant": set(DEFAULT_SIGMAS["constant"]),
        "optimal": set(DEFAULT_SIGMAS_ELSEWHERE),
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
