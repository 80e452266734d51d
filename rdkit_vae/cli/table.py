"""`rdvae table`. Never imports torch."""

from pathlib import Path

import click

from rdkit_vae.cli.options import Runs, features_option, sigma_option
from rdkit_vae.cli.terminal import print_notes
from rdkit_vae.errors import BadInput
from rdkit_vae.scoring.interpretations import parse_sigma
from rdkit_vae.system.files import write_output
from rdkit_vae.text import counted

_NOT_A_DENSITY = (
    "sigma optimal depends on x, so these are not bounds on a likelihood; use --sigma shared, "
    "mixture or student for bounds"
)


@click.command("table")
@click.argument("folder", type=Runs("results", "generation", "priors"))
@click.option(
    "--format",
    "kind",
    type=click.Choice(["text", "markdown", "latex", "csv"]),
    default="text",
    show_default=True,
    help="csv has all columns and digits, and intervals over seeds; latex has a caption.",
)
@sigma_option("optimal")
@features_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the table to a file instead of printing it.",
)
def command(folder: Path, kind: str, sigma: str, features: str, out: Path | None) -> None:
    """Print the paper's Table 1 for the sweeps below FOLDER.

    It lists test and train bounds by model and beta, in nats per image: mean and standard deviation
    over seeds (which divides by their number, as the paper's does). The best value of each column
    is marked. If dataset, network and protocol are those of the paper, its published values are
    shown as well, beside minus the training loss, which is what the paper's code reports. Models
    from elsewhere stand under their names, without a beta if it is not known. Where `rdvae
    generation` has measured samples, columns FD give their Fréchet distance, lower is better.

    \b
    rdvae table runs/
    rdvae table runs/mnist --sigma shared --format latex --out table1.tex
    """
    sigma = parse_sigma(sigma)
    from rdvae_analysis.distance_columns import about_distances
    from rdvae_analysis.generation import scan_generation, scan_priors
    from rdvae_analysis.load import scan
    from rdvae_analysis.paper_table import about_paper, table1
    from rdvae_analysis.points import setups_in_words
    from rdvae_analysis.tables import render

    frame, notes = scan(folder)
    (generation, unread), (priors, also_unread) = scan_generation(folder), scan_priors(folder)
    if features and generation.empty:
        raise BadInput(f"--features {features}: no distances below {folder}")
    table, left_out = table1(
        frame, sigma=sigma, generation=generation, priors=priors, features=features
    )
    remarks = [_NOT_A_DENSITY] if sigma == "optimal" else []
    if kind == "csv":  # the other formats contain them
        remarks += [*about_distances(table), *about_paper(table)]
    notes += [*unread, *also_unread, *left_out]
    print_notes([*notes, *setups_in_words(frame), *remarks])
    text = render(table, kind)
    if out is None:
        click.echo(text, nl=False)
        return
    write_output(out, text.encode())
    click.echo(f"wrote {counted(len(table), 'row')}: {out}")
