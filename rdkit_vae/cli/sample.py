"""`rdvae sample`."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.cli import terminal
from rdkit_vae.cli.checkpoints import measuring_of, with_place_options
from rdkit_vae.cli.options import split_option
from rdkit_vae.errors import BadData, RdvaeError
from rdkit_vae.text import counted

if TYPE_CHECKING:
    from rdkit_vae.evaluation.checkpoints import Measuring
    from rdkit_vae.store.samples import Samples

_MOST = 100  # pictures of a kind


@click.command("sample")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--images",
    "n_images",
    type=click.IntRange(1, _MOST),
    default=8,
    show_default=True,
    help="How many images to reconstruct, the first of the split.",
)
@click.option(
    "--prior",
    "n_prior",
    type=click.IntRange(1, _MOST),
    default=8,
    show_default=True,
    help="How many samples of the prior to decode.",
)
@split_option
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Of the latents, which are the same for every model.",
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
    """Make pictures of checkpoints: reconstructions, and samples of the prior.

    PATHS are checkpoints, or folders of sweeps, of which the last checkpoint of each run is taken.
    All models see the same images, the first of the split, and the same latents. A file a
    checkpoint holds them, which `rdvae plot samples` draws and `rdvae report` shows.

    \b
    rdvae sample runs/
    rdvae sample --images 4 --seed 3 runs/NAME
    rdvae sample --out pictures model.pt
    """
    from rich.progress import track

    from rdkit_vae.store.paths import sweep_around
    from rdkit_vae.system.devices import choose_device

    checkpoints = list(dict.fromkeys(c for path in paths for c in _checkpoints(path)))
    if out is None:
        loose = [path for path in checkpoints if path.exists() and not sweep_around(path)]
        if loose:
            raise click.UsageError(f"{loose[0]} lies in no sweep: --out names a folder")
    console, measuring = terminal.console(stderr=True), measuring_of(**options)
    measuring = replace(measuring, device=choose_device(measuring.device))
    pictures = {"n_images": n_images, "n_prior": n_prior, "split": split, "seed": seed}
    failed: list[RdvaeError] = []
    written = []
    for path in track(checkpoints, "drawing", console=console, disable=not console.is_terminal):
        try:
            written.append(_sample(path, out, measuring, pictures))
        except RdvaeError as error:
            failed.append(error)
    reasons = list(_reasons(failed))
    if not written and len(reasons) == 1:
        raise BadData(reasons[0])
    for reason in reasons:
        click.echo(f"rdvae: left out {reason}", err=True)
    if not written:
        raise BadData("no picture was made")
    places = sorted({str(path if len(written) == 1 else path.parent.parent) for path in written})
    click.echo(
        f"pictures of {counted(len(written), 'checkpoint')}, seed {seed}: "
        f"{out if out and len(written) > 1 else ', '.join(places)}\n"
        f"Draw them: rdvae plot samples {out or _folder_of(paths, written)}"
    )


def _reasons(failed: list[RdvaeError]) -> Iterator[str]:
    """Why checkpoints were left out; missing images are reported once."""
    from rdkit_vae.evaluation.checkpoints import NoImages

    lost = [error for error in failed if isinstance(error, NoImages)]
    for error in failed:
        more = len(lost) - 1
        if error not in lost or more == 0:
            yield str(error)
        elif error is lost[0]:
            yield f"{error}; so do {counted(more, 'other checkpoint')}"


def _folder_of(paths: tuple[Path, ...], written: list[Path]) -> Path:
    """A folder with all the pictures below it: as the user named it, where that is one."""
    if len(paths) == 1 and paths[0].is_dir():
        return paths[0]
    return Path(os.path.commonpath([path.parent.parent.parent for path in written]))


def _sample(path: Path, out: Path | None, measuring: "Measuring", asked: dict[str, Any]) -> Path:
    """Makes the pictures of a checkpoint; returns their file, left alone where it holds them.

    Raises:
        BadData: no checkpoint, no images, or the file cannot be written.
    """
    from rdkit_vae.evaluation.checkpoints import images_of, named_if_not_finite
    from rdkit_vae.evaluation.pictures import sample
    from rdkit_vae.store.checkpoints import load_checkpoint
    from rdkit_vae.store.paths import code_version, samples_beside, utc_now
    from rdkit_vae.store.samples import write_samples
    from rdkit_vae.system.files import write_atomic, write_output

    checkpoint = load_checkpoint(path)
    trial, images = checkpoint.trial, images_of(path, checkpoint, measuring)
    model, device = checkpoint.model().to(measuring.device), measuring.device
    with named_if_not_finite(path):
        pictures = sample(model, images, latents=trial.latents, device=device, **asked)
    name = f"{trial.run_id}-epoch={checkpoint.epoch:05d}.parquet"
    target = samples_beside(path) if out is None else out / name
    if not _is_written(target, pictures, checkpoint.sha256):
        about = {
            "trial": trial.to_dict(),
            "epoch": checkpoint.epoch,
            "step": checkpoint.step,
            "checkpoint_sha256": checkpoint.sha256,
            "code_version": code_version(),
            "created_at": utc_now(),
        }
        write_samples(target, pictures, about, write=write_output if out else write_atomic)
    return target


def _is_written(path: Path, pictures: "Samples", sha256: str) -> bool:
    """Whether a file holds these very pictures of this checkpoint."""
    from rdkit_vae.store.samples import KINDS, read_samples

    try:
        stored, about = read_samples(path)
    except BadData:
        return False
    same = (stored.split, stored.seed) == (pictures.split, pictures.seed)
    same &= about.get("checkpoint_sha256") == sha256
    return same and all(
        getattr(stored, kind).shape == getattr(pictures, kind).shape
        and (getattr(stored, kind) == getattr(pictures, kind)).all()
        for kind in KINDS
    )


def _checkpoints(path: Path) -> Iterator[Path]:
    """The checkpoint, or the last one of each run in the sweeps below a folder.

    Raises:
        BadData: nothing there.
    """
    if not path.is_dir():
        yield path
        return
    from rdkit_vae.store.paths import find_sweeps

    runs = [run for root in find_sweeps(path) for run in sorted(root.glob("checkpoints/*/"))]
    last = [max(run.glob("epoch=*.pt"), default=None) for run in runs]
    if not any(last):
        raise BadData(f"{path}: no checkpoint of a sweep below it")
    yield from (checkpoint for checkpoint in last if checkpoint)
