"""`rdvae decode-loss`."""

import click

from rdkit_vae.cli.options import positive_option
from rdkit_vae.objectives.conventions import CONVENTIONS, REDUCTIONS, DecodedLoss, decode_loss
from rdkit_vae.text import one_of

_WHOLE = click.IntRange(1, 10**9)
_SIZES = ("dims", "latents")


@click.command("decode-loss")
@click.option(
    "--reconstruction",
    type=click.Choice(REDUCTIONS),
    help="How squared errors are reduced over the values of an image.  [default: mean]",
)
@click.option(
    "--kl",
    metavar="mean|sum|weight:W",
    help="How the KL is reduced over the latents; weight:W: W times its sum.  [default: sum]",
)
@click.option(
    "--factor",
    metavar="F",
    callback=positive_option,
    help="Factor before the reconstruction, such as 0.5.  [default: 1]",
)
@click.option("--dims", type=_WHOLE, help="D, the number of values in an image: 12288 for 3x64x64.")
@click.option("--latents", type=_WHOLE, help="Number of latents, which --kl mean needs.")
@click.option(
    "--batch",
    type=_WHOLE,
    help="Images in a batch, if mean and sum run over the whole batch as in mse_loss(x, y).  "
    "[default: both terms are per image]",
)
@click.option("--convention", metavar="NAME", help="A well-known convention that --list shows.")
@click.option("--list", "listed", is_flag=True, help="Decode well-known conventions.")
def command(convention: str | None, listed: bool, **given: object) -> None:
    """Show the beta and the variance that a VAE's loss really sets.

    The loss is FACTOR x RECONSTRUCTION + KL.

    \b
    rdvae decode-loss --reconstruction mean --kl weight:0.00025 --dims 12288
    rdvae decode-loss --reconstruction sum --kl sum --dims 784 --factor 0.5
    rdvae decode-loss --reconstruction mean --kl sum --dims 784 --batch 128
    rdvae decode-loss --list --dims 784 --latents 32
    """
    chosen = {key: value for key, value in given.items() if value is not None}
    if listed or convention is not None:
        _check_only_sizes(chosen)
    if listed:
        return _list(chosen)
    if convention is not None:
        chosen |= CONVENTIONS[one_of(convention, CONVENTIONS, "convention")].arguments
    if "dims" not in chosen:
        raise click.UsageError("--dims is missing: the number of values in an image")
    return click.echo(_text(decode_loss(**chosen)))  # type: ignore[arg-type]


def _check_only_sizes(given: dict[str, object]) -> None:
    others = [f"--{name}" for name in given if name not in _SIZES]
    if others:
        raise click.UsageError(
            f"a convention already defines the loss: leave out {', '.join(others)}"
        )


def _text(loss: DecodedLoss) -> str:
    lines = [
        "up to its scale, the loss is  E[sse]/(2 s2) + beta KL  with",
        f"  beta      = {loss.beta:.6g}",
        f"  s2        = {loss.sigma2:.6g} squared pixels of [0, 1] (of [-1, 1]: a quarter of it)",
        f"  beta x s2 = {loss.product:.6g}, the only number that training sees",
        "the same training in other terms:",
        f"  C = 1/2:    beta = {loss.beta_at_half:.6g}, as in the paper "
        "(rdvae sweep --objectives constant)",
        f"  beta = 1:   s2 = {loss.product:.6g}, the variance with which the loss is -ELBO "
        "(sigma beta-half)",
    ]
    if loss.is_elbo:
        lines.append("the loss is already -ELBO: likelihoods with its own s2 are what was trained")
    else:
        lines.append(
            f"likelihoods with s2 = {loss.sigma2:.6g} belong to another objective than the one "
            "trained"
        )
    if loss.product > 0.25:
        lines.append(
            f"s2 = {loss.product:.4g} is more than any image in [0, 1] can have (1/4): "
            "report shared or mixture"
        )
    return "\n".join(lines)


def _list(sizes: dict[str, object]) -> None:
    for name, convention in CONVENTIONS.items():
        click.echo(f"{name:11} {convention.about}\n{'':11} used in: {convention.origin}")
        arguments = {**sizes, **convention.arguments}
        needed = {"dims"} if arguments["reconstruction"] == "mean" else set()
        needed |= {"latents"} if arguments["kl"] == "mean" else set()
        if needed <= arguments.keys():
            arguments.setdefault("dims", 1)  # a sum over pixels does not depend on how many
            loss = decode_loss(**arguments)  # type: ignore[arg-type]
            click.echo(
                f"{'':11} beta {loss.beta:.6g}, s2 {loss.sigma2:.6g}, "
                f"beta x s2 {loss.product:.6g}; at C = 1/2: beta {loss.beta_at_half:.6g}"
            )
    if sizes.keys() < set(_SIZES):
        click.echo("use --dims and --latents to decode the conventions that depend on them")
