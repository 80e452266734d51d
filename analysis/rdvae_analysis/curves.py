"""Rate-distortion points from results: pure functions on DataFrames that count what they drop."""

from collections.abc import Sequence

import pandas as pd

from rdkit_vae.errors import BadInput
from rdkit_vae.grammar import CONSTANT, few

# What is drawn unless the user asks: the readings that the paper compares, and the honest one.
DEFAULT_SIGMAS = {"constant": ("half", "beta-half", "optimal", "shared")}
DEFAULT_SIGMAS_ELSEWHERE = ("optimal", "shared")
_SERIES = ["dataset", "curve", "objective", "sigma", "beta"]


def final_rows(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of each finished run's last checkpoint, and in words what was left out.

    All rows of a run that diverged, crashed or has not come to its last epoch are left out.
    """
    notes = []
    status = frame.groupby("run_id")["status"].agg(set)
    for failed in ("diverged", "crashed"):
        runs = status.index[status.map(lambda found, failed=failed: failed in found)]
        if len(runs):
            notes.append(f"left out {len(runs)} runs that {failed}: {few(runs)}")
        frame = frame[~frame["run_id"].isin(runs)]
    last = frame[frame["epoch"] == frame["epochs"]]
    unfinished = sorted(set(frame["run_id"]) - set(last["run_id"]))
    if unfinished:
        notes.append(f"left out {len(unfinished)} runs that are not finished: {few(unfinished)}")
    return last, notes


def rd_points(
    frame: pd.DataFrame,
    *,
    distortion: str = "nll",
    split: str = "test",
    sigmas: Sequence[str] = (),
    objectives: Sequence[str] = (),
) -> tuple[pd.DataFrame, list[str]]:
    """The points of rate-distortion curves: seeds averaged, their range beside.

    Args:
        frame: results, as `load_results` gives them.
        distortion: `nll` (column distortion, nats), `mse` or `psnr`.
        split: `train` or `test`.
        sigmas: interpretations; by default those of `DEFAULT_SIGMAS`.
        objectives: training objectives; by default all.

    Returns:
        A row per dataset, curve, interpretation ("" for mse and psnr) and beta, with `rate`,
        `rate_low`, `rate_high`, `value`, `value_low`, `value_high`, `runs` and the settings that
        tell curves apart; and in words what was left out.

    Raises:
        BadInput: nothing is left to draw, or sigmas chosen for `mse` or `psnr`.
    """
    if distortion != "nll" and sigmas:
        raise BadInput(f"{distortion} is the same under every sigma: choose no sigma with it")
    rows, notes = final_rows(frame)
    rows = rows[rows["split"] == split]
    rows = rows[rows["objective"].isin(objectives)] if objectives else rows
    if distortion != "nll":
        # The same under every interpretation: one of them stands for all, without its name.
        rows = rows[rows["sigma"] == "optimal"].assign(sigma="")
    elif sigmas:
        rows = rows[rows["sigma"].isin(sigmas)]
    else:
        rows = rows[
            [_by_default(o, s) for o, s in zip(rows["objective"], rows["sigma"], strict=True)]
        ]
    if rows.empty:
        asked = ", ".join([*objectives, *sigmas, split])
        there = ", ".join(dict.fromkeys(frame["sigma"]))
        reason = "; ".join(
            [f"no finished run has rows for {asked}; rows are there for {there}", *notes]
        )
        raise BadInput(f"nothing to draw: {reason}")
    column = "distortion" if distortion == "nll" else distortion
    points = rows.groupby(_SERIES, as_index=False).agg(
        architecture=("architecture", "first"),
        latents=("latents", "first"),
        protocol=("protocol", "first"),
        train_sigma2=("train_sigma2", "first"),
        rate=("rate", "mean"),
        rate_low=("rate", "min"),
        rate_high=("rate", "max"),
        value=(column, "mean"),
        value_low=(column, "min"),
        value_high=(column, "max"),
        runs=("run_id", "nunique"),
    )
    return points, notes


def _by_default(objective: str, sigma: str) -> bool:
    if sigma.startswith(CONSTANT):  # it is there because somebody asked for it
        return True
    return sigma in DEFAULT_SIGMAS.get(objective, DEFAULT_SIGMAS_ELSEWHERE)
