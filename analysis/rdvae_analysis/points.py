"""Which rows of the results are compared or drawn: selections that count what they leave out."""

from collections.abc import Sequence

import pandas as pd

from rdkit_vae.errors import BadInput
from rdkit_vae.objectives.losses import objective_name
from rdkit_vae.scoring.interpretations import CONSTANT
from rdkit_vae.store.schema import Status
from rdkit_vae.text import counted, few
from rdvae_analysis.names import ELSEWHERE, objective_of_model
from rdvae_analysis.sound import Mask, from_elsewhere, is_in, sound_rows

# Interpretations drawn by default: those that the paper compares, and `shared`, a density.
DEFAULT_SIGMAS = {"constant": ("half", "beta-half", "optimal", "shared")}
DEFAULT_SIGMAS_OTHERS = ("optimal", "shared")
# Most models from elsewhere were trained with a constant variance; `half` and `beta-half` are what
# their losses claim, as far as beta is known.
DEFAULT_SIGMAS_OF_MODELS = DEFAULT_SIGMAS["constant"]
# The columns that `rd_points` uses; reading only these takes half the time.
POINT_COLUMNS = (
    *("run_id", "dataset", "curve", "setup", "objective", "sigma", "beta", "seed", "split"),
    *("model", "architecture", "latents", "protocol", "train_sigma2", "dims"),
    *("epoch", "epochs", "status"),
    *("rate", "distortion", "mse", "psnr"),
)
# The columns that `final_rows` needs.
RUN_COLUMNS = (
    *("run_id", "dataset", "curve", "setup", "objective", "train_sigma2", "beta", "seed"),
    *("epoch", "epochs", "status"),
)
_SERIES = ["dataset", "curve", "objective", "sigma", "beta"]


