"""`rdvae consistency`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rdkit_vae.cli.options import Runs, split_option
from rdkit_vae.cli.terminal import print_notes
from rdkit_vae.errors import BadData
from rdkit_vae.system.files import write_output
from rdkit_vae.text import counted

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_MISS = 0.5  # nats; above it, constant variance should be trained at beta_const itself
_HIDDEN = ["dataset", "setup", "run_id"]  # columns that are in the heading, or only in the file
_SECTIONS = ("spread", "pairs", "matched", "overlay", "implied")


@click.command("consistency")
@click.argument("folder", type=Runs())
@split_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("figures"),
    show_default=True,
    help="Folder for the figures (.png) and the full tables (.csv).",
)
def command(folder: Path, split: str, out: Path) -> None:
    """Compare interpretations of the variance, and models at the same rate.

    Prints and draws, for the sweeps and models below FOLDER:

    \b
    1. the ELBO of the same weights under every interpretation, and its spread
    2. pairs (beta, C) with the same beta x C, which reach the same weights but
       claim different likelihoods (train them with rdvae sweep --pairs)
    3. BS-VAE against constant variance at the same rate and under the same
       interpretation, with intervals over seeds; also at beta_const = 2 beta s2,
       which shows what is left without the per-image variance
    4. the weight of the KL read back from the weights beside the claimed beta,
       where it was measured (rdvae rescore --adapter ... --reconstruction sse)

    Models from elsewhere have no curves: all of a dataset are in one table, with 1 and 4 alone.

    \b
    rdvae consistency runs/
    rdvae consistency runs/mnist --split train --out figures/mnist

    Files are named after FOLDER, the dataset, the network and the hash of the setup, such as
    consistency-mnist-mnist-conv-0123456789-train-spread.png; those of models from elsewhere have
    `elsewhere` in place of the network and the hash.
    """
    from rdvae_analysis.load import scan
    from rdvae_analysis.names import ELSEWHERE
    from rdvae_analysis.points import comparable, final_rows

    frame, notes = scan(folder)
    rows, left_out = final_rows(frame)
    rows, loose = comparable(rows)
    print_notes([*notes, *left_out, *loose])
    rows = rows[rows["split"] == split]
    if rows.empty:
        raise BadData(f"{folder}: no finished run on the {split} split to compare")
    for (dataset, setup), part in rows.groupby(["dataset", "setup"], sort=False):
        first, elsewhere = part.iloc[0], setup == ELSEWHERE
        network = [] if elsewhere else [first["architecture"]]
        what = f"{first['architecture']}, {counted(first['latents'], 'latent')}"
        what = "models from elsewhere" if elsewhere else what
        click.echo(f"{dataset}, {what}, {split} split; nats per image")
        write = _Writer(out, _name(folder, dataset, network, setup, split), split)
        for section in (_spread, *(() if elsewhere else (_pairs, _matched, _overlay)), _implied):
            section(part, write, split, folder)
        print_notes(
            f"{old} is from an earlier run; there was nothing to draw this time"
            for old in write.not_written()
        )
        click.echo()


def _name(folder: Path, dataset: str, network: list[str], setup: str, split: str) -> str:
    """The start of the names of a setup's files, which no other experiment shares."""
    from rdvae_analysis.names import dataset_name, file_part

    place = folder.resolve()
    sweep = place.parent.name if place.name == "results" else place.name
    words = [sweep, Path(dataset_name(dataset)).stem, *network, setup, *({split} - {"test"})]
    return "-".join(["consistency", *(file_part(str(word)) for word in words)])


class _Writer:
    """Saves the table and figure of each section under one name."""

    def __init__(self, folder: Path, name: str, split: str) -> None:
        self._stem, self._split = str(folder / name), split
        self._written: list[str] = []

    def __call__(self, what: str, table: "pd.DataFrame", figure: "Figure | None") -> None:
        from rdvae_analysis.figures.style import save
        from rdvae_analysis.tables import to_csv

        picture, rows = self._files(what)
        if figure is not None:
            save(figure, picture)
        write_output(rows, to_csv(table.assign(split=self._split)).encode())
        self._written.append(what)
        click.echo(f"drew {picture}, wrote {rows}" if figure is not None else f"wrote {rows}")

    def not_written(self) -> list[Path]:
        """Files that an earlier run left for sections that had nothing to write this time."""
        others = [what for what in _SECTIONS if what not in self._written]
        return [file for what in others for file in self._files(what) if file.exists()]

    def _files(self, what: str) -> tuple[Path, Path]:
        return Path(f"{self._stem}-{what}.png"), Path(f"{self._stem}-{what}.csv")


