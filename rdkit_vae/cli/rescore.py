"""`rdvae rescore`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.cli.options import data_dir_option, sigmas_of
from rdkit_vae.errors import BadData, RdvaeError
from rdkit_vae.grammar import SIGMAS
from rdkit_vae.trial import Trial, bind

if TYPE_CHECKING:
    from rdkit_vae.datasets.images import Images
    from rdkit_vae.sigma import Statistics

_SUFFIXES = (".parquet", ".csv", ".json")
_SHOWN = [
    "split",
    "sigma",
    "density",
    "sigma2",
    "rate",
    "distortion",
    "elbo",
    "elbo_se",
    "bits_per_dim",
]


@click.command(
    "rescore",
    epilog="Interpretations: "
    + "; ".join(f"{name}: {formula}" for name, formula in SIGMAS.items())
    + "; constant:V: any V > 0, in squared pixels.",
)
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--sigma",
    "sigmas",
    metavar="NAME",
    multiple=True,
    default=("all",),
    show_default=True,
    help="An interpretation, constant:V, or all; repeatable.",
)
@data_dir_option
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option(
    "--dataset", metavar="NAME", help="Where the images are now, if not where the sweep found them."
)
@click.option(
    "--out",
    metavar="FILE",
    multiple=True,
    help="Also write the rows: .parquet, .csv or .json; repeatable.",
)
def command(
    checkpoints: tuple[Path, ...],
    sigmas: tuple[str, ...],
    data_dir: str | None,
    device: str,
    dataset: str | None,
    out: tuple[str, ...],
) -> None:
    """Score CHECKPOINTS under any interpretation of the decoder variance.

    Statistics that the sweep stored are used where the checkpoint still is the one they were
    measured on; else the checkpoint is evaluated anew.

    \b
    rdvae rescore --sigma optimal --sigma shared runs/NAME/checkpoints/RUN/epoch=00025.pt
    rdvae rescore --sigma constant:0.01 --out scores.csv runs/NAME/checkpoints/*/epoch=00025.pt
    """
    chosen = sigmas_of(sigmas)
    for name in out:
        if Path(name).suffix not in _SUFFIXES:
            raise click.BadParameter(
                f"{name} must end in {', '.join(_SUFFIXES)}", param_hint="--out"
            )
    scored = [
        _rows(path, chosen, lambda trial: _images(trial, dataset, data_dir), device)
        for path in checkpoints
    ]
    # The files come before the tables: they do not depend on who reads the screen.
    for name in out:
        _write(Path(name), [row for rows, _ in scored for row in rows], chosen)
    for path, (rows, source) in zip(checkpoints, scored, strict=True):
        _print(path, rows, source)
    for name in out:
        click.echo(f"wrote {sum(len(rows) for rows, _ in scored)} rows to {name}")


def _images(trial: "Trial", dataset: str | None, data_dir: str | None) -> "Images":
    """The images that a trial was evaluated on, wherever they are now."""
    from rdkit_vae.datasets import load_dataset

    name = dataset or trial.dataset
    images = load_dataset(name, data_dir=data_dir, image_size=trial.image_size)
    bind(trial, images.sha256)
    return images


def _rows(
    path: Path, sigmas: Sequence[str], find: "Callable[[Trial], Images]", device: str
) -> tuple[list[dict[str, Any]], str]:
    """The rows of a checkpoint, and in words where their statistics come from."""
    from rdkit_vae.files import sha256_of
    from rdkit_vae.sigma import score
    from rdkit_vae.store import result_rows

    sha256 = sha256_of(path)
    stored = _stored(path, sha256)
    statistics, about = stored or _evaluated(path, find, device)
    if not all(measured.finite for measured in statistics.values()):
        raise BadData(f"{path}: its evaluation is not finite; the model has diverged")
    trial = Trial.from_dict(about["trial"])
    scores = score(statistics, sigmas, trial)
    at = {"epoch": about["epoch"], "step": about["step"]}
    rows = result_rows(trial, scores, **at, checkpoint_sha256=sha256)
    return rows, "stored statistics" if stored else "evaluated now"


def _stored(path: Path, sha256: str) -> "tuple[dict[str, Statistics], dict[str, Any]] | None":
    """The statistics beside a checkpoint, if they were measured on this very file."""
    from rdkit_vae.store import read_statistics, statistics_beside

    beside = statistics_beside(path)
    if not beside.exists():
        return None
    try:
        statistics, about = read_statistics(beside)
    except BadData as error:
        click.echo(f"rdvae: {error}; evaluating the checkpoint instead", err=True)
        return None
    if about.get("checkpoint_sha256") != sha256:
        click.echo(
            f"rdvae: {path} is not the file that {beside} was measured on; evaluating it instead",
            err=True,
        )
        return None
    return statistics, about


def _evaluated(
    path: Path, find: "Callable[[Trial], Images]", device: str
) -> "tuple[dict[str, Statistics], dict[str, Any]]":
    from rdkit_vae.checkpoint import load_checkpoint
    from rdkit_vae.evaluation import evaluate
    from rdkit_vae.sweep import choose_device

    checkpoint = load_checkpoint(path)
    trial = checkpoint.trial
    try:
        images = find(trial)
    except RdvaeError as error:
        raise BadData(f"{path} needs its images: {error}; --dataset names another place") from error
    device = choose_device(device)
    statistics = evaluate(checkpoint.model().to(device), images, trial, device=device)
    at = {"epoch": checkpoint.epoch, "step": checkpoint.step}
    return statistics, {"trial": trial.to_dict(), **at}


def _print(path: Path, rows: list[dict[str, Any]], source: str) -> None:
    import pandas as pd

    from rdvae_analysis.tables import to_text

    click.echo(f"{path}")
    if not rows:
        click.echo("  no interpretation asked for applies to this model\n")
        return
    first = rows[0]
    click.echo(
        f"  {first['run_id']}, epoch {first['epoch']}; {first['n_images']} images a split, "
        f"{first['n_draws']} draws, {source}; nats per image"
    )
    frame = pd.DataFrame(rows).rename(columns={"is_density": "density"})
    frame["density"] = frame["density"].map({True: "yes", False: "no"})
    click.echo(to_text(frame[_SHOWN]) + "\n")


def _write(path: Path, rows: list[dict[str, Any]], sigmas: Sequence[str]) -> None:
    import pandas as pd

    from rdkit_vae.files import write_atomic
    from rdkit_vae.store import COLUMNS, write_results

    if path.suffix == ".parquet":
        write_results(path, rows, {"rescored": list(sigmas)})
        return
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    if path.suffix == ".csv":
        write_atomic(path, frame.to_csv(index=False).encode())
    else:
        write_atomic(path, frame.to_json(orient="records", indent=1, double_precision=15).encode())
