"""Pictures small enough to be part of a page: strips of reconstructions as data URIs."""

import base64
import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

Pixels = npt.NDArray[np.uint8]

KINDS = ("reconstruction", "prior")
# Models packed to estimate the size of all, and by how much that estimate may exceed the budget.
_TRIED, _TOLERANCE = 10, 1.2
_GAP, _WHITE = 1, 255


@dataclass(frozen=True)
class _Format:
    """Pictures per strip, quality of JPEG (None: PNG, lossless), width of a picture at most."""

    count: int
    quality: int | None
    side: int | None = None

    def remark(self, available: int) -> str:
        count = f"{self.count} of {available} of each kind"
        words = [count] if self.count < available else []
        words += ["compressed with loss (JPEG)"] if self.quality else []
        words += [f"at most {self.side} pixels wide"] if self.side else []
        return ", ".join(words)


# The best first; the page shows pictures 30 pixels high.
_FORMATS = (
    *(_Format(count, None) for count in (8, 6, 4)),
    *(_Format(count, 80) for count in (8, 6, 4)),
    *(_Format(count, 75, 32) for count in (8, 4, 2)),
)


@dataclass(frozen=True, kw_only=True)
class Strips:
    """The pictures of a page.

    Attributes:
        original: the images themselves, one strip for all models; "" if there are no pictures.
        by_run: by run_id, a strip for each of `KINDS`.
        remark: how they were made smaller, in words; "" if they were not.
    """

    original: str = ""
    by_run: dict[str, dict[str, str]]
    remark: str = ""


def strips(pictures: pd.DataFrame, budget: int) -> Strips:
    """Packs the pictures of checkpoints within a budget: lossless and eight of each if they fit.

    Args:
        pictures: as `load_pictures` returns them, all of the same images and latents.
        budget: bytes for all of them.
    """
    if pictures.empty:
        return Strips(by_run={})
    rows = pictures.to_dict("records")
    available = max(len(rows[0]["original"]), len(rows[0]["prior"]))
    formats = [replace(each, count=min(each.count, available)) for each in _FORMATS]
    for packing in dict.fromkeys(formats):
        some = rows[:: -(-len(rows) // _TRIED)]
        if _size(_packed(some, packing)) * len(rows) / len(some) > _TOLERANCE * budget:
            continue
        original, by_run = _uri(rows[0]["original"], packing), _packed(rows, packing)
        if len(original) + _size(by_run) <= budget:
            return Strips(original=original, by_run=by_run, remark=packing.remark(available))
    return Strips(by_run={}, remark="too large for a page, left out: rdvae plot samples draws them")


def _packed(rows: list[dict[Any, Any]], packing: _Format) -> dict[str, dict[str, str]]:
    return {row["run_id"]: {name: _uri(row[name], packing) for name in KINDS} for row in rows}


def _size(by_run: dict[str, dict[str, str]]) -> int:
    return sum(len(uri) for strip in by_run.values() for uri in strip.values())


def _uri(pictures: Pixels, packing: _Format) -> str:
    """The first of the pictures (n, C, H, W) side by side, as a data URI."""
    row = Image.fromarray(_side_by_side(pictures[: packing.count]))
    if packing.side is not None and pictures.shape[3] > packing.side:
        scale = packing.side / pictures.shape[3]
        row = row.resize(
            (round(row.width * scale), round(row.height * scale)), Image.Resampling.BOX
        )
    buffer = io.BytesIO()
    if packing.quality is None:
        row.save(buffer, format="PNG", optimize=True)
    else:
        row.save(buffer, format="JPEG", quality=packing.quality)
    kind = "png" if packing.quality is None else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _side_by_side(pictures: Pixels) -> Pixels:
    padded = [np.pad(p, ((0, 0), (0, 0), (0, _GAP)), constant_values=_WHITE) for p in pictures]
    row = np.concatenate(padded, axis=2)[:, :, :-_GAP]  # (C, H, W of all)
    return row[0] if len(row) == 1 else np.ascontiguousarray(row.transpose(1, 2, 0))