def _spread(rows: "pd.DataFrame", write: _Writer, split: str, folder: Path) -> None:
    from rdvae_analysis.consistency import by_beta, spread
    from rdvae_analysis.figures.elbo_vs_beta import elbo_vs_beta

    table = spread(rows)
    _show("\n1. The same weights under every interpretation", by_beta(table))
    click.echo("  spread: highest minus lowest; spread_bits: the same in bits per dimension")
    write("spread", table, elbo_vs_beta(rows, split=split))


def _pairs(rows: "pd.DataFrame", write: _Writer, split: str, folder: Path) -> None:
    from rdkit_vae.evaluation.distances import weight_distances
    from rdvae_analysis.consistency import on_lines, pairs
    from rdvae_analysis.figures.pairs import pairs as figure

    title = "\n2. Pairs (beta, C) with the same product: the same weights, different claims"
    on_a_line = on_lines(rows)
    if not on_a_line:
        click.echo(f"{title}\nnone: train them with rdvae sweep --pairs")
        return
    distances, notes = weight_distances(folder, on_a_line, rows)
    print_notes(notes)
    table = pairs(rows, distances)
    # Each seed has its own line.
    _show(title, table if table["seed"].nunique() > 1 else table.drop(columns="seed"))
    click.echo("  distance: between the weights and those of the first model, |a - b| / |a|")
    write("pairs", table, figure(table, split=split))


def _matched(rows: "pd.DataFrame", write: _Writer, split: str, folder: Path) -> None:
    from rdvae_analysis.figures.matched import matched as figure
    from rdvae_analysis.matched import best, matched_rate

    title = "\n3. ELBO minus that of constant variance at the same rate"
    if missing := _missing(rows):
        click.echo(f"{title}\nnot available: no rows for {missing}")
        return
    table, notes = matched_rate(rows)
    if table.empty:
        reason = "; ".join(notes) or "it needs curves of constant variance and of another objective"
        click.echo(f"{title}\nnot available: {reason}")
        return
    wide = table.assign(gain=[_interval(row) for row in table.itertuples()]).pivot(
        index=["objective", "seeds", "rate"], columns="sigma", values="gain"
    )
    _show(title, wide.reset_index())
    for note in notes:
        click.echo(f"  {note}")
    _show("\n   The best ELBO over beta, and its beta", best(rows))
    write("matched", table, figure(table, split=split))


def _implied(rows: "pd.DataFrame", write: _Writer, split: str, folder: Path) -> None:
    from rdvae_analysis.implied import implied_table

    table = implied_table(rows)
    if table.empty:
        return
    shown = table if table["seed"].nunique() > 1 else table.drop(columns="seed")
    _show("\n4. Weight of the KL read back from the weights", shown)
    click.echo(
        "  implied_beta: as the weights imply, with its standard error beta_se over images;\n"
        "  implied_tau: beta x s2, where the training variance s2 is not known;\n"
        "  scatter: disagreement of the latents, as a share"
    )
    write("implied", table, None)


def _missing(rows: "pd.DataFrame") -> str:
    """The interpretations that the comparison needs and the results lack."""
    from rdvae_analysis.matched import NEEDED_SIGMAS

    return ", ".join(sorted(set(NEEDED_SIGMAS) - set(rows["sigma"])))


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
    title = "\n   ELBO minus that of constant variance at beta_const = 2 beta s2"
    if table.empty:
        click.echo(
            f"{title}\nnot available: no model is within the range of the curve of constant "
            "variance"
        )
        return
    shown = table.drop(columns=[c for c in table if c.startswith(("low_", "high_"))])
    _show(title, shown)
    click.echo(
        "  gain_*: ELBO minus that of constant variance; per_image: gain_optimal minus "
        "gain_shared;\n  miss: interpolation error of the constant curve in nats; 0 if it was "
        "trained at beta_const"
    )
    missed = sorted({float(f"{b:.4g}") for b in table.loc[table["miss"] > _MISS, "beta_const"]})
    if missed:
        betas = ",".join(f"{beta:g}" for beta in missed)
        click.echo(f"  to train it there: rdvae sweep --objectives constant --betas {betas} ...")
    constant = by_beta(spread(constant_curve(rows)))
    write("overlay", table, figure(table, constant, split=split))


def _show(title: str, table: "pd.DataFrame") -> None:
    from rdvae_analysis.names import is_model, objective_name
    from rdvae_analysis.tables import to_text

    if "objective" in table and table["objective"].map(is_model).all():
        table = table.assign(objective=table["objective"].map(objective_name))
        table = table.rename(columns={"objective": "model"})
    hidden = [name for name in _HIDDEN if name in table]
    empty = [name for name in table if table[name].isna().all()]
    click.echo(title)
    click.echo(to_text(table.drop(columns=[*hidden, *(n for n in empty if n not in hidden)])))
