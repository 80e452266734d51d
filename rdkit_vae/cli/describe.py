"""`rdvae describe`."""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.cli import terminal
from rdkit_vae.cli.checkpoints import measuring_of, with_measuring_options
from rdkit_vae.cli.foreign import foreign_lines, reconstruction_option
from rdkit_vae.cli.options import Runs, measured_in_words, student_in_words
from rdkit_vae.config.foreign import ForeignModel, units_of
from rdkit_vae.errors import BadInput
from rdkit_vae.scoring.interpretations import UNBOUNDED
from rdkit_vae.text import are, counted, few

if TYPE_CHECKING:
    from rdkit_vae.config.foreign import Subject
    from rdkit_vae.config.trial import Trial
    from rdkit_vae.evaluation.checkpoints import Measuring
    from rdkit_vae.store.evaluations import Evaluation

_FAR = 0.05  # relative difference of an implied beta from the trial's that is reported
_MOST_UNITS = 64  # lines of the table of units
_SATURATED = 0.9  # share of the upper limit log n above which information is called near it


@click.command("describe")
@click.argument("checkpoint", type=Runs())
@with_measuring_options
@click.option(
    "--implied-weight",
    "implied",
    is_flag=True,
    help="Also read the weight of the KL back from the weights; needs the images.",
)
@reconstruction_option("sse", "Loss for --implied-weight")
@click.option(
    "--priors",
    is_flag=True,
    help="Also fit priors to the posteriors and show the rate under each; needs the images.",
)
@click.option(
    "--folds",
    type=click.IntRange(2, 100),
    help="With --priors: also score train posteriors that the priors were not fitted to, by "
    "cross-validation with so many folds.",
)
def command(
    checkpoint: Path,
    implied: bool,
    reconstruction: str,
    priors: bool,
    folds: int | None,
    **options: Any,
) -> None:
    """Show one CHECKPOINT in detail.

    Shows its likelihood under every interpretation of the decoder variance, its tightest bounds,
    and where its rate goes.

    \b
    rdvae describe runs/NAME/checkpoints/RUN/epoch=00025.pt
    rdvae describe --draws 64 model.pt
    rdvae describe --implied-weight model.pt
    rdvae describe --priors --folds 5 runs/NAME/checkpoints/RUN/epoch=00025.pt
    rdvae describe runs/mine  (a folder with one model from elsewhere)
    """
    if folds and not priors:
        raise click.UsageError("--folds needs --priors")
    from rdkit_vae.evaluation.checkpoints import evaluation_of
    from rdkit_vae.store.models import models_below

    checkpoint = _only(checkpoint, models_below(checkpoint))
    measuring = measuring_of(**options)
    with terminal.busy(f"evaluating {checkpoint}"):
        evaluation = evaluation_of(checkpoint, measuring)
    click.echo(f"{checkpoint}\n{_head(evaluation)}\n")
    for part in (_interpretations, _betas, _rates, _units):
        click.echo(part(evaluation) + "\n")
    if implied:
        trial = evaluation.trial
        if isinstance(trial, ForeignModel):
            raise BadInput(
                "the model is not in the folder: score it with rdvae rescore --adapter and "
                "--reconstruction, and its folder will have the weight of the KL"
            )
        with terminal.busy(f"reading the weight of the KL from {checkpoint}"):
            text = _implied(checkpoint, trial, measuring, reconstruction)
        click.echo(text + "\n")
    if priors:
        if isinstance(evaluation.trial, ForeignModel):
            raise BadInput(
                "the model is not in the folder: rdvae generation --adapter --prior all --out "
                "FOLDER fits priors to it"
            )
        click.echo(_priors(checkpoint, measuring, folds or 0) + "\n")


def _priors(checkpoint: Path, measuring: "Measuring", folds: int) -> str:
    """The rate under each prior, whose rows are stored in the sweep."""
    import pandas as pd

    from rdkit_vae.generation.checkpoints import Asked, Measurer, model_of
    from rdkit_vae.scoring.priors import PRIORS
    from rdkit_vae.store.paths import sweep_around
    from rdkit_vae.system.devices import choose_device
    from rdvae_analysis.tables import to_text

    measuring = replace(measuring, device=choose_device(measuring.device))
    with terminal.reporting() as report:
        measurer = Measurer(asked=Asked(), report=report)
        model = model_of(checkpoint, measuring)
        rows = measurer.prior_rates(model, sweep_around(checkpoint), list(PRIORS), folds)
    first, frame = rows[0], pd.DataFrame(rows)
    frame["at most"] = frame["is_bound"].map({True: "yes", False: "no"})
    held_out = ["rate_held_out"] if folds else []
    shown = ["prior", "rate", "rate_se", "at most", "rate_fitted", *held_out]
    lines = [
        f"What z costs under other priors: E_q[log q(z|x) - log r(z)] of {first['n_images']:,} "
        "test images, nats",
        to_text(frame[[*shown, "bits_per_dim", "bits_per_latent"]]),
        f"  fitted to {rows[-1]['n_fitted']:,} train posteriors, whose rate is rate_fitted",
        *(f"  {row['prior']}: {row['note']}" for row in rows if row["note"]),
    ]
    return "\n".join(lines)


