"""`rdvae describe`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.cli.checkpoints import Measured, Wanted, measured, with_measuring_options
from rdkit_vae.config.parsing import SIGMAS
from rdkit_vae.text import are, counted

if TYPE_CHECKING:
    from rdkit_vae.scoring.statistics import RateSplit

_SATURATED = 0.9  # share of the ceiling log n from which the information is said to be near it


@click.command("describe")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@with_measuring_options
def command(checkpoint: Path, **measuring: Any) -> None:
    """All that is known of one CHECKPOINT: its readings, its bounds, and where its rate goes.

    \b
    rdvae describe runs/NAME/checkpoints/RUN/epoch=00025.pt
    rdvae describe --draws 64 model.pt
    """
    found = measured(checkpoint, Wanted(**measuring))
    for text in (_head(found), _readings(found), _betas(found), _rates(found), _units(found)):
        click.echo(text + "\n")


def _head(of: Measured) -> str:
    from rdkit_vae.objectives.losses import OBJECTIVES

    trial, test = of.trial, of.statistics["test"]
    variance = "" if trial.train_sigma2 is None else f", C = {trial.train_sigma2:g}"
    return (
        f"{of.path}\n"
        f"  {trial.run_id}, epoch {of.epoch} of {trial.epochs}, step {of.step}\n"
        f"  trained on {trial.dataset} with {trial.objective} "
        f"({OBJECTIVES[trial.objective].about}), beta = {trial.beta:g}{variance}\n"
        f"  {trial.architecture}, {counted(trial.latents, 'latent')}, D = {test.dims}; "
        f"{of.images}, {counted(test.sse.shape[1], 'draw')}, {of.source}\n"
        f"  SHA-256 {of.sha256}"
    )


def _readings(of: Measured) -> str:
    """The ELBO under every interpretation, and the tightest bound where there is one."""
    import pandas as pd

    from rdkit_vae.scoring.bounds import iwae_of_all
    from rdkit_vae.scoring.interpretations import readings, score_reading
    from rdvae_analysis.tables import to_text

    rows, mse = [], {}
    for reading in readings(of.statistics, SIGMAS, of.trial):
        found = score_reading(reading, of.trial)
        mse[found.split] = found.mse
        row = {name: getattr(found, name) for name in ("split", "sigma", "sigma2", "distortion")}
        row |= {"density": "yes" if found.is_density else "no", "elbo": found.elbo}
        row["se"] = found.elbo_se
        tightest = iwae_of_all(reading.nll, reading.statistics.log_ratio).value
        row[f"iwae-{found.n_draws}"] = tightest if found.is_density else math.nan
        rows.append(row | {"bits_per_dim": found.bits_per_dim})
    title = (
        "Nats per image, by interpretation of the variance; bits_per_dim is of the elbo; "
        f"mse {mse['test']:.4g} test, {mse['train']:.4g} train"
    )
    return title + "\n" + to_text(pd.DataFrame(rows))


def _betas(of: Measured) -> str:
    from rdkit_vae.objectives.losses import OBJECTIVES
    from rdkit_vae.scoring.interpretations import score
    from rdvae_analysis.theory import implied_beta

    shared = score(of.statistics, ["shared"], of.trial)[-1]
    implied = implied_beta(shared.sigma2, dims=shared.dims, rate=shared.rate)
    c = of.trial.train_sigma2
    sigma2, variance = (shared.sigma2, "s2") if c is None else (c, "C")
    own = OBJECTIVES[of.trial.objective].per_image
    have = "would have its gradients if its images shared s2" if own else "has its gradients"
    lines = [
        f"Other betas of this model, with the shared variance s2 = {shared.sigma2:.4g}",
        f"  {2 * of.trial.beta * sigma2:.4g} = 2 beta {variance}: with it, a constant variance of "
        f"1/2 {have}",
    ]
    if implied > 0:
        lines.append(f"  {implied:.4g} = 2 s2 + D s2 log(2 pi s2) / rate: the paper's implied beta")
    else:
        lines.append(
            "  none that the paper implies: 2 s2 + D s2 log(2 pi s2) / rate is not positive"
        )
    return "\n".join(lines)


def _rates(of: Measured) -> str:
    lines = ["Where the rate goes: rate = I_q(x; z) + KL(q(z) || p(z)), nats per image"]
    for split, statistics in of.statistics.items():
        found = statistics.split_of_rate
        if found is None:
            return "Where the rate goes was not measured: --evaluate measures it"
        ceiling = math.log(len(statistics.kl))
        near = found.mutual_information > _SATURATED * ceiling
        remark = ": near it, so more images would show more" if near else ""
        lines.append(
            f"  {split:5} {found.unit_rate.sum():.2f} = {found.mutual_information:.2f} "
            f"(se {found.mutual_information_se:.2f}) + {found.marginal_kl:.2f}; "
            f"{counted(len(statistics.kl), 'image')} can show at most log n = {ceiling:.2f}{remark}"
        )
    return "\n".join(lines)


def _units(of: Measured) -> str:
    found: RateSplit | None = of.statistics["test"].split_of_rate
    if found is None:
        return "Its units were not measured"
    import pandas as pd

    from rdkit_vae.scoring.statistics import ACTIVE
    from rdvae_analysis.tables import to_text

    frame = pd.DataFrame(
        {
            "unit": range(len(found.unit_rate)),
            "rate": found.unit_rate,
            "variance_of_mean": found.unit_variance,
            "active": ["yes" if v > ACTIVE else "no" for v in found.unit_variance],
        }
    ).sort_values("rate", ascending=False)
    active = found.active_units
    return (
        f"{active} of {counted(len(frame), 'unit')} {are(active)} active on test "
        f"(the posterior mean varies by more than {ACTIVE:g} over images)\n" + to_text(frame)
    )
