"""The full configuration of one training, all of which is part of its name."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rdkit_vae.datasets import source_of
from rdkit_vae.errors import BadInput
from rdkit_vae.models import (
    ARCHITECTURES,
    Shape,
    architecture_of,
    check_architecture,
    import_architecture,
)
from rdkit_vae.objectives.losses import (
    OBJECTIVES,
    Setting,
    import_objective,
    objective_name,
    objective_of,
)
from rdkit_vae.text import one_of

if TYPE_CHECKING:
    from rdkit_vae.datasets.images import Images

SIGMA2_FLOOR = 1e-6
DEFAULT_SIGMA2 = 0.5
DEFAULT_PRECISION = "float32"
TRAIN_IMAGES = ("matched", "all")
MOST_DRAWS = 127
_LONGEST_NAME = 160  # characters of a run's name before its hash
Option = int | float | bool | str
# Fields that older releases did not have, with the value that all their trials had. `to_dict` omits
# a field with this value, so that such a trial has the same name in all releases.
BEFORE_THE_FIELD: Mapping[str, Any] = {
    "precision": "float32",
    "protocol_revision": 1,
    "options": {},
    "augmentation": "",
}
PRECISIONS: Mapping[str, str] = {
    "float32": "float32 everywhere",
    "tf32": "float32 with TF32 products (10-bit mantissa); CUDA only",
    "bf16": "bfloat16 in the layers of the network, float32 for weights and loss",
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How training and evaluation are run, apart from the fields of the trial itself.

    Attributes:
        about: one line for the user.
        weight_decay: of AdamW.
        annealings: cosine cycles of the learning rate during the training.
        drop_last: leave out the images of an incomplete last batch.
        augments: warp the images, in training and in evaluation.
        draws: default number of posterior samples per image.
        train_images: default choice of the training images to evaluate.
        as_reference: follow the paper's reference code; see `PROTOCOL_REVISION`.
        revised: a release changed the protocol, so its trials record the revision.
    """

    about: str
    weight_decay: float
    annealings: int
    drop_last: bool
    augments: bool
    draws: int
    train_images: str
    as_reference: bool
    revised: bool


# The current revision, in which `paper` follows the reference code in every point that affects a
# result. Revision 2 rotated and cropped in one bilinear warp, by the shape of the images; restarted
# the learning rate one step earlier; had no 1e-5 inside the logarithm of the objective `optimal`;
# and evaluated all test images. In revision 1, it warped only the datasets named `mnist` and
# `celeba`, and all networks used PyTorch's default initial weights.
PROTOCOL_REVISION = 3
PROTOCOLS: Mapping[str, Protocol] = {
    "clean": Protocol(
        about="complete splits, no augmentation, every epoch uses every image",
        weight_decay=1e-5,
        annealings=1,
        drop_last=False,
        augments=False,
        draws=8,
        train_images="matched",
        as_reference=False,
        revised=False,
    ),
    "paper": Protocol(
        about="the set-up of the BS-VAE paper: 50 epochs, full batches of 512, two cosine cycles, "
        "augmentation in training and test, one posterior sample, all training images evaluated",
        weight_decay=1e-5,
        annealings=2,
        drop_last=True,
        augments=True,
        draws=1,
        train_images="all",
        as_reference=True,
        revised=True,
    ),
}


