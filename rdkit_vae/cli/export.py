"""`rdvae export`. Never imports torch."""

from pathlib import Path

import click

from rdkit_vae.cli.options import Runs, check_suffixes
from rdkit_vae.cli.terminal import print_notes
from rdkit_vae.store.results import encode_results
from rdkit_vae.system.files import write_output
from rdkit_vae.text import counted


@click.command("export")
@click.argument("folders", nargs=-1, required=True, type=Runs())
@click.option(
    "--out",
    metavar="FILE",
    required=True,
    multiple=True,
    help="File to write: .parquet or .csv. Repeatable.",
)
def command(folders: tuple[Path, ...], out: tuple[str, ...]) -> None:
    """Write the results of all sweeps below FOLDERS into one tidy table.

    It has one row per checkpoint, split and interpretation, and the same columns as the results of
    a sweep. Duplicate rows are written once. Every command that reads results also reads the
    .parquet file.

    \b
    rdvae export runs/ --out all.parquet
    rdvae export runs/mnist runs/celeba --out all.parquet --out all.csv
    """
    check_suffixes(out, (".parquet", ".csv"))
    from rdvae_analysis.load import scan
    from rdvae_analysis.tables import to_csv

    frame, notes = scan(*folders)
    print_notes(notes)
    about = {"exported": [str(folder) for folder in folders]}
    runs = counted(frame["run_id"].nunique(), "run")
    for path in map(Path, out):
        csv = path.suffix == ".csv"
        write_output(path, to_csv(frame).encode() if csv else encode_results(frame, about))
        click.echo(f"wrote {counted(len(frame), 'row')} of {runs}: {path}")
