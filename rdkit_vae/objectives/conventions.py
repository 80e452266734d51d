"""The beta and s2 that a VAE's loss implies, from how its code sums and averages.

Any loss a E[sse] + b E[KL] is, up to scale, the objective `constant` with beta x s2 = b/(2a). The
loss fixes only this product (Beta-Sigma VAE, Eq. 3-5); any factorisation of it into beta and s2 is
an interpretation.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rdkit_vae.errors import BadInput
from rdkit_vae.text import one_of, positive, shown

REDUCTIONS = ("mean", "sum")
WEIGHT = "weight:"


@dataclass(frozen=True, kw_only=True)
class DecodedLoss:
    """What a loss implies. Up to scale, it is E[sse]/(2 sigma2) + beta E[KL].

    Attributes:
        beta, sigma2: as the loss is written: per image, sse has the weight 1/(2 sigma2) and the KL
            the weight beta. sigma2 is in squared pixels.
        product: beta sigma2, the only number on which training depends.
    """

    beta: float
    sigma2: float
    product: float

    @property
    def beta_at_half(self) -> float:
        """The paper's beta: of the same objective written with a variance of 1/2."""
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

    Without `batch`, both terms are per image, and both are averaged or both summed over the batch.
    With `batch`, `mean` and `sum` run over the whole tensor, including the images, as in
    `torch.nn.functional.mse_loss(x, y, reduction=...)`.

    Args:
        dims: D, values in an image.
        reconstruction: `mean` or `sum` of the squared errors.
        kl: `mean` or `sum` of the KL over the latents; or `weight:W`, W times its sum over the
            latents (averaged over the batch).
        latents: L; needed if the KL is a mean.
        factor: weight of the reconstruction; 1/2 for a Gaussian log-density of variance 1.
        batch: images in a batch, if the reductions include them.

    Raises:
        BadInput: a reduction is unknown, a number is not positive, or `latents` is missing.
    """
    one_of(reconstruction, REDUCTIONS, "reconstruction")
    for name, value in (("dims", dims), ("latents", latents), ("batch", batch), ("factor", factor)):
        if value is not None and not 0 < value < float("inf"):
            raise BadInput(f"{name} must be positive, got {value!r}")
    weight_kl, over_images = _weight_of_kl(kl, latents)
    if batch is not None:
        # Scale both weights by that of the reconstruction: then s2 depends on the pixels only, and
        # a batch size that divides just one of the terms goes into beta.
        weight_kl *= (batch if reconstruction == "mean" else 1) / (batch if over_images else 1)
    sigma2 = (dims if reconstruction == "mean" else 1) / (2 * factor)
    return DecodedLoss(beta=weight_kl, sigma2=sigma2, product=weight_kl * sigma2)


def _weight_of_kl(kl: str, latents: int | None) -> tuple[float, bool]:
    """Returns the weight of an image's KL, and whether its reduction averages over the batch."""
    if kl.startswith(WEIGHT):
        return positive(kl.removeprefix(WEIGHT), kl), True
    if kl not in REDUCTIONS:
        raise BadInput(f"unknown kl {shown(kl)}; known: mean, sum, weight:W")
    if kl == "sum":
        return 1.0, False
    if latents is None:
        raise BadInput("kl mean is over the latents: give the number of latents")
    return 1 / latents, True


@dataclass(frozen=True, kw_only=True)
class Convention:
    """A common way of writing the loss.

    Attributes:
        about: the loss in words.
        origin: where it is used.
        arguments: the arguments of `decode_loss` that the convention fixes.
    """

    about: str
    origin: str
    arguments: Mapping[str, str | float]


CONVENTIONS: Mapping[str, Convention] = {
    "bs-vae": Convention(
        about="mean over the batch of pixel sums, + beta x KL (weight:BETA; here 1)",
        origin="Beta-Sigma VAE, Eq. 3 with C = 1/2: the loss of its constant-variance models",
        arguments={"reconstruction": "sum", "kl": "weight:1"},
    ),
    "kld-weight": Convention(
        about="mean over all squared errors + 0.00025 x KL, on 3x64x64",
        origin="collections of VAEs for CelebA; the weight is the batch size over the dataset size",
        arguments={"reconstruction": "mean", "kl": "weight:0.00025", "dims": 12288},
    ),
    "sum-sum": Convention(
        about="sum over pixels + sum over latents, both over the whole batch",
        origin="the best-known PyTorch example, with squared errors instead of cross-entropy",
        arguments={"reconstruction": "sum", "kl": "sum"},
    ),
    "batch-mean": Convention(
        about="mean over the batch of pixel sums + mean over the batch of KL sums",
        origin="most papers; the batch size cancels, so this equals sum-sum",
        arguments={"reconstruction": "sum", "kl": "sum"},
    ),
    "half-sum": Convention(
        about="half the pixel sum + KL sum: a Gaussian of variance 1",
        origin="the negative ELBO without its constants",
        arguments={"reconstruction": "sum", "kl": "sum", "factor": 0.5},
    ),
    "mean-mean": Convention(
        about="mean over all squared errors + mean over all latents' KL",
        origin="code that uses the default reduction everywhere",
        arguments={"reconstruction": "mean", "kl": "mean"},
    ),
    "mean-sum": Convention(
        about="mean over all squared errors + KL sum of the image",
        origin="code that uses the default reduction of mse_loss; beta is D times what it seems",
        arguments={"reconstruction": "mean", "kl": "sum"},
    ),
}
