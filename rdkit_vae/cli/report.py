"""`rdvae report`. Never imports torch."""

from pathlib import Path

import click

from rdkit_vae.cli.options import Runs, check_extra, check_suffixes, split_option
from rdkit_vae.cli.terminal import print_notes
from rdkit_vae.system.files import write_output

_NEEDED = ("altair", "vl_convert", "jinja2")


@click.command("report")
@click.argument("folder", type=Runs("results", "samples", "generation", "priors"))
@split_option
@click.option(
    "--out", metavar="FILE", default="report.html", show_default=True, help="The .html to write."
)
def command(folder: Path, split: str, out: str) -> None:
    """Write one self-contained page about the sweeps below FOLDER, to share with others.

    The page contains a summary, interactive rate-distortion and ELBO curves, Table 1, every model
    with its pictures (if `rdvae sample` has made some), distances of samples and rates under priors
    (if they were measured), and the commands and versions used. It
    loads nothing from the network. Needs the extra `report`: pip install 'rdkit-vae[report]'.

    \b
    rdvae sample runs/mnist
    rdvae report runs/mnist --out report.html
    """
    check_suffixes([out], (".html",))
    check_extra(_NEEDED, "report", "rdvae report")
    from rdvae_analysis.report.page import report

    page, notes = report(folder, split=split)
    print_notes(notes)
    data = page.encode("utf-8", "backslashreplace")  # folder names may not be UTF-8
    write_output(Path(out), data)
    click.echo(f"wrote {out}, {len(data) / 1e6:.2f} MB")