# The augmentations, in words; those that can be asked for are the datasets of the paper.
WARPS: Mapping[str, str] = {
    "mnist": "rotated by up to 10 degrees to the nearest pixel, cropped to 90-100% of the area and "
    "enlarged again, as the paper does with MNIST",
    "celeba": "mirrored left to right with probability 1/2, as the paper does with CelebA",
    "mnist-bilinear": "rotated by up to 10 degrees and cropped to 90-100% of the area in one "
    "bilinear warp, as in older releases",
}
NO_WARP = "none"
AUGMENTATIONS = ("mnist", "celeba", NO_WARP)
_BY_SHAPE: Mapping[Shape, str] = {(1, 28, 28): "mnist-bilinear", (3, 64, 64): "celeba"}
_LOG_OFFSET = 1e-5  # of the reference code's loss


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The full configuration of one training and of its evaluation.

    `grid.make_trial` fills in defaults for a dataset; this class takes every value as it is.

    Attributes:
        dataset: name of a dataset, with its PATH where it takes one.
        data_sha256: hash of its images; "" until `bind` sets it.
        image_size: side to which the images of a folder are resized; None: no resizing.
        architecture: name of a network, or `package.module:factory` for your own.
        options: options of the network; a mapping is converted to sorted pairs.
        latents: L, dimensions of z.
        objective: name or alias of a training objective, or `package.module:loss` for your own.
        beta: weight of the rate, dimensionless.
        train_sigma2: the constant variance C in squared pixels; None if the objective has none.
        sigma2_floor: least value of a fitted variance, in squared pixels.
        seed: for weights, data order, noise and posterior samples.
        protocol: name of a protocol.
        protocol_revision: version of the protocol; see `PROTOCOL_REVISION`.
        augmentation: of `AUGMENTATIONS`, for a protocol that augments; "": that of the dataset.
        epochs, batch_size, learning_rate: settings of AdamW.
        precision: arithmetic of training; evaluation always uses float32 or better.
        checkpoints: epochs after which a checkpoint is written and evaluated.
        draws: K, posterior samples per image in evaluation.
        train_images: `matched`: evaluate at most as many training images as there are test images;
            `all`: evaluate all training images.

    Raises:
        BadInput: a value is out of range, a name is unknown, or two values contradict each other.
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
    augmentation: str = ""
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
        if self.augmentation:
            one_of(self.augmentation, AUGMENTATIONS, "augmentation")
        one_of(self.precision, PRECISIONS, "precision")
        one_of(self.train_images, TRAIN_IMAGES, "choice of train images")
        self._check_numbers()
        self._check_combinations()

    def _check_numbers(self) -> None:
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

    def _check_combinations(self) -> None:
        network, objective = ARCHITECTURES.get(self.architecture), OBJECTIVES.get(self.objective)
        if network and network.normalises_batches and self.batch_size < 2:
            raise BadInput(
                f"{self.architecture} normalises over batches: batch_size must be at least 2"
            )
        if objective and (self.train_sigma2 is not None) != objective.has_sigma2:
            takes = "requires" if self.train_sigma2 is None else "does not take"
            raise BadInput(f"objective {self.objective} {takes} train_sigma2")
        if self.augmentation and not PROTOCOLS[self.protocol].augments:
            raise BadInput(f"protocol {self.protocol} does not augment images")
        if self.checkpoints != tuple(sorted({*self.checkpoints, self.epochs})):
            raise BadInput(
                f"checkpoints must be increasing epochs that end with {self.epochs}, "
                f"got {self.checkpoints}"
            )

    def setting(self, dims: int) -> Setting:
        """Returns the settings of the loss, for images of `dims` values."""
        offset = _LOG_OFFSET if self.follows_reference else 0.0
        return Setting(beta=self.beta, dims=dims, floor=self.sigma2_floor, log_offset=offset)

    @property
    def beta_half(self) -> float:
        """The variance of the interpretation `beta-half`: beta x C, and beta/2 without a C."""
        return self.beta * (DEFAULT_SIGMA2 if self.train_sigma2 is None else self.train_sigma2)

    @property
    def starts_as_reference(self) -> bool:
        """Whether the network starts with the initial weights of the paper's reference code."""
        return PROTOCOLS[self.protocol].as_reference and self.protocol_revision >= 2

    @property
    def follows_reference(self) -> bool:
        """Whether the trial does all else as the paper's reference code does."""
        return PROTOCOLS[self.protocol].as_reference and self.protocol_revision >= 3

    def warp(self, shape: Shape) -> str | None:
        """Returns the name in `WARPS` for images of a shape; None if they are not augmented.

        Raises:
            BadInput: the protocol augments, but not images of this dataset unless asked.
        """
        if not PROTOCOLS[self.protocol].augments or self.augmentation == NO_WARP:
            return None
        of_the_paper = self.augmentation or self.dataset
        if self.protocol_revision == 1:
            return {"mnist": "mnist-bilinear", "celeba": "celeba"}.get(self.dataset)
        if self.protocol_revision == 2 and shape in _BY_SHAPE:
            return _BY_SHAPE[shape]
        if of_the_paper not in AUGMENTATIONS:
            raise BadInput(
                f"protocol {self.protocol} augments the datasets mnist and celeba only; for "
                f"{self.dataset}, say which augmentation to use: mnist, celeba or none"
            )
        return of_the_paper

    def check_images(self, images: "Images") -> None:
        """Refuses images that do not fit the batch size or the protocol.

        Raises:
            BadInput: there are too few images for a full batch, a batch would be too small, or the
                protocol does not say how to augment them.
        """
        self.warp(images.shape)
        n = len(images.train)
        for split in ("train", "test"):
            size = len(images.split(split))
            full = split == "train" and PROTOCOLS[self.protocol].drop_last
            if size < self.batch_size and (full or self.follows_reference):
                raise BadInput(
                    f"protocol {self.protocol} uses full batches only: batch_size "
                    f"{self.batch_size} is more than the {size} {split} images"
                )
        smallest = n // self.steps_per_epoch(n)
        if PROTOCOLS[self.protocol].drop_last:
            smallest = self.batch_size
        if architecture_of(self.architecture).normalises_batches and smallest < 2:
            raise BadInput(
                f"{self.architecture} normalises over batches: batch_size {self.batch_size} "
                f"leaves a batch of one of {n} images; use another batch size"
            )

    def steps_per_epoch(self, n_images: int) -> int:
        """Returns the number of optimiser steps per epoch of `n_images` training images."""
        if PROTOCOLS[self.protocol].drop_last:
            return n_images // self.batch_size
        return -(-n_images // self.batch_size)

    def steps_per_cycle(self, total: int) -> int:
        """Returns the number of steps of `total` after which the learning rate is restarted."""
        cycles = PROTOCOLS[self.protocol].annealings
        if self.follows_reference:
            return total // cycles + 1
        return -(-total // cycles)

    def images_evaluated(self, n_images: int) -> int:
        """Returns how many images of a split of `n_images` can be evaluated."""
        return n_images - n_images % self.batch_size if self.follows_reference else n_images

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, except those equal to `BEFORE_THE_FIELD`."""
        values = asdict(self) | {
            "checkpoints": list(self.checkpoints),
            "options": dict(self.options),
        }
        if not PROTOCOLS[self.protocol].revised:  # so its revision does not matter
            values["protocol_revision"] = BEFORE_THE_FIELD["protocol_revision"]
        return {
            name: value
            for name, value in values.items()
            if name not in BEFORE_THE_FIELD or value != BEFORE_THE_FIELD[name]
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Trial":
        """Rebuilds a trial from the values of `to_dict`.

        Raises:
            BadInput: an entry is missing, unknown or invalid.
        """
        known = {field.name for field in fields(cls)}
        given = {**BEFORE_THE_FIELD, **values}
        if given.keys() != known:
            names = ", ".join(sorted(map(str, given.keys() ^ known)))
            raise BadInput(f"not the configuration of a trial: unknown or missing {names}")
        try:
            return cls(**{**given, "checkpoints": tuple(given["checkpoints"])})
        except (TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"not the configuration of a trial: {error}") from error

    @cached_property
    def run_id(self) -> str:
        """A readable, unique name that ends in a hash of the full configuration."""
        dataset = re.sub(r"[^A-Za-z0-9]+", "-", self.dataset).strip("-")[-40:]
        words = [dataset, plain_part(self.architecture)]
        words += [plain_part(f"{name}={value}") for name, value in self.options]
        words += [plain_part(self.objective), f"beta={self.beta:g}"]
        if self.train_sigma2 not in (None, DEFAULT_SIGMA2):
            words.append(f"C={self.train_sigma2:g}")
        if self.precision != DEFAULT_PRECISION:
            words.append(self.precision)
        readable = "-".join([*words, f"seed={self.seed}"])[:_LONGEST_NAME]
        return f"{readable}-{hash_of(self.to_dict())}"

    @property
    def curve(self) -> str:
        """Name of the trial's curve: shared by trials that differ only in beta and seed."""
        return f"{self.objective}-{self._hash_without('beta', 'seed')}"

    @property
    def setup(self) -> str:
        """Name of all comparable trials: they differ only in objective, beta, C and seed.

        The epochs of checkpoints do not affect the weights, so they may differ too.
        """
        return self._hash_without("beta", "seed", "objective", "train_sigma2", "checkpoints")

    @cached_property
    def pack_key(self) -> str:
        """Name of all trials that can train in one pack: they differ only in beta, C, seed and
        objective, and their objectives give the models the same parts."""
        variance = objective_of(self.objective).variance or "none"
        if self.objective not in OBJECTIVES:  # a loss of the user's own is never stacked
            variance = self.objective
        return f"{variance}-{self._hash_without('beta', 'seed', 'objective', 'train_sigma2')}"

    def _hash_without(self, *names: str) -> str:
        return hash_of({key: value for key, value in self.to_dict().items() if key not in names})


def import_code(architecture: str | None, objective: str | None) -> None:
    """Imports a network and a loss of the user, so that trials that name them can be used.

    Raises:
        BadInput: one of them cannot be imported.
    """
    if architecture:
        import_architecture(architecture)
    if objective:
        import_objective(objective)


def check(name: str, value: object, valid: bool, must_be: str) -> None:
    """Refuses a value unless `valid`.

    Raises:
        BadInput: the value is not valid; the message says what it must be.
    """
    if not valid:
        raise BadInput(f"{name} must be {must_be}, got {value!r}")


def _checked_options(options: Any) -> tuple[tuple[str, Option], ...]:
    """Returns options as sorted pairs.

    Raises:
        BadInput: a name is not an identifier, or a value is not a finite number, true, false or a
            short text.
    """
    pairs = tuple(sorted(dict(options).items()))
    for name, value in pairs:
        check(
            "the name of an option",
            name,
            isinstance(name, str) and name.isidentifier(),
            "an identifier",
        )
        finite = isinstance(value, int | float) and abs(value) < math.inf
        short = isinstance(value, str) and value.isprintable() and len(value) <= 60
        check(f"option {name}", value, finite or short, "a number, true, false or a short text")
    return pairs


def plain_part(text: str) -> str:
    """Returns a text with only the characters that belong in a file name."""
    return re.sub(r"[^A-Za-z0-9.=]+", "-", text).strip("-")[-40:]


def hash_of(values: Mapping[str, Any]) -> str:
    """Returns ten hexadecimal digits that depend on every value."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def bind(trial: Trial, data_sha256: str) -> Trial:
    """Returns the trial with the hash of the images it will use.

    Raises:
        BadInput: the trial was made for other images.
    """
    if trial.data_sha256 not in ("", data_sha256):
        raise BadInput(f"{trial.dataset}: the images have changed since {trial.run_id} was made")
    return replace(trial, data_sha256=data_sha256)