def _only(path: Path, models: list[Path]) -> Path:
    if len(models) != 1:
        which = f"; give one of {few(map(str, models))}" if models else ""
        raise BadInput(f"{path} holds {counted(len(models), 'model')}{which}")
    return models[0]


def _implied(checkpoint: Path, trial: "Trial", measuring: "Measuring", reconstruction: str) -> str:
    """The weight of the KL that the model's weights imply."""
    from rdkit_vae.evaluation.implied import implied_weight_of

    weight = implied_weight_of(checkpoint, measuring, reconstruction)
    title = f"Weight of the KL read back from the weights (reconstruction {reconstruction})"
    if math.isnan(weight.tau):
        return f"{title}\n  cannot be read: no latent is active"
    active = sum(not math.isnan(value) for value in weight.per_latent)
    lines = [title]
    if reconstruction == "sse":
        lines.append(
            f"  beta x s2 = {weight.tau:.4g} (se {weight.standard_error:.2g}): beta = "
            f"{weight.beta:.4g} with the training variance, {weight.beta_at_half:.4g} with 1/2; "
            f"the trial has beta = {trial.beta:g}"
        )
    else:
        lines.append(f"  beta = {weight.beta:.4g} (se {weight.standard_error:.2g})")
    error = weight.standard_error * weight.beta / weight.tau
    far = abs(weight.beta - trial.beta) > max(3 * error, _FAR * trial.beta)
    if active == 1:
        lines.append("  only one latent is active, so it cannot be told whether latents agree")
    elif weight.converged:
        lines.append(f"  the {active} active latents agree within their errors")
    else:
        lines.append(
            f"  the {active} active latents differ by {100 * weight.scatter:.0f}%: training had "
            "not converged, or a different loss was used"
        )
    if reconstruction == "sse" and far:
        lines.append("  this is not the beta of the trial: training had not converged")
    return "\n".join(lines)


def _head(evaluation: "Evaluation") -> str:
    from rdkit_vae.objectives.losses import OBJECTIVES

    trial, test = evaluation.trial, evaluation.statistics["test"]
    if isinstance(trial, ForeignModel):
        lines = (
            f"{trial.run_id}, a model from elsewhere, on {trial.dataset}",
            f"{counted(trial.latents, 'latent')} ({_shapes(trial)}), D = {test.dims}; "
            f"{measured_in_words(evaluation)}",
            *foreign_lines(evaluation),
        )
        return "\n".join(f"  {line}" for line in lines)
    variance = "" if trial.train_sigma2 is None else f", C = {trial.train_sigma2:g}"
    objective = OBJECTIVES.get(trial.objective)
    options = "".join(f", {name} = {value}" for name, value in trial.options)
    return (
        f"  {trial.run_id}, epoch {evaluation.epoch} of {trial.epochs}, step {evaluation.step}\n"
        f"  trained on {trial.dataset} with {trial.objective} "
        f"({objective.about if objective else 'a loss of your own'}), "
        f"beta = {trial.beta:g}{variance}\n"
        f"  {trial.architecture}{options}, {counted(trial.latents, 'latent')}, D = {test.dims}; "
        f"{measured_in_words(evaluation)}\n"
        f"  SHA-256 {evaluation.checkpoint_sha256}"
    )


def _shapes(model: ForeignModel) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in model.latent_shapes)


def _interpretations(evaluation: "Evaluation") -> str:
    """The ELBO under every interpretation, and the tightest bound where there is one."""
    import pandas as pd

    from rdkit_vae.scoring.bounds import iwae_of_all
    from rdkit_vae.scoring.scores import interpret, score_one
    from rdvae_analysis.tables import to_text

    rows, mse, notes = [], {}, []
    for each in interpret(evaluation.statistics, evaluation.trial):
        score = score_one(each, evaluation.trial)
        mse[score.split] = score.mse
        if score.nu is not None:
            notes.append(f"  {student_in_words(score.sigma, score.nu)}")
        if UNBOUNDED in score.caveat:
            notes.append(f"  {score.sigma}: {UNBOUNDED}")
        row = {name: getattr(score, name) for name in ("split", "sigma", "sigma2", "distortion")}
        row |= {"density": "yes" if score.is_density else "no", "elbo": score.elbo}
        row["se"] = score.elbo_se
        tightest = iwae_of_all(each.nll, each.statistics.log_ratio).value
        row[f"iwae-{score.n_draws}"] = tightest if score.is_density else math.nan
        rows.append(row | {"bits_per_dim": score.bits_per_dim})
    title = (
        "Nats per image, by interpretation of the variance; bits_per_dim is of the elbo; "
        f"mse {mse['test']:.4g} test, {mse['train']:.4g} train"
    )
    return "\n".join([title, to_text(pd.DataFrame(rows)), *dict.fromkeys(notes)])


