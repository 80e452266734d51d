"""Which rows of the results are compared or drawn: selections that count what they leave out."""

from collections.abc import Sequence

import pandas as pd

from rdkit_vae.errors import BadInput
from rdkit_vae.scoring.interpretations import CONSTANT
from rdkit_vae.text import counted, few
from rdvae_analysis.sound import sound_rows

# What is drawn unless the user asks: the readings that the paper compares, and the honest one.
DEFAULT_SIGMAS = {"constant": ("half", "beta-half", "optimal", "shared")}
DEFAULT_SIGMAS_ELSEWHERE = ("optimal", "shared")
# What `rd_points` needs of the results: they are read in half the time.
POINT_COLUMNS = (
    *("run_id", "dataset", "curve", "setup", "objective", "sigma", "beta", "seed", "split"),
    *("architecture", "latents", "protocol", "train_sigma2", "dims", "epoch", "epochs", "status"),
    *("rate", "distortion", "mse", "psnr"),
)
# What `final_rows` needs.
RUN_COLUMNS = (
    *("run_id", "dataset", "curve", "setup", "objective", "train_sigma2", "beta", "seed"),
    *("epoch", "epochs", "status"),
)
_SERIES = ["dataset", "curve", "objective", "sigma", "beta"]


def final_rows(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of each finished run's last checkpoint, and in words what was left out.

    All rows of a run that diverged, crashed or has not come to its last epoch are left out, and so
    are rows with values that cannot be (`sound_rows`). Runs that differ only in where they wrote
    checkpoints are the same models: they count once, and lie on one curve.

    Raises:
        BadInput: the table lacks a column of `RUN_COLUMNS`.
    """
    frame, notes = sound_rows(frame, RUN_COLUMNS)
    last = frame[(frame["status"] == "ok") & (frame["epoch"] == frame["epochs"])]
    frame = frame[~frame["run_id"].isin(last["run_id"])]
    for failed in ("diverged", "crashed"):
        runs = sorted(frame.loc[frame["status"] == failed, "run_id"].unique())
        if len(runs):
            notes.append(f"left out {counted(len(runs), 'run')} that {failed}: {few(runs)}")
        frame = frame[~frame["run_id"].isin(runs)]
    unfinished = sorted(set(frame["run_id"]))
    if unfinished:
        runs_left = counted(len(unfinished), "run")
        notes.append(f"left out {runs_left} not finished: {few(unfinished)}")
    last, twice = _once(last)
    return last, [*notes, *twice]


def comparable(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of runs whose setup is known, and in words how many others there are."""
    loose = rows["setup"].isna()
    if not loose.any():
        return rows, []
    count = counted(rows.loc[loose, "run_id"].nunique(), "run")
    return rows[~loose], [f"left out {count} whose setup is not known"]


def setups_in_words(rows: pd.DataFrame) -> list[str]:
    """Where there are several setups, a line for each that says what it is."""
    firsts = rows.drop_duplicates(["dataset", "setup"])
    if len(firsts) < 2:
        return []
    return [
        f"setup {r.setup}: {r.dataset}, {r.architecture}, {r.latents} latents, {r.epochs} epochs, "
        f"protocol {r.protocol}"
        for r in firsts.itertuples()
    ]


def _once(last: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Each model once, and models of one setup, objective and C on one curve."""
    line = ["dataset", "setup", "objective", "train_sigma2"]
    known = last["setup"].notna()
    curves = last["curve"].to_numpy(dtype=object, copy=True)
    first = last[known].groupby(line, dropna=False)["curve"].transform("first")
    curves[known.to_numpy()] = first.to_numpy()
    last = last.assign(curve=curves)
    runs = last[known].drop_duplicates("run_id")
    again = set(runs.loc[runs.duplicated([*line, "beta", "seed"]), "run_id"])
    if not again:
        return last, []
    note = (
        f"left out {counted(len(again), 'run')} that differ from others only in their checkpoints"
    )
    return last[~last["run_id"].isin(again)], [f"{note}: {few(sorted(again))}"]


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
    column = "distortion" if distortion == "nll" else distortion
    # What the other columns hold is no reason to leave out a row.
    there = frame[[name for name in POINT_COLUMNS if name in frame]]
    sound, notes = sound_rows(there, (*RUN_COLUMNS, "split", "sigma", "dims", "rate", column))
    sound = sound.reindex(columns=list(POINT_COLUMNS))  # others only tell curves apart
    finished, left_out = final_rows(sound)
    notes += left_out
    rows = finished[finished["split"] == split]
    rows = rows[rows["objective"].isin(objectives)] if objectives else rows
    rows, missing = _read_with(rows, distortion, sigmas)
    notes += missing
    if rows.empty:
        asked = ", ".join([*objectives, *sigmas, split])
        raise BadInput("; ".join([f"nothing to draw: {_not_there(finished, asked)}", *notes]))
    points = rows.groupby(_SERIES, as_index=False).agg(
        architecture=("architecture", "first"),
        latents=("latents", "first"),
        protocol=("protocol", "first"),
        train_sigma2=("train_sigma2", "first"),
        epochs=("epochs", "first"),
        dims=("dims", "first"),
        rate=("rate", "mean"),
        rate_low=("rate", "min"),
        rate_high=("rate", "max"),
        value=(column, "mean"),
        value_low=(column, "min"),
        value_high=(column, "max"),
        runs=("run_id", "nunique"),
    )
    return points, notes


def _read_with(
    rows: pd.DataFrame, distortion: str, sigmas: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """The rows of the readings that are drawn, and in words which of those asked for have none."""
    if distortion != "nll":
        # The same under every interpretation: one of them stands for all, without its name.
        return rows[rows["sigma"] == "optimal"].assign(sigma=""), []
    if not sigmas:
        return rows[_by_default(rows)], []
    rows = rows[rows["sigma"].isin(sigmas)]
    missing = [sigma for sigma in sigmas if sigma not in set(rows["sigma"])]
    return rows, [f"no rows of {', '.join(missing)}; rdvae rescore makes them"] if missing else []


def _not_there(finished: pd.DataFrame, asked: str) -> str:
    """Says what was asked for, and what there is of the finished runs."""
    if finished.empty:
        return "no run has finished"
    names = (", ".join(dict.fromkeys(finished[name])) for name in ("sigma", "objective"))
    return f"no finished run has rows for {asked}; rows are there for {' of '.join(names)}"


def _by_default(rows: pd.DataFrame) -> "pd.Series[bool]":
    asked_for = rows["sigma"].str.startswith(CONSTANT)  # it is there because somebody named it
    chosen = rows["sigma"].isin(DEFAULT_SIGMAS_ELSEWHERE)
    for objective, sigmas in DEFAULT_SIGMAS.items():
        chosen = chosen.mask(rows["objective"] == objective, rows["sigma"].isin(sigmas))
    return asked_for | chosen
