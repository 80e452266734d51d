"""`rdvae plot`: any figure of the analysis layer. Never imports torch."""

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.cli import plot_rd
from rdkit_vae.cli.options import (
    FIGURE_SUFFIXES,
    check_suffixes,
    features_option,
    figure_options,
    sigma_option,
    split_option,
)
from rdkit_vae.cli.terminal import print_notes
from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.scoring.interpretations import parse_sigma
from rdkit_vae.text import counted, few, unknown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class _Figures(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands:
            raise click.UsageError(unknown(args[0], self.commands, "figure"), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the figures, each with the first paragraph of its help."""
        about = {
            name: inspect.cleandoc(figure.help or "").partition("\n\n")[0].replace("\n", " ")
            for name, figure in self.commands.items()
        }
        with formatter.section("Commands"):
            formatter.write_dl(sorted(about.items()))


@click.group("plot", cls=_Figures, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Draw a figure of the sweeps below a folder.

    Each setup (dataset, network, ...) gets a file of its own, and so do the models from elsewhere
    of a dataset; only rd draws them all in one. The
    palette is colour-blind-safe, .pdf files embed their fonts, and --columns sets the width in
    print. `rdvae plot NAME --help` lists the options of a figure.

    \b
    rdvae plot rd runs/ --out rd.pdf
    rdvae plot concept runs/mnist --columns 1 --out concept.pdf
    rdvae plot training runs/mnist --run beta=0.01 --sigma optimal
    rdvae sample runs/mnist && rdvae plot samples runs/mnist
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


command.add_command(plot_rd.command, "rd")


def _add_figure(name: str, about: str, example: str) -> None:
    """Adds the command for a figure of `FIGURES` that draws the last checkpoint of each run."""

    @figure_options(name)
    @split_option
    def draw_figure(folder: Path, **options: Any) -> None:
        _of_last_checkpoints(name, folder, **options)

    help_text = f"{about}\n\n\b\nrdvae plot {name} {example}"
    command.add_command(click.command(name, help=help_text)(draw_figure))


_add_figure(
    "elbo-vs-beta",
    "Draw the ELBO of the same models under every interpretation, against beta.",
    "runs/ --split train --out elbo.pdf",
)
_add_figure(
    "concept",
    "Draw the plane of beta and the decoder variance from real sweeps (the paper's Fig. 2).",
    "runs/ --columns 1 --out concept.pdf",
)
_add_figure(
    "units",
    "Draw where the rate goes: information, marginal KL, and active units.",
    "runs/ --out units.pdf",
)


@command.command("training")
@figure_options("training")
@split_option
@click.option(
    "--run",
    "runs",
    metavar="TEXT",
    multiple=True,
    help="Only runs whose name contains TEXT. Repeatable.  [default: all]",
)
@sigma_option("shared")
def training(
    folder: Path, columns: str, out: tuple[str, ...], split: str, runs: tuple[str, ...], sigma: str
) -> None:
    """Draw rate, distortion, ELBO and variance over epochs.

    Each checkpoint is a point, so a sweep with --checkpoints last has one point per run. Runs that
    diverged or crashed are marked.

    \b
    rdvae plot training runs/mnist --run seed=0 --sigma optimal
    """
    sigma = parse_sigma(sigma)
    check_suffixes(out, FIGURE_SUFFIXES)
    from rdvae_analysis.figures import draw
    from rdvae_analysis.figures.training import without_path

    frame, no_path = without_path(_results(folder))
    print_notes(no_path)
    frame = frame[frame["split"] == split]
    if frame.empty:
        raise BadData(f"{folder}: no run on the {split} split to draw")
    if runs:
        named = frame["run_id"].map(lambda name: any(text in name for text in runs))
        if not named.any():
            some = few(sorted(frame["run_id"].unique()))
            raise BadInput(f"no run has {' or '.join(runs)} in its name; the runs are {some}")
        frame = frame[named]
    for end, rows in _setups(frame):
        figure = draw("training", rows, split=split, columns=int(columns), sigma=sigma)
        _save(figure, out, end, rows["run_id"].nunique())


@command.command("samples")
@figure_options("samples")
def samples(folder: Path, columns: str, out: tuple[str, ...]) -> None:
    """Draw originals, reconstructions and prior samples (the paper's Fig. 1 and 4).

    FOLDER contains sweeps for which `rdvae sample` has made pictures. All models get the same
    images and the same latents.

    \b
    rdvae sample runs/mnist
    rdvae plot samples runs/mnist --out samples.pdf
    """
    check_suffixes(out, FIGURE_SUFFIXES)
    from rdvae_analysis.figures.samples import samples as figure_of
    from rdvae_analysis.pictures import alike, load_pictures, without_pictures

    pictures, notes = load_pictures(folder)
    print_notes([*notes, *without_pictures(folder)])
    if pictures.empty:
        raise BadData(f"{folder}: no pictures in it; make them with 'rdvae sample {folder}'")
    for end, part in _setups(pictures):
        shown, left_out = alike(part)
        print_notes(left_out)
        _save(figure_of(shown, columns=int(columns)), out, end, len(shown))


@command.command("blur")
@figure_options("blur", "generation", "priors")
@features_option
@click.option(
    "--split",
    type=click.Choice(["test", "train"]),
    help="Split that the pictures are compared with.  [default: the one of most rows]",
)
def blur(
    folder: Path, columns: str, out: tuple[str, ...], features: str, split: str | None
) -> None:
    """Draw the distance of samples against that of reconstructions.

    Blur has two causes: a decoder that reconstructs badly, and a prior that differs from the
    aggregate posterior. The line below a model is the share of the prior: what samples of the
    best-fitting prior gain. FOLDER contains sweeps that `rdvae generation` has measured.

    \b
    rdvae generation runs/mnist
    rdvae plot blur runs/mnist --features classifier --out blur.pdf
    """
    check_suffixes(out, FIGURE_SUFFIXES)
    from rdvae_analysis.figures.blur import blur as figure_of
    from rdvae_analysis.generation import scan_generation, scan_priors
    from rdvae_analysis.shares import prior_shares

    (generation, notes), (priors, more) = scan_generation(folder), scan_priors(folder)
    if generation.empty:
        print_notes([*notes, *more])
        raise BadData(f"{folder}: no distances; measure them with 'rdvae generation {folder}'")
    table, left_out = prior_shares(generation, priors, features=features, split=split or "")
    print_notes([*notes, *more, *left_out])
    if table.empty:
        raise BadData(f"{folder}: no finished run to draw")
    for end, part in _setups(table):
        _save(figure_of(part, columns=int(columns)), out, end, int(part["seeds"].sum()))


@command.command("priors")
@figure_options("priors", "priors")
@split_option
def rates(folder: Path, columns: str, out: tuple[str, ...], split: str) -> None:
    """Draw the rate of the same models under better and better priors, against beta.

    The rate under N(0, I) is not what the latents cost: a prior that is fitted to the posteriors of
    the train split needs less. FOLDER contains sweeps in which such priors were fitted.

    \b
    rdvae describe runs/mnist --priors
    rdvae plot priors runs/mnist --out priors.pdf
    """
    check_suffixes(out, FIGURE_SUFFIXES)
    from rdvae_analysis.figures.priors import priors as figure_of
    from rdvae_analysis.generation import remarks, scan_priors
    from rdvae_analysis.shares import MODEL, prior_rates

    priors, notes = scan_priors(folder)
    table, left_out = prior_rates(priors, split=split)
    print_notes([*notes, *left_out, *remarks(priors)])
    if table.empty:
        fit = f"measure them with 'rdvae describe {folder} --priors'"
        raise BadData(f"{folder}: no rates of priors on the {split} split; {fit}")
    for end, part in _setups(table):
        models = int(part.groupby(MODEL, dropna=False)["seeds"].max().sum())
        _save(figure_of(part, split=split, columns=int(columns)), out, end, models)


def _of_last_checkpoints(
    name: str, folder: Path, columns: str, out: tuple[str, ...], split: str
) -> None:
    """Draws a figure of `FIGURES` for each setup."""
    check_suffixes(out, FIGURE_SUFFIXES)
    from rdvae_analysis.figures import draw
    from rdvae_analysis.points import final_rows

    rows, left_out = final_rows(_results(folder))
    print_notes(left_out)
    rows = rows[rows["split"] == split]
    if name == "concept":
        rows = _with_place(rows)
    if rows.empty:
        raise BadData(f"{folder}: no finished run on the {split} split to draw")
    for end, part in _setups(rows):
        figure = draw(name, part, split=split, columns=int(columns))
        _save(figure, out, end, part["run_id"].nunique())


def _with_place(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows that the figure `concept` draws; prints notes on the others."""
    from rdvae_analysis.figures.concept import has_place
    from rdvae_analysis.points import without_models
    from rdvae_analysis.sound import from_elsewhere

    nowhere = from_elsewhere(rows) & ~has_place(rows)
    rows, notes = without_models(rows, nowhere, "whose beta or constant variance is not known")
    drawn = has_place(rows)
    others = sorted(set(rows.loc[~drawn, "objective"]))
    if others:
        notes.append(f"left out {', '.join(others)}: not part of the concept figure")
    print_notes(notes)
    return rows[drawn]


def _results(folder: Path) -> "pd.DataFrame":
    """All results below a folder; prints notes on what cannot be read or compared."""
    from rdvae_analysis.load import scan
    from rdvae_analysis.points import comparable, setups_in_words

    frame, notes = scan(folder)
    frame, loose = comparable(frame)
    print_notes([*notes, *loose, *setups_in_words(frame)])
    return frame


def _setups(frame: "pd.DataFrame") -> "Iterator[tuple[str, pd.DataFrame]]":
    """The rows of each setup, with an ending for its file's name if there are several."""
    from rdvae_analysis.names import dataset_name, file_part

    groups = list(frame.groupby(["dataset", "setup"], sort=False))
    several = frame.groupby("setup")["dataset"].nunique()  # the models from elsewhere are a setup
    for (dataset, setup), rows in groups:
        words = [dataset_name(dataset), setup] if several[setup] > 1 else [setup]
        end = "".join(f"-{file_part(word)}" for word in words)
        yield end if len(groups) > 1 else "", rows


def _save(figure: "Figure", out: Sequence[str], end: str, models: int) -> None:
    from rdvae_analysis.figures.style import save

    for name in out:
        path = Path(name)
        path = path.with_name(f"{path.stem}{end}{path.suffix}")
        save(figure, path)
        click.echo(f"drew {counted(models, 'model')}: {path}")