def _betas(evaluation: "Evaluation") -> str:
    from rdkit_vae.objectives.losses import OBJECTIVES
    from rdkit_vae.scoring.scores import score
    from rdvae_analysis.theory import implied_beta

    trial = evaluation.trial
    if trial.beta is None:
        return "Its beta is not known, so no other betas follow from it"
    shared = score(evaluation.statistics, trial, sigmas=["shared"])[-1]
    implied = implied_beta(shared.sigma2, dims=shared.dims, rate=shared.rate)
    c = trial.train_sigma2
    sigma2, variance = (shared.sigma2, "s2") if c is None else (c, "C")
    objective = OBJECTIVES.get(trial.objective)
    if isinstance(trial, ForeignModel) and c is None:
        return "Its training variance is not known, so no other betas follow from its beta"
    unknown = objective is None and not isinstance(trial, ForeignModel)
    per_image = objective.per_image if objective else unknown
    condition = " (if all images shared s2)" if per_image else ""
    lines = [
        f"Other betas of this model, with the shared variance s2 = {shared.sigma2:.4g}",
        f"  {2 * trial.beta * sigma2:.4g} = 2 beta {variance}: with this beta, a constant "
        f"variance of 1/2 gives the same gradients{condition}",
    ]
    if implied > 0:
        lines.append(f"  {implied:.4g} = 2 s2 + D s2 log(2 pi s2) / rate: the paper's implied beta")
    else:
        lines.append(
            "  no beta is implied by the paper's formula: 2 s2 + D s2 log(2 pi s2) / rate is not "
            "positive"
        )
    return "\n".join(lines)


def _rates(evaluation: "Evaluation") -> str:
    lines = ["Where the rate goes: rate = I_q(x; z) + KL(q(z) || p(z)), nats per image"]
    for split, statistics in evaluation.statistics.items():
        terms = statistics.rate_terms
        if terms is None:
            return "Where the rate goes was not measured: --evaluate measures it"
        ceiling = math.log(len(statistics.kl))
        near = terms.mutual_information > _SATURATED * ceiling
        remark = " (close to this limit; more images would give a higher value)" if near else ""
        lines.append(
            f"  {split:5} {terms.unit_rate.sum():.2f} = {terms.mutual_information:.2f} "
            f"(se {terms.mutual_information_se:.2f}) + {terms.marginal_kl:.2f}; "
            f"{counted(len(statistics.kl), 'image')} can show at most log n = {ceiling:.2f}{remark}"
        )
    return "\n".join(lines)


def _units(evaluation: "Evaluation") -> str:
    terms = evaluation.statistics["test"].rate_terms
    if terms is None:
        return "Its units were not measured"
    import pandas as pd

    from rdkit_vae.scoring.statistics import ACTIVE
    from rdvae_analysis.tables import to_text

    frame = pd.DataFrame({"rate": terms.unit_rate, "variance_of_mean": terms.unit_variance})
    frame["active"] = frame["variance_of_mean"] > ACTIVE
    frame.insert(0, "unit", _channels(evaluation.trial, len(frame)))
    count, active = len(frame), terms.active_units
    if frame["unit"].duplicated().any():
        groups = frame.groupby("unit", as_index=False)
        frame = groups.agg(rate=("rate", "sum"), active=("active", "sum"), units=("rate", "size"))
    else:
        frame["active"] = frame["active"].map({True: "yes", False: "no"})
    frame = frame.sort_values("rate", ascending=False)
    more = f"\n... and {len(frame) - _MOST_UNITS} more" if len(frame) > _MOST_UNITS else ""
    return (
        f"{active} of {counted(count, 'unit')} {are(active)} active on test "
        f"(the posterior mean varies by more than {ACTIVE:g} over images)\n"
        f"{to_text(frame.head(_MOST_UNITS))}{more}"
    )


def _channels(trial: "Subject", count: int) -> "list[int] | list[str]":
    """A name per latent: its number, or its channel or level in a model from elsewhere."""
    shapes = trial.latent_shapes if isinstance(trial, ForeignModel) else ()
    plain = len(shapes) <= 1 and all(len(shape) <= 2 for shape in shapes)
    return list(range(count)) if plain else units_of(shapes)
