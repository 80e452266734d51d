"""`rdvae sample`."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from rdkit_vae.cli import terminal
from rdkit_vae.cli.checkpoints import measuring_of, with_place_options
from rdkit_vae.cli.options import Runs, split_option
from rdkit_vae.errors import BadData, RdvaeError
from rdkit_vae.store.paths import sweep_around
from rdkit_vae.system.devices import choose_device
from rdkit_vae.text import counted

_MOST = 100  # pictures of a kind


@click.command("sample")
@click.argument("paths", nargs=-1, required=True, type=Runs("checkpoints", "statistics", "samples"))
@click.option(
    "--images",
    "n_images",
    type=click.IntRange(1, _MOST),
    default=8,
    show_default=True,
    help="How many images to reconstruct, from the start of the split.",
)
@click.option(
    "--prior",
    "n_prior",
    type=click.IntRange(1, _MOST),
    default=8,
    show_default=True,
    help="How many samples to draw from the prior and decode.",
)
@split_option
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of the latents, which are the same for every model.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the pictures.  [default: samples/ in the sweep of each checkpoint]",
)
@with_place_options
def command(
    paths: tuple[Path, ...],
    n_images: int,
    n_prior: int,
    split: str,
    seed: int,
    out: Path | None,
    **options: Any,
) -> None:
    """Make pictures of checkpoints: reconstructions and samples from the prior.

    PATHS are checkpoints, or folders of sweeps; from a folder, the last checkpoint of each run is
    used. All models get the same images and the same latents. Each checkpoint gets one file of
    pictures, which `rdvae plot samples` draws and `rdvae report` includes.

    \b
    rdvae sample runs/
    rdvae sample --images 4 --seed 3 runs/NAME
    rdvae sample --out pictures model.pt
    """
    from rich.progress import track

    from rdkit_vae.evaluation.pictures import last_checkpoints, sample_checkpoint
    from rdvae_analysis.pictures import without_pictures

    checkpoints = list(dict.fromkeys(each for path in paths for each in last_checkpoints(path)))
    for path in checkpoints if out is None else ():
        if path.exists() and not sweep_around(path):
            raise click.UsageError(f"{path} is not in a sweep folder: give a folder with --out")
    console, measuring = terminal.console(stderr=True), measuring_of(**options)
    measuring = replace(measuring, device=choose_device(measuring.device))
    asked: dict[str, Any] = {"n_images": n_images, "n_prior": n_prior, "split": split, "seed": seed}
    failed: list[RdvaeError] = []
    written = []
    for path in track(checkpoints, "drawing", console=console, disable=not console.is_terminal):
        try:
            written.append(sample_checkpoint(path, measuring, out, **asked))
        except RdvaeError as error:
            failed.append(error)
    reasons = _reasons(failed)
    if not written and len(reasons) == 1:
        raise BadData(reasons[0])
    terminal.print_notes(f"left out {reason}" for reason in reasons)
    terminal.print_notes(note for path in paths for note in without_pictures(path))
    if not written:
        raise BadData("no pictures were made")
    if len(written) == 1:
        place = str(written[0])
    else:
        place = str(out) if out else ", ".join(sorted({str(p.parent.parent) for p in written}))
    click.echo(
        f"pictures of {counted(len(written), 'checkpoint')}, seed {seed}: {place}\n"
        f"Draw them: rdvae plot samples {out or _common_folder(paths, written)}"
    )


def _reasons(failed: list[RdvaeError]) -> list[str]:
    """Why checkpoints were left out; missing images are reported once."""
    from rdkit_vae.evaluation.checkpoints import NoImages

    without_images = [error for error in failed if isinstance(error, NoImages)]
    reasons = [str(error) for error in failed if error not in without_images[1:]]
    if len(without_images) > 1:
        others = counted(len(without_images) - 1, "other checkpoint")
        reasons[failed.index(without_images[0])] += f"; so do {others}"
    return reasons


def _common_folder(paths: tuple[Path, ...], written: list[Path]) -> Path:
    """The folder that the user named, or the one that all pictures lie below."""
    if len(paths) == 1 and paths[0].is_dir():
        return paths[0]
    return Path(os.path.commonpath([path.parent.parent.parent for path in written]))
