"""`rdvae lint`. Never imports torch."""

from collections.abc import Sequence
from pathlib import Path

import click

from rdkit_vae.grammar import few

NOT_COMPARABLE = 1
_MOST, _SHORT = 6, 24  # models that are named on a line, and letters of one


@click.command("lint")
@click.argument("table", type=click.Path(path_type=Path))
def command(table: Path) -> int:
    """Say which likelihoods in TABLE are comparable, which are not, and why.

    TABLE is a folder of runs, or any .parquet or .csv that has a model (or run_id), a claim (elbo,
    log_likelihood, nll or bits_per_dim) and, if it is worth anything, beta and the decoder variance
    (sigma2 or variance; a reading by name in sigma) or, of claims on pixels, `discretized` in
    likelihood. Exit code 1: some claims do not compare.

    \b
    rdvae lint runs/
    rdvae lint table1.csv
    """
    from rdvae_analysis.claims import lint, read_claims

    claims, notes = read_claims(table)
    for note in notes:
        click.echo(f"rdvae: {note}", err=True)
    report = lint(claims)
    click.echo(f"{table}: {len(claims)} claims of {claims['model'].nunique()} models")
    several = {name: g for name, g in report.groups.items() if g["model"].nunique() > 1}
    if several:
        click.echo("\ncomparable, within each line:")
    for name, group in several.items():
        click.echo(f"  {name}: {len(group)} claims ({_models(group['model'].unique())})")
    if not report.findings:
        click.echo("\nall claims are comparable")
        return 0
    hindering = [finding for finding in report.findings if finding.hinders]
    known = [finding for finding in report.findings if not finding.hinders]
    for title, findings in (("not comparable", hindering), ("to keep in mind", known)):
        if findings:
            click.echo(f"\n{title}:")
        for finding in findings:
            click.echo(f"  {finding.rule} [{finding.claims} claims] {finding.message}")
    return NOT_COMPARABLE if hindering else 0


def _models(names: Sequence[str]) -> str:
    """The names if they are short, else one of them."""
    return few(names, _MOST if max(map(len, names)) <= _SHORT else 1)
