"""The features `classifier`: a small network trained on the labels of a dataset.

Those of digits and mnist come with rdvae, so that distances can be compared between machines. One
for another dataset with labels is trained when it is needed first, and kept in the cache folder.
"""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdkit_vae.config import seeds
from rdkit_vae.datasets.images import Images, Pixels
from rdkit_vae.datasets.labels import CLASSES, load_labels
from rdkit_vae.errors import BadData
from rdkit_vae.models import Shape
from rdkit_vae.store.mirror import cache_folder
from rdkit_vae.system.files import make_folder, write_atomic
from rdkit_vae.training.augmentation import to_unit

FEATURES = 64
_SHIPPED = Path(__file__).parent / "weights"
_STEPS, _BATCH, _RATE = 4000, 128, 3e-3
_RECIPE = 1  # a change of the network or of its training takes a new number
_MOST_BYTES = 2**23  # of a file of weights, unpacked
Progress = Callable[[int, int], None]  # (epochs done, in all)


class Network(nn.Module):
    """Two convolutions and a hidden layer, whose activations are the features, (B, 64)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        channels, height, width = shape
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.hidden = nn.Linear(32 * (height // 4) * (width // 4), FEATURES)
        self.output = nn.Linear(FEATURES, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) images in [0, 1] to (B, 64)."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return F.relu(self.hidden(x.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) images in [0, 1] to (B, 10) logits."""
        logits: Tensor = self.output(F.dropout(self.features(x), 0.3, self.training))
        return logits


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A trained network.

    Attributes:
        network: in evaluation mode, on the CPU.
        accuracy: share of the test images that it labels correctly.
    """

    network: Network
    accuracy: float


def classifier_of(
    images: Images, *, data_dir: str | Path | None = None, progress: Progress | None = None
) -> Classifier:
    """The classifier of a dataset: one that comes with rdvae, a cached one, or one trained now.

    Args:
        images: the dataset; its hash must be that of the images it was trained on.
        data_dir: folder with the labels, if it has to be trained.
        progress: called as `progress(done, total)` with epochs while it is trained.

    Raises:
        BadInput: the dataset has no labels.
        BadData: its labels are missing, or the cache cannot be written.
    """
    name = f"classifier-{_RECIPE}-{images.sha256[:16]}.npz"
    cached = cache_folder() / name
    for path in (_SHIPPED / name, cached):
        if path.exists():
            try:
                return read_classifier(path, images)
            except BadData:
                continue  # a damaged one is made again
    labels = load_labels(images.name, data_dir=data_dir)
    trained = train_classifier(images, labels, progress=progress)
    make_folder(cached.parent)
    write_atomic(cached, classifier_bytes(trained, images))
    return trained


def train_classifier(
    images: Images, labels: tuple[Pixels, Pixels], *, progress: Progress | None = None
) -> Classifier:
    """Trains the network on the train images, with AdamW and one cycle of the learning rate.

    Args:
        images: the dataset.
        labels: of its train and test images.
        progress: called as `progress(done, total)` with epochs.

    Raises:
        BadData: there are not as many labels as images.
    """
    for split, values in zip(("train", "test"), labels, strict=True):
        if len(values) != len(images.split(split)):
            raise BadData(
                f"{images.name}: {len(values):,} labels for {len(images.split(split)):,} {split} "
                "images"
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.integer(0, "classifier"))
        network = Network(images.shape)
        _train(network, images, labels[0], progress or (lambda done, total: None))
    predicted = np.concatenate(
        [network(x).argmax(1).numpy() for x in _batches(images.test, images)]
    )
    return Classifier(network=network, accuracy=float((predicted == labels[1]).mean()))


def _train(network: Network, images: Images, labels: Pixels, progress: Progress) -> None:
    n = len(images.train)
    steps = -(-n // _BATCH)
    epochs = -(-_STEPS // steps)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=epochs * steps)
    targets = torch.from_numpy(labels.astype(np.int64))
    for epoch in range(epochs):
        order = seeds.generator(0, "classifier", epoch + 1).permutation(n)
        for rows in np.array_split(order, steps):
            x = to_unit(torch.from_numpy(np.ascontiguousarray(images.train[rows])), images.levels)
            loss = F.cross_entropy(network(x), targets[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        progress(epoch + 1, epochs)
    network.half().float().eval().requires_grad_(False)  # rounded as in the file


def _batches(pixels: Pixels, images: Images) -> list[Tensor]:
    parts = np.array_split(np.arange(len(pixels)), -(-len(pixels) // 1000))
    return [
        to_unit(torch.from_numpy(np.ascontiguousarray(pixels[part])), images.levels)
        for part in parts
    ]


def classifier_bytes(classifier: Classifier, images: Images) -> bytes:
    """The content of a file of weights, in float16."""
    arrays: dict[str, Any] = {
        name: tensor.numpy().astype(np.float16)
        for name, tensor in classifier.network.state_dict().items()
    }
    facts = {"accuracy": np.float64(classifier.accuracy), "data_sha256": np.array(images.sha256)}
    file = io.BytesIO()
    np.savez(file, **(arrays | facts))
    return file.getvalue()


def read_classifier(path: Path, images: Images) -> Classifier:
    """Reads what `classifier_bytes` made.

    Raises:
        BadData: the file is damaged, or its network is that of other images.
    """
    network = Network(images.shape)
    expected = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
                raise ValueError("it is too large")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in expected}
            accuracy, data_sha256 = float(file["accuracy"]), str(file["data_sha256"])
        if data_sha256 != images.sha256:
            raise ValueError("it is of other images")
        if {name: array.shape for name, array in arrays.items()} != expected:
            raise ValueError("it is another network")
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("a weight is not finite")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise BadData(f"{path}: damaged ({' '.join(str(error).split())[:120]})") from error
    network.load_state_dict({n: torch.from_numpy(a.astype(np.float32)) for n, a in arrays.items()})
    return Classifier(network=network.eval().requires_grad_(False), accuracy=accuracy)
