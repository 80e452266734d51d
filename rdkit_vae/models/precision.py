"""The arithmetic of a network: the trial's precision in training, float32 in evaluation."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


def layers(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Context of a forward pass: layers compute in bfloat16 if the precision is `bf16`."""
    if precision != "bf16":
        return nullcontext()
    # Without the cache of casts, as a captured graph would keep old weights.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def products(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Context of forward and backward pass: float32 products on a GPU use TF32 only for `tf32`.

    PyTorch would use TF32 for convolutions by default.
    """
    if device.type != "cuda":
        return nullcontext()
    return _products("tf32" if precision == "tf32" else "ieee")


@contextmanager
def _products(kind: str) -> Iterator[None]:
    matmul = torch.backends.cuda.matmul
    convolution = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = matmul.fp32_precision, convolution.fp32_precision
    matmul.fp32_precision = convolution.fp32_precision = kind
    try:
        yield
    finally:
        matmul.fp32_precision, convolution.fp32_precision = before
