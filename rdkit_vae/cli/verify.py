"""`rdvae verify`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.cli import terminal
from rdkit_vae.cli.checkpoints import Place, images_of, with_place_options
from rdkit_vae.errors import BadData, RdvaeError
from rdkit_vae.text import counted, few

if TYPE_CHECKING:
    from rdkit_vae.store.paths import Sweep
    from rdkit_vae.sweep.verify import Finding, Report

_ROUNDS = 3  # of checking and repairing: a repair can uncover what the next one mends


@click.command("verify")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--repair", "mend", is_flag=True, help="Do what is said of each finding.")
@with_place_options
def command(folders: tuple[Path, ...], mend: bool, **place: Any) -> None:
    """Check all that can be checked of the sweeps below FOLDERS.

    Hashes of checkpoints, checksums of files, every row against its statistics by computing it
    again, files that are missing or that no row names. Says what is wrong and what --repair would
    do; the exit code is 4 if anything is. A repair deletes nothing: what is damaged is put aside
    into the folder damaged of its sweep. It needs the images only where statistics are lost.

    \b
    rdvae verify runs/
    rdvae verify --repair runs/digits-conv
    """
    from rdkit_vae.store.paths import Sweep, find_sweeps

    roots = [root for folder in folders for root in find_sweeps(folder)]
    if not roots:
        raise BadData(f"{few(map(str, folders))}: no sweep below it (no sweep.json)")
    wrong = [_verify(Sweep(root), mend, Place(**place)) for root in roots]
    sys.exit(BadData.exit_code if any(wrong) else 0)


def _verify(sweep: "Sweep", mend: bool, place: Place) -> bool:
    """Checks a sweep, and mends it where that is wanted; returns whether anything is wrong."""
    try:
        if mend:
            return _mend(sweep, place)
        report = _checked(sweep)
        _tell(sweep, report, "; --repair: ")
        return bool(report.findings)
    except RdvaeError as error:
        click.echo(str(error))
        return True


def _mend(sweep: "Sweep", place: Place) -> bool:
    """Repairs until nothing changes any more; returns whether anything is still wrong."""
    from rdkit_vae.system.files import locked

    with locked(sweep.root, alone=True):
        for _ in range(_ROUNDS):
            report = _checked(sweep, held=True)
            _tell(sweep, report, ": ")
            if not any(finding.remedy for finding in report.findings):
                break
            _repair(sweep, report.findings, place)
    return bool(report.findings)


def _checked(sweep: "Sweep", *, held: bool = False) -> "Report":
    from rich.progress import Progress

    from rdkit_vae.sweep.verify import verify

    console = terminal.console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"checking {sweep.root}", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return verify(sweep, progress, held=held)


def _tell(sweep: "Sweep", report: "Report", before_remedy: str) -> None:
    for finding in report.findings:
        remedy = finding.remedy and f"{before_remedy}{finding.remedy}"
        click.echo(f"{finding.path}: {finding.what}{remedy}")
    if report.foreign:
        names = few(path.name for path in report.foreign)
        click.echo(f"{sweep.root}: {counted(len(report.foreign), 'file')} not of it: {names}")
    if report.at_work:
        click.echo(f"{sweep.root}: a sweep is at work; what no row names yet was not judged")
    found = counted(len(report.findings), "finding") if report.findings else "all agree"
    click.echo(f"{sweep.root}: {report.in_words}: {found}")


def _repair(sweep: "Sweep", findings: "list[Finding]", place: Place) -> None:
    from rdkit_vae.sweep.repair import repair
    from rdkit_vae.sweep.run import choose_device

    device = choose_device(place.device)
    done = repair(
        sweep,
        findings,
        lambda checkpoint, path: images_of(path, checkpoint, place),
        device=device,
    )
    for line in done:
        click.echo(f"  {line}")
