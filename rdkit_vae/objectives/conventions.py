"""What a VAE's loss implies, from how its code sums and averages: beta, and the decoder's scale.

Any loss a E[sse] + b E[KL] is, up to scale, the objective `constant` with beta x s2 = b/(2a). The
loss fixes only this product (Beta-Sigma VAE, Eq. 3-5); any factorisation of it into beta and s2 is
an interpretation. With absolute errors the same holds for beta and the scale of a Laplace
distribution. A cross-entropy has no scale, so it fixes beta itself. A perceptual term is no
log-likelihood of pixels at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rdkit_vae.errors import BadInput
from rdkit_vae.text import one_of, positive, shown

REDUCTIONS = ("mean", "sum")
WEIGHT = "weight:"
PERCEPTUAL = "perceptual"
# The decoder's distribution whose negative log-density each loss is, up to constants.
LOSSES: Mapping[str, str] = {
    "squared": "gaussian",
    "absolute": "laplace",
    "cross-entropy": "bernoulli",
    PERCEPTUAL: "none",
}


class SizeMissing(BadInput):
    """A mean is over a number of values that was not given."""


@dataclass(frozen=True, kw_only=True)
class DecodedLoss:
    """What a loss implies. Up to its scale it is, per image,

        gaussian    E[sse]/(2 sigma2) + beta E[KL]
        laplace     E[sum |x - y|]/scale + beta E[KL]
        bernoulli   E[cross-entropy, summed over pixels] + beta E[KL]
        none        the reconstruction as it is written + beta E[KL]

    Attributes:
        likelihood: one of these four names.
        beta: the weight of the KL in this form. With a variance or a scale, both weights are
            those of the loss as it is written.
        sigma2: the variance of a Gaussian in squared pixels of [0, 1]; otherwise None.
        scale: the scale of a Laplace distribution in pixels of [0, 1]; otherwise None.
    """

    likelihood: str
    beta: float
    sigma2: float | None = None
    scale: float | None = None

    @property
    def product(self) -> float:
        """The only number on which training depends: beta sigma2, beta scale, or beta alone."""
        return self.beta * (self.sigma2 or self.scale or 1.0)

    @property
    def beta_at_half(self) -> float | None:
        """The paper's beta: of the same objective with a variance of 1/2. Gaussians only."""
        return None if self.sigma2 is None else 2 * self.product

    @property
    def is_elbo(self) -> bool:
        """Whether the loss as written is, up to constants, the negative ELBO of its likelihood."""
        return self.likelihood != "none" and abs(self.beta - 1) < 1e-9


def decode_loss(
    *,
    dims: int | None = None,
    loss: str = "squared",
    reconstruction: str = "mean",
    kl: str = "sum",
    latents: int | None = None,
    steps: int | None = None,
    factor: float = 1.0,
    kl_factor: float = 1.0,
    pixel_range: tuple[float, float] = (0.0, 1.0),
    batch: int | None = None,
) -> DecodedLoss:
    """Decodes `factor * reconstruction + kl_factor * kl`.

    Without `batch`, both terms are per image, and both are averaged or both summed over the batch.
    With `batch`, `mean` and `sum` run over the whole tensor, including the images, as in
    `torch.nn.functional.mse_loss(x, y, reduction=...)`.

    Args:
        dims: D, values in an image; needed if the reconstruction is a mean.
        loss: of a pixel: `squared` or `absolute` error, binary `cross-entropy`, or `perceptual`
            for any reconstruction with a perceptual or adversarial term.
        reconstruction: `mean` or `sum` of the pixels' losses.
        kl: `mean` or `sum` of the KL over the latents; `mean-time`, its sum over the latents of a
            time step and mean over the steps; or `weight:W`, W times its sum over the latents
            (averaged over the batch).
        latents: L; needed if the KL is a mean.
        steps: T; needed if the KL is a mean over time.
        factor: weight of the reconstruction; 1/2 for a Gaussian log-density of variance 1.
        kl_factor: weight of the KL; 2 if it was written without its factor 1/2.
        pixel_range: the values of black and white in the pixels that the loss compares.
        batch: images in a batch, if the reductions include them.

    Raises:
        BadInput: a name is unknown, a number is not positive, or a cross-entropy has pixels
            outside [0, 1].
        SizeMissing: `dims`, `latents` or `steps` is needed and missing.
    """
    one_of(loss, LOSSES, "loss")
    one_of(reconstruction, REDUCTIONS, "reconstruction")
    _check_positive(
        dims=dims, latents=latents, steps=steps, factor=factor, kl_factor=kl_factor, batch=batch
    )
    weight_kl, over_images = _weight_of_kl(kl, latents, steps)
    weight_kl *= kl_factor
    if batch is not None:
        # Scale both weights by that of the reconstruction: then s2 depends on the pixels only, and
        # a batch size that divides just one of the terms goes into beta.
        weight_kl *= (batch if reconstruction == "mean" else 1) / (batch if over_images else 1)
    span = _span(pixel_range, loss)
    likelihood = LOSSES[loss]
    if loss == PERCEPTUAL:
        return DecodedLoss(likelihood=likelihood, beta=weight_kl)
    # One over the weight of a pixel's loss.
    values = (_size(dims, "reconstruction", "dims") if reconstruction == "mean" else 1) / factor
    if loss == "squared":
        return DecodedLoss(likelihood=likelihood, beta=weight_kl, sigma2=values / (2 * span**2))
    if loss == "absolute":
        return DecodedLoss(likelihood=likelihood, beta=weight_kl, scale=values / span)
    return DecodedLoss(likelihood=likelihood, beta=weight_kl * values)


