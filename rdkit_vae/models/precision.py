"""The arithmetic of a network: that of a trial's precision in training, float32 in evaluation."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


def layers(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Around a forward pass: its layers compute in bfloat16 where the precision is `bf16`."""
    if precision != "bf16":
        return nullcontext()
    # Casts are not kept from layer to layer: a captured graph would hold on to old weights.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def products(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Around a forward and backward pass: products of float32 on a GPU are whole, or of `tf32`.

    PyTorch's own default is TF32 for convolutions, and reads it as each of them begins.
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
