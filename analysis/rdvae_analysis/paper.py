"""The values of Table 1 of Beta-Sigma VAE, to compare with measured ones."""

from collections.abc import Mapping

# By dataset, objective and beta: FID, and for test and train what the paper calls a bound (nats;
# means of five runs). All models are scored under the interpretation `optimal`. The reference code
# reports minus the training loss, -(distortion + beta x rate); see `COMPARE`.
TABLE_1: Mapping[tuple[str, str, float], Mapping[str, float]] = {
    (dataset, objective, beta): {"fid": fid, "test": test, "train": train}
    for objective, beta, *values in (
        ("constant", 0.01, (194.7, 10684, 10762), (190.3, 667, 659)),
        ("constant", 0.1, (151.7, 10384, 10412), (163.6, 626, 618)),
        ("constant", 1.0, (126.4, 10616, 10626), (225.8, 291, 286)),
        ("constant", 10.0, (149.4, 6923, 6898), (351.7, -19, -20)),
        ("constant", 100.0, (235.8, 2233, 2190), (352.5, -19, -20)),
        ("optimal", 0.01, (188.5, 10772, 10848), (67.4, 796, 788)),
        ("optimal", 0.1, (130.2, 12996, 13037), (75.5, 850, 840)),
        ("optimal", 1.0, (90.8, 14384, 14434), (59.2, 887, 877)),
        ("optimal", 10.0, (73.7, 13205, 13256), (38.4, 662, 656)),
        ("optimal", 100.0, (106.2, 7668, 7630), (332.8, -15, -17)),
    )
    for dataset, (fid, test, train) in zip(("celeba", "mnist"), values, strict=True)
}
# The setup behind those numbers, as far as results record it.
SETUP: Mapping[str, object] = {"protocol": "paper", "architecture": "conv"}
EPOCHS, SEEDS = 50, 5
LATENTS: Mapping[str, int] = {"mnist": 32, "celeba": 64}
SIGMA = "optimal"
COMPARE = (
    "compare the paper's values with minus the loss, -(distortion + beta x rate), which its "
    "reference code reports; the ELBO is -(distortion + rate)"
)
COMPARE_FID = (
    "the paper's FID is a Fréchet distance of other features (Inception), of 25,600 samples that "
    "were each stretched to [0, 1]: compare the order of the models, not the numbers"
)
COMPARE_CONSTANT = (
    "the reference code does not score models of constant variance under optimal, so whether the "
    "paper printed minus the loss or the ELBO for them is not known"
)
# Differences from those values that the model does not cause, by dataset: they hold for results of
# older releases, which evaluated the whole test split. The reference code, and protocol `paper` as
# it is now, evaluate full batches only.
OLDER_TEST_IMAGES: Mapping[str, int] = {"mnist": 10_000}
CAVEATS: Mapping[str, str] = {
    "mnist": "an older release made these results; its rotation and crop left images smoother than "
    "the paper's, which alone makes these bounds differ from its values by 15 to 66 nats",
}
