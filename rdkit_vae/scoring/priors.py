"""The priors that a trained model is scored under and sampled from. Imports nothing heavy."""

from collections.abc import Mapping

STANDARD = "standard"
# From the simplest to the most flexible: the ladder.
PRIORS: Mapping[str, str] = {
    STANDARD: "N(0, I), the prior of training",
    "per-latent": "a Gaussian per latent, or per channel: what a scaling factor assumes",
    "gaussian": "one Gaussian with a full covariance",
    "mixture": "a mixture of Gaussians",
    "vamp": "VampPrior: a mixture of posteriors at learned inputs (Tomczak and Welling 2018)",
    "two-stage": "a second VAE, of the latents (Dai and Wipf 2019); its rate is an upper bound",
}
