"""Evaluates models that rdvae did not train, and adds them to runs folders."""

import hashlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from rdkit_vae.adapters import Loaded
from rdkit_vae.config.foreign import ForeignModel
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadInput, NotFinite
from rdkit_vae.evaluation.evaluate import Progress, environment, evaluate
from rdkit_vae.evaluation.forward import placed
from rdkit_vae.evaluation.implied import implied_weight, loss_of
from rdkit_vae.models.adapted import Adapted, adapt
from rdkit_vae.scoring.implied import ImpliedWeight
from rdkit_vae.store.evaluations import Evaluation
from rdkit_vae.store.models import check_room, write_model
from rdkit_vae.store.results import results_frame
from rdkit_vae.system.devices import choose_device

if TYPE_CHECKING:
    import pandas as pd


def add_model(
    model: nn.Module | Loaded,
    images: Images,
    *,
    name: str,
    out: str | Path,
    beta: float | None = None,
    train_sigma2: float | None = None,
    reconstruction: str = "",
    epoch: int = 0,
    draws: int = 8,
    seed: int = 0,
    train_images: str = "matched",
    device: str = "auto",
) -> "pd.DataFrame":
    """Evaluates a model of your own training and writes a folder that every command reads.

    Args:
        model: a network with `encode` and `decode` for pixels in [0, 1], or the result of `adapt`
            or `load_model`.
        images: the dataset; `Images.from_data` makes one from arrays.
        name: for figures and tables.
        out: folder, such as `runs/mine`; new, or one that holds other models from elsewhere.
        beta: weight of the KL in training, if known.
        train_sigma2: constant decoder variance of training in squared pixels of [0, 1], if it had
            one: 1/2 for a loss sse + beta KL of pixels in [0, 1].
        reconstruction: the loss it was trained with, of `config.foreign.RECONSTRUCTIONS`; then the
            weight of the KL is read back from the weights too.
        epoch: epochs of training, if known.
        draws, seed, train_images: as in `Trial`, for the evaluation.
        device: `auto`, `cpu` or `cuda`.

    Returns:
        The rows of results, with the columns of `store.schema.COLUMNS`.

    Warns:
        UserWarning: something about the model is probably not as it was meant.

    Raises:
        BadInput: an argument cannot be used, the model does not fit the images, or a number that it
            gives is not finite.
        BadData: the folder holds something else, or cannot be written.
    """
    known = {"beta": beta, "train_sigma2": train_sigma2, "reconstruction": reconstruction}
    given = {fact: value for fact, value in known.items() if value not in (None, "")}
    settings = {"draws": draws, "seed": seed, "train_images": train_images}
    ready = prepared(model, images, name=name, epoch=epoch, **settings, **given)
    check_room(Path(out), ready.subject)  # before the work is done
    evaluation, notes = evaluate_prepared(ready, device=device)
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    rows = write_model(Path(out), evaluation)
    frame: pd.DataFrame = results_frame(rows)
    return frame


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A model from elsewhere that is ready to be evaluated.

    Attributes:
        model: in rdvae's form.
        images: in the size that it takes.
        subject: what is known of it.
    """

    model: Adapted
    images: Images
    subject: ForeignModel


def prepared(model: nn.Module | Loaded, images: Images, **facts: Any) -> Prepared:
    """Brings a model into rdvae's form, and the images into the size that it takes.

    Args:
        model, images: as for `add_model`.
        facts: fields of `ForeignModel` that are known.

    Raises:
        BadInput: the model does not fit the images, or a fact cannot be used.
    """
    if isinstance(model, Loaded):
        facts = _facts_of(model) | facts
        model = model.model
    if not isinstance(images, Images):
        raise BadInput(
            f"images must be rdv.Images, got a {type(images).__name__}: use load_dataset or "
            "Images.from_data"
        )
    adapted = model if isinstance(model, Adapted) else adapt(model)
    size = adapted.image_size
    if size is not None and images.shape[1:] != (size, size):
        name = f"{images.name} at {size}x{size}"  # so that nothing compares other dimensions
        images = replace(images.resized(size), name=name)
    adapted.probe(images.shape)
    kind = type(adapted.module)
    package = kind.__module__.partition(".")[0]
    known: dict[str, Any] = {
        "name": kind.__name__,
        "architecture": f"{package}.{kind.__qualname__}".removeprefix("__main__."),
        "dataset": images.name,
        "data_sha256": images.sha256,
        "latent_shapes": adapted.latent_shapes,
        "pixel_range": adapted.pixels.text,
        "log_volume": adapted.pixels.log_volume(images.shape[0], images.dims),
    }
    if "weights_sha256" not in facts:
        known["weights_sha256"] = hash_of_weights(adapted.module)
    return Prepared(model=adapted, images=images, subject=ForeignModel(**{**known, **facts}))


def _facts_of(loaded: Loaded) -> dict[str, Any]:
    """What an adapter knows of a model; what it does not know is left out."""
    facts = {
        "adapter": loaded.adapter,
        "architecture": loaded.architecture,
        "library": loaded.library,
        "weights": loaded.weights,
        "weights_sha256": loaded.sha256,
        "reconstruction": loaded.reconstruction,
        "beta": loaded.beta,
        "train_sigma2": loaded.train_sigma2,
    }
    return {name: value for name, value in facts.items() if value}


def evaluate_prepared(
    ready: Prepared, *, device: str = "auto", progress: Progress | None = None
) -> tuple[Evaluation, list[str]]:
    """Evaluates a model from elsewhere.

    Args:
        ready: from `prepared`.
        device: `auto`, `cpu` or `cuda`.
        progress: called as `progress(done, total)` with numbers of images.

    Returns:
        The evaluation, and notes on what is probably not as it was meant.

    Raises:
        BadInput: a result of the model does not have the shape it should have.
        NotFinite: it gives a number that is not finite.
    """
    model, images, subject = ready.model, ready.images, ready.subject
    device, loss, implied = choose_device(device), subject.reconstruction, None
    if loss:
        loss_of(loss, model, subject)  # what it refuses is known before the work is done
    try:
        with placed(model, device):
            statistics = evaluate(model, images, subject, device=device, progress=progress)
            if loss:
                implied = implied_weight(model, images, subject, reconstruction=loss, device=device)
    except NotFinite as error:
        raise NotFinite(f"{subject.name}: {error}; is its pixel_range right?") from error
    evaluation = Evaluation(
        trial=subject,
        epoch=subject.epoch,
        step=0,
        checkpoint_sha256=subject.weights_sha256,
        statistics=statistics,
        implied=implied,
        environment=environment(device),
        source="evaluated now",
    )
    return evaluation, [*_doubts(evaluation, images), *_about_weight(subject, model, implied)]


def hash_of_weights(module: nn.Module) -> str:
    """Returns the SHA-256 of the names, types, shapes and numbers of a module's state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not isinstance(tensor, torch.Tensor):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        numbers = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(numbers.numpy().data)
    return digest.hexdigest()