def _check_positive(**numbers: float | None) -> None:
    for name, value in numbers.items():
        if value is not None and not 0 < value < float("inf"):
            raise BadInput(f"{name} must be positive, got {value!r}")


def _span(pixel_range: tuple[float, float], loss: str) -> float:
    """The difference between white and black in the pixels that the loss compares."""
    black, white = pixel_range
    if not 0 < white - black < float("inf"):
        raise BadInput(f"pixel_range must rise from black to white, got {black:g} to {white:g}")
    if loss == "cross-entropy" and (black, white) != (0, 1):
        raise BadInput(
            f"a cross-entropy is of pixels in [0, 1]: pixel_range cannot be {black:g} to {white:g}"
        )
    return white - black


def _size(size: int | None, term: str, name: str) -> int:
    if size is None:
        raise SizeMissing(f"{term} is a mean: give the number of values in it ({name})")
    return size


def _weight_of_kl(kl: str, latents: int | None, steps: int | None) -> tuple[float, bool]:
    """Returns the weight of an image's KL, and whether its reduction averages over the batch."""
    if kl.startswith(WEIGHT):
        return positive(kl.removeprefix(WEIGHT), kl), True
    if kl == "sum":
        return 1.0, False
    if kl == "mean":
        return 1 / _size(latents, "kl", "latents"), True
    if kl == "mean-time":
        return 1 / _size(steps, "kl", "steps"), True
    raise BadInput(f"unknown kl {shown(kl)}; known: mean, sum, mean-time, weight:W")


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
    arguments: Mapping[str, str | float | tuple[float, float]]


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
        origin="the best-known PyTorch example (bce-sum), changed to squared errors",
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
    "no-half": Convention(
        about="sum over pixels + KL sum without its factor 1/2",
        origin="code that writes the KL as sum(mean^2 + var - log var - 1)",
        arguments={"reconstruction": "sum", "kl": "sum", "kl_factor": 2},
    ),
    "mean-time": Convention(
        about="sum over pixels of a sequence + mean over its steps of the KL sum",
        origin="models of sequences; beta is 1/T of what it seems",
        arguments={"reconstruction": "sum", "kl": "mean-time"},
    ),
    "tanh-mean": Convention(
        about="mean over all squared errors of pixels in [-1, 1] + KL sum",
        origin="decoders that end in tanh; errors are 4 x those of [0, 1]",
        arguments={"reconstruction": "mean", "kl": "sum", "pixel_range": (-1.0, 1.0)},
    ),
    "bce-sum": Convention(
        about="binary cross-entropy summed over pixels + KL sum",
        origin="the best-known PyTorch example: a Bernoulli decoder",
        arguments={"loss": "cross-entropy", "reconstruction": "sum", "kl": "sum"},
    ),
    "bce-mean": Convention(
        about="binary cross-entropy averaged over pixels + KL sum",
        origin="code that uses the default reduction; beta is D, not 1",
        arguments={"loss": "cross-entropy", "reconstruction": "mean", "kl": "sum"},
    ),
    "l1-sum": Convention(
        about="sum over pixels of absolute errors + KL sum: a Laplace of scale 1",
        origin="models whose reconstructions should be less blurred",
        arguments={"loss": "absolute", "reconstruction": "sum", "kl": "sum"},
    ),
    "l1-mean": Convention(
        about="mean over all absolute errors + KL sum",
        origin="code that uses the default reduction of l1_loss",
        arguments={"loss": "absolute", "reconstruction": "mean", "kl": "sum"},
    ),
    "ldm-l1": Convention(
        about="sum over pixels in [-1, 1] of absolute errors + 1e-6 x KL sum",
        origin="latent diffusion, if its perceptual term is left out",
        arguments={
            "loss": "absolute",
            "reconstruction": "sum",
            "kl": "weight:1e-6",
            "pixel_range": (-1.0, 1.0),
        },
    ),
    "ldm": Convention(
        about="sum over pixels in [-1, 1] of absolute error + LPIPS, + 1e-6 x KL sum",
        origin="autoencoders of latent diffusion, where logvar starts at 0",
        arguments={
            "loss": PERCEPTUAL,
            "reconstruction": "sum",
            "kl": "weight:1e-6",
            "pixel_range": (-1.0, 1.0),
        },
    ),
    "mse-lpips": Convention(
        about="mean over all squared errors + LPIPS + 1e-6 x KL sum",
        origin="scripts that fine-tune published autoencoders",
        arguments={"loss": PERCEPTUAL, "reconstruction": "mean", "kl": "weight:1e-6"},
    ),
}
