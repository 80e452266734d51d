"""`rdvae verify`."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.cli import terminal
from rdkit_vae.cli.checkpoints import measuring_of, with_place_options
from rdkit_vae.errors import BadData, RdvaeError
from rdkit_vae.store.models import models_in
from rdkit_vae.store.paths import Sweep, find_sweeps
from rdkit_vae.text import counted, few

if TYPE_CHECKING:
    from rdkit_vae.evaluation.checkpoints import Measuring
    from rdkit_vae.sweeps.verify import Report


@click.command("verify")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--repair", is_flag=True, help="Repair what can be repaired.")
@with_place_options
def command(folders: tuple[Path, ...], repair: bool, **options: Any) -> None:
    """Check every file and number of the sweeps below FOLDERS.

    Checks the hashes of checkpoints and the checksums of files, computes every row again from its
    statistics, and looks for files that are missing or that no row refers to. Reports what is wrong
    and how --repair would fix it; the exit code is 4 if anything is wrong.

    A repair deletes nothing: damaged files are moved into the folder damaged/ of their sweep. It
    needs the images only if statistics are lost.

    \b
    rdvae verify runs/
    rdvae verify --repair runs/digits-conv
    """

    roots = [root for folder in folders for root in find_sweeps(folder)]
    if not roots:
        raise BadData(f"{few(map(str, folders))}: no sweep below it (no sweep.json)")
    measuring = measuring_of(**options) if repair else None
    wrong = [_verify(Sweep(root), measuring) for root in roots]
    sys.exit(BadData.exit_code if any(wrong) else 0)


def _verify(sweep: Sweep, measuring: "Measuring | None") -> bool:
    """Checks a sweep, and repairs it if `measuring` is given; returns whether anything is wrong."""
    from rdkit_vae.sweeps.verify import Report, verify

    wrong, bar = True, partial(terminal.progress_bar, f"checking {sweep.root}")
    try:
        if measuring is None:
            with bar() as progress:
                report = verify(sweep, progress)
            _print(sweep, report, "; --repair: ")
            return bool(report.findings)
        from rdkit_vae.sweeps.repair import verify_and_repair  # loads torch

        for step in verify_and_repair(sweep, measuring, bar):
            if isinstance(step, Report):
                _print(sweep, step, ": ")
                wrong = bool(step.findings)
            else:
                click.echo(f"  {step}")
    except RdvaeError as error:
        click.echo(str(error))
        return True
    return wrong


def _print(sweep: Sweep, report: "Report", before_remedy: str) -> None:
    for finding in report.findings:
        remedy = finding.remedy and f"{before_remedy}{finding.remedy}"
        click.echo(f"{finding.path}: {finding.what}{remedy}")
    if report.foreign:
        names = few(path.name for path in report.foreign)
        foreign = counted(len(report.foreign), "file")
        click.echo(f"{sweep.root}: {foreign} that rdvae did not write: {names}")
    if report.at_work:
        click.echo(f"{sweep.root}: a sweep is running, so files without rows were not checked")
    count = counted(len(report.findings), "problem") if report.findings else "no problems"
    models = counted(report.n_checkpoints, "checkpoint")
    if models_in(sweep.root) is not None:
        models = f"{counted(report.n_checkpoints, 'model')} from elsewhere"
    checked = f"{models}, {counted(report.n_rows, 'row')}"
    click.echo(f"{sweep.root}: {checked}: {count}")