def _doubts(evaluation: Evaluation, images: Images) -> list[str]:
    """What is probably not as it was meant."""
    test = evaluation.statistics["test"]
    mse, variance = float(test.sse.mean()) / test.dims, _variance_of(images)
    doubts = []
    if mse > variance:
        doubts.append(
            f"the mse of {mse:.3g} is more than the variance of the images, {variance:.3g}: a grey "
            "picture would be closer; is pixel_range right?"
        )
    if float(test.kl.mean()) < 1e-3:
        doubts.append("the rate is 0: the posterior is the prior for every image")
    return doubts


def _about_weight(
    subject: ForeignModel, model: Adapted, implied: ImpliedWeight | None
) -> Iterator[str]:
    """What is missing or contradictory about the weight of the KL that was read back."""
    if implied is None:
        return
    if math.isnan(implied.tau):
        yield "the weight of the KL cannot be read back: no latent is active"
        return
    if implied.degrees and not implied.converged:
        yield (
            f"its latents differ by {100 * implied.scatter:.0f}% about the weight of the KL: "
            f"training had not converged, or the loss was not {subject.reconstruction}"
        )
    if subject.beta is not None and math.isnan(implied.beta):
        sigma2 = model.pixels.scale[0] ** 2 / 2  # the same for all channels, or `loss_of` refuses
        yield (
            "its training variance is not known, so its beta is not compared with its weights; "
            f"for a loss sse + beta KL of its own pixels it is train_sigma2 = {sigma2:g}"
        )


def _variance_of(images: Images) -> float:
    """Mean variance over the test images of each value of an image, squared pixels."""
    total, squares = np.zeros(images.dims), np.zeros(images.dims)
    for start in range(0, len(images.test), 256):
        part = images.test[start : start + 256].reshape(-1, images.dims) / (images.levels - 1)
        total += part.sum(axis=0)
        squares += np.square(part).sum(axis=0)
    n = len(images.test)
    return float((squares / n - np.square(total / n)).mean())
