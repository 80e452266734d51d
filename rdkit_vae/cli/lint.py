"""`rdvae lint`. Never imports torch."""

from collections.abc import Sequence
from pathlib import Path

import click

from rdkit_vae.cli.options import sigmas_of
from rdkit_vae.text import counted, few

NOT_COMPARABLE = 1
_MOST, _SHORT = 6, 24  # models that are named on a line, and letters of one


@click.command("lint")
@click.argument("table", type=click.Path(path_type=Path))
@click.option(
    "--split",
    type=click.Choice(["test", "train"]),
    help="Only claims on this split.  [default: all]",
)
@click.option(
    "--sigma", "sigmas", metavar="NAME", multiple=True, help="Only these readings; repeatable."
)
def command(table: Path, split: str | None, sigmas: tuple[str, ...]) -> int:
    """Say which likelihoods in TABLE are comparable, which are not, and why.

    TABLE is a folder of runs, or any .parquet or .csv that has a model (or run_id), a claim (elbo,
    log_likelihood, nll or bits_per_dim) and, if it is worth anything, beta and the decoder variance
    (sigma2 or variance; a reading by name in sigma) or, of claims on pixels, `discretized` in
    likelihood. Where every model has claims on both splits, they compare within each. Exit code 1:
    some claims do not compare; --split and --sigma choose those that are to be published.

    \b
    rdvae lint runs/
    rdvae lint runs/ --split test --sigma shared
    rdvae lint table1.csv
    """
    chosen = sigmas_of(sigmas)
    from rdvae_analysis.claims import chosen_claims, lint, read_claims

    claims, notes = read_claims(table)
    claims = chosen_claims(claims, split, chosen)
    for note in notes:
        click.echo(f"rdvae: {note}", err=True)
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
    known = [finding for finding in report.findings if not finding.hinders]
    for title, findings in (("not comparable", hindering), ("to keep in mind", known)):
        if findings:
            click.echo(f"\n{title}:")
        for finding in findings:
            click.echo(f"  {finding.rule} [{counted(finding.claims, 'claim')}] {finding.message}")
    return NOT_COMPARABLE if hindering else 0


def _models(names: Sequence[str]) -> str:
    """The names if they are short, else one of them."""
    return few(names, _MOST if max(map(len, names)) <= _SHORT else 1)
