"""`rdvae export`. Never imports torch."""

from pathlib import Path

import click

from rdkit_vae.cli.options import check_suffixes
from rdkit_vae.text import counted


@click.command("export")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", metavar="FILE", required=True, multiple=True, help=".parquet or .csv; repeatable."
)
def command(folders: tuple[Path, ...], out: tuple[str, ...]) -> None:
    """Write the results of all sweeps below FOLDERS into one tidy table.

    A row per checkpoint, split and interpretation, with the columns of the sweeps' own results; a
    row that occurs twice is written once. Every command that reads results reads the .parquet too.

    \b
    rdvae export runs/ --out all.parquet
    rdvae export runs/mnist runs/celeba --out all.parquet --out all.csv
    """
    check_suffixes(out, (".parquet", ".csv"))
    from rdkit_vae.store.results import encode_results
    from rdkit_vae.system.files import write_output
    from rdvae_analysis.load import scan
    from rdvae_analysis.tables import to_csv

    frame, notes = scan(*folders)
    for note in notes:
        click.echo(f"rdvae: {note}", err=True)
    for name in out:
        parquet = Path(name).suffix == ".parquet"
        about = {"exported": [str(folder) for folder in folders]}
        write_output(
            Path(name), encode_results(frame, about) if parquet else to_csv(frame).encode()
        )
        runs = frame["run_id"].nunique()
        click.echo(f"wrote {counted(len(frame), 'row')} of {counted(runs, 'run')}: {name}")