def final_rows(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of each finished run's last checkpoint.

    Leaves out all rows of runs that diverged, crashed or have not reached their last epoch, and
    rows with invalid values (`sound_rows`). Runs that differ only in when they wrote checkpoints
    are the same models: they count once, and lie on one curve. Models from elsewhere are named
    (`with_models_named`).

    Args:
        frame: results, as `load_results` returns them.

    Returns:
        The rows, and a note on each kind of row or run that was left out.

    Raises:
        BadInput: the table lacks a column of `RUN_COLUMNS`.
    """
    frame, notes = sound_rows(frame, RUN_COLUMNS)
    rows, left_out = last_checkpoints(frame)
    return rows, [*notes, *left_out]


def last_checkpoints(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """`final_rows` of rows that `sound_rows` has already checked."""
    notes = []
    last = rows[is_in(rows["status"], (Status.OK,)) & (rows["epoch"] == rows["epochs"])]
    runs = rows[["run_id", "status"]].drop_duplicates()
    runs = runs[~runs["run_id"].isin(last["run_id"].unique())]
    for failure in (Status.DIVERGED, Status.CRASHED):
        failed = sorted(runs.loc[runs["status"] == failure, "run_id"])
        if failed:
            notes.append(f"left out {counted(len(failed), 'run')} that {failure}: {few(failed)}")
        runs = runs[~runs["run_id"].isin(failed)]
    unfinished = sorted(set(runs["run_id"]))
    if unfinished:
        count = counted(len(unfinished), "run")
        notes.append(f"left out {count} not finished: {few(unfinished)}")
    last, repeats = _each_model_once(with_models_named(last))
    return last, [*notes, *repeats]


def with_models_named(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in which a model from elsewhere has its name where others have an objective.

    Its objective is not known, and its setup is its own; so `objective` becomes the name of the
    model (`names.objective_of_model`; with the end of its run_id where two models have one name),
    and `setup` becomes `names.ELSEWHERE` for all of them. All figures and tables rely on that.
    """
    elsewhere = from_elsewhere(rows)
    if "model" not in rows or not elsewhere.any():
        return rows
    models = rows[elsewhere]
    same_name = models.groupby(["dataset", "model"])["run_id"].transform("nunique") > 1
    names = [
        objective_of_model(f"{name} ({run_id.rpartition('-')[2]})" if several else str(name))
        for name, run_id, several in zip(models["model"], models["run_id"], same_name, strict=True)
    ]
    objectives = pd.Series(names, index=models.index)
    return rows.assign(
        objective=rows["objective"].mask(elsewhere, objectives),
        setup=rows["setup"].mask(elsewhere, ELSEWHERE),
    )


def without_models(rows: pd.DataFrame, left_out: Mask, why: str) -> tuple[pd.DataFrame, list[str]]:
    """The rows without some of models from elsewhere, and a note on how many models these are.

    Args:
        rows: results.
        left_out: which rows to leave out.
        why: they are left out, for the note.
    """
    if not left_out.any():
        return rows, []
    count = counted(rows.loc[left_out, "run_id"].nunique(), "model")
    return rows[~left_out], [f"left out {count} from elsewhere, {why}"]


def with_beta(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows that have a place on an axis of beta, and a note on the models without one."""
    return without_models(rows, rows["beta"].isna().to_numpy(), "whose beta is not known")


def comparable(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of runs whose setup is known, and a note on how many others there are.

    A setup is all that trials have in common apart from objective, beta, variance and seed; results
    of old versions do not record it.
    """
    unknown = rows["setup"].isna()
    if not unknown.any():
        return rows, []
    count = counted(rows.loc[unknown, "run_id"].nunique(), "run")
    return rows[~unknown], [f"left out {count} whose setup is not known"]


def setups_in_words(rows: pd.DataFrame) -> list[str]:
    """A line that describes each setup; none if there is only one."""
    rows = with_models_named(rows)
    setups = rows.groupby(["dataset", "setup"], sort=False)
    if setups.ngroups < 2:
        return []
    return [
        f"setup {setup}: {dataset}, {_setup_in_words(part)}" for (dataset, setup), part in setups
    ]


def _setup_in_words(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    if first["setup"] == ELSEWHERE:
        return f"{counted(rows['run_id'].nunique(), 'model')} that rdvae did not train"
    return (
        f"{first['architecture']}, {first['latents']} latents, {first['epochs']} epochs, "
        f"protocol {first['protocol']}"
    )


def _each_model_once(last: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Keeps one run per model, and puts models of one setup, objective and C on one curve."""
    line = ["dataset", "setup", "objective", "train_sigma2"]
    runs = last.drop_duplicates("run_id")
    runs = runs[runs["setup"].notna()]
    first = runs.groupby(line, dropna=False)["curve"].transform("first")
    moved = (first != runs["curve"]).to_numpy()
    if moved.any():
        curve_of = dict(zip(runs.loc[moved, "run_id"], first[moved], strict=True))
        curves = last["run_id"].map(curve_of).where(last["setup"].notna())
        last = last.assign(curve=curves.fillna(last["curve"]))
    repeated = set(runs.loc[runs.duplicated([*line, "beta", "seed"]), "run_id"])
    if not repeated:
        return last, []
    count = counted(len(repeated), "run")
    names = few(sorted(repeated))
    return last[~is_in(last["run_id"], repeated)], [
        f"left out {count} with the settings of another run except for checkpoints: {names}"
    ]


def rd_points(
    frame: pd.DataFrame,
    *,
    distortion: str = "nll",
    split: str = "test",
    sigmas: Sequence[str] = (),
    objectives: Sequence[str] = (),
) -> tuple[pd.DataFrame, list[str]]:
    """The points of rate-distortion curves: means over seeds, with the range of the seeds.

    Args:
        frame: results, as `load_results` returns them.
        distortion: `nll` (column distortion, nats per image), `mse` (squared pixel) or `psnr` (dB).
        split: `train` or `test`.
        sigmas: interpretations; by default those of `DEFAULT_SIGMAS`.
        objectives: training objectives, by name or alias; by default all.

    Returns:
        A row per dataset, curve, interpretation ("" for mse and psnr) and beta (NaN if it is not
        known), with `rate`,
        `rate_low`, `rate_high` (nats per image), `value`, `value_low`, `value_high` (the
        distortion), `runs` (how many) and the settings that distinguish curves; and notes on what
        was left out.

    Raises:
        BadInput: nothing is left to draw, or sigmas are chosen for `mse` or `psnr`.
    """
    if distortion != "nll" and sigmas:
        raise BadInput(f"{distortion} is the same under every sigma: choose no sigma with it")
    column = "distortion" if distortion == "nll" else distortion
    # Bad values in columns that are not used are no reason to leave out a row.
    used = frame[[name for name in POINT_COLUMNS if name in frame]]
    sound, notes = sound_rows(used, (*RUN_COLUMNS, "split", "sigma", "dims", "rate", column))
    sound = sound.reindex(columns=list(POINT_COLUMNS))  # the rest only distinguishes curves
    finished, left_out = last_checkpoints(sound)
    notes += left_out
    rows = finished[finished["split"] == split]
    names = [objective_name(name) for name in objectives]
    rows = rows[is_in(rows["objective"], names)] if names else rows
    rows, missing = _with_sigmas(rows, distortion, sigmas)
    notes += missing
    if rows.empty:
        asked = ", ".join([*objectives, *sigmas, split])
        raise BadInput("; ".join([f"nothing to draw: {_why_none(finished, asked)}", *notes]))
    points = rows.groupby(_SERIES, as_index=False, dropna=False).agg(
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


def _with_sigmas(
    rows: pd.DataFrame, distortion: str, sigmas: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """The rows of the interpretations to draw, and a note on those asked for that have none."""
    if distortion != "nll":
        # The same under every interpretation: the rows of one stand for all, without its name.
        return rows[rows["sigma"] == "optimal"].assign(sigma=""), []
    if not sigmas:
        return rows[_by_default(rows)], []
    rows = rows[is_in(rows["sigma"], sigmas)]
    missing = [sigma for sigma in sigmas if sigma not in set(rows["sigma"])]
    return rows, [f"no rows of {', '.join(missing)}; rdvae rescore makes them"] if missing else []


def _why_none(finished: pd.DataFrame, asked: str) -> str:
    """Says that nothing matches what was asked for, and what the finished runs do have."""
    if finished.empty:
        return "no run has finished"
    names = (", ".join(dict.fromkeys(finished[name])) for name in ("sigma", "objective"))
    return f"no finished run has rows for {asked}; rows are there for {' of '.join(names)}"


def _by_default(rows: pd.DataFrame) -> "pd.Series[bool]":
    named = [s for s in rows["sigma"].unique() if s.startswith(CONSTANT)]  # somebody asked for it
    chosen = pd.Series(is_in(rows["sigma"], DEFAULT_SIGMAS_OTHERS), index=rows.index)
    for objective, sigmas in DEFAULT_SIGMAS.items():
        chosen = chosen.mask(rows["objective"] == objective, is_in(rows["sigma"], sigmas))
    chosen = chosen.mask(from_elsewhere(rows), is_in(rows["sigma"], DEFAULT_SIGMAS_OF_MODELS))
    return chosen | is_in(rows["sigma"], named)
