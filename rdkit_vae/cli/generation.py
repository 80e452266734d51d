"""`rdvae generation`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.adapters import ADAPTERS
from rdkit_vae.cli import terminal
from rdkit_vae.cli.checkpoints import measuring_of, with_place_options
from rdkit_vae.cli.foreign import check_options, evaluations, with_foreign_options
from rdkit_vae.cli.options import Runs, split_option
from rdkit_vae.config.parsing import merge_repeats
from rdkit_vae.errors import BadData, BadInput, RdvaeError
from rdkit_vae.generation.names import FEATURES, check_features
from rdkit_vae.scoring.priors import PRIORS, STANDARD
from rdkit_vae.store.generation import features_in_words
from rdkit_vae.store.paths import Sweep
from rdkit_vae.text import counted, few, one_of

if TYPE_CHECKING:
    from rdkit_vae.generation.checkpoints import Measurer
    from rdkit_vae.store.generation import Row

_PLACE = ("data_dir", "dataset", "device", "architectures", "objectives")
_SHOWN = {
    "n_samples": "n",
    "frechet": "FD",
    "frechet_infinite": "FD(inf)",
    "kid": "KID",
    "kid_se": "±",
    "precision": "prec",
    "recall": "recall",
    "density": "dens",
    "coverage": "cover",
}


def _listed(entries: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {about}" for name, about in entries.items())


def priors_of(names: Sequence[str]) -> tuple[str, ...]:
    """Names of priors without repeats; `all` stands for every one.

    Raises:
        BadInput: a name is unknown.
    """
    named = [prior for name in names for prior in (PRIORS if name == "all" else [name])]
    merged, _ = merge_repeats(one_of(name, [*PRIORS, "all"], "prior") for name in named)
    return merged


@click.command(
    "generation",
    epilog=f"Features: {_listed(FEATURES)}.\n\nPriors: {_listed(PRIORS)}.\n\nAdapters: "
    f"{_listed({name: adapter.about for name, adapter in ADAPTERS.items()})}.",
)
@click.argument("paths", nargs=-1, required=True, type=Runs("results", "checkpoints"))
@click.option(
    "--features",
    metavar="NAME",
    default="classifier",
    show_default=True,
    help="What distances are measured in, from the list below.",
)
@click.option(
    "--prior",
    "priors",
    metavar="NAME",
    multiple=True,
    default=(STANDARD,),
    show_default=True,
    help="A prior to sample from, from the list below, or all. Repeatable.",
)
@click.option(
    "--samples",
    "n_samples",
    type=click.IntRange(6, 1_000_000),
    default=10_000,
    show_default=True,
    help="How many samples to draw from each prior.",
)
@split_option
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of the samples and of fitting the priors.",
)
@with_place_options
@with_foreign_options
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="With --adapter: folder for the model's results, such as runs/mine.",
)
def command(
    paths: tuple[Path, ...],
    features: str,
    priors: tuple[str, ...],
    adapter: str | None,
    out: Path | None,
    **options: Any,
) -> None:
    """Measure how good the samples and reconstructions of models are.

    PATHS are checkpoints, or folders of sweeps; from a folder, the last checkpoint of each run is
    used. Decoded samples of priors, and reconstructions, are compared with the images of a split:
    Frechet distance (FD, and FD(inf) extrapolated to infinitely many samples), kernel distance
    (KID), precision and recall, density and coverage, psnr and ssim. The images of the other split
    are compared too: a perfect model could reach their distance.

    Rows are stored in generation/ of the sweep as they are made; run the same command again to
    continue. A prior other than the standard one is fitted to the train posteriors; what is gained
    by sampling from it is the share of the distance that N(0, I) causes. `rdvae table`,
    `rdvae plot blur` and `rdvae report` show the rows.

    \b
    rdvae generation runs/
    rdvae generation --prior standard --prior gaussian --samples 2000 runs/NAME
    rdvae generation --prior all --features inception:pt_inception.pth runs/celeba
    rdvae generation --adapter pythae --dataset mnist --out runs/mine FOLDER
    """
    check_features(features)
    asked: dict[str, Any] = {"features": features, "priors": priors_of(priors)}
    asked |= {name: options.pop(name) for name in ("n_samples", "split", "seed")}
    check_options(adapter, paths, options)
    if out is not None and adapter is None:
        raise click.UsageError("--out needs --adapter: rows of a sweep are stored in its folder")

    from rdkit_vae.generation.checkpoints import Asked, Measurer
    from rdkit_vae.system.devices import choose_device

    options["device"] = choose_device(options["device"])
    with terminal.reporting() as report:
        measurer = Measurer(
            asked=Asked(**asked),
            data_dir=options["data_dir"],
            device=options["device"],
            report=report,
        )
        if adapter is None:
            measured = _own(paths, measurer, {name: options[name] for name in _PLACE})
        else:
            measured = _foreign(paths, adapter, out, measurer, options)
        rows = [row for part in measured for row in part]
    _print(rows, measurer.note)


def _own(
    paths: Sequence[Path], measurer: "Measurer", options: Mapping[str, Any]
) -> "Iterator[list[Row]]":
    """The rows of each checkpoint; prints a line about each, and about those left out."""
    from rdkit_vae.evaluation.pictures import last_checkpoints
    from rdkit_vae.generation.checkpoints import measure

    measuring = measuring_of(**options)
    checkpoints = list(dict.fromkeys(each for path in paths for each in last_checkpoints(path)))
    failures: list[RdvaeError] = []
    failed = _failed_runs(paths)
    usable = [path for path in checkpoints if path.parent.name not in failed]
    if names := sorted({path.parent.name for path in checkpoints if path not in usable}):
        terminal.print_notes([f"left out {counted(len(names), 'run')} that failed: {few(names)}"])
    for place, path in enumerate(usable):
        measurer.prefix = f"[{place + 1}/{len(usable)}] "
        try:
            rows, before = measure(path, measurer, measuring)
        except RdvaeError as error:
            if len(usable) == 1 or isinstance(error, BadInput):
                raise
            failures.append(error)
            terminal.print_notes([f"left out {error}"])
            continue
        done = "stored before: " if before == len(rows) else ""
        click.echo(f"{measurer.prefix}{done}{_line(rows)}")
        yield rows
    if len(failures) == len(usable):
        raise BadData("no model was measured")


def _failed_runs(paths: Sequence[Path]) -> set[str]:
    """The runs that diverged or crashed, by the results in the folders."""
    from rdkit_vae.store.schema import Status
    from rdvae_analysis.load import scan

    folders = [path for path in paths if path.is_dir()]
    if not folders:
        return set()
    try:
        frame, _ = scan(*folders, columns=("run_id", "status"))
    except BadData:  # a folder of checkpoints alone
        return set()
    return set(frame.loc[frame["status"].isin([Status.DIVERGED, Status.CRASHED]), "run_id"])


def _foreign(
    paths: Sequence[Path],
    adapter: str,
    out: Path | None,
    measurer: "Measurer",
    options: Mapping[str, Any],
) -> "Iterator[list[Row]]":
    """The same of models from elsewhere, which are scored too if they are stored."""
    from rdkit_vae.generation.measure import Model
    from rdkit_vae.store.models import write_model

    used = {n: v for n, v in options.items() if n not in ("architectures", "objectives")}
    folders = [] if out is None else [str(out)]
    for _, ready, evaluation in evaluations(
        paths, adapter=adapter, folders=folders, draws=None, **used
    ):
        model = Model(
            network=ready.model.to(measurer.device),
            images=ready.images,
            subject=ready.subject,
            epoch=ready.subject.epoch,
            step=0,
            sha256=ready.subject.weights_sha256,
            seed=measurer.asked.seed,
            device=measurer.device,
        )
        if out is not None:
            write_model(out, evaluation)
        rows, _ = measurer.generation(model, None if out is None else Sweep(out))
        click.echo(_line(rows))
        yield rows


def _line(rows: "list[Row]") -> str:
    """Two lines about one model: distances of samples of the first prior and of the best."""
    samples = [row for row in rows if row["source"] == "prior" and row["pixels"] == "clipped"]
    made = next(row for row in rows if row["source"] == "reconstruction")
    best = min(samples, key=lambda row: row["frechet"])
    shown = [samples[0], *([best] if best is not samples[0] else [])]
    distances = ", ".join(f"{row['frechet']:.4g} ({row['prior']})" for row in shown)
    return (
        f"{made['run_id']}\n  FD {features_in_words(made)}: samples {distances}; "
        f"reconstructions {made['frechet']:.4g}"
    )


def _print(rows: "list[Row]", note: str) -> None:
    """Tables of all models: one of samples, one of reconstructions."""
    import pandas as pd

    from rdvae_analysis.tables import to_text

    frame = pd.DataFrame(rows)
    first = rows[0]
    click.echo(
        f"\nDistances in {features_in_words(first)}, from {first['n_reference']:,} "
        f"{first['split']} images of {first['dataset']}\n{note}".rstrip()
    )
    frame = frame.rename(columns=_SHOWN)
    same = frame["pixels"].nunique() == 1
    by_model = ["objective", "beta", *(["seed"] if frame["seed"].nunique() > 1 else [])]
    distances = list(_SHOWN.values())
    samples = frame[frame["source"] == "prior"]
    columns = [*by_model, "prior", *([] if same else ["pixels"]), *distances[1:]]
    click.echo(f"\n{first_of(samples, 'n'):,} samples of each prior\n{to_text(samples[columns])}")
    made = frame[frame["source"] == "reconstruction"]
    columns = [*by_model, "psnr", "ssim", *distances[1:]]
    click.echo(f"\nreconstructions\n{to_text(made[columns])}")
    other = frame[frame["source"] == "images"].drop_duplicates(["dataset"])
    click.echo(f"\nimages of the other split\n{to_text(other[distances])}")


def first_of(frame: Any, column: str) -> int:
    """The first number of a column."""
    return int(frame[column].iloc[0])
