"""The sentences of a report: what was trained, what came out, and how to interpret it."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from rdkit_vae.errors import BadInput
from rdkit_vae.text import counted
from rdvae_analysis import matched
from rdvae_analysis.consistency import spread
from rdvae_analysis.curves import COLLAPSED, TRAINING_SIGMA, slopes
from rdvae_analysis.deltas import Delta, bjontegaard
from rdvae_analysis.implied import implied_table
from rdvae_analysis.matched import constant_curve
from rdvae_analysis.names import (
    ELSEWHERE,
    in_order,
    interpretation_name,
    model_name,
    models_in_order,
    objective_name,
    short,
)

_BASELINE = "constant"
_COMPARED = ("shared", "mixture", "student", "optimal")  # densities first


def answers(rows: pd.DataFrame) -> list[str]:
    """The results, in sentences.

    Args:
        rows: results of last checkpoints, of one setup and split.
    """
    return [*best(rows), *deltas(rows), claims(rows)]


def remarks(rows: pd.DataFrame, split: str) -> list[str]:
    """How to interpret the results, in sentences.

    Args:
        rows: results of last checkpoints of one setup, on both splits.
        split: the one that is compared.
    """
    here = rows[rows["split"] == split]
    if (here["setup"] == ELSEWHERE).all():  # they are on no curve
        return [densities(here), *weights(here)]
    return [densities(here), training(rows), *missing_deltas(here), *weights(here)]


def weights(rows: pd.DataFrame) -> Iterator[str]:
    """What weights say about the beta of their model, where that was measured."""
    for row in implied_table(rows).itertuples():
        number = f"β = {row.implied_beta:.3g}"
        if np.isnan(row.implied_beta):
            number = f"β σ² = {row.implied_tau:.3g}"
        claim = "" if np.isnan(row.beta) else f", claimed β = {short(row.beta)}"
        yield f"Read back from the weights of {row.model}: {number}{claim}: {row.verdict}."


def others_drawn(rows: pd.DataFrame) -> Iterator[str]:
    """Which models from elsewhere the charts of a section show.

    Args:
        rows: of the charts.
    """
    elsewhere = rows[rows["setup"] == ELSEWHERE].drop_duplicates("run_id")
    if len(elsewhere) and not (rows["setup"] == ELSEWHERE).all():
        count = counted(len(elsewhere), "model")
        yield f"The charts also show {count} from elsewhere, on the same images."
    unknown = int(elsewhere["beta"].isna().sum())
    if unknown:
        yield (
            f"Left out of the chart of ELBO against β: {counted(unknown, 'model')} from elsewhere, "
            "whose β is not known."
        )


def trained(rows: pd.DataFrame) -> str:
    """What was trained and evaluated, on which data."""
    first = rows.iloc[0]
    evaluated = (
        f"Evaluated on {counted(int(first['n_images']), 'image')} with "
        f"{counted(int(first['n_draws']), 'posterior sample')} each."
    )
    if first["setup"] == ELSEWHERE:
        models = ", ".join(models_in_order(rows["objective"], rows["train_sigma2"]))
        count = counted(rows["run_id"].nunique(), "model")
        return (
            f"{count} that rdvae did not train, on {first['dataset']}: {models}. They are "
            f"shown together but may have been trained differently. {evaluated}"
        )
    betas = sorted(rows["beta"].unique())
    span = f"{len(betas)} values of β from {short(betas[0])} to {short(betas[-1])}"
    span = span if len(betas) > 1 else f"β = {short(betas[0])}"
    models = ", ".join(models_in_order(rows["objective"], rows["train_sigma2"]))
    return (
        f"{counted(rows['run_id'].nunique(), str(first['architecture']) + ' model')} with "
        f"{counted(int(first['latents']), 'latent')}, trained on {first['dataset']} for "
        f"{counted(int(first['epochs']), 'epoch')} (protocol {first['protocol']}): {models}; "
        f"{span}, {counted(rows['seed'].nunique(), 'seed')}. {evaluated}"
    )


def densities(rows: pd.DataFrame) -> str:
    """Which of the interpretations are densities."""
    kinds = rows.groupby("sigma", sort=False)["is_density"].all()
    yes, no = ([str(s) for s in kinds.index[kinds == is_one]] for is_one in (True, False))
    words = []
    if yes:
        words.append(f"Normalised densities p(x|z), whose ELBO bounds log p(x): {', '.join(yes)}.")
    if no:
        words.append(
            f"The variance of {', '.join(no)} depends on the image it scores, so its ELBO does "
            "not bound a likelihood: it is the highest ELBO that any single variance could reach."
        )
    return " ".join(words)


def claims(rows: pd.DataFrame) -> str:
    """By how much the ELBOs of the same weights differ between interpretations."""
    spreads = spread(rows)["spread"]
    low, high = _nats(spreads.min()), _nats(spreads.max())
    nats = f"{high}" if low == high else f"{low} to {high}"
    median = "" if low == high else f" (median {_nats(spreads.median())})"
    return (
        "The ELBOs of the same weights under different interpretations differ by "
        f"{nats} nats{median}."
    )


def _nats(value: float) -> str:
    return f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.2g}"


def best(rows: pd.DataFrame) -> Iterator[str]:
    """The best model of each objective, under interpretations fitted to all in the same way."""
    table = matched.best(rows)
    for sigma in _COMPARED:
        part = table[table["sigma"] == sigma]
        if part.empty:
            continue
        ranked = part.sort_values("elbo", ascending=False)
        words = [
            f"{model_name(row.objective, row.train_sigma2)} {row.elbo:,.1f}{_beta(row.beta)}"
            for row in ranked.itertuples()
        ]
        yield f"Best ELBO under {interpretation_name(sigma)}: {'; '.join(words)} nats."


def _beta(beta: float) -> str:
    return "" if np.isnan(beta) else f" (β = {short(beta)})"


def deltas(rows: pd.DataFrame) -> Iterator[str]:
    """Each objective against constant variance, as Bjøntegaard deltas where they exist."""
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
    """Why objectives are not compared with constant variance at equal PSNR."""
    for name, base, psnr in _deltas(rows):
        if isinstance(psnr, BadInput):
            yield f"{name} is not compared with {base} at equal PSNR: {psnr}."


def _deltas(rows: pd.DataFrame) -> Iterator[tuple[str, str, Delta | BadInput]]:
    """The names of each objective and of constant variance, and the delta or why it is missing."""
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
    """How well the slope of each curve agrees with beta, on the train split."""
    rows = rows[rows["split"] == "train"]
    inner_points, models = [], 0
    for (objective, _, _), part in rows.groupby(["objective", "curve", "seed"]):
        own = part[part["sigma"] == TRAINING_SIGMA.get(str(objective))]
        models += len(own)
        curve, _ = slopes(own[own["rate"] >= COLLAPSED])
        inner_points.append(curve.dropna(subset="slope"))
    judged = pd.concat(inner_points) if inner_points else pd.DataFrame()
    if judged.empty:
        return "There are too few models on a curve to compare its slope with β."
    between = int(judged["beta"].between(judged["flatter"], judged["steeper"]).sum())
    ratio = np.exp(np.abs(np.log(judged["slope"] / judged["beta"])))
    return (
        "On an optimal curve the slope -dD/dR is β (train split, training variance), and β lies "
        "between the slopes towards both neighbours. Here this holds for "
        f"{between} of {counted(len(judged), 'model')}; slope and β differ by a factor of "
        f"{ratio.median():.2f} in the median and {ratio.max():.1f} at most. A large factor means "
        "that training had not converged or did not reach the optimum. Not judged: "
        f"{models - len(judged)} models that collapsed, lie at an end of their curve, or are worse "
        "than others in both rate and distortion."
    )


def _mean(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """The curve of one objective, averaged over seeds, with the negative of `column` added."""
    one = rows.drop_duplicates("run_id")  # rate and PSNR do not depend on the interpretation
    means = one.groupby("beta", as_index=False)[["rate", column]].mean()
    return means.assign(**{f"less_{column}": -means[column]})
