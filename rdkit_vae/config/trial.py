"""One training, fully described: every number in it is part of its name."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

from rdkit_vae.datasets import source_of
from rdkit_vae.errors import BadInput
from rdkit_vae.models import ARCHITECTURES, Shape, architecture_of, check_architecture
from rdkit_vae.objectives.losses import OBJECTIVES, Setting, objective_name, objective_of
from rdkit_vae.text import one_of

SIGMA2_FLOOR = 1e-6
DEFAULT_SIGMA2 = 0.5
DEFAULT_PRECISION = "float32"
TRAIN_IMAGES = ("matched", "all")
MOST_DRAWS = 127
Option = int | float | bool | str
# Fields that older releases did not have, with the value that every trial then had. A trial with
# this value has the same name in old and new releases, so the field is left out of its values.
BEFORE_THE_FIELD: Mapping[str, Any] = {
    "precision": "float32",
    "protocol_revision": 1,
    "options": {},
}
PRECISIONS: Mapping[str, str] = {
    "float32": "float32 throughout",
    "tf32": "float32 whose products are of 10 bits; CUDA only",
    "bf16": "bfloat16 in the layers of the network, float32 weights and loss",
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How training and evaluation are run, beyond what the trial itself names.

    Attributes:
        about: one line for the user.
        weight_decay: of AdamW.
        annealings: cosine cycles of the learning rate over the training.
        drop_last: leave out the images that do not fill a last batch of an epoch.
        augments: warp the images, in training and in evaluation.
        draws: posterior draws per image unless the user asks for others.
        as_reference: from revision 2 on, networks start with weights as the reference's do.
        revised: releases have changed what it does, so its trials say their revision.
    """

    about: str
    weight_decay: float
    annealings: int
    drop_last: bool
    augments: bool
    draws: int
    as_reference: bool
    revised: bool


