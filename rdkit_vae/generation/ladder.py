"""Fits the priors of `scoring.priors.PRIORS` to a model's train posteriors, and scores them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rdkit_vae.config import seeds
from rdkit_vae.config.foreign import ForeignModel, Subject, units_of
from rdkit_vae.datasets.images import Images
from rdkit_vae.evaluation.evaluate import encoded
from rdkit_vae.evaluation.forward import encode, evaluating
from rdkit_vae.generation.mixture import fit_mixture
from rdkit_vae.generation.two_stage import fit_two_stage
from rdkit_vae.generation.vamp import fit_vamp
from rdkit_vae.scoring.cross_entropy import (
    Gaussian,
    Posteriors,
    Prior,
    fit_gaussian,
    fit_per_unit,
    has_collapsed,
    rate_under,
    standard,
)
from rdkit_vae.scoring.fidelity import spaced
from rdkit_vae.scoring.priors import PRIORS, STANDARD
from rdkit_vae.scoring.statistics import Array, standard_error

MOST_FITTED = 20_000  # train posteriors that priors are fitted to, evenly spaced
DRAWS = 4  # per image, for rates that have no closed form
_BATCH = 512  # images in a pass of the encoder
COLLAPSED = "all latents have collapsed: there is nothing to fit"
Fits = Mapping[str, Prior]
Report = Callable[[str], None]


def silent(what: str) -> None:
    """Reports to nobody."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """The posteriors of one split, and the images that they are of.

    Attributes:
        posteriors: of n images.
        x: (n, C, H, W) the images, as the encoder saw them, on the model's device.
    """

    posteriors: Posteriors
    x: Tensor

    def __getitem__(self, rows: Any) -> "Encoded":
        return Encoded(posteriors=self.posteriors[rows], x=self.x[torch.from_numpy(rows)])


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """A model, and what its priors are fitted to.

    Attributes:
        model: on `device`.
        subject: its trial, or the record of a model from elsewhere.
        train: up to `MOST_FITTED` evenly spaced train images.
        seed: of the fits.
        device: where the model is.
    """

    model: nn.Module
    subject: Subject
    train: Encoded
    seed: int = 0
    device: str = "cpu"

    def fit(self, names: Sequence[str]) -> dict[str, Prior]:
        """Fits priors.

        Args:
            names: of `PRIORS`.

        Raises:
            NotFinite: the encoder gives a number that is not finite.
        """
        gaussian = fit_gaussian(self.train.posteriors)
        return {name: self._fit_one(name, self.train, gaussian) for name in names}

    def _fit_one(self, name: str, train: Encoded, gaussian: Gaussian) -> Prior:
        posteriors = train.posteriors
        rng = seeds.generator(self.seed, "priors", list(PRIORS).index(name))
        if name == STANDARD:
            return standard(self.subject.latents)
        if name == "per-latent":
            return fit_per_unit(posteriors, _units(self.subject))
        if name == "gaussian":
            return gaussian
        if name == "mixture":
            return fit_mixture(posteriors, rng)
        if name == "vamp":
            with evaluating(self.model, self.device, gradients=True):
                return fit_vamp(posteriors, rng, encode=self._encode, x=train.x)
        return fit_two_stage(posteriors, rng, whitening=gaussian)

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return encode(self.model, x, self.subject.latents)

    def held_out(
        self, names: Sequence[str], folds: int, report: Report = silent
    ) -> dict[str, float]:
        """Mean rate of train posteriors that a prior was not fitted to: k-fold cross-validation.

        Args:
            names: of `PRIORS`.
            folds: k, at least 2.
            report: called with what is done now.
        """
        place = np.arange(len(self.train.posteriors)) % folds
        rates: dict[str, list[Array]] = {name: [] for name in names}
        for fold in range(folds):
            train = self.train[np.flatnonzero(place != fold)]
            left_out = self.train.posteriors[place == fold]
            gaussian = fit_gaussian(train.posteriors)
            for name in names:
                report(f"fitting prior {name}, fold {fold + 1} of {folds}")
                prior = self._fit_one(name, train, gaussian)
                rates[name].append(self._rate(prior, left_out, gaussian, fold + 2))
        return {name: float(np.concatenate(parts).mean()) for name, parts in rates.items()}

    def _rate(self, prior: Prior, posteriors: Posteriors, control: Gaussian, part: int) -> Array:
        rng = seeds.generator(self.seed, "priors", len(PRIORS) + part)  # the same for every prior
        return rate_under(prior, posteriors, control, draws=DRAWS, rng=rng)

    def rates(self, fits: Fits, test: Posteriors) -> Iterator[tuple[str, dict[str, Any]]]:
        """The columns of `store.schema.PRIOR_RATES` that a prior's rate gives, by name.

        Args:
            fits: from `fit`.
            test: the posteriors to score.
        """
        train = self.train.posteriors
        control, latents = fit_gaussian(train), train.mean.shape[1]
        some = train[spaced(len(train), max(len(test), 2))]
        notes = [COLLAPSED] if has_collapsed(train) else []
        for name, prior in fits.items():
            rate = self._rate(prior, test, control, 0)
            value, nats_per_bit = float(rate.mean()), float(np.log(2))
            yield (
                name,
                {
                    "rate": value,
                    "rate_se": standard_error(rate),
                    "is_bound": prior.is_bound,
                    "bits_per_latent": value / (latents * nats_per_bit),
                    "rate_fitted": float(self._rate(prior, some, control, 1).mean()),
                    "components": prior.components,
                    "n_fitted": 0 if name == STANDARD else len(train),
                    "n_images": len(test),
                    "n_draws": None if isinstance(prior, Gaussian) else DRAWS,
                    "note": "; ".join([*notes, *([prior.note] if prior.note else [])]),
                },
            )


def ladder_of(
    model: nn.Module, images: Images, subject: Subject, *, seed: int = 0, device: str = "cpu"
) -> Ladder:
    """Encodes the train images that priors are fitted to."""
    n = len(images.train)
    if n > MOST_FITTED:  # `replace` keeps the hash: these are images of the same dataset
        images = replace(images, train=np.ascontiguousarray(images.train[spaced(n, MOST_FITTED)]))
    train = encode_split(model, images, "train", replace(subject, train_images="all"), device)
    return Ladder(model=model, subject=subject, train=train, seed=seed, device=device)


def encode_split(
    model: nn.Module, images: Images, split: str, subject: Subject, device: str
) -> Encoded:
    """The posteriors of the images of a split that an evaluation uses.

    Raises:
        BadInput, NotFinite: as for `evaluation.evaluate`.
    """
    with evaluating(model, device):
        parts = list(encoded(model, images, split, subject, device, _BATCH))
        x, mean, log_var = (torch.cat(part).detach() for part in zip(*parts, strict=True))
        variance = log_var.double().exp()
    posteriors = Posteriors(mean.double().cpu().numpy(), variance.cpu().numpy())
    return Encoded(posteriors=posteriors, x=x.clone())


def _units(subject: Subject) -> Sequence[object]:
    """A name per latent, that positions of a channel share."""
    if isinstance(subject, ForeignModel):
        return units_of(subject.latent_shapes)
    return range(subject.latents)
