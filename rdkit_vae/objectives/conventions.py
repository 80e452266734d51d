"""What beta and s2 a VAE's loss really sets, from how its code sums and averages.

Any loss a E[sse] + b E[KL] is, up to its scale, the objective `constant` with beta x s2 = b/(2a).
Only that product is set (Beta-Sigma VAE, Eq. 3-5); every split of it into beta and s2 is a reading.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rdkit_vae.errors import BadInput
from rdkit_vae.text import one_of, positive, shown

REDUCTIONS = ("mean", "sum")
WEIGHT = "weight:"


@dataclass(frozen=True, kw_only=True)
class DecodedLoss:
    """What a loss sets. It is, up to scale, E[sse]/(2 sigma2) + beta E[KL].

    Attributes:
        beta, sigma2: as the loss is written: per image, sse has the weight 1/(2 sigma2) and the KL
            the weight beta. sigma2 in squared pixels.
        product: beta sigma2, the only thing that training sees.
    """

    beta: float
    sigma2: float
    product: float

    @property
    def beta_at_half(self) -> float:
        """The paper's beta: that of the same objective written with a variance of 1/2."""
        return 2 * self.product

    @property
    def is_elbo(self) -> bool:
        """Whether the loss as written is, up to constants, the negative ELBO at its own s2."""
        return abs(self.beta - 1) < 1e-9


def decode_loss(
    *,
    dims: int,
    reconstruction: str = "mean",
    kl: str = "sum",
    latents: int | None = None,
    factor: float = 1.0,
    batch: int | None = None,
) -> DecodedLoss:
    """Decodes `factor * reconstruction + kl`.

    Without `batch`, both terms are taken per image and averaged (or both summed) over the batch.
    With it, `mean` and `sum` run over the whole tensor, images included, as in
    `torch.nn.functional.mse_loss(x, y, reduction=...)`.

    Args:
        dims: D, values in an image.
        reconstruction: squared errors, by `mean` or `sum`.
        kl: the KL, by `mean` or `sum` over the latents; or `weight:W`, W times its sum over the
            latents (averaged over the batch).
        latents: L; needed where the KL is a mean.
        factor: of the reconstruction; 1/2 in a Gaussian log-density of variance 1.
        batch: images in a batch, where the reductions run over them.

    Raises:
        BadInput: an unknown reduction, a number that is not positive, or latents missing.
    """
    one_of(reconstruction, REDUCTIONS, "reconstruction")
    for name, value in (("dims", dims), ("latents", latents), ("batch", batch), ("factor", factor)):
        if value is not None and not 0 < value < float("inf"):
            raise BadInput(f"{name} must be positive, got {value!r}")
    weight_kl, over_images = _weight_of_kl(kl, latents)
    if batch is not None:
        # Both weights in the scale of the reconstruction, so that s2 is what the pixels say and a
        # batch that only one of the terms is divided by ends up in beta.
        weight_kl *= (batch if reconstruction == "mean" else 1) / (batch if over_images else 1)
    sigma2 = (dims if reconstruction == "mean" else 1) / (2 * factor)
    return DecodedLoss(beta=weight_kl, sigma2=sigma2, product=weight_kl * sigma2)


def _weight_of_kl(kl: str, latents: int | None) -> tuple[float, bool]:
    """Weight of an image's KL, and whether a reduction over the batch divides by the images."""
    if kl.startswith(WEIGHT):
        return positive(kl.removeprefix(WEIGHT), kl), True
    if kl not in REDUCTIONS:
        raise BadInput(f"unknown kl {shown(kl)}; known: mean, sum, weight:W")
    if kl == "sum":
        return 1.0, False
    if latents is None:
        raise BadInput("kl mean is over the latents: give their number")
    return 1 / latents, True


@dataclass(frozen=True, kw_only=True)
class Convention:
    """A way of writing the loss that is met often.

    Attributes:
        about: the loss in words.
        found: where it is met.
        arguments: of `decode_loss`, as far as the convention fixes them.
    """

    about: str
    found: str
    arguments: Mapping[str, str | float]


CONVENTIONS: Mapping[str, Convention] = {
    "bs-vae": Convention(
        about="mean over the batch of pixel sums, + beta x KL (weight:BETA; here 1)",
        found="Beta-Sigma VAE, Eq. 3 with C = 1/2: what its constant-variance models minimise",
        arguments={"reconstruction": "sum", "kl": "weight:1"},
    ),
    "kld-weight": Convention(
        about="mean over all squared errors + 0.00025 x KL, on 3x64x64",
        found="collections of VAEs for CelebA; the weight is a batch size over a dataset size",
        arguments={"reconstruction": "mean", "kl": "weight:0.00025", "dims": 12288},
    ),
    "sum-sum": Convention(
        about="sum over pixels + sum over latents, both over the whole batch",
        found="the best-known PyTorch example, with squared errors in place of cross-entropy",
        arguments={"reconstruction": "sum", "kl": "sum"},
    ),
    "batch-mean": Convention(
        about="mean over the batch of pixel sums + mean over the batch of KL sums",
        found="most papers; the batch cancels, so it is sum-sum",
        arguments={"reconstruction": "sum", "kl": "sum"},
    ),
    "half-sum": Convention(
        about="half the pixel sum + KL sum: a Gaussian of variance 1",
        found="the negative ELBO with its constants left out",
        arguments={"reconstruction": "sum", "kl": "sum", "factor": 0.5},
    ),
    "mean-mean": Convention(
        about="mean over all squared errors + mean over all latents' KL",
        found="code that takes the default reduction everywhere",
        arguments={"reconstruction": "mean", "kl": "mean"},
    ),
    "mean-sum": Convention(
        about="mean over all squared errors + KL sum of the image",
        found="code that takes the default reduction of mse_loss; beta is D times what it seems",
        arguments={"reconstruction": "mean", "kl": "sum"},
    ),
}
