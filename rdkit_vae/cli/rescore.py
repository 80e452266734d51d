"""`rdvae rescore`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.cli.checkpoints import (
    Measured,
    Wanted,
    discretized,
    measured,
    with_measuring_options,
)
from rdkit_vae.cli.options import check_suffixes, sigmas_of
from rdkit_vae.config.parsing import ON_REQUEST, SIGMAS
from rdkit_vae.errors import BadData
from rdkit_vae.text import counted, whole

if TYPE_CHECKING:
    from rdkit_vae.scoring.interpretations import Reading

_SUFFIXES = (".parquet", ".csv", ".json")
_SHOWN = ["split", "sigma", "density", "sigma2", "rate", "distortion", "elbo", "elbo_se"]
_MOST_SHOWN = 6  # K of IWAE-K that fit on a screen


@click.command(
    "rescore",
    epilog="Interpretations: "
    + "; ".join(f"{name}: {formula}" for name, formula in {**SIGMAS, **ON_REQUEST}.items())
    + ".",
)
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--sigma",
    "sigmas",
    metavar="NAME",
    multiple=True,
    default=("all",),
    show_default=True,
    help="An interpretation of those below, or all of the first six; repeatable.",
)
@click.option(
    "--bound",
    type=click.Choice(["elbo", "iwae"]),
    default="elbo",
    show_default=True,
    help="iwae: also the tighter IWAE-K, for the interpretations that are densities.",
)
@click.option(
    "--k", "ks", metavar="K,K,..", help="K of --bound iwae.  [default: every K up to the draws]"
)
@click.option(
    "--discretized",
    "pixels",
    is_flag=True,
    help="Also the likelihood of the pixels' grey levels, by the mass of their bins and under "
    "uniform noise: bits per dimension that compare with other papers. Needs model and images.",
)
@with_measuring_options
@click.option(
    "--out",
    metavar="FILE",
    multiple=True,
    help="Also write the rows: .parquet, .csv or .json; repeatable.",
)
def command(
    checkpoints: tuple[Path, ...],
    sigmas: tuple[str, ...],
    bound: str,
    ks: str | None,
    pixels: bool,
    out: tuple[str, ...],
    **measuring: Any,
) -> None:
    """Score CHECKPOINTS under any interpretation of the decoder variance.

    Statistics that the sweep stored are used, without the model; a checkpoint that lies elsewhere
    is evaluated. Only the bounds of a density bound a log-likelihood.

    \b
    rdvae rescore --sigma optimal --sigma shared runs/NAME/checkpoints/RUN/epoch=00025.pt
    rdvae rescore --sigma constant:0.01 --out scores.csv runs/NAME/checkpoints/*/epoch=00025.pt
    rdvae rescore --bound iwae --discretized --sigma shared --sigma mixture CHECKPOINT.pt
    """
    chosen, wanted = sigmas_of(sigmas), Wanted(**measuring)
    check_suffixes(out, _SUFFIXES)
    if ks is not None and bound != "iwae":
        raise click.UsageError("--k is of --bound iwae: give both, or neither")
    only = None if ks is None else sorted({whole(k, "--k", least=1) for k in ks.split(",")})
    bounds, asked = bound == "iwae" or pixels, chosen
    chosen = _densities(asked, "all" in sigmas) if bounds else asked
    if pixels and all(sigma.startswith("mixture") for sigma in chosen):
        raise click.UsageError("--discretized needs a reading of one variance, not a mixture alone")
    scored = []
    for path in checkpoints:
        found = measured(path, wanted)
        rows = (
            _bound_rows(found, chosen, bound, only, wanted if pixels else None)
            if bounds
            else _rows(found, chosen)
        )
        scored.append((found, rows))
    for sigma in (name for name in asked if name not in chosen):
        click.echo(f"rdvae: left out {sigma}: not a density, it bounds no likelihood", err=True)
    # The files come before the tables: they do not depend on who reads the screen.
    for name in out:
        _write(Path(name), [row for _, rows in scored for row in rows], chosen, bounds)
    for found, rows in scored:
        _print(found, rows, bounds)
    for name in out:
        click.echo(f"wrote {counted(sum(len(rows) for _, rows in scored), 'row')} to {name}")


def _densities(sigmas: Sequence[str], from_all: bool) -> tuple[str, ...]:
    """The densities among interpretations.

    Raises:
        UsageError: one that is none was named.
    """
    from rdkit_vae.scoring.interpretations import interpretation

    others = [sigma for sigma in sigmas if not interpretation(sigma).is_density]
    if others and not from_all:
        raise click.UsageError(
            f"sigma {others[0]} is not a density: it bounds no likelihood, so neither --bound iwae "
            "nor --discretized goes with it"
        )
    return tuple(sigma for sigma in sigmas if sigma not in others)


def _rows(of: Measured, sigmas: Sequence[str]) -> list[dict[str, Any]]:
    from rdkit_vae.scoring.interpretations import score
    from rdkit_vae.store.paths import result_rows

    return result_rows(
        of.trial,
        score(of.statistics, sigmas, of.trial),
        of.statistics,
        epoch=of.epoch,
        step=of.step,
        checkpoint_sha256=of.sha256,
    )


def _bound_rows(
    of: Measured,
    sigmas: Sequence[str],
    bound: str,
    only: Sequence[int] | None,
    pixels: Wanted | None,
) -> list[dict[str, Any]]:
    """The bounds of a checkpoint; with a pass over its pixels where `pixels` says how."""
    from rdkit_vae.scoring.bounds import score_bounds
    from rdkit_vae.scoring.interpretations import readings
    from rdkit_vae.store.paths import bound_rows

    found = readings(of.statistics, sigmas, of.trial)
    every = tuple(range(1, of.statistics["test"].sse.shape[1] + 1))
    masses = {} if pixels is None else _masses(of, found, pixels)
    scores = score_bounds(found, (only or every) if bound == "iwae" else None, masses)
    return bound_rows(of.trial, scores, epoch=of.epoch, step=of.step, checkpoint_sha256=of.sha256)


def _masses(of: Measured, found: "Sequence[Reading]", wanted: Wanted) -> Mapping[str, Any]:
    """-log of the mass of the grey levels under each reading of one variance, by split and name."""
    if of.statistics["test"].levels is None:
        raise BadData(
            f"{of.path}: its statistics are of an older rdvae that did not store the grey levels; "
            "--evaluate measures them now"
        )
    for sigma in sorted({reading.sigma for reading in found if reading.how.scales}):
        click.echo(f"rdvae: {sigma} has no one variance, so no mass of grey levels", err=True)
    variances: dict[str, dict[str, Any]] = {split: {} for split in of.statistics}
    for reading in found:
        if not reading.how.scales:
            variances[reading.split][reading.sigma] = reading.sigma2
    masses: Mapping[str, Any] = discretized(of, variances, wanted)
    return masses


def _print(of: Measured, rows: list[dict[str, Any]], bounds: bool) -> None:
    import pandas as pd

    from rdvae_analysis.tables import to_text

    click.echo(f"{of.path}")
    if not rows:
        click.echo("  no interpretation asked for applies to this model\n")
        return
    first = rows[0]
    click.echo(
        f"  {first['run_id']}, epoch {first['epoch']}; {of.images}, "
        f"{counted(first['n_draws'], 'draw')}, {of.source}; nats per image"
    )
    frame = pd.DataFrame(rows).rename(columns={"is_density": "density"})
    frame["density"] = frame["density"].map({True: "yes", False: "no"})
    click.echo(to_text(_bounds_shown(frame) if bounds else frame[[*_SHOWN, "bits_per_dim"]]))
    for line in _remarks(frame):
        click.echo(line)
    click.echo()


def _bounds_shown(frame: Any) -> Any:
    """A row per split, interpretation and likelihood; the ELBO, then IWAE for some K, across."""
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
    """What must be known to read the table: caveats, and the range of a mixture."""
    splits = set(frame["split"])
    told = []
    for (sigma, caveat), rows in frame.groupby(["sigma", "caveat"], sort=False):
        where = "" if set(rows["split"]) == splits else f" on {rows['split'].iloc[0]}"
        told += [f"  {sigma}{where}: {caveat}"] if caveat else []
    mixed = frame[frame["s_min"].notna()].drop_duplicates("sigma")
    if "likelihood" in frame and (frame["likelihood"] == "discretized").any():
        told.append(
            f"  discretized: mass of the {frame['levels'].iloc[0]} grey levels of a pixel, all "
            "beyond the ends in the end bins; dequantized: a bound of it by uniform noise"
        )
    return told + [
        f"  {row.sigma}: s from {row.s_min:g} to {row.s_max:g} pixels" for row in mixed.itertuples()
    ]


def _write(path: Path, rows: list[dict[str, Any]], sigmas: Sequence[str], bounds: bool) -> None:
    import pandas as pd

    from rdkit_vae.store.results import write_bounds, write_results
    from rdkit_vae.store.schema import BOUNDS, COLUMNS
    from rdkit_vae.system.files import write_output
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
