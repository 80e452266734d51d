"""The pictures of a model: its reconstructions of the first images, and samples of its prior."""

import numpy as np
import torch
from torch import Tensor, nn

from rdkit_vae.config import seeds
from rdkit_vae.datasets.images import Images, Pixels
from rdkit_vae.evaluation.forward import decode, encode, evaluating
from rdkit_vae.store.samples import Samples
from rdkit_vae.training.inputs import to_unit


def sample(
    model: nn.Module,
    images: Images,
    *,
    latents: int,
    n_images: int,
    n_prior: int,
    split: str = "test",
    seed: int = 0,
    device: str = "cpu",
) -> Samples:
    """Reconstructs the first images of a split and decodes latents of the prior.

    Posterior noise and prior latents are functions of the seed alone, so that models of equally
    many latents are shown the same. Pictures are decoder means, clipped to [0, 1], with no noise of
    the decoder's variance added. Images are as they lie in the dataset, whatever the protocol.

    Args:
        model: a network with `encode` and `decode`, on `device`.
        images: the dataset.
        latents: of the model.
        n_images, n_prior: how many pictures of each; at most all images of the split.

    Raises:
        BadInput: the model has another number of latents, or its output another shape than the
            images.
        NotFinite: it gives a number that is not finite.
    """
    shown = images.split(split)[:n_images]
    x = to_unit(torch.from_numpy(np.array(shown)).to(device), images.levels)
    noise, prior = (
        _normal(seed, index, (count, latents)).to(device)
        for index, count in enumerate((len(shown), n_prior))
    )
    with evaluating(model, device):
        mean, log_var = encode(model, x, latents)
        z = mean + (log_var / 2).exp() * noise
        return Samples(
            split=split,
            seed=seed,
            original=_pixels(x),
            reconstruction=_pixels(decode(model, z, images.shape)),
            prior=_pixels(decode(model, prior, images.shape)),
        )


def _normal(seed: int, index: int, shape: tuple[int, int]) -> Tensor:
    drawn = seeds.generator(seed, "pictures", index).standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(drawn)


def _pixels(x: Tensor) -> Pixels:
    return (x.clamp(0, 1) * 255).round().to(torch.uint8).cpu().contiguous().numpy()
