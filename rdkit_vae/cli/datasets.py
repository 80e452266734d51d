"""`rdvae datasets`."""

import click

from rdkit_vae.cli.options import data_dir_option
from rdkit_vae.datasets import DATASETS, Request, request_for


@click.command("datasets")
@data_dir_option
def command(data_dir: str | None) -> None:
    """List the datasets, and where their files are or how to get them.

    \b
    rdvae datasets
    rdvae datasets --data-dir ~/data
    """
    for name, source in DATASETS.items():
        request = Request(name=name) if source.takes_path else request_for(name, data_dir=data_dir)
        path = source.find(request)
        click.echo(f"{name:14} {source.about}")
        if path is not None:
            click.echo(f"{'':14} found: {path}")
        elif source.takes_path:
            click.echo(f"{'':14} use: {source.get}")
        else:
            click.echo(f"{'':14} not found; to get it: {source.get}")
