"""`rdvae consistency`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rdkit_vae.errors import BadData, RdvaeError
from rdkit_vae.text import counted

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from rdkit_vae.store.paths import Sweep

_MISS = 0.5  # nats; from there it pays to train constant variance at beta_const itself
_HIDDEN = ["dataset", "setup", "run_id"]  # columns that the heading says, or the file
_SECTIONS = ("spread", "pairs", "matched", "overlay")


@click.command("consistency")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice(["test", "train"]), default="test", show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("figures"),
    show_default=True,
    help="Folder for the figures (.png) and the whole tables (.csv).",
)
def command(folder: Path, split: str, out: Path) -> None:
    """What the readings of the variance claim for the sweeps below FOLDER, and what is left.

    \b
    1. the ELBO of the same weights under every interpretation, and their spread
    2. pairs (beta, C) on lines of constant beta x C: same weights, other claims
       (rdvae sweep --pairs trains them)
    3. BS-VAE against constant variance at the same rate, read alike, with intervals
       over seeds; and at beta_const = 2 beta s2, where a shared variance has the
       gradients of a constant one: what is not the per-image variance

    \b
    rdvae consistency runs/
    rdvae consistency runs/mnist --split train --out figures/mnist

    Files are named after FOLDER, the dataset, the network and the hash of the setup, such as
    consistency-mnist-mnist-conv-0123456789-train-spread.png.
    """
    from rdvae_analysis.load import scan
    from rdvae_analysis.points import comparable, final_rows

    frame, notes = scan(folder)
    rows, left_out = final_rows(frame)
    rows, loose = comparable(rows)
    for note in [*notes, *left_out, *loose]:
        click.echo(f"rdvae: {note}", err=True)
    rows = rows[rows["split"] == split]
    if rows.empty:
        raise BadData(f"{folder}: no finished run on the {split} split to compare")
    for (dataset, setup), part in rows.groupby(["dataset", "setup"], sort=False):
        first = part.iloc[0]
        name = _name(folder, dataset, first["architecture"], setup, split)
        click.echo(
            f"{dataset}, {first['architecture']}, {counted(first['latents'], 'latent')}, "
            f"{split} split; nats per image"
        )
        write = _Writer(out, name, split)
        for section in (_spread, _pairs, _matched, _overlay):
            section(part, write, split, folder)
        for old in write.not_written():
            click.echo(f"rdvae: {old} is of an earlier run, there is nothing to draw now", err=True)
        click.echo()


def _name(folder: Path, dataset: str, architecture: str, setup: str, split: str) -> str:
    """What the files of a setup begin with: no two experiments write into the same ones."""
    from rdvae_analysis.names import dataset_name, file_part

    place = folder.resolve()
    sweep = place.parent.name if place.name == "results" else place.name
    words = [sweep, Path(dataset_name(dataset)).stem, architecture, setup, *({split} - {"test"})]
    return "-".join(["consistency", *(file_part(str(word)) for word in words)])


class _Writer:
    """Saves what a section shows beside what the others do."""

    def __init__(self, folder: Path, name: str, split: str) -> None:
        self._stem, self._split = str(folder / name), split
        self._written: list[str] = []

    def __call__(self, what: str, table: "pd.DataFrame", figure: "Figure") -> None:
        from rdkit_vae.system.files import write_output
        from rdvae_analysis.figures.style import save
        from rdvae_analysis.tables import to_csv

        picture, rows = self._files(what)
        save(figure, picture)
        write_output(rows, to_csv(table.assign(split=self._split)).encode())
        self._written.append(what)
        click.echo(f"drew {picture}, wrote {rows}")

    def not_written(self) -> list[Path]:
        """Files of the same names from earlier, of sections that had nothing to write now."""
        others = [what for what in _SECTIONS if what not in self._written]
        return [file for what in others for file in self._files(what) if file.exists()]

    def _files(self, what: str) -> tuple[Path, Path]:
        return Path(f"{self._stem}-{what}.png"), Path(f"{self._stem}-{what}.csv")


def _spread(rows: "pd.DataFrame", write: _Writer, split: str, folder: Path) -> None:
    from rdvae_analysis.consistency import by_beta, spread
    from rdvae_analysis.figures.elbo_vs_beta import elbo_vs_beta

    table = spread(rows)
    _show("\n1. The same weights under every interpretation", by_beta(table))
    click.echo("  spread: highest less lowest; spread_bits: the same in bits per dimension")
    write("spread", table, elbo_vs_beta(rows, split=split))


def _pairs(rows: "pd.DataFrame", write: _Writer, split: str, folder: Path) -> None:
    from rdvae_analysis.consistency import on_lines, pairs
    from rdvae_analysis.figures.pairs import pairs as figure

    title = "\n2. Pairs (beta, C) of one product: the same weights, other claims"
    wanted = on_lines(rows)
    if not wanted:
        click.echo(f"{title}\nnone here: rdvae sweep --pairs trains them")
        return
    table = pairs(rows, dict(_distances(wanted, rows, folder)))
    # With several seeds there are several lines of one product.
    _show(title, table if table["seed"].nunique() > 1 else table.drop(columns="seed"))
    click.echo("  distance: of the weights from those of the line's first model, |a - b| / |a|")
    write("pairs", table, figure(table, split=split))


def _distances(
    wanted: list[tuple[str, str]], rows: "pd.DataFrame", folder: Path
) -> Iterator[tuple[tuple[str, str], float]]:
    """Relative distances of the last checkpoints of pairs of runs, where both are there."""
    from rdkit_vae.store.checkpoints import load_checkpoint, relative_distance
    from rdkit_vae.store.paths import Sweep, find_sweeps

    epochs = rows.groupby("run_id")["epoch"].first()
    hashes = rows.groupby("run_id")["checkpoint_sha256"].first()
    above = folder.parent if folder.name == "results" else folder
    sweeps = [Sweep(root) for root in find_sweeps(above)]
    for pair in wanted:
        try:
            ends = [load_checkpoint(_find(sweeps, run, epochs[run])) for run in pair]
            for run, end in zip(pair, ends, strict=True):
                if end.sha256 != hashes[run]:
                    raise BadData(f"the checkpoint of {run} is not the one its results are of")
            yield pair, relative_distance(*ends)
        except RdvaeError as error:
            click.echo(f"rdvae: no distance of weights: {error}", err=True)


def _find(sweeps: "list[Sweep]", run_id: str, epoch: int) -> Path:
    for sweep in sweeps:
        path = sweep.checkpoint(run_id, epoch)
        if path.exists():
            return path
    raise BadData(f"the checkpoint of {run_id} is not there")


def _matched(rows: "pd.DataFrame", write: _Writer, split: str, folder: Path) -> None:
    from rdvae_analysis.figures.matched import matched as figure
    from rdvae_analysis.matched import best, matched_rate

    title = "\n3. ELBO less that of constant variance at the same rate"
    if missing := _missing(rows):
        click.echo(f"{title}\nnot here: no rows of {missing}")
        return
    table, notes = matched_rate(rows)
    if table.empty:
        reason = "; ".join(notes) or "it needs curves of constant variance and of another objective"
        click.echo(f"{title}\nnot here: {reason}")
        return
    wide = table.assign(gain=[_interval(row) for row in table.itertuples()]).pivot(
        index=["objective", "seeds", "rate"], columns="sigma", values="gain"
    )
    # Rates of a reading are those of its own curves; all readings of a model have the same.
    _show(title, wide.reset_index())
    for note in notes:
        click.echo(f"  {note}")
    _show("\n   The best ELBO over beta, and where", best(rows))
    write("matched", table, figure(table, split=split))


def _missing(rows: "pd.DataFrame") -> str:
    """The readings that models are compared under and that are not there."""
    from rdvae_analysis.matched import COMPARED_SIGMAS

    return ", ".join(sorted(set(COMPARED_SIGMAS) - set(rows["sigma"])))


def _interval(row: object) -> str:
    gain, low, high = (getattr(row, name) for name in ("gain", "low", "high"))
    return f"{gain:+.2f}" if low != low else f"{gain:+.2f} ({low:+.2f}..{high:+.2f})"


def _overlay(rows: "pd.DataFrame", write: _Writer, split: str, folder: Path) -> None:
    from rdvae_analysis.consistency import by_beta, spread
    from rdvae_analysis.figures.overlay import overlay as figure
    from rdvae_analysis.matched import constant_curve, overlay

    if _missing(rows):
        return
    table = overlay(rows)
    title = "\n   Less constant variance at beta_const = 2 beta s2, the same weighting of the rate"
    if table.empty:
        click.echo(f"{title}\nnot here: no model lies within a curve of constant variance")
        return
    shown = table.drop(columns=[c for c in table if c.startswith(("low_", "high_"))])
    _show(title, shown)
    click.echo(
        "  gain_*: ELBO less that of constant variance there; per_image: gain_optimal less "
        "gain_shared;\n  miss: of the constant curve where a point is left out, nats; 0 where it "
        "was trained at beta_const"
    )
    far = table["miss"] > _MISS
    missed = sorted({float(f"{beta:.4g}") for beta in table.loc[far, "beta_const"]})
    if missed:
        betas = ",".join(f"{beta:g}" for beta in missed)
        click.echo(f"  to train it there: rdvae sweep --objectives constant --betas {betas} ...")
    constant = by_beta(spread(constant_curve(rows)))
    write("overlay", table, figure(table, constant, split=split))


def _show(title: str, table: "pd.DataFrame") -> None:
    from rdvae_analysis.tables import to_text

    hidden = [name for name in _HIDDEN if name in table]
    empty = [name for name in table if table[name].isna().all()]
    click.echo(title)
    click.echo(to_text(table.drop(columns=[*hidden, *(n for n in empty if n not in hidden)])))
