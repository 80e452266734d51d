"""`rdvae selftest`."""

import time
from typing import TYPE_CHECKING

import click

from rdkit_vae.text import are, counted

if TYPE_CHECKING:
    from rdkit_vae.selftest import Check

FAILED = 1
_NAMES = ("rate", "distortion", "elbo", "s2")


@click.command("selftest")
@click.pass_context
def command(ctx: click.Context) -> int:
    """Train linear VAEs on Gaussian data and compare them with their closed forms.

    For every objective with a closed form, rate, distortion, ELBO and variance must be within 1% of
    the exact values (within 0.01 nats if the exact value is below one nat). Takes about a minute on
    one core. The exit code is 1 if a value is not within these bounds.

    \b
    rdvae selftest
    """
    from rdkit_vae.selftest import TOLERANCE, selftest

    start, failed, without_closed_form = time.monotonic(), 0, []
    click.echo(
        "Linear VAEs, 4 latents, 512 images of 8 Gaussian pixels: trained/exact, and the error.\n"
        "Nats per image; s2 in squared pixels (for constant, it is the mse).\n"
    )
    click.echo(f"{'objective':13} {'beta':>5} {'active':>6}  " + "".join(map(_heading, _NAMES)))
    for check in selftest():
        if check.has_closed_form:
            failed += not check.passed
            click.echo(_line(check))
        else:
            without_closed_form.append(check)
    click.echo(
        "\nA variance per image has no closed form; compared with the optimum of a shared one:\n"
    )
    for check in without_closed_form:
        click.echo(_departure(check))
    seconds = time.monotonic() - start
    verdict = (
        f"{counted(failed, 'model')} {are(failed)} off by more than {TOLERANCE:.0%}"
        if failed
        else "all passed"
    )
    click.echo(f"\n{verdict}, in {seconds:.0f} s")
    return FAILED if failed else 0


def _heading(name: str) -> str:
    return f"{name:>18} {'error':>7}  "


def _line(check: "Check") -> str:
    text = f"{check.objective:13} {check.beta:5g} {check.active:6d}  "
    for quantity in check.quantities:
        digits = 6 if quantity.name == "s2" else 3
        pair = f"{quantity.trained:.{digits}f}/{quantity.exact:.{digits}f}"
        text += f"{pair:>18} {quantity.error:+7.2%}  "
    return text + ("" if check.passed else "  OFF")


def _departure(check: "Check") -> str:
    by_name = {quantity.name: quantity for quantity in check.quantities}
    rate, s2, elbo = (by_name[name] for name in ("rate", "s2", "elbo"))
    return (
        f"{check.objective:13} {check.beta:5g}  "
        f"{_more(rate.trained - rate.exact)} rate ({rate.trained:.3f}, not {rate.exact:.3f}: "
        f"{rate.error:+.1%}), {_more(s2.trained - s2.exact)} mean squared error ({s2.error:+.1%}), "
        f"ELBO under the shared variance {elbo.trained - elbo.exact:+.3f} nats"
    )


def _more(difference: float) -> str:
    return "more" if difference > 0 else "less"
