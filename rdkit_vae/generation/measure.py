"""Measures one model: its samples and reconstructions against images, its rate under priors."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rdkit_vae.config import seeds
from rdkit_vae.config.foreign import Subject
from rdkit_vae.config.trial import PROTOCOLS, Trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.evaluation.forward import decode, encode, evaluating
from rdkit_vae.generation.features import Features
from rdkit_vae.generation.ladder import Ladder, Report, encode_split, ladder_of
from rdkit_vae.scoring.cross_entropy import Posteriors, Prior
from rdkit_vae.scoring.fidelity import (
    Fidelity,
    Reference,
    fidelity,
    peak_ratio,
    spaced,
    structural_similarity,
)
from rdkit_vae.scoring.priors import PRIORS, STANDARD
from rdkit_vae.scoring.statistics import Array
from rdkit_vae.store.evaluations import identity_of
from rdkit_vae.store.generation import Row
from rdkit_vae.store.paths import code_version, utc_now
from rdkit_vae.store.schema import Status
from rdkit_vae.training.augmentation import to_unit

CLIPPED, STRETCHED = "clipped", "stretched"
MOST_REFERENCE = 10_000  # images of a split that are compared with, evenly spaced
_MOST_AT_ONCE, _MOST_VALUES = 512, 2**21  # pictures, and pixels in them, that are decoded at once


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What pictures are compared with, and in which features.

    Attributes:
        images: the dataset.
        features: what the distances are measured in.
        split: the reference.
        n_samples: how many samples of a prior are compared with it.
        seed: of the samples.
    """

    images: Images
    features: Features
    split: str = "test"
    n_samples: int = 10_000
    seed: int = 0

    @cached_property
    def reference(self) -> Reference:
        """The features of up to `MOST_REFERENCE` evenly spaced images of the split."""
        return Reference(self._features_of(self.split, MOST_REFERENCE))

    @cached_property
    def other_split(self) -> tuple[int, Fidelity]:
        """How many images of the other split there are, and how far these are."""
        other = self._features_of("train" if self.split == "test" else "test", self.n_samples)
        return len(other), fidelity(other, self.reference)

    def originals(self, at_once: int) -> Iterator[Tensor]:
        """The images of the reference, (B, C, H, W) in [0, 1] each."""
        return self._batches(self.split, MOST_REFERENCE, at_once)

    def _features_of(self, split: str, most: int) -> Array:
        return np.concatenate([self.features(x) for x in self._batches(split, most, 512)])

    def _batches(self, split: str, most: int, size: int) -> Iterator[Tensor]:
        pixels = self.images.split(split)
        positions = spaced(len(pixels), most)
        for start in range(0, len(positions), size):
            batch = pixels[positions[start : start + size]]
            yield to_unit(torch.from_numpy(np.ascontiguousarray(batch)), self.images.levels)

    def columns(self) -> Row:
        """The columns of `store.schema.GENERATION` that it fills."""
        return {
            "features": self.features.name,
            "features_sha256": self.features.sha256,
            "feature_dims": self.features.dims,
            "split": self.split,
            "sample_seed": self.seed,
            "n_reference": len(self.reference.features),
        }


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained model of any origin.

    Attributes:
        network: with `encode` and `decode`, on `device`.
        images: that it was trained on.
        subject: its trial, or what is known of a model from elsewhere.
        epoch, step, sha256: of its checkpoint.
        seed: of the priors and the samples.
        device: where the network is.
        fitted: its priors, as they are asked for.
    """

    network: nn.Module
    images: Images
    subject: Subject
    epoch: int
    step: int
    sha256: str
    seed: int = 0
    device: str = "cpu"
    fitted: dict[str, Prior] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def ladder(self) -> Ladder:
        """Its train posteriors, to fit priors to."""
        return ladder_of(
            self.network, self.images, self.subject, seed=self.seed, device=self.device
        )

    @cached_property
    def test(self) -> Posteriors:
        """The posteriors of the test images."""
        return encode_split(self.network, self.images, "test", self.subject, self.device).posteriors

    def prior(self, name: str, report: Report) -> Prior:
        """A prior of `PRIORS`, fitted once."""
        if name not in self.fitted:
            report(f"fitting prior {name}")
            self.fitted.update(self.ladder.fit([name]))
        return self.fitted[name]

    def prior_rows(self, names: Sequence[str], *, folds: int, report: Report) -> list[Row]:
        """Its rate under priors: rows with the columns of `store.schema.PRIOR_RATES`.

        Args:
            names: of `PRIORS`.
            folds: k of a cross-validation over the train posteriors; 0: none.
            report: called with what is done now.

        Raises:
            NotFinite: it gives a number that is not finite.
        """
        fits = {name: self.prior(name, report) for name in names}
        held_out = self.ladder.held_out(names, folds, report) if folds else {}
        dims = self.images.dims
        return [
            self._identity()
            | rates
            | {
                "prior": name,
                "split": "test",
                "bits_per_dim": rates["rate"] / (dims * math.log(2)),
                "rate_held_out": held_out.get(name),
                "folds": folds,
                "fit_seed": self.seed,
                "dims": dims,
            }
            for name, rates in self.ladder.rates(fits, self.test)
        ]

    def generation_rows(
        self, comparison: Comparison, source: str, prior: str, *, report: Report
    ) -> list[Row]:
        """Distances to the reference: rows with the columns of `store.schema.GENERATION`.

        Args:
            comparison: the reference and the features.
            source: `prior`, `reconstruction` or `images`.
            prior: of `PRIORS`; "" unless the source is a prior.
            report: called with what is done now.

        Raises:
            NotFinite: it gives a number that is not finite.
        """
        base = self._identity() | comparison.columns() | {"source": source, "prior": prior}
        if source == "images":
            count, distances = comparison.other_split
            return [base | _columns(CLIPPED, count, distances)]
        if source == "reconstruction":
            return [base | self._reconstructions(comparison, report)]
        report(f"sampling from prior {prior}")
        by_pixels = self._samples(comparison, self.prior(prior, report), prior)
        report(f"measuring samples of prior {prior}")
        return [
            base | _columns(pixels, len(features), fidelity(features, comparison.reference))
            for pixels, features in by_pixels.items()
        ]

    @property
    def stretches(self) -> bool:
        """Whether its samples are also stretched, each to all of [0, 1], as the paper's are."""
        return isinstance(self.subject, Trial) and PROTOCOLS[self.subject.protocol].as_reference

    def _samples(self, comparison: Comparison, prior: Prior, name: str) -> dict[str, Array]:
        """The features of decoded samples, (n, d), by how their pixels were treated."""
        rng = seeds.generator(comparison.seed, "generation", list(PRIORS).index(name))
        z = torch.from_numpy(prior.sample(comparison.n_samples, rng).astype(np.float32))
        parts: dict[str, list[Array]] = {}
        with evaluating(self.network, self.device):
            for latents in torch.split(z, self._at_once):
                decoded, _ = decode(self.network, latents.to(self.device), self.images.shape)
                pictures = decoded.clamp(0, 1)
                parts.setdefault(CLIPPED, []).append(comparison.features(pictures))
                if self.stretches and name == STANDARD:
                    parts.setdefault(STRETCHED, []).append(comparison.features(stretched(pictures)))
        return {pixels: np.concatenate(part) for pixels, part in parts.items()}

    def _reconstructions(self, comparison: Comparison, report: Report) -> Row:
        """Decoder means at one draw from the posterior of each image of the reference."""
        report("measuring reconstructions")
        noise = seeds.generator(comparison.seed, "generation", len(PRIORS))
        features, pictures, originals = [], [], []
        with evaluating(self.network, self.device):
            for x in comparison.originals(self._at_once):
                mean, log_var = encode(self.network, x.to(self.device), self.subject.latents)
                drawn = noise.standard_normal(tuple(mean.shape), dtype=np.float32)
                z = mean + (log_var / 2).exp() * torch.from_numpy(drawn).to(self.device)
                picture = decode(self.network, z, self.images.shape)[0].clamp(0, 1)
                features.append(comparison.features(picture))
                pictures.append(picture.cpu().numpy())
                originals.append(x.numpy())
        made, true = np.concatenate(pictures), np.concatenate(originals)
        distances = fidelity(np.concatenate(features), comparison.reference)
        psnr = peak_ratio(made, true)
        return _columns(CLIPPED, len(made), distances) | {
            "psnr": psnr if math.isfinite(psnr) else None,
            "ssim": structural_similarity(made, true),
        }

    @property
    def _at_once(self) -> int:
        return max(1, min(_MOST_AT_ONCE, _MOST_VALUES // self.images.dims))

    def _identity(self) -> Row:
        return identity_of(self.subject, self.epoch, self.step, Status.OK) | {
            "checkpoint_sha256": self.sha256,
            "code_version": code_version(),
            "created_at": utc_now(),
        }


def stretched(pictures: Tensor) -> Tensor:
    """Each picture stretched so that its values fill [0, 1], as the paper's code does before FID.

    Args:
        pictures: (n, C, H, W); one that is all of one value becomes 0.
    """
    low, high = (f(pictures, dim=(1, 2, 3), keepdim=True) for f in (torch.amin, torch.amax))
    return (pictures - low) / (high - low).clamp_min(torch.finfo(pictures.dtype).tiny)


def _columns(pixels: str, count: int, distances: Fidelity) -> Row:
    values: dict[str, Any] = asdict(distances)
    few = math.isnan(distances.frechet_infinite)
    return {
        "pixels": pixels,
        "n_samples": count,
        "note": "too few pictures for these features to extrapolate" if few else "",
        **values,
        "frechet_infinite": None if few else distances.frechet_infinite,
    }
