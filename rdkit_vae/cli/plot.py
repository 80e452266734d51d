"""`rdvae plot`: any figure of the analysis layer. Never imports torch."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.cli import plot_rd
from rdkit_vae.cli.options import check_suffixes, columns_option, split_option
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
        """Lists the figures, each with the whole first paragraph of its help."""
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

    Sweeps of several setups (datasets, networks, ...) make a file each, but rd draws them together.
    Colours are told apart by the colour-blind; .pdf embeds its fonts; --columns is the width in
    print.

    \b
    rdvae plot rd runs/ --out rd.pdf
    rdvae plot concept runs/mnist --columns 1 --out concept.pdf
    rdvae plot training runs/mnist --run beta=0.01 --sigma optimal
    rdvae sample runs/mnist && rdvae plot samples runs/mnist
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


command.add_command(plot_rd.command, "rd")


def _figure_options(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def add(function: Callable[..., None]) -> Callable[..., None]:
        options = [
            click.argument("folder", type=click.Path(path_type=Path)),
            columns_option,
            click.option(
                "--out",
                metavar="FILE",
                multiple=True,
                default=(f"figures/{name}.png",),
                show_default=True,
                help=".png, .pdf or .svg; repeatable.",
            ),
        ]
        for option in reversed(options):
            function = option(function)
        return function

    return add


@command.command("elbo-vs-beta")
@_figure_options("elbo-vs-beta")
@split_option
def elbo_vs_beta(folder: Path, **options: Any) -> None:
    """The ELBO of the same models under every interpretation against beta.

    \b
    rdvae plot elbo-vs-beta runs/ --split train --out elbo.pdf
    """
    _of_last_checkpoints("elbo-vs-beta", folder, **options)


@command.command("concept")
@_figure_options("concept")
@split_option
def concept(folder: Path, **options: Any) -> None:
    """The plane of beta and the decoder variance, drawn from real sweeps (the paper's Fig. 2).

    \b
    rdvae plot concept runs/ --columns 1 --out concept.pdf
    """
    from rdvae_analysis.figures.concept import MARKERS

    _of_last_checkpoints("concept", folder, **options, only=tuple(MARKERS))


@command.command("units")
@_figure_options("units")
@split_option
def units(folder: Path, **options: Any) -> None:
    """Where the rate goes: information, marginal KL, and the units in use.

    \b
    rdvae plot units runs/ --out units.pdf
    """
    _of_last_checkpoints("units", folder, **options)


@command.command("training")
@_figure_options("training")
@split_option
@click.option(
    "--run",
    "runs",
    metavar="TEXT",
    multiple=True,
    help="Only runs whose name holds this text; repeatable.  [default: all]",
)
@click.option(
    "--sigma",
    metavar="NAME",
    default="shared",
    show_default=True,
    help="Interpretation of distortion, ELBO and variance.",
)
def training(
    folder: Path, columns: str, out: tuple[str, ...], split: str, runs: tuple[str, ...], sigma: str
) -> None:
    """Rate, distortion, ELBO and variance over epochs: a point is a checkpoint.

    Runs that diverged or crashed are marked as such. A sweep with --checkpoints last has one point
    a run.

    \b
    rdvae plot training runs/mnist --run seed=0 --sigma optimal
    """
    sigma = parse_sigma(sigma)
    check_suffixes(out, plot_rd.SUFFIXES)
    from rdvae_analysis.figures import draw

    frame = _results(folder)
    frame = frame[frame["split"] == split]
    if frame.empty:
        raise BadData(f"{folder}: no run on the {split} split to draw")
    if runs:
        named = frame["run_id"].map(lambda name: any(text in name for text in runs))
        if not named.any():
            some = few(sorted(frame["run_id"].unique()))
            raise BadInput(f"no run is named with {' or '.join(runs)}; there are {some}")
        frame = frame[named]
    for end, rows in _setups(frame):
        figure = draw("training", rows, split=split, columns=int(columns), sigma=sigma)
        _save(figure, out, end, rows["run_id"].nunique())


@command.command("samples")
@_figure_options("samples")
def samples(folder: Path, columns: str, out: tuple[str, ...]) -> None:
    """Originals, reconstructions and prior samples of every model (the paper's Fig. 1 and 4).

    FOLDER holds sweeps for which `rdvae sample` made pictures. All models are shown the same
    images, the first of the split, and the same latents.

    \b
    rdvae sample runs/mnist
    rdvae plot samples runs/mnist --out samples.pdf
    """
    check_suffixes(out, plot_rd.SUFFIXES)
    from rdvae_analysis.figures.samples import samples as figure_of
    from rdvae_analysis.pictures import alike, load_pictures

    pictures, notes = load_pictures(folder)
    for note in notes:
        click.echo(f"rdvae: {note}", err=True)
    if pictures.empty:
        raise BadData(f"{folder}: no pictures below it; 'rdvae sample {folder}' makes them")
    for end, part in _setups(pictures):
        shown, left_out = alike(part)
        for note in left_out:
            click.echo(f"rdvae: {note}", err=True)
        _save(figure_of(shown, columns=int(columns)), out, end, len(shown))


def _of_last_checkpoints(
    name: str,
    folder: Path,
    columns: str,
    out: tuple[str, ...],
    split: str,
    only: Sequence[str] = (),
) -> None:
    """Draws a figure of `FIGURES`, for each setup; `only` of some objectives, if it names any."""
    check_suffixes(out, plot_rd.SUFFIXES)
    from rdvae_analysis.figures import draw
    from rdvae_analysis.points import final_rows

    rows, left_out = final_rows(_results(folder))
    for note in left_out:
        click.echo(f"rdvae: {note}", err=True)
    rows = rows[rows["split"] == split]
    others = sorted(set(rows["objective"]) - set(only)) if only else []
    if others:
        click.echo(f"rdvae: {name} has no place for {', '.join(others)}: left out", err=True)
        rows = rows[rows["objective"].isin(only)]
    if rows.empty:
        raise BadData(f"{folder}: no finished run on the {split} split to draw")
    for end, part in _setups(rows):
        figure = draw(name, part, split=split, columns=int(columns))
        _save(figure, out, end, part["run_id"].nunique())


def _results(folder: Path) -> "pd.DataFrame":
    """All results below a folder; what cannot be compared or read is said."""
    from rdvae_analysis.load import scan
    from rdvae_analysis.points import comparable, setups_in_words

    frame, notes = scan(folder)
    frame, loose = comparable(frame)
    for note in [*notes, *loose, *setups_in_words(frame)]:
        click.echo(f"rdvae: {note}", err=True)
    return frame


def _setups(frame: "pd.DataFrame") -> "Iterator[tuple[str, pd.DataFrame]]":
    """The rows of each setup, with what is put into its file's name where there are several."""
    from rdvae_analysis.names import file_part

    groups = list(frame.groupby(["dataset", "setup"], sort=False))
    for (_, setup), rows in groups:
        yield f"-{file_part(setup)}" if len(groups) > 1 else "", rows


def _save(figure: "Figure", out: Sequence[str], end: str, models: int) -> None:
    from rdvae_analysis.figures.style import save

    for name in out:
        path = Path(name)
        path = path.with_name(f"{path.stem}{end}{path.suffix}")
        save(figure, path)
        click.echo(f"drew {counted(models, 'model')}: {path}")
