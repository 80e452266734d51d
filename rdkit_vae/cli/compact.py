"""`rdvae compact`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rdkit_vae.errors import BadData, RdvaeError
from rdkit_vae.text import counted

if TYPE_CHECKING:
    from rdkit_vae.store.compact import Compacted


@click.command("compact")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
def command(folders: tuple[Path, ...]) -> None:
    """Merge the results of each sweep below FOLDERS into one file, which loads sooner.

    Takes the trials that have ended well; those that failed or are left keep their own files, so
    that the sweep can go on. No number changes, and readers may read meanwhile. Can be run again
    when more trials have ended. A sweep that is at work is left alone.

    \b
    rdvae compact runs/
    rdvae compact runs/NAME
    """
    from rdkit_vae.store.compact import compact
    from rdkit_vae.store.paths import Sweep, find_sweeps

    roots = list(dict.fromkeys(root for folder in folders for root in find_sweeps(folder)))
    if not roots:
        raise BadData(f"{folders[0]}: no sweep below it (no sweep.json)")
    failed = []
    for root in roots:
        try:
            _print(root, compact(Sweep(root)))
        except RdvaeError as error:
            failed.append(error)
    for reason in failed[:-1]:
        click.echo(f"rdvae: left out {reason}", err=True)
    if failed:
        raise failed[-1]


def _print(root: Path, done: "Compacted") -> None:
    if done.merged:
        said = f"{counted(done.files, 'file')} merged into results/{done.merged.name}"
    else:
        said = "nothing to merge"
    said += f", {counted(done.trials, 'trial')}"
    if done.unfinished:
        said += f"; {done.unfinished} failed or left, in files of their own"
    click.echo(f"{root}: {said}")
    for reason in done.others:
        click.echo(f"rdvae: left where it is: {reason}", err=True)
