"""`rdvae rescore`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.adapters import ADAPTERS
from rdkit_vae.cli import terminal
from rdkit_vae.cli.checkpoints import MEASURING, measuring_of, with_measuring_options
from rdkit_vae.cli.foreign import (
    check_options,
    evaluations,
    foreign_lines,
    with_foreign_options,
)
from rdkit_vae.cli.options import (
    Runs,
    check_suffixes,
    measured_in_words,
    sigmas_of,
    student_in_words,
)
from rdkit_vae.scoring.interpretations import SIGMAS, described, interpretation
from rdkit_vae.store.results import write_bounds, write_results
from rdkit_vae.store.schema import BOUNDS, COLUMNS
from rdkit_vae.system.files import write_output
from rdkit_vae.text import counted, whole

if TYPE_CHECKING:
    from rdkit_vae.evaluation.checkpoints import Measuring
    from rdkit_vae.evaluation.foreign import Prepared
    from rdkit_vae.store.evaluations import Evaluation, Row

_SUFFIXES = (".parquet", ".csv", ".json")
_SHOWN = ["split", "sigma", "density", "sigma2", "rate", "distortion", "elbo", "elbo_se"]
_MOST_SHOWN = 6  # K of IWAE-K that fit on a screen


def _listed(entries: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {about}" for name, about in entries.items())


@click.command(
    "rescore",
    epilog=f"Interpretations: {_listed(described())}.\n\nAdapters: "
    f"{_listed({name: adapter.about for name, adapter in ADAPTERS.items()})}; or "
    "package.module:factory, a function of your own that makes the network.",
)
@click.argument("checkpoints", nargs=-1, required=True, type=Runs("results", "statistics"))
@click.option(
    "--sigma",
    "sigmas",
    metavar="NAME",
    multiple=True,
    default=("all",),
    show_default=True,
    help=f"An interpretation from the list below, or all: those of {', '.join(SIGMAS)} that apply "
    "to the model. Repeatable.",
)
@click.option(
    "--bound",
    type=click.Choice(["elbo", "iwae"]),
    default="elbo",
    show_default=True,
    help="iwae: also the tighter bound IWAE-K, for interpretations that are densities.",
)
@click.option(
    "--k",
    "ks",
    metavar="K,K,..",
    help="Values of K for --bound iwae.  [default: 1 to the number of posterior samples]",
)
@click.option(
    "--discretized",
    "pixels",
    is_flag=True,
    help="Also compute the likelihood of the grey levels of the pixels, from the mass of their "
    "bins and under uniform noise. Its bits per dimension are comparable with other papers. Needs "
    "the model and the images.",
)
@with_measuring_options
@with_foreign_options
@click.option(
    "--out",
    metavar="FILE|FOLDER",
    multiple=True,
    help="File to write the rows to as well: .parquet, .csv or .json; with --adapter also a "
    "folder, such as runs/mine, which all commands read. Repeatable.",
)
def command(
    checkpoints: tuple[Path, ...],
    sigmas: tuple[str, ...],
    bound: str,
    ks: str | None,
    pixels: bool,
    out: tuple[str, ...],
    adapter: str | None,
    **options: Any,
) -> None:
    """Score CHECKPOINTS under any interpretation of the decoder variance.

    Uses the statistics that the sweep has stored, without loading the model. A checkpoint outside a
    sweep folder is evaluated now. The ELBO bounds a log-likelihood only if the interpretation is a
    density.

    With --adapter, CHECKPOINTS are models that other programs trained: files of weights, or
    folders.

    \b
    rdvae rescore --sigma optimal --sigma shared runs/NAME/checkpoints/RUN/epoch=00025.pt
    rdvae rescore --sigma constant:0.01 --out scores.csv runs/NAME/checkpoints/*/epoch=00025.pt
    rdvae rescore --bound iwae --discretized --sigma shared --sigma mixture CHECKPOINT.pt
    rdvae rescore --adapter diffusers --dataset celeba --out runs/kl-f8 FOLDER
    """
    asked = sigmas_of(sigmas)
    check_options(adapter, checkpoints, options)
    folders = [name for name in out if adapter and Path(name).suffix not in _SUFFIXES]
    files = [name for name in out if name not in folders]
    check_suffixes(files, _SUFFIXES)
    if ks is not None and bound != "iwae":
        raise click.UsageError("--k needs --bound iwae")
    bounds = bound == "iwae" or pixels
    chosen = _densities(asked, "all" in sigmas) if bounds else asked
    if pixels and all(interpretation(sigma).scales for sigma in chosen):
        raise click.UsageError("--discretized needs an interpretation with a single variance")
    only = None if ks is None else sorted({whole(k, "--k", least=1) for k in ks.split(",")})

    from rdkit_vae.scoring.bounds import DISCRETIZED
    from rdkit_vae.store.models import write_model

    scored: list[tuple[Path, Evaluation, list[Row]]] = []
    source = (
        _foreign(checkpoints, adapter, folders, options) if adapter else _own(checkpoints, options)
    )
    for path, evaluation, masses_of in source:
        if bounds:
            every = range(1, evaluation.draws + 1)
            k_of_iwae = (only or every) if bound == "iwae" else None
            masses = masses_of(chosen) if pixels else {}
            rows = evaluation.bound_rows(chosen, k_of_iwae, masses)
        else:
            rows = evaluation.rows(chosen)
        for folder in folders:
            write_model(Path(folder), evaluation)
        scored.append((path, evaluation, rows))
    terminal.print_notes(
        f"left out {sigma}: it is not a density, so it gives no bound"
        for sigma in asked
        if sigma not in chosen
    )
    all_rows = [row for _, _, rows in scored for row in rows]
    if pixels:
        with_mass = {row["sigma"] for row in all_rows if row["likelihood"] == DISCRETIZED}
        terminal.print_notes(
            f"{sigma} has no single variance, so the mass of grey levels is not defined"
            for sigma in dict.fromkeys(row["sigma"] for row in all_rows)
            if sigma not in with_mass
        )
    if "all" not in sigmas:
        terminal.print_notes(_not_applicable(scored, chosen))
    # The files are written first, as printing can fail when a pipe is closed.
    for name in files:
        _write(Path(name), all_rows, chosen, bounds)
    for path, evaluation, rows in scored:
        click.echo(f"{path}")
        _print(evaluation, rows, bounds)
    for name in files:
        click.echo(f"wrote {counted(len(all_rows), 'row')} to {name}")
    for folder in folders:
        click.echo(f"added {counted(len(scored), 'model')} to {folder}: rdvae plot-rd {folder}")


def _not_applicable(
    scored: "Sequence[tuple[Path, Evaluation, list[Row]]]", sigmas: Sequence[str]
) -> Iterator[str]:
    """Which interpretations that were asked for do not apply to a model, and why."""
    for _, evaluation, rows in scored:
        for sigma in sigmas:
            if sigma not in {row["sigma"] for row in rows}:
                needs = interpretation(sigma).needs
                yield f"{sigma} does not apply to {evaluation.trial.run_id}, which lacks {needs}"


Masses = Callable[[Sequence[str]], Mapping[str, Mapping[str, Any]]]


def _own(
    paths: Sequence[Path], options: Mapping[str, Any]
) -> "Iterator[tuple[Path, Evaluation, Masses]]":
    """The evaluations of checkpoints of rdvae, and functions that give their masses."""
    from rdkit_vae.evaluation.checkpoints import evaluation_of
    from rdkit_vae.store.models import models_below

    measuring = measuring_of(**{name: options[name] for name in MEASURING})
    for path in (each for given in paths for each in models_below(given)):
        with terminal.busy(f"evaluating {path}"):
            evaluation = evaluation_of(path, measuring)
        yield path, evaluation, partial(_masses_of_own, path, evaluation, measuring)


def _masses_of_own(
    path: Path, evaluation: "Evaluation", measuring: "Measuring", sigmas: Sequence[str]
) -> Mapping[str, Mapping[str, Any]]:
    from rdkit_vae.evaluation.checkpoints import discretized_masses

    return discretized_masses(path, evaluation, sigmas, measuring)


def _foreign(
    paths: Sequence[Path], adapter: str, folders: Sequence[str], options: Mapping[str, Any]
) -> "Iterator[tuple[Path, Evaluation, Masses]]":
    """The same of models from elsewhere."""
    used = {n: v for n, v in options.items() if n not in ("architectures", "objectives", "again")}
    for path, ready, evaluation in evaluations(paths, adapter=adapter, folders=folders, **used):
        yield path, evaluation, partial(_masses_of_foreign, ready, evaluation)


def _masses_of_foreign(
    ready: "Prepared", evaluation: "Evaluation", sigmas: Sequence[str]
) -> Mapping[str, Mapping[str, Any]]:
    from rdkit_vae.evaluation.checkpoints import variances_of
    from rdkit_vae.evaluation.evaluate import evaluate_discretized

    sigma2 = variances_of(evaluation, sigmas)
    return evaluate_discretized(ready.model, ready.images, ready.subject, sigma2)


def _densities(sigmas: Sequence[str], from_all: bool) -> tuple[str, ...]:
    """The densities among interpretations; the others may only come from `all`."""
    others = [sigma for sigma in sigmas if not interpretation(sigma).is_density]
    if others and not from_all:
        raise click.UsageError(
            f"sigma {others[0]} is not a density, so it gives no bound and cannot be used with "
            "--bound iwae or --discretized"
        )
    return tuple(sigma for sigma in sigmas if sigma not in others)


def _print(evaluation: "Evaluation", rows: "list[Row]", bounds: bool) -> None:
    import pandas as pd

    from rdvae_analysis.tables import to_text

    if not rows:
        click.echo("  none of these interpretations applies to this model\n")
        return
    epoch = f", epoch {evaluation.epoch}" if evaluation.epoch else ""  # 0: unknown
    run = f"{evaluation.trial.run_id}{epoch}"
    click.echo(f"  {run}; {measured_in_words(evaluation)}; nats per image")
    frame = pd.DataFrame(rows).rename(columns={"is_density": "density"})
    frame["density"] = frame["density"].map({True: "yes", False: "no"})
    click.echo(to_text(_bounds_shown(frame) if bounds else frame[[*_SHOWN, "bits_per_dim"]]))
    for line in (*_remarks(frame), *foreign_lines(evaluation)):
        click.echo(f"  {line}")
    click.echo()


def _bounds_shown(frame: Any) -> Any:
    """A row per split, interpretation and likelihood; columns for the ELBO and IWAE-K."""
    keys = ["split", "sigma", "likelihood"]
    firsts = frame.groupby(keys, sort=False)
    shown = firsts.agg(sigma2=("sigma2", "first"))
    shown["elbo"] = frame[frame["k"].isna()].groupby(keys, sort=False)["value"].first()
    ks = sorted({int(k) for k in frame["k"].dropna()})
    powers = [k for k in ks if k == ks[-1] or k & (k - 1) == 0]
    for k in ks if len(ks) <= _MOST_SHOWN else powers:
        at = frame[frame["k"] == k].groupby(keys, sort=False)["value"]
        shown[f"iwae-{k}"] = at.first()
    tightest = f"iwae-{ks[-1]}" if ks else "elbo"
    last = firsts.agg(se=("value_se", "last"), bits=("bits_per_dim", "last"))
    return shown.join(last.add_prefix(f"{tightest}_")).reset_index()


def _remarks(frame: Any) -> list[str]:
    """Notes below the table: caveats, the range of a mixture, and nu of a Student t."""
    splits = set(frame["split"])
    remarks = []
    for (sigma, caveat), rows in frame.groupby(["sigma", "caveat"], sort=False):
        where = "" if set(rows["split"]) == splits else f" on {rows['split'].iloc[0]}"
        remarks += [f"{sigma}{where}: {caveat}"] if caveat else []
    mixed = frame[frame["s_min"].notna()].drop_duplicates("sigma")
    if "likelihood" in frame and (frame["likelihood"] == "discretized").any():
        remarks.append(
            f"discretized: mass of the {frame['levels'].iloc[0]} grey levels of a pixel, whose "
            "outer bins are open; dequantized: a bound on it with uniform noise over the bins"
        )
    remarks += [
        f"{row.sigma}: s from {row.s_min:g} to {row.s_max:g} pixels" for row in mixed.itertuples()
    ]
    students = frame[frame["nu"].notna()].drop_duplicates("sigma")
    return remarks + [student_in_words(row.sigma, row.nu) for row in students.itertuples()]


def _write(path: Path, rows: list[dict[str, Any]], sigmas: Sequence[str], bounds: bool) -> None:
    import pandas as pd

    from rdvae_analysis.tables import to_csv

    if path.suffix == ".parquet":
        write = write_bounds if bounds else write_results
        write(path, rows, {"rescored": list(sigmas)}, write=write_output)
        return
    frame = pd.DataFrame(rows, columns=list(BOUNDS if bounds else COLUMNS))
    if path.suffix == ".csv":
        write_output(path, to_csv(frame).encode())
    else:
        write_output(path, frame.to_json(orient="records", indent=1, double_precision=15).encode())
