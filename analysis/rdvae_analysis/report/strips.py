"""Pictures small enough to travel inside a page: strips of reconstructions as data URIs."""

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
_TRIED, _GUESS = 10, 1.2  # models tried before all are packed, and how far off that may be
_GAP, _WHITE = 1, 255


@dataclass(frozen=True)
class _Way:
    """How to pack: pictures of a strip, JPEG's quality (None: PNG, lossless), longest side."""

    count: int
    quality: int | None
    side: int | None = None

    def remark(self, there: int) -> str:
        words = [f"{self.count} of {there} of each kind"] if self.count < there else []
        words += ["compressed with loss (JPEG)"] if self.quality else []
        words += [f"at most {self.side} pixels wide"] if self.side else []
        return ", ".join(words)


# The best first; the page shows pictures 30 pixels high.
_WAYS = (
    *(_Way(count, None) for count in (8, 6, 4)),
    *(_Way(count, 80) for count in (8, 6, 4)),
    *(_Way(count, 75, 32) for count in (8, 4, 2)),
)


@dataclass(frozen=True, kw_only=True)
class Strips:
    """The pictures of a page.

    Attributes:
        original: the images themselves, one strip for all models; "" if there are no pictures.
        of: by run_id, a strip for each of `KINDS`.
        remark: how they were made to fit, in words; "" if they are as they were.
    """

    original: str = ""
    of: dict[str, dict[str, str]]
    remark: str = ""


def strips(pictures: pd.DataFrame, budget: int) -> Strips:
    """Packs the pictures of checkpoints within a budget, lossless and eight of each if they fit.

    Args:
        pictures: as `load_pictures` gives them, all of the same images and latents.
        budget: bytes for all of them.
    """
    if pictures.empty:
        return Strips(of={})
    rows = pictures.to_dict("records")
    there = max(len(rows[0]["original"]), len(rows[0]["prior"]))
    for way in dict.fromkeys(replace(way, count=min(way.count, there)) for way in _WAYS):
        few = rows[:: -(-len(rows) // _TRIED)]
        if _size(_packed(few, way)) * len(rows) / len(few) > _GUESS * budget:
            continue
        original, of = _uri(rows[0]["original"], way), _packed(rows, way)
        if len(original) + _size(of) <= budget:
            return Strips(original=original, of=of, remark=way.remark(there))
    return Strips(of={}, remark="too large for a page, left out: rdvae plot samples draws them")


def _packed(rows: list[dict[Any, Any]], way: _Way) -> dict[str, dict[str, str]]:
    return {row["run_id"]: {name: _uri(row[name], way) for name in KINDS} for row in rows}


def _size(of: dict[str, dict[str, str]]) -> int:
    return sum(len(uri) for strip in of.values() for uri in strip.values())


def _uri(pictures: Pixels, way: _Way) -> str:
    """The first of (n, C, H, W) side by side, as a data URI."""
    row = Image.fromarray(_side_by_side(pictures[: way.count]))
    if way.side is not None and pictures.shape[3] > way.side:
        scale = way.side / pictures.shape[3]
        row = row.resize(
            (round(row.width * scale), round(row.height * scale)), Image.Resampling.BOX
        )
    buffer = io.BytesIO()
    if way.quality is None:
        row.save(buffer, format="PNG", optimize=True)
    else:
        row.save(buffer, format="JPEG", quality=way.quality)
    kind = "png" if way.quality is None else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _side_by_side(pictures: Pixels) -> Pixels:
    padded = [np.pad(p, ((0, 0), (0, 0), (0, _GAP)), constant_values=_WHITE) for p in pictures]
    row = np.concatenate(padded, axis=2)[:, :, :-_GAP]  # (C, H, W of all)
    return row[0] if len(row) == 1 else np.ascontiguousarray(row.transpose(1, 2, 0))
