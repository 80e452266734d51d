"""A small classifier of a dataset's own labels, whose last hidden layer is the features."""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdkit_vae.config import seeds
from rdkit_vae.datasets.images import Images, Labels, Pixels
from rdkit_vae.errors import BadData
from rdkit_vae.evaluation.foreign import hash_of_weights
from rdkit_vae.evaluation.forward import evaluating
from rdkit_vae.models import Shape
from rdkit_vae.text import counted

Progress = Callable[[int, int], None]  # (steps done, steps in total)

DIMS = 64  # of the features
CLASSES = 10
_RECIPE = 1  # a new number for each change of this module that changes the weights
_WIDTHS = (32, 64, 64)
_LARGE = 16  # pixels of a side, from which the first convolution has stride 2
_BATCH, _STEPS, _EPOCHS = 128, 1400, 40  # training ends with the first of the last two
_RATE, _DECAY, _SMOOTHING, _SHIFT = 1e-2, 5e-2, 0.05, 1
_LEAST_ACCURACY = 0.5
_PART = 1000  # images that are classified at once


def recipe() -> str:
    """A short hash of how a classifier is made, so that another version makes its own."""
    network = (DIMS, CLASSES, _WIDTHS, _LARGE)
    training = (_BATCH, _STEPS, _EPOCHS, _RATE, _DECAY, _SMOOTHING, _SHIFT)
    facts = (_RECIPE, network, training)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:8]


class Network(nn.Module):
    """Three convolutions and a hidden layer of `DIMS`; its rectified output is the features.

    Args:
        shape: C, H, W of the images.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, *sides = shape
        for n, width in enumerate(_WIDTHS):
            stride = 1 if n == 0 and min(shape[1:]) < _LARGE else 2
            layers += [nn.Conv2d(channels, width, 3, stride, 1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            channels, sides = width, [math.ceil(side / stride) for side in sides]
        hidden = nn.Linear(channels * math.prod(sides), DIMS, bias=False)
        self.body = nn.Sequential(*layers, nn.Flatten(), hidden, nn.BatchNorm1d(DIMS), nn.ReLU())
        self.head = nn.Linear(DIMS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) pictures in [0, 1] to (B, DIMS) features."""
        features: Tensor = self.body(x)
        return features


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A trained classifier.

    Attributes:
        network: makes the features, in evaluation mode; its weights have 16 bits.
        accuracy: share of the test images that it classifies as their labels say.
        data_sha256: of the images that it was trained on.
    """

    network: Network
    accuracy: float
    data_sha256: str

    @property
    def sha256(self) -> str:
        """Hash of the weights, which identifies the features."""
        return hash_of_weights(self.network)


def train_classifier(
    images: Images, labels: tuple[Labels, Labels], progress: Progress | None = None
) -> Classifier:
    """Trains a classifier, always with the same seed and on the CPU.

    Args:
        images: the dataset.
        labels: classes from 0 to 9 of its train and test images.
        progress: called as `progress(done, total)` after each step.

    Raises:
        BadData: the labels are not those of the images.
    """
    for split, classes in zip(("train", "test"), labels, strict=True):
        check_labels(images, split, classes)
    network = _initial(images.shape)
    _fit(network, images, labels[0], progress)
    put_into(network, weights_of(network))
    share = accuracy(network, images, labels[1])
    if share < _LEAST_ACCURACY:
        raise BadData(
            f"{images.name}: a classifier learned only {share:.0%} of the labels: are they those "
            "of these images?"
        )
    return Classifier(network=network, accuracy=share, data_sha256=images.sha256)


def check_labels(images: Images, split: str, labels: Labels) -> None:
    """Checks that there is a class for each image of a split.

    Raises:
        BadData: there is not.
    """
    count = len(images.split(split))
    if labels.shape != (count,):
        raise BadData(
            f"{images.name}: {counted(labels.size, 'label')} of {counted(count, f'{split} image')}"
        )
    if labels.max() >= CLASSES:
        raise BadData(f"{images.name}: a label must be from 0 to {CLASSES - 1}")


def accuracy(network: Network, images: Images, labels: Labels) -> float:
    """Share of the test images that a network classifies as their labels say."""
    right = 0
    with evaluating(network, "cpu"):
        for start in range(0, len(labels), _PART):
            part = slice(start, start + _PART)
            logits = network.head(network(_scaled(images.test[part], images.levels)))  # (B, 10)
            right += int((logits.argmax(dim=1).numpy() == labels[part]).sum())
    return right / len(labels)


def weights_of(network: Network) -> dict[str, np.ndarray]:
    """The weights by name, as float16 arrays."""
    return {
        name: tensor.detach().numpy().astype(np.float16)
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point()
    }


def put_into(network: Network, weights: dict[str, np.ndarray]) -> None:
    """Puts the arrays of `weights_of` into a network, and ends its training."""
    counters = {n: t.zero_() for n, t in network.state_dict().items() if not t.is_floating_point()}
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    network.load_state_dict({**tensors, **counters})
    network.eval().requires_grad_(False)


def _initial(shape: Shape) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.integer(0, "classifier"))
        return Network(shape)


def _fit(network: Network, images: Images, labels: Labels, progress: Progress | None) -> None:
    """Minimises the cross-entropy by AdamW, at a rate that rises and then falls."""
    batch = min(_BATCH, len(labels))
    steps = min(_STEPS, _EPOCHS * (len(labels) // batch))
    optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=_DECAY)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, steps, pct_start=0.2)
    classes = torch.from_numpy(labels.astype(np.int64))
    network.train()
    for step, (chosen, shift) in enumerate(_batches(len(labels), batch, steps), 1):
        x = _shifted(_scaled(images.train[chosen], images.levels), shift)
        logits = network.head(network(x))  # (B, 10)
        optimizer.zero_grad()
        loss = F.cross_entropy(logits, classes[chosen], label_smoothing=_SMOOTHING)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        rates.step()
        if progress is not None:
            progress(step, steps)


def _batches(count: int, batch: int, steps: int) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
    """Yields the images of each step, and by how many pixels they are shifted."""
    per_epoch = count // batch
    for epoch in range(math.ceil(steps / per_epoch)):
        rng = seeds.generator(0, "classifier", 1 + epoch)
        order = rng.permutation(count)
        for n in range(min(per_epoch, steps - epoch * per_epoch)):
            down, right = rng.integers(-_SHIFT, _SHIFT + 1, 2)
            yield order[n * batch : (n + 1) * batch], (int(down), int(right))


def _shifted(x: Tensor, shift: tuple[int, int]) -> Tensor:
    """Moves pictures down and to the right; what they leave behind is 0."""
    down, right = shift
    return F.pad(x, (right, -right, down, -down))


def _scaled(pixels: Pixels, levels: int) -> Tensor:
    return torch.from_numpy(pixels.astype(np.float32)) / (levels - 1)
