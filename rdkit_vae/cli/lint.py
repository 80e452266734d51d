"""`rdvae lint`. Never imports torch."""

from collections.abc import Sequence
from pathlib import Path

import click

from rdkit_vae.cli.options import Runs, sigmas_of
from rdkit_vae.cli.terminal import print_notes
from rdkit_vae.text import counted, few

NOT_COMPARABLE = 1
_MOST, _SHORT = 6, 24  # models to name on a line, and letters of a short name


@click.command("lint")
@click.argument("table", type=Runs())
@click.option(
    "--split",
    type=click.Choice(["test", "train"]),
    help="Only claims on this data split.  [default: all]",
)
@click.option(
    "--sigma",
    "sigmas",
    metavar="NAME",
    multiple=True,
    help="Only claims under this interpretation of the variance. Repeatable.  [default: all]",
)
def command(table: Path, split: str | None, sigmas: tuple[str, ...]) -> int:
    """Tell which likelihoods in TABLE are comparable, which are not, and why.

    TABLE is a folder of runs, or a .parquet or .csv file with a column for the model (model or
    run_id) and one for the claimed likelihood (elbo, log_likelihood, nll or bits_per_dim). To judge
    the claims, it also needs beta and the decoder variance: a number in sigma2 or variance, or the
    name of an interpretation in sigma. Likelihoods of grey levels have `discretized` in the column
    likelihood. If every model has claims on both data splits, each split is compared separately.

    The exit code is 1 if some claims are not comparable. Use --split and --sigma to select the
    claims that you want to publish.

    \b
    rdvae lint runs/
    rdvae lint runs/ --split test --sigma shared
    rdvae lint table1.csv
    """
    chosen = sigmas_of(sigmas)
    from rdvae_analysis.claims import chosen_claims, lint, read_claims

    claims, notes = read_claims(table)
    claims = chosen_claims(claims, split, chosen)
    print_notes(notes)
    report = lint(claims)
    models = counted(claims["model"].nunique(), "model")
    click.echo(f"{table}: {counted(len(claims), 'claim')} of {models}")
    several = {name: g for name, g in report.groups.items() if g["model"].nunique() > 1}
    if several:
        click.echo("\ncomparable, within each line:")
    for name, group in several.items():
        click.echo(f"  {name}: {counted(len(group), 'claim')} ({_models(group['model'].unique())})")
    if not report.findings:
        click.echo("\nall claims are comparable")
        return 0
    hindering = [finding for finding in report.findings if finding.hinders]
    harmless = [finding for finding in report.findings if not finding.hinders]
    for title, findings in (("not comparable", hindering), ("to keep in mind", harmless)):
        if findings:
            click.echo(f"\n{title}:")
        for finding in findings:
            click.echo(f"  {finding.rule} [{counted(finding.claims, 'claim')}] {finding.message}")
    return NOT_COMPARABLE if hindering else 0


def _models(names: Sequence[str]) -> str:
    """A few names if they are short, else one of them."""
    return few(names, _MOST if max(map(len, names)) <= _SHORT else 1)
