"""What a report says in plain words: what was trained, what is a density, what the curves say."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from rdkit_vae.errors import BadInput
from rdkit_vae.text import counted
from rdvae_analysis import matched
from rdvae_analysis.consistency import spread
from rdvae_analysis.curves import COLLAPSED, TRAINING_SIGMA, slopes
from rdvae_analysis.deltas import Delta, bjontegaard
from rdvae_analysis.matched import constant_curve
from rdvae_analysis.names import (
    in_order,
    interpretation_name,
    model_name,
    models_in_order,
    objective_name,
    short,
)

_BASELINE = "constant"
_READINGS = ("shared", "mixture", "optimal")  # those that are densities first


def answers(rows: pd.DataFrame) -> list[str]:
    """What came out, in sentences.

    Args:
        rows: of one setup, split, and of last checkpoints.
    """
    return [*best(rows), *deltas(rows), claims(rows)]


def remarks(rows: pd.DataFrame, split: str) -> list[str]:
    """What a reader of the answers may ask next, in sentences.

    Args:
        rows: of one setup and of last checkpoints, both splits.
        split: the one that is compared.
    """
    here = rows[rows["split"] == split]
    return [densities(here), training(rows), *missing_deltas(here)]


def trained(rows: pd.DataFrame) -> str:
    """What was trained, on what."""
    first = rows.iloc[0]
    betas = sorted(rows["beta"].unique())
    span = f"{len(betas)} values of β from {short(betas[0])} to {short(betas[-1])}"
    span = span if len(betas) > 1 else f"β = {short(betas[0])}"
    models = ", ".join(models_in_order(rows["objective"], rows["train_sigma2"]))
    return (
        f"{counted(rows['run_id'].nunique(), str(first['architecture']) + ' model')} with "
        f"{counted(int(first['latents']), 'latent')}, trained on {first['dataset']} for "
        f"{counted(int(first['epochs']), 'epoch')} (protocol {first['protocol']}): {models}; "
        f"{span}, {counted(rows['seed'].nunique(), 'seed')}. Evaluated on "
        f"{counted(int(first['n_images']), 'image')} with "
        f"{counted(int(first['n_draws']), 'posterior draw')} each."
    )


def densities(rows: pd.DataFrame) -> str:
    """Which of the readings are densities."""
    kinds = rows.groupby("sigma", sort=False)["is_density"].all()
    yes, no = ([str(s) for s in kinds.index[kinds == is_one]] for is_one in (True, False))
    words = []
    if yes:
        words.append(f"Normalised densities p(x|z), whose ELBO bounds log p(x): {', '.join(yes)}.")
    if no:
        words.append(
            f"{', '.join(no)} looks at the image it scores, so its ELBO bounds nothing: it is the "
            "highest that any single variance could reach."
        )
    return " ".join(words)


def claims(rows: pd.DataFrame) -> str:
    """How far the readings of the same weights lie apart."""
    apart = spread(rows)["spread"]
    if _nats(apart.min()) == _nats(apart.max()):
        return (
            "The same weights, read differently, claim ELBOs that lie "
            f"{_nats(apart.max())} nats apart."
        )
    return (
        f"The same weights, read differently, claim ELBOs that lie {_nats(apart.min())} to "
        f"{_nats(apart.max())} nats apart (in the median {_nats(apart.median())})."
    )


def _nats(value: float) -> str:
    return f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.2g}"


def best(rows: pd.DataFrame) -> Iterator[str]:
    """The best model of each objective, under readings that are fitted alike to all."""
    table = matched.best(rows)
    for sigma in _READINGS:
        part = table[table["sigma"] == sigma]
        if part.empty:
            continue
        ranked = part.sort_values("elbo", ascending=False)
        words = [
            f"{model_name(row.objective, row.train_sigma2)} {row.elbo:,.1f} (β = {short(row.beta)})"
            for row in ranked.itertuples()
        ]
        yield f"Best ELBO read with {interpretation_name(sigma)}: {'; '.join(words)} nats."


def deltas(rows: pd.DataFrame) -> Iterator[str]:
    """Each objective against constant variance after Bjøntegaard, where that can be said."""
    for name, base, psnr in _deltas(rows):
        if isinstance(psnr, BadInput):
            continue
        more = "more" if psnr.rate > 0 else "less"
        low, high = sorted(-value for value in psnr.distortions)
        left_out = f" ({'; '.join(psnr.notes)})" if psnr.notes else ""
        yield (
            f"At equal PSNR, {name} needs {abs(psnr.rate):.1f}% {more} rate than {base} "
            f"(Bjøntegaard delta over {low:.1f} to {high:.1f} dB); at equal rate its PSNR is "
            f"{-psnr.distortion:+.2f} dB{left_out}."
        )


def missing_deltas(rows: pd.DataFrame) -> Iterator[str]:
    """Why the others are not compared with constant variance at equal PSNR."""
    for name, base, psnr in _deltas(rows):
        if isinstance(psnr, BadInput):
            yield f"{name} is not compared with {base} at equal PSNR, as {psnr}."


def _deltas(rows: pd.DataFrame) -> Iterator[tuple[str, str, Delta | BadInput]]:
    """The names of each objective and of constant variance, and the delta or why there is none."""
    base = constant_curve(rows)
    if base.empty:
        return
    name_of_base = model_name(_BASELINE, float(base["train_sigma2"].iloc[0]))
    for objective in in_order(rows["objective"]):
        if objective == _BASELINE:
            continue
        test = rows[rows["objective"] == objective]
        try:
            psnr = bjontegaard(_mean(base, "psnr"), _mean(test, "psnr"), "less_psnr")
        except BadInput as error:
            yield objective_name(objective), name_of_base, error
        else:
            yield objective_name(objective), name_of_base, psnr


def training(rows: pd.DataFrame) -> str:
    """How well the slope of each curve agrees with beta, on the images that were trained on."""
    rows = rows[rows["split"] == "train"]
    inner, models = [], 0
    for (objective, _, _), part in rows.groupby(["objective", "curve", "seed"]):
        own = part[part["sigma"] == TRAINING_SIGMA.get(str(objective))]
        models += len(own)
        curve, _ = slopes(own[own["rate"] >= COLLAPSED])
        inner.append(curve.dropna(subset="slope"))
    judged = pd.concat(inner) if inner else pd.DataFrame()
    if judged.empty:
        return "Too few models lie on a curve to compare its slope with β."
    between = int(judged["beta"].between(judged["flatter"], judged["steeper"]).sum())
    off = np.exp(np.abs(np.log(judged["slope"] / judged["beta"])))
    return (
        "On an optimal curve the slope -dD/dR is β (train split, under the variance of training), "
        "and β lies between the slopes towards its two neighbours. Here it does for "
        f"{between} of {counted(len(judged), 'model')}; the slope between them is off by a factor "
        f"of {off.median():.2f} in the median and {off.max():.1f} at most. Where it is far off, "
        "training had not converged, or the models do not reach their optimum. Not judged: "
        f"{models - len(judged)} that are collapsed, at an end of their curve, or beaten by others."
    )


def _mean(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """The curve of one objective, seeds averaged; of PSNR its negative, so that less is better."""
    one = rows.drop_duplicates("run_id")  # rate and PSNR are the same under each reading
    means = one.groupby("beta", as_index=False)[["rate", column]].mean()
    return means.assign(**{f"less_{column}": -means[column]})
