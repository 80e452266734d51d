"""The arithmetic of a network: that of a trial's precision in training, float32 in evaluation."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


def arithmetic(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Within it, layers compute in a precision of `trial.PRECISIONS`; what they hold stays float32.

    The products of float32 on a GPU are whole ones unless it is `tf32`, whatever PyTorch's default.
    """
    if precision == "bf16":
        # Casts are not kept from layer to layer: a captured graph would hold on to old weights.
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
    return _tf32(precision == "tf32") if device.type == "cuda" else nullcontext()


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
