"""Options of `rdvae rescore` for models from elsewhere, and what it prints about them."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdkit_vae.adapters import check_adapter
from rdkit_vae.cli import terminal
from rdkit_vae.cli.options import Function, positive_option, with_options
from rdkit_vae.config.foreign import DEFAULT_DRAWS, ForeignModel, check_reconstruction
from rdkit_vae.config.parsing import parse_options
from rdkit_vae.text import counted

if TYPE_CHECKING:
    from rdkit_vae.evaluation.foreign import Prepared
    from rdkit_vae.store.evaluations import Evaluation


def reconstruction_option(default: str | None, about: str) -> Callable[[Function], Function]:
    """Adds --reconstruction, which names a loss or the user's own function."""

    def checked(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
        return value and check_reconstruction(value)

    return click.option(
        "--reconstruction",
        metavar="NAME",
        default=default,
        show_default=default is not None,
        callback=checked,
        help=f"{about}: sse (squared error), log-sse (BS-VAE), bce (cross-entropy), l1, or "
        "package.module:function for your own, which is then imported.",
    )


# File names that say nothing about the model; its folder does.
_NAMELESS = {"model", "pytorch_model", "diffusion_pytorch_model", "checkpoint", "last", "best"}
_OPTIONS = (
    click.option(
        "--adapter",
        metavar="NAME",
        help="Score models from elsewhere: an adapter from the list below, or "
        "package.module:factory for your own code, which is then imported. Needs --dataset.",
    ),
    click.option(
        "--option",
        "adapter_options",
        metavar="NAME=VALUE",
        multiple=True,
        help="Option of the adapter or factory. Repeatable.",
    ),
    click.option("--name", help="Name of the model in figures.  [default: from its path]"),
    click.option(
        "--beta",
        metavar="B",
        callback=positive_option,
        help="Weight of the KL in the model's training, if you know it.",
    ),
    click.option(
        "--train-sigma2",
        metavar="C",
        callback=positive_option,
        help="Constant decoder variance it was trained with, in squared pixels of [0, 1].",
    ),
    reconstruction_option(
        None, "Loss it was trained with; the weight of the KL is then read back from the weights"
    ),
    click.option(
        "--image-size",
        type=click.IntRange(1, 4096),
        help="Resize the images to N x N, if the model takes another size.",
    ),
)
with_foreign_options = with_options(_OPTIONS)
_FLAGS = {
    "adapter_options": "--option",
    "name": "--name",
    "beta": "--beta",
    "train_sigma2": "--train-sigma2",
    "reconstruction": "--reconstruction",
    "image_size": "--image-size",
}


def check_options(adapter: str | None, paths: Sequence[Path], options: Mapping[str, Any]) -> None:
    """Refuses options that contradict each other.

    Raises:
        UsageError: they do.
    """
    if adapter is None:
        given = [flag for name, flag in _FLAGS.items() if options[name]]
        if given:
            raise click.UsageError(f"{given[0]} needs --adapter")
        return
    check_adapter(adapter)
    for name in ("architectures", "objectives"):
        if options[name]:
            raise click.UsageError(f"--{name[:-1]} is for checkpoints of rdvae, not for --adapter")
    if options["dataset"] is None:
        raise click.UsageError("--adapter needs --dataset: the images to evaluate the model on")
    if options["name"] and len(paths) > 1:
        raise click.UsageError("--name needs a single model")


def evaluations(
    paths: Sequence[Path],
    *,
    adapter: str,
    folders: Sequence[str],
    adapter_options: Sequence[str],
    name: str | None,
    image_size: int | None,
    dataset: str,
    data_dir: str | None,
    device: str,
    draws: int | None,
    **known: Any,
) -> "Iterator[tuple[Path, Prepared, Evaluation]]":
    """Evaluates models that adapters read; prints what a reader of the scores must know.

    Raises:
        BadInput: the adapter, an option or a model cannot be used.
        BadData: a file cannot be read, or the images are missing.
    """
    from rdkit_vae.adapters import load_model
    from rdkit_vae.datasets import load_dataset, source_of
    from rdkit_vae.evaluation.foreign import evaluate_prepared, prepared
    from rdkit_vae.store.models import check_room

    several = parse_options(adapter_options)
    if swept := [key for key, values in several.items() if len(values) > 1]:
        raise click.UsageError(f"--option {swept[0]} takes a single value here")
    options = {key: value for key, (value,) in several.items()}
    size = image_size if source_of(dataset).resizes else None
    images = load_dataset(dataset, data_dir=data_dir, image_size=size)
    facts = {fact: value for fact, value in known.items() if value}
    for path in paths:
        with terminal.busy(f"reading {path}"):
            loaded = load_model(adapter, path, options)
        terminal.print_notes(f"{path}: {note}" for note in loaded.notes)
        if image_size is not None:
            takes = loaded.model.image_size
            if takes not in (None, image_size):
                raise click.UsageError(
                    f"{path} takes images of {takes}x{takes}: leave out --image-size"
                )
            loaded.model.image_size = image_size
        ready = prepared(
            loaded, images, name=name or name_of(path), draws=draws or DEFAULT_DRAWS, **facts
        )
        for folder in folders:  # before the work is done
            check_room(Path(folder), ready.subject)
        with terminal.progress_bar(f"evaluating {path}") as progress:
            evaluation, doubts = evaluate_prepared(ready, device=device, progress=progress)
        terminal.print_notes(f"{path}: {doubt}" for doubt in doubts)
        yield path, ready, evaluation


def name_of(path: Path) -> str:
    """A name for a model: that of its file or folder, or of the folder around a nameless file."""
    path = path.absolute()
    stem = path.name if path.is_dir() else path.stem
    return path.parent.name if stem.lower() in _NAMELESS else stem


def foreign_lines(evaluation: "Evaluation") -> list[str]:
    """What to know about a model from elsewhere: its weights, its pixels, the weight of its KL."""
    subject = evaluation.trial
    if not isinstance(subject, ForeignModel):
        return []
    made = f", {subject.library}" if subject.library else ""
    lines = [
        f"{subject.name} on {subject.dataset}: {subject.architecture}{made}; weights "
        f"{subject.weights or 'in memory'}, SHA-256 {subject.weights_sha256[:16]}..."
    ]
    if subject.log_volume:
        lower = "lower" if subject.log_volume > 0 else "higher"
        lines.append(
            f"its own pixels are {subject.pixel_range}; in these, every elbo is "
            f"{abs(subject.log_volume):.2f} nats {lower} (change of variables)"
        )
    import numpy as np

    sizes = [math.prod(shape) for shape in subject.latent_shapes]
    for split, measured in evaluation.statistics.items():
        if len(sizes) > 1 and measured.rate_terms is not None:
            ends = np.cumsum(sizes)[:-1]
            rates = [part.sum() for part in np.split(measured.rate_terms.unit_rate, ends)]
            lines.append(f"rate by level, {split}: " + " + ".join(f"{rate:.2f}" for rate in rates))
    return lines + implied_lines(evaluation)


def implied_lines(evaluation: "Evaluation") -> list[str]:
    """The weight of the KL that was read back from the weights of a model from elsewhere."""
    subject, implied = evaluation.trial, evaluation.implied
    if implied is None or not isinstance(subject, ForeignModel):
        return []
    if math.isnan(implied.tau):
        return ["the weight of the KL cannot be read back: no latent is active"]
    import numpy as np

    squared = subject.reconstruction == "sse"
    name, loss = ("beta x s2" if squared else "beta"), subject.reconstruction
    claimed = "" if subject.beta is None else f"; claimed beta: {subject.beta:g}"
    line = f"{name} read back from the weights: {implied.tau:.4g} (se {implied.standard_error:.2g})"
    if squared and not math.isnan(implied.beta):
        line += f", so beta = {implied.beta:.4g} with the training variance"
    elif squared:
        line += f", which is beta = {implied.beta_at_half:.4g} if that variance was 1/2"
    count = int(np.isfinite(implied.per_latent).sum())
    agree = "agree" if implied.converged else f"differ by {100 * implied.scatter:.0f}%"
    maps = any(len(shape) > 2 for shape in subject.latent_shapes)
    which = counted(count, "active channel" if maps else "active latent")
    return [f"{line}, loss {loss}{claimed}"] + ([f"{which} {agree}"] if count > 1 else [])
