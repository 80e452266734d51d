"""`rdvae verify`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.cli.checkpoints import Place, images_of, with_place_options
from rdkit_vae.errors import BadData
from rdkit_vae.grammar import counted, few

if TYPE_CHECKING:
    from rdkit_vae.store import Sweep
    from rdkit_vae.verify import Finding, Report

_ROUNDS = 3  # of repair: what was merged is first taken apart, then made again


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
    from rdkit_vae.store import Sweep, find_sweeps

    roots = [root for folder in folders for root in find_sweeps(folder)]
    if not roots:
        raise BadData(f"{few(map(str, folders))}: no sweep below it (no sweep.json)")
    wrong = [_verify(Sweep(root), mend, Place(**place)) for root in roots]
    sys.exit(BadData.exit_code if any(wrong) else 0)


def _verify(sweep: "Sweep", mend: bool, place: Place) -> bool:
    """Checks a sweep, and mends it where that is wanted; returns whether anything is wrong."""
    try:
        report = _checked(sweep)
    except BadData as error:
        click.echo(str(error))
        return True
    _tell(sweep, report, mended=mend)
    for _ in range(_ROUNDS):
        if not mend or not any(finding.remedy for finding in report.findings):
            break
        _repair(sweep, report.findings, place)
        report = _checked(sweep)
        _tell(sweep, report, mended=True)
    return bool(report.findings)


def _checked(sweep: "Sweep") -> "Report":
    from rich.console import Console
    from rich.progress import Progress

    from rdkit_vae.verify import verify

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"checking {sweep.root}", total=None)
        return verify(sweep, lambda done, total: bar.update(task, completed=done, total=total))


def _tell(sweep: "Sweep", report: "Report", mended: bool) -> None:
    for finding in report.findings:
        remedy = finding.remedy and (
            f": {finding.remedy}" if mended else f"; --repair: {finding.remedy}"
        )
        click.echo(f"{finding.path}: {finding.what}{remedy}")
    if report.foreign:
        names = few(path.name for path in report.foreign)
        click.echo(f"{sweep.root}: {counted(len(report.foreign), 'file')} not of it: {names}")
    if report.at_work:
        click.echo(f"{sweep.root}: a sweep is at work; what no row names yet was not judged")
    found = counted(len(report.findings), "finding") if report.findings else "all agree"
    click.echo(f"{sweep.root}: {report.in_words}: {found}")


def _repair(sweep: "Sweep", findings: "list[Finding]", place: Place) -> None:
    from rdkit_vae.repair import repair
    from rdkit_vae.sweep import choose_device

    device = choose_device(place.device)
    done = repair(
        sweep,
        findings,
        lambda checkpoint, path: images_of(path, checkpoint, place),
        device=device,
    )
    for line in done:
        click.echo(f"  {line}")
