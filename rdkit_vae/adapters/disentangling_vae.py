"""Models of github.com/YannDubs/disentangling-vae: the network of Burgess et al. (2018).

"Understanding disentangling in beta-VAE", arXiv:1804.03599. Images are 32x32 or 64x64, in [0, 1].
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from rdkit_vae.adapters import Loaded
from rdkit_vae.adapters.reading import build_bounded, number, put_into, shape_of, shapes_of
from rdkit_vae.config.trial import Option
from rdkit_vae.models.adapted import adapt
from rdkit_vae.store.weights import Weights, read_weights
from rdkit_vae.system.files import read_json

_NETWORK = "the network of disentangling-vae"
_WEIGHTS, _SETTINGS = "model.pt", "specs.json"
_WIDTH, _SIDE, _HIDDEN = 32, 4, 256  # of the convolutions, of the last feature map, of the layers
_LOSSES = {  # by distribution of the pixels: reconstruction, train_sigma2
    "bernoulli": ("bce", None),
    "gaussian": ("sse", 1 / 510),  # 255 times the squared error
    "laplace": ("l1", None),
}


class Burgess(nn.Module):
    """Three or four convolutions that halve the image, two or three linear layers, and back."""

    def __init__(self, channels: int, latents: int, image_size: int) -> None:
        super().__init__()
        four = image_size == 64
        self.encoder = _Encoder(channels, latents, four)
        self.decoder = _Decoder(channels, latents, four)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `models.VAE`."""
        mean, log_var = self.encoder(x).reshape(len(x), -1, 2).unbind(-1)
        return mean, log_var

    def decode(self, z: Tensor) -> Tensor:
        """See `models.VAE`."""
        images: Tensor = self.decoder(z)
        return images


class _Encoder(nn.Module):
    def __init__(self, channels: int, latents: int, four: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, _WIDTH, 4, 2, 1)
        self.conv2 = nn.Conv2d(_WIDTH, _WIDTH, 4, 2, 1)
        self.conv3 = nn.Conv2d(_WIDTH, _WIDTH, 4, 2, 1)
        self.conv_64 = nn.Conv2d(_WIDTH, _WIDTH, 4, 2, 1) if four else None
        self.lin1 = nn.Linear(_WIDTH * _SIDE**2, _HIDDEN)
        self.lin2 = nn.Linear(_HIDDEN, _HIDDEN)
        self.mu_logvar_gen = nn.Linear(_HIDDEN, 2 * latents)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3, self.conv_64):
            x = F.relu(conv(x)) if conv is not None else x
        hidden = F.relu(self.lin2(F.relu(self.lin1(x.flatten(1)))))
        gaussian: Tensor = self.mu_logvar_gen(hidden)  # (B, 2L): mean and log variance by turns
        return gaussian


class _Decoder(nn.Module):
    def __init__(self, channels: int, latents: int, four: bool) -> None:
        super().__init__()
        self.lin1 = nn.Linear(latents, _HIDDEN)
        self.lin2 = nn.Linear(_HIDDEN, _HIDDEN)
        self.lin3 = nn.Linear(_HIDDEN, _WIDTH * _SIDE**2)
        self.convT_64 = nn.ConvTranspose2d(_WIDTH, _WIDTH, 4, 2, 1) if four else None
        self.convT1 = nn.ConvTranspose2d(_WIDTH, _WIDTH, 4, 2, 1)
        self.convT2 = nn.ConvTranspose2d(_WIDTH, _WIDTH, 4, 2, 1)
        self.convT3 = nn.ConvTranspose2d(_WIDTH, channels, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        for layer in (self.lin1, self.lin2, self.lin3):
            z = F.relu(layer(z))
        x = z.reshape(-1, _WIDTH, _SIDE, _SIDE)
        for conv in (self.convT_64, self.convT1, self.convT2):
            x = F.relu(conv(x)) if conv is not None else x
        return self.convT3(x).sigmoid()  # type: ignore[no-any-return]


def load(path: Path, options: Mapping[str, Option]) -> Loaded:
    """Reads `model.pt`, or its folder; the loss is that in `specs.json` beside it, if any.

    Raises:
        BadData: these are not weights of this network.
    """
    file = path / _WEIGHTS if path.is_dir() else path
    weights = read_weights(file)
    module = _network(weights, file)
    notes = put_into(module, weights, file)
    image_size = 64 if module.encoder.conv_64 is not None else 32
    settings = file.with_name(_SETTINGS)
    loss = _loss(read_json(settings)) if settings.exists() else {"notes": (_NO_SETTINGS,)}
    return Loaded(
        model=adapt(module, image_size=image_size),
        sha256=weights.sha256,
        weights=file.name,
        architecture="disentangling-vae.Burgess",
        **(loss | {"notes": notes + loss["notes"]}),
    )


_NO_SETTINGS = f"There is no {_SETTINGS} beside the weights, so the training loss is unknown."


def _network(weights: Weights, path: Path) -> Burgess:
    channels = shape_of("encoder.conv1.weight", 4, weights, path, _NETWORK)[1]
    outputs = shape_of("encoder.mu_logvar_gen.weight", 2, weights, path, _NETWORK)[0]
    four = bool(shapes_of("encoder.conv_64.weight", weights))
    size = 64 if four else 32
    return build_bounded(lambda: Burgess(channels, outputs // 2, size), weights, path)


def _loss(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Loaded` about the training loss."""
    name, pixels = (str(settings.get(key, "unknown"))[:40] for key in ("loss", "rec_dist"))
    reconstruction, train_sigma2 = _LOSSES.get(pixels, ("", None))
    beta = {"VAE": 1.0, "betaH": number(settings, "betaH_B")}.get(name)
    notes = []
    if not reconstruction:
        notes.append(f"The loss of the pixels, {pixels!r}, is not one that rdvae can describe.")
    if pixels == "laplace":
        beta = None
        notes.append("The factor of its L1 loss depends on the version of the code.")
    elif beta is None:
        notes.append(f"The loss {name!r} does not weight the KL term by a single number.")
    return {
        "reconstruction": reconstruction,
        "train_sigma2": train_sigma2,
        "beta": beta,
        "notes": tuple(notes),
    }
