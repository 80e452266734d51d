"""The `rdvae` commands: parse, call, print. Each command's module loads when it is called."""

import importlib
import sys

import click

from rdkit_vae import __version__
from rdkit_vae.cli.terminal import discard_unwritten, escaped
from rdkit_vae.errors import BadData, CannotWrite, RdvaeError
from rdkit_vae.text import unknown

COMMANDS = {
    "datasets": "list the datasets, and where their files are or how to get them",
    "sweep": "train a grid of VAEs and score every checkpoint",
    "status": "show which trials are done, running, failed or left to run",
    "verify": "check every file and number of a sweep, and repair what is damaged",
    "export": "write all results below a folder into one Parquet or CSV file",
    "rescore": "score checkpoints under any interpretation of the variance",
    "describe": "show one checkpoint in detail: interpretations, bounds, where the rate goes",
    "generation": "measure how good samples and reconstructions are",
    "sample": "make pictures: reconstructions and samples from the prior",
    "plot": "draw any figure of the paper: rd, elbo-vs-beta, concept, samples, training, units",
    "plot-rd": "draw rate-distortion curves",
    "table": "print the paper's Table 1: test and train bounds by model and beta",
    "report": "write one self-contained page with interactive curves, tables and pictures",
    "consistency": "compare interpretations of the same weights, and models at the same rate",
    "lint": "tell which reported likelihoods are comparable, which are not, and why",
    "decode-loss": "show the beta and the variance that a loss really sets",
    "selftest": "train linear VAEs and compare them with their closed forms",
}
INTERRUPTED = 130


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(unknown(args[0], COMMANDS, "command"), ctx)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"rdkit_vae.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="rdvae")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Train Gaussian VAEs and score every checkpoint under every decoder variance.

    \b
    rdvae sweep --betas 1e-4..1e3
    rdvae plot-rd runs/
    rdvae rescore --sigma optimal runs/NAME/checkpoints/RUN/epoch=00025.pt
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """The console command. Errors that a user can cause are printed as one line.

    Exit codes: 0 done, 1 a check failed (lint, selftest), 2 the command cannot be carried out as
    given, 3 some trials diverged or crashed, 4 files are missing, damaged or cannot be written,
    130 interrupted.
    """
    try:
        with escaped():
            code = _run()
    except CannotWrite as error:  # standard output is closed
        code = _complain(str(error), error.exit_code)
    except BrokenPipeError:  # nobody reads standard error either
        code = 1
    discard_unwritten()
    sys.exit(code)


def _run() -> int:
    """Runs the command, and returns its exit code."""
    try:
        try:
            code = cli.main(prog_name="rdvae", standalone_mode=False)
        except SystemExit as error:
            code = error.code
        sys.stdout.flush()
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "rdvae"
        message = error.format_message().rstrip(".")
        return _complain(f"{message}; see '{command} --help'", error.exit_code)
    except click.ClickException as error:
        return _complain(error.format_message(), error.exit_code)
    except RdvaeError as error:
        advice = getattr(error, "__notes__", [])
        return _complain("; ".join([str(error), *advice]), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:  # whoever read our output has stopped
        return 1
    except OSError as error:
        return _complain(str(error), BadData.exit_code)
    return code if isinstance(code, int) else 0


def _complain(message: str, code: int) -> int:
    click.echo(f"rdvae: {' '.join(message.split())}", err=True)
    return code
