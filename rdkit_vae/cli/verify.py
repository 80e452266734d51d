"""`rdvae verify`."""

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.cli import terminal
from rdkit_vae.cli.checkpoints import measuring_of, with_place_options
from rdkit_vae.errors import BadData, BadInput, RdvaeError
from rdkit_vae.store.mirror import EVERYTHING, is_copy, local
from rdkit_vae.store.models import models_in
from rdkit_vae.store.objects import is_url
from rdkit_vae.store.paths import Sweep, find_sweeps
from rdkit_vae.text import counted, few

if TYPE_CHECKING:
    from rdkit_vae.evaluation.checkpoints import Measuring
    from rdkit_vae.sweeps.verify import Report


@click.command("verify")
@click.argument("folders", nargs=-1, required=True)
@click.option("--repair", is_flag=True, help="Repair what can be repaired.")
@with_place_options
def command(folders: tuple[str, ...], repair: bool, **options: Any) -> None:
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

    if repair and any(map(is_url, folders)):
        raise BadInput("--repair works on folders; copy the sweep to this machine first")
    roots = [root for folder in folders for root in find_sweeps(local(folder, EVERYTHING))]
    if not roots:
        raise BadData(f"{few(folders)}: no sweep below it (no sweep.json)")
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
    copy = is_copy(sweep.root)
    for finding in report.findings:
        remedy = f"{before_remedy}{finding.remedy}" if finding.remedy and not copy else ""
        click.echo(f"{finding.path}: {finding.what}{remedy}")
    if report.foreign:
        names = few(path.name for path in report.foreign)
        foreign = counted(len(report.foreign), "file")
        click.echo(f"{sweep.root}: {foreign} that rdvae did not write: {names}")
    if report.at_work:
        running = "may be" if copy else "is"
        click.echo(
            f"{sweep.root}: a sweep {running} running, so files without rows were not checked"
        )
    count = counted(len(report.findings), "problem") if report.findings else "no problems"
    models = counted(report.n_checkpoints, "checkpoint")
    if models_in(sweep.root) is not None:
        models = f"{counted(report.n_checkpoints, 'model')} from elsewhere"
    checked = f"{models}, {counted(report.n_rows, 'row')}"
    click.echo(f"{sweep.root}: {checked}: {count}")
