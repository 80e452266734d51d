"""`rdvae status`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rdkit_vae.errors import BadData

if TYPE_CHECKING:
    from rdkit_vae.store import Sweep


@click.command("status")
@click.argument("folder", type=click.Path(path_type=Path))
def command(folder: Path) -> None:
    """What of the sweeps below FOLDER is done, running, failed, left. Reads only.

    \b
    rdvae status runs/
    """
    from rdkit_vae.store import find_sweeps

    sweeps = find_sweeps(folder)
    if not sweeps:
        raise BadData(f"{folder}: no sweep below it (no sweep.json)")
    for root in sweeps:
        _print(root)


def _print(root: Path) -> None:
    from rdkit_vae.files import is_locked, read_json
    from rdkit_vae.store import CRASHED, DIVERGED, OK, Sweep
    from rdkit_vae.sweep import LEFT, state_of

    sweep = Sweep(root)
    try:
        run_ids = read_json(sweep.description).get("run_ids")
        if not isinstance(run_ids, list):
            raise BadData(f"{sweep.description}: names no runs")
    except BadData as error:
        click.echo(f"rdvae: left out {error}", err=True)
        return
    running = _running(sweep) if is_locked(sweep.root) else {}
    states = {str(run_id): state_of(sweep, str(run_id)) for run_id in run_ids}
    for run_id in running:
        if states.get(run_id) in (LEFT, CRASHED):  # one that crashed is being tried again
            states[run_id] = "running"
    count = Counter(states.values())
    click.echo(
        f"{root}: {count[OK]} of {len(run_ids)} done, {count['running']} running, "
        f"{count[DIVERGED] + count[CRASHED]} failed, {count[LEFT]} left"
    )
    for run_id, state in states.items():
        if state == "running":
            facts = running[run_id]
            click.echo(
                f"  running   {run_id}: epoch {facts['epoch']} of {facts['epochs']}, "
                f"loss {facts['loss']:.4g}"
            )
        elif state not in (OK, LEFT):
            click.echo(f"  {state:9} {run_id}")


def _running(sweep: "Sweep") -> dict[str, dict[str, float]]:
    from rdkit_vae.files import read_json

    try:
        running: dict[str, dict[str, float]] = read_json(sweep.progress)["running"]
    except (BadData, KeyError):
        return {}  # the sweep is starting or ending
    return running