# What protocols do now. 1: `paper` warped by the name of the dataset (`mnist`, `celeba`) and left
# others as they are; all networks started with PyTorch's weights for their own layers.
PROTOCOL_REVISION = 2
PROTOCOLS: Mapping[str, Protocol] = {
    "clean": Protocol(
        about="whole splits, no augmentation, every epoch sees every image",
        weight_decay=1e-5,
        annealings=1,
        drop_last=False,
        augments=False,
        draws=8,
        as_reference=False,
        revised=False,
    ),
    "paper": Protocol(
        about="the reference set-up of BS-VAE, for grey 28x28 and colour 64x64 images: 50 epochs, "
        "batch 512, two cosine cycles, augmentation in training and test, one draw",
        weight_decay=1e-5,
        annealings=2,
        drop_last=True,
        augments=True,
        draws=1,
        as_reference=True,
        revised=True,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Warp:
    """What a protocol that augments does to images of a shape.

    Attributes:
        dataset: for which the paper names it.
        images: those that it is for, in words.
        about: what it does, in words.
    """

    dataset: str
    images: str
    about: str


WARPS: Mapping[Shape, Warp] = {
    (1, 28, 28): Warp(
        dataset="mnist",
        images="grey 28x28 images (as MNIST's)",
        about="rotated by up to 10 degrees and cropped to 90-100% of the area, as MNIST's in "
        "the paper",
    ),
    (3, 64, 64): Warp(
        dataset="celeba",
        images="colour 64x64 ones (as CelebA's)",
        about="mirrored left to right with probability 1/2, as CelebA's in the paper",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The full configuration of one training and of its evaluation.

    `grid.make_trial` fills in what suits a dataset; this class takes every value as it is.

    Attributes:
        dataset: name of a dataset, with its PATH where it takes one.
        data_sha256: fingerprint of its images; "" until the trial meets them.
        image_size: side that the images of a folder are resized to; None keeps theirs.
        architecture: name of a network, or `package.module:factory` of your own.
        options: of that network, by name; given as a mapping, held as sorted pairs.
        latents: L, dimensions of z.
        objective: name or alias of a training objective, or `package.module:loss` of your own.
        beta: weight of the rate, dimensionless.
        train_sigma2: the constant variance C in squared pixels; None where the objective has none.
        sigma2_floor: least value that a fitted variance takes, in squared pixels.
        seed: of weights, data order, noise and draws.
        protocol: name of a protocol.
        protocol_revision: what that protocol does, as of which release; see `PROTOCOL_REVISION`.
        epochs, batch_size, learning_rate: of the optimiser AdamW.
        precision: arithmetic of training; evaluation is in float32 or better whatever it is.
        checkpoints: epochs after which a checkpoint is written and evaluated.
        draws: K, posterior draws per image in evaluation.
        train_images: `matched`: evaluate at most as many training images as there are test images;
            `all`: every one.

    Raises:
        BadInput: a value outside its range, an unknown name, or options that contradict.
    """

    dataset: str
    data_sha256: str = ""
    image_size: int | None = None
    architecture: str = "conv"
    options: tuple[tuple[str, Option], ...] = ()
    latents: int
    objective: str
    beta: float
    train_sigma2: float | None = None
    sigma2_floor: float = SIGMA2_FLOOR
    seed: int = 0
    protocol: str = "clean"
    protocol_revision: int = PROTOCOL_REVISION
    epochs: int
    batch_size: int
    learning_rate: float = 1e-3
    precision: str = DEFAULT_PRECISION
    checkpoints: tuple[int, ...]
    draws: int = 8
    train_images: str = "matched"

    def __post_init__(self) -> None:
        source_of(self.dataset)
        check_architecture(self.architecture)
        object.__setattr__(self, "options", _checked_options(self.options))
        object.__setattr__(self, "objective", objective_name(self.objective))
        one_of(self.protocol, PROTOCOLS, "protocol")
        if not PROTOCOLS[self.protocol].revised:
            object.__setattr__(self, "protocol_revision", PROTOCOL_REVISION)
        one_of(self.precision, PRECISIONS, "precision")
        one_of(self.train_images, TRAIN_IMAGES, "choice of train images")
        for name in ("latents", "epochs", "batch_size", "draws", "seed", "protocol_revision"):
            check(name, getattr(self, name), type(getattr(self, name)) is int, "a whole number")
        for name in ("latents", "epochs", "batch_size", "draws"):
            check(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        check("seed", self.seed, 0 <= self.seed < 2**32, "in 0..2^32-1")
        revision, newest = self.protocol_revision, PROTOCOL_REVISION
        check("protocol_revision", revision, 1 <= revision <= newest, f"in 1..{newest}")
        for name in ("beta", "sigma2_floor", "learning_rate", "train_sigma2"):
            value = getattr(self, name)
            if value is None and name == "train_sigma2":
                continue
            number = isinstance(value, int | float) and 0 < value < math.inf
            check(name, value, number, "positive")
            object.__setattr__(self, name, float(value))  # 1 and 1.0 are the same trial
        network, objective = ARCHITECTURES.get(self.architecture), OBJECTIVES.get(self.objective)
        if network and network.normalises_batches and self.batch_size < 2:
            raise BadInput(f"{self.architecture} normalises over batches: batch_size must be >= 2")
        if objective and (self.train_sigma2 is not None) != objective.has_sigma2:
            wants = "needs a" if self.train_sigma2 is None else "has no constant"
            raise BadInput(f"objective {self.objective} {wants} train_sigma2")
        if self.checkpoints != tuple(sorted({*self.checkpoints, self.epochs})):
            raise BadInput(
                "checkpoints must be increasing epochs, the last of them "
                f"{self.epochs}, got {self.checkpoints}"
            )

    def setting(self, dims: int) -> Setting:
        """What the loss needs to know, for images of `dims` values."""
        return Setting(beta=self.beta, dims=dims, floor=self.sigma2_floor)

    @property
    def starts_as_reference(self) -> bool:
        """Whether the network starts with weights as the paper's reference code's does."""
        return PROTOCOLS[self.protocol].as_reference and self.protocol_revision >= 2

    def warp(self, shape: Shape) -> Warp | None:
        """What the protocol does to images of a shape; None if nothing.

        Raises:
            BadInput: it warps, and has no warp for them.
        """
        if not PROTOCOLS[self.protocol].augments:
            return None
        if self.protocol_revision == 1:
            return {warp.dataset: warp for warp in WARPS.values()}.get(self.dataset)
        if shape not in WARPS:
            known = " or ".join(warp.images for warp in WARPS.values())
            raise BadInput(
                f"protocol {self.protocol} needs {known}; those of {self.dataset} are "
                f"{'x'.join(map(str, shape))}: use --protocol clean"
            )
        return WARPS[shape]

    def check_images(self, n_images: int, shape: Shape) -> None:
        """Refuses training images that the batches or the protocol do not suit.

        Args:
            n_images, shape: how many there are, and of which shape.

        Raises:
            BadInput: no batch would be full where all must be, or one would be too small; or the
                protocol has no warp for the shape.
        """
        self.warp(shape)
        steps = self.steps_per_epoch(n_images)
        if steps == 0:
            raise BadInput(
                f"protocol {self.protocol} takes full batches only: batch_size {self.batch_size} "
                f"is more than the {n_images} training images"
            )
        smallest = self.batch_size if PROTOCOLS[self.protocol].drop_last else n_images // steps
        if architecture_of(self.architecture).normalises_batches and smallest < 2:
            raise BadInput(
                f"{self.architecture} normalises over batches: batch_size {self.batch_size} "
                f"leaves a batch of one of {n_images} images; choose another"
            )

    def steps_per_epoch(self, n_images: int) -> int:
        """Optimiser steps that an epoch of so many training images takes."""
        if PROTOCOLS[self.protocol].drop_last:
            return n_images // self.batch_size
        return -(-n_images // self.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, less those of `BEFORE_THE_FIELD`."""
        values = asdict(self) | {
            "checkpoints": list(self.checkpoints),
            "options": dict(self.options),
        }
        if not PROTOCOLS[self.protocol].revised:  # it does what it always did
            values["protocol_revision"] = BEFORE_THE_FIELD["protocol_revision"]
        return {
            name: value
            for name, value in values.items()
            if name not in BEFORE_THE_FIELD or value != BEFORE_THE_FIELD[name]
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Trial":
        """Rebuilds what `to_dict` made.

        Raises:
            BadInput: missing, unknown or unusable entries.
        """
        known = {field.name for field in fields(cls)}
        given = {**BEFORE_THE_FIELD, **values}
        if given.keys() != known:
            odd = sorted(map(str, given.keys() ^ known))
            raise BadInput(f"not the configuration of a trial: {', '.join(odd)}")
        try:
            return cls(**{**given, "checkpoints": tuple(given["checkpoints"])})
        except (TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"not the configuration of a trial: {error}") from error

    @cached_property
    def run_id(self) -> str:
        """Readable, unique name: ends in a hash of the full configuration."""
        dataset = re.sub(r"[^A-Za-z0-9]+", "-", self.dataset).strip("-")[-40:]
        words = [dataset, _plain(self.architecture)]
        words += [_plain(f"{name}={value}") for name, value in self.options]
        words += [_plain(self.objective), f"beta={self.beta:g}"]
        if self.train_sigma2 not in (None, DEFAULT_SIGMA2):
            words.append(f"C={self.train_sigma2:g}")
        if self.precision != DEFAULT_PRECISION:
            words.append(self.precision)
        return "-".join([*words, f"seed={self.seed}", _hash(self.to_dict())])

    @property
    def curve(self) -> str:
        """Names the curve that the trial is a point of: all trials alike but for beta and seed."""
        return f"{self.objective}-{self._hash_without('beta', 'seed')}"

    @property
    def setup(self) -> str:
        """Names what can be compared: all trials alike but for objective, beta, C and seed.

        Where checkpoints were written changes no weight, and is left out too.
        """
        return self._hash_without("beta", "seed", "objective", "train_sigma2", "checkpoints")

    @cached_property
    def pack_key(self) -> str:
        """Names the trials that can train in one pack: those alike but for beta, C, seed and
        objective, whose objectives give their models the same parts."""
        parts = objective_of(self.objective).variance or "none"
        hashed = self._hash_without("beta", "seed", "objective", "train_sigma2")
        return f"{parts}-{hashed}"

    def _hash_without(self, *names: str) -> str:
        return _hash({key: value for key, value in self.to_dict().items() if key not in names})


def check(name: str, value: object, valid: bool, must_be: str) -> None:
    """Refuses a value that is not valid.

    Raises:
        BadInput: it is not; the message says what it must be.
    """
    if not valid:
        raise BadInput(f"{name} must be {must_be}, got {value!r}")


def _checked_options(options: Any) -> tuple[tuple[str, Option], ...]:
    """Options as sorted pairs.

    Raises:
        BadInput: a name that is no identifier, or a value that is no finite number, truth value or
            short text.
    """
    pairs = tuple(sorted(dict(options).items()))
    for name, value in pairs:
        check("an option's name", name, isinstance(name, str) and name.isidentifier(), "a name")
        finite = isinstance(value, int | float) and abs(value) < math.inf
        short = isinstance(value, str) and value.isprintable() and len(value) <= 60
        check(f"option {name}", value, finite or short, "a number, true, false or a short text")
    return pairs


def _plain(text: str) -> str:
    """As a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.=]+", "-", text).strip("-")[-40:]


def _hash(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def bind(trial: Trial, data_sha256: str) -> Trial:
    """The trial on these very images.

    Raises:
        BadInput: it was made for others.
    """
    if trial.data_sha256 not in ("", data_sha256):
        raise BadInput(f"{trial.dataset}: the images have changed since {trial.run_id} was made")
    return replace(trial, data_sha256=data_sha256)
