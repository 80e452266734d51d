"""Models that rdvae did not train: what is known of them, and how they are evaluated."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from numbers import Integral, Real
from typing import Any, ClassVar

from rdkit_vae.config.trial import (
    MOST_DRAWS,
    SIGMA2_FLOOR,
    TRAIN_IMAGES,
    Option,
    Trial,
    check,
    hash_of,
    plain_part,
)
from rdkit_vae.errors import BadInput
from rdkit_vae.models import Shape
from rdkit_vae.system.imports import is_import_name
from rdkit_vae.text import one_of

RECONSTRUCTIONS = ("sse", "log-sse", "bce", "l1")
UNKNOWN = "unknown"  # the training objective of a model from elsewhere
DEFAULT_DRAWS = 8
_LONGEST_TEXT, _MOST_LEVELS, _MOST_LATENTS = 300, 100, 2**31
_TEXTS = ("name", "dataset", "data_sha256", "architecture", "adapter", "library", "weights")


@dataclass(frozen=True, kw_only=True)
class ForeignModel:
    """What is known of a model from elsewhere, and how it is evaluated: its `Trial`.

    Attributes:
        name: the user's name for it.
        dataset, data_sha256: the images it was evaluated on, and their hash.
        architecture: name of its class, such as `diffusers.AutoencoderKL`.
        adapter: name of the adapter that read it; "" if it was adapted in Python.
        library: library and version that it was built with; may be "".
        weights: name of the file of its weights; "" if they were in memory.
        weights_sha256: hash of that file, or of the weights in memory.
        latent_shapes: shape of each level of its latents.
        pixel_range: of its own pixels, in words.
        log_volume: log |dy/dx| of its own pixels y, nats per image: what its log-likelihoods in
            these pixels lack to those in [0, 1].
        beta: weight of the KL in training; None if unknown.
        train_sigma2: constant decoder variance of training, in squared pixels of [0, 1]; None if it
            had none, or if it is unknown.
        reconstruction: the loss it was trained with, of `RECONSTRUCTIONS` or the user's own as
            `package.module:function`; "" if unknown.
        epoch: epochs of its training; 0 if unknown.
        sigma2_floor, seed, draws, train_images: as in `Trial`, for the evaluation.

    Raises:
        BadInput: a value is out of range.
    """

    name: str
    dataset: str
    data_sha256: str
    architecture: str
    adapter: str = ""
    library: str = ""
    weights: str = ""
    weights_sha256: str
    latent_shapes: tuple[tuple[int, ...], ...]
    pixel_range: str = "(0, 1)"
    log_volume: float = 0.0
    beta: float | None = None
    train_sigma2: float | None = None
    reconstruction: str = ""
    epoch: int = 0
    sigma2_floor: float = SIGMA2_FLOOR
    seed: int = 0
    draws: int = DEFAULT_DRAWS
    train_images: str = "matched"

    def __post_init__(self) -> None:
        for name in (*_TEXTS, "weights_sha256", "pixel_range"):
            text = getattr(self, name)
            plain = isinstance(text, str) and text.isprintable() and len(text) <= _LONGEST_TEXT
            check(name, text, plain, f"printable text of at most {_LONGEST_TEXT} characters")
        named = re.search(r"[A-Za-z0-9]", self.name) is not None
        check("the name of a model", self.name, named, "a text with a letter or digit")
        if self.reconstruction:
            check_reconstruction(self.reconstruction)
        one_of(self.train_images, TRAIN_IMAGES, "choice of train images")
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name in ("beta", "train_sigma2", "sigma2_floor"):
            value = getattr(self, name)
            if value is None and name != "sigma2_floor":
                continue
            number = _is(value, Real) and 0 < value < math.inf
            check(name, value, number, "positive")
            object.__setattr__(self, name, float(value))
        ranges = {"epoch": (0, 2**40), "seed": (0, 2**32 - 1), "draws": (1, MOST_DRAWS)}
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            whole = _is(value, Integral) and least <= value <= most
            check(name, value, whole, f"a whole number in {least}..{most}")
            object.__setattr__(self, name, int(value))
        finite = isinstance(self.log_volume, int | float) and abs(self.log_volume) < 1e100
        check("log_volume", self.log_volume, finite, "finite")
        shapes = self.latent_shapes
        sound = 0 < len(shapes) <= _MOST_LEVELS and all(
            0 < len(shape) <= 8 and all(type(side) is int and side > 0 for side in shape)
            for shape in shapes
        )
        check("latent_shapes", shapes, sound and self.latents < _MOST_LATENTS, "positive sizes")

    @property
    def latents(self) -> int:
        """L, the number of latents of all levels."""
        return sum(math.prod(shape) for shape in self.latent_shapes)

    @cached_property
    def run_id(self) -> str:
        """Its name, made safe for file names, and a hash of everything that is known of it."""
        return f"{plain_part(self.name)}-{hash_of(self.to_dict())}"

    @property
    def curve(self) -> str:
        """A curve of its own: nothing says which other models were trained alike."""
        return self.run_id

    @property
    def setup(self) -> str:
        """A setup of its own, for the same reason."""
        return self.run_id

    # What a `Trial` has too.
    objective: ClassVar[str] = UNKNOWN
    protocol: ClassVar[str] = "clean"
    options: ClassVar[tuple[tuple[str, Option], ...]] = ()

    @property
    def beta_half(self) -> float | None:
        """The variance of the interpretation `beta-half`, beta x C; None if one is unknown."""
        if self.beta is None or self.train_sigma2 is None:
            return None
        return self.beta * self.train_sigma2

    @property
    def epochs(self) -> int:
        """Epochs of its training; 0 if unknown."""
        return self.epoch

    def warp(self, shape: Shape) -> None:
        """It is evaluated on the images as they are."""

    def images_evaluated(self, n_images: int) -> int:
        """It is evaluated on all images of a split."""
        return n_images

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return asdict(self) | {"latent_shapes": [list(shape) for shape in self.latent_shapes]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ForeignModel":
        """Rebuilds the record from the values of `to_dict`.

        Raises:
            BadInput: an entry is missing, unknown or invalid.
        """
        known = {field.name for field in fields(cls)}
        if values.keys() != known:
            names = ", ".join(sorted(map(str, values.keys() ^ known)))[:120]
            raise BadInput(f"not a model from elsewhere: unknown or missing {names}")
        try:
            shapes = tuple(tuple(shape) for shape in values["latent_shapes"])
            return cls(**{**values, "latent_shapes": shapes})
        except (TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"not a model from elsewhere: {error}") from error


def check_reconstruction(name: str) -> str:
    """Returns the name of a reconstruction loss if there can be one; imports nothing.

    Raises:
        BadInput: it is neither in `RECONSTRUCTIONS` nor of the form `package.module:function`.
    """
    return name if is_import_name(name) else one_of(name, RECONSTRUCTIONS, "reconstruction")


def units_of(shapes: Sequence[tuple[int, ...]]) -> list[str]:
    """Returns a name per latent for the unit it belongs to: its channel if it is of a map.

    The positions of a channel share the bias of the encoder's last layer, and so count as one.

    Args:
        shapes: of the levels of the latents.
    """
    names: list[str] = []
    for level, shape in enumerate(shapes):
        where = f"level {level}, " if len(shapes) > 1 else ""
        is_map = len(shape) > 2
        positions = math.prod(shape[1:]) if is_map else 1
        kind = "channel" if is_map else "latent"
        count = math.prod(shape) // positions
        names += [f"{where}{kind} {unit}" for unit in range(count) for _ in range(positions)]
    return names


def _is(value: object, kind: type) -> bool:
    """Whether a value is a number of a kind, also one of NumPy; true and false are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


# What an evaluation is of: a training of rdvae, or a model from elsewhere.
Subject = Trial | ForeignModel


def described(subject: Subject) -> dict[str, Any]:
    """Returns the subject as the metadata of a file holds it."""
    return {"trial" if isinstance(subject, Trial) else "foreign": subject.to_dict()}


def subject_of(about: Mapping[str, Any]) -> Subject:
    """Returns the subject of a file from its metadata.

    Raises:
        KeyError: the metadata names none.
        BadInput: it is damaged.
    """
    if "foreign" in about:
        return ForeignModel.from_dict(about["foreign"])
    return Trial.from_dict(about["trial"])
