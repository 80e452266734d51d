"""`rdvae decode-loss`."""

import textwrap
from collections.abc import Iterator

import click

from rdkit_vae.cli.options import positive_option
from rdkit_vae.errors import BadInput
from rdkit_vae.objectives.conventions import (
    CONVENTIONS,
    LOSSES,
    REDUCTIONS,
    DecodedLoss,
    SizeMissing,
    decode_loss,
)
from rdkit_vae.text import one_of, shown

_WHOLE = click.IntRange(1, 10**9)
_SIZES = ("dims", "latents", "steps")
_COLUMNS = 80
_SCORE = "score under shared, mixture or student (rdvae rescore)"


def _pixel_range(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        black, white = map(float, text.split(".."))
    except ValueError:
        raise BadInput(f"--pixels: must be BLACK..WHITE such as -1..1, got {shown(text)}") from None
    return black, white


@click.command("decode-loss")
@click.option(
    "--loss",
    type=click.Choice(list(LOSSES)),
    help="The loss of a pixel; perceptual: any reconstruction with a perceptual or adversarial "
    "term.  [default: squared]",
)
@click.option(
    "--reconstruction",
    type=click.Choice(REDUCTIONS),
    help="How the losses are reduced over the values of an image.  [default: mean]",
)
@click.option(
    "--pixels",
    "pixel_range",
    metavar="BLACK..WHITE",
    callback=_pixel_range,
    help="The range of the pixels that the loss compares, such as -1..1.  [default: 0..1]",
)
@click.option(
    "--kl",
    metavar="mean|sum|mean-time|weight:W",
    help="How the KL is reduced over the latents; mean-time: summed over the latents of a time "
    "step, averaged over the steps; weight:W: W times its sum.  [default: sum]",
)
@click.option(
    "--factor",
    metavar="F",
    callback=positive_option,
    help="Factor before the reconstruction, such as 0.5.  [default: 1]",
)
@click.option(
    "--kl-factor",
    metavar="F",
    callback=positive_option,
    help="Factor before the KL: 2 if it is written without its own factor 1/2.  [default: 1]",
)
@click.option("--dims", type=_WHOLE, help="D, the number of values in an image: 12288 for 3x64x64.")
@click.option("--latents", type=_WHOLE, help="Number of latents, which --kl mean needs.")
@click.option("--steps", type=_WHOLE, help="Number of time steps, which --kl mean-time needs.")
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

    The loss is FACTOR x RECONSTRUCTION + KL_FACTOR x KL.

    \b
    rdvae decode-loss --reconstruction mean --kl weight:0.00025 --dims 12288
    rdvae decode-loss --reconstruction sum --kl sum --factor 0.5
    rdvae decode-loss --reconstruction mean --kl sum --dims 784 --batch 128
    rdvae decode-loss --loss absolute --pixels -1..1 --reconstruction sum
    rdvae decode-loss --list --dims 784 --latents 32
    """
    chosen = {key: value for key, value in given.items() if value is not None}
    if listed or convention is not None:
        _check_only_sizes(chosen)
    if listed:
        return _list(chosen)
    if convention is not None:
        chosen |= CONVENTIONS[one_of(convention, CONVENTIONS, "convention")].arguments
    try:
        return click.echo("\n".join(_text(decode_loss(**chosen))))  # type: ignore[arg-type]
    except SizeMissing as error:
        raise click.UsageError(str(error)) from error


def _check_only_sizes(given: dict[str, object]) -> None:
    names = {"pixel_range": "pixels"}
    others = [f"--{names.get(n, n).replace('_', '-')}" for n in given if n not in _SIZES]
    if others:
        raise click.UsageError(
            f"a convention already defines the loss: leave out {', '.join(others)}"
        )


def _text(loss: DecodedLoss) -> Iterator[str]:
    texts = {
        "gaussian": _gaussian,
        "laplace": _laplace,
        "bernoulli": _bernoulli,
        "none": _perceptual,
    }
    return texts[loss.likelihood](loss)


def _gaussian(loss: DecodedLoss) -> Iterator[str]:
    yield "up to its scale, the loss is  E[sse]/(2 s2) + beta KL  with"
    yield f"  beta      = {loss.beta:.6g}"
    yield f"  s2        = {loss.sigma2:.6g} squared pixels of [0, 1]"
    yield f"  beta x s2 = {loss.product:.6g}, the only number that training sees"
    yield "the same training in other terms:"
    yield (
        f"  C = 1/2:    beta = {loss.beta_at_half:.6g}, as in the paper "
        "(rdvae sweep --objectives constant)"
    )
    yield (
        f"  beta = 1:   s2 = {loss.product:.6g}, the variance with which the loss is -ELBO "
        "(sigma beta-half)"
    )
    if loss.is_elbo:
        yield "the loss is already -ELBO: likelihoods with its own s2 are what was trained"
    else:
        yield (
            f"likelihoods with s2 = {loss.sigma2:.6g} do not correspond to the objective that "
            "was trained"
        )
    if loss.product > 0.25:
        yield (
            f"s2 = {loss.product:.4g} is more than any image in [0, 1] can have (1/4): "
            "report shared, mixture or student"
        )


def _laplace(loss: DecodedLoss) -> Iterator[str]:
    yield "up to its scale, the loss is  E[sum of absolute errors]/b + beta KL  with"
    yield f"  beta     = {loss.beta:.6g}"
    yield f"  b        = {loss.scale:.6g} pixels of [0, 1], the scale of a Laplace distribution"
    yield f"  beta x b = {loss.product:.6g}, the only number that training sees"
    yield "the same training in other terms:"
    yield f"  beta = 1:  b = {loss.product:.6g}, the scale with which the loss is -ELBO"
    if loss.is_elbo:
        yield "the loss is already -ELBO, of a decoder with a Laplace distribution"
    else:
        yield (
            f"likelihoods with b = {loss.scale:.6g} do not correspond to the objective that "
            "was trained"
        )
    yield f"the loss sets no Gaussian variance; to compare, {_SCORE}"


def _bernoulli(loss: DecodedLoss) -> Iterator[str]:
    yield "up to its scale, the loss is  cross-entropy + beta KL  with"
    yield f"  beta = {loss.beta:.6g}, the only number that training sees"
    yield "beta cannot be traded against a variance: a cross-entropy has none"
    if loss.is_elbo:
        yield "the loss is -ELBO of a Bernoulli decoder if every pixel is 0 or 1"
    else:
        yield "the loss is not -ELBO, which has beta = 1"
    yield f"the loss sets no Gaussian variance; to compare, {_SCORE}"


def _perceptual(loss: DecodedLoss) -> Iterator[str]:
    yield "the loss is  reconstruction + beta KL  with"
    yield f"  beta = {loss.beta:.6g}, beside the reconstruction as it is written"
    yield "a perceptual or adversarial term is no log-likelihood of pixels: the loss sets no"
    yield "variance and is not -ELBO. What can still be said:"
    yield "  the rate is right, since it depends on the encoder alone"
    yield "  beta is relative to the weight of the perceptual term: compare it only between"
    yield "  models with the same reconstruction loss"
    yield "  an implied weight for squared errors (rdvae describe) means nothing here"
    yield f"  to compare with other models, {_SCORE}"


def _list(sizes: dict[str, object]) -> None:
    margin = max(map(len, CONVENTIONS)) + 1
    for name, convention in CONVENTIONS.items():
        lines = [convention.about, f"used in: {convention.origin}"]
        try:
            arguments = {**sizes, **convention.arguments}
            lines.append(_in_short(decode_loss(**arguments)))  # type: ignore[arg-type]
        except SizeMissing:
            pass
        rows = [row for line in lines for row in textwrap.wrap(line, _COLUMNS - margin)]
        click.echo(f"{name:{margin}}" + f"\n{'':{margin}}".join(rows))
    if sizes.keys() < set(_SIZES):
        click.echo("use --dims, --latents and --steps to decode those that depend on them")


def _in_short(loss: DecodedLoss) -> str:
    if loss.sigma2 is not None:
        return (
            f"beta {loss.beta:.6g}, s2 {loss.sigma2:.6g}, beta x s2 {loss.product:.6g}; "
            f"at C = 1/2: beta {loss.beta_at_half:.6g}"
        )
    if loss.scale is not None:
        return f"beta {loss.beta:.6g}, Laplace b {loss.scale:.6g}, beta x b {loss.product:.6g}"
    if loss.likelihood == "bernoulli":
        return f"beta {loss.beta:.6g}; no variance"
    return f"beta {loss.beta:.6g} beside this reconstruction; no likelihood"
