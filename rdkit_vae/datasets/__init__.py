"""Image datasets as in-memory uint8 arrays with fixed splits. No torch here.

`DATASETS` lists what a user can name. An entry's module is imported when it is asked for, so
that names can be checked without NumPy.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rdkit_vae.errors import BadInput
from rdkit_vae.text import shown, unknown

if TYPE_CHECKING:
    from rdkit_vae.datasets.images import Images

Progress = Callable[[int, int], None]  # (images decoded, images in all)


@dataclass(frozen=True, kw_only=True)
class Request:
    """Where to look for a dataset and how to read it.

    Attributes:
        name: what the user typed, such as `mnist` or `folder:PATH`.
        path: the PATH of `folder:PATH` and `npz:PATH`.
        roots: folders that may hold it, in the order in which they are tried.
        image_size: side in pixels to resize to; None keeps the size.
        progress: called as images are decoded.
    """

    name: str
    path: Path | None = None
    roots: tuple[Path, ...] = ()
    image_size: int | None = None
    progress: Progress | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """One entry of the registry: how a dataset is found and loaded, and what suits it."""

    about: str
    get: str  # how a user gets it
    load: Callable[[Request], "Images"]
    find: Callable[[Request], Path | None]  # None: not there
    latents: int = 32
    epochs: int = 50
    batch_size: int = 512
    takes_path: bool = False
    resizes: bool = False
    extra_roots: tuple[Path, ...] = ()


def _load_digits(request: Request) -> "Images":
    from rdkit_vae.datasets import digits

    return digits.load(request)


def _load_gaussian(request: Request) -> "Images":
    from rdkit_vae.datasets import gaussian

    return gaussian.load(request)


def _load_idx(request: Request) -> "Images":
    from rdkit_vae.datasets import idx

    return idx.load(request)


def _load_celeba(request: Request) -> "Images":
    from rdkit_vae.datasets import celeba

    return celeba.load(request)


def _load_folder(request: Request) -> "Images":
    from rdkit_vae.datasets import folder

    return folder.load(request)


def _load_npz(request: Request) -> "Images":
    from rdkit_vae.datasets import npz

    return npz.load(request)


IDX_IMAGES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}


def _find_below(*wanted: str, zipped: bool = False) -> Callable[[Request], Path | None]:
    """Looks in each root and in its subfolder of the dataset's name for all of `wanted`."""
    suffixes = ("", ".gz") if zipped else ("",)

    def find(request: Request) -> Path | None:
        for root in request.roots:
            for folder in (root / request.name, root):
                if all(any((folder / f"{w}{end}").exists() for end in suffixes) for w in wanted):
                    return folder
        return None

    return find


def _find_path(request: Request) -> Path | None:
    return request.path if request.path and request.path.exists() else None


DATASETS: Mapping[str, Source] = {
    "digits": Source(
        about="1,797 scans of handwritten digits, 8x8, 17 grey levels (UCI)",
        get="comes with rdvae",
        load=_load_digits,
        find=lambda request: Path(__file__).parent / "data" / "digits.npz",
        latents=16,
        epochs=25,
        batch_size=64,
    ),
    "gaussian": Source(
        about="5,120 Gaussian images, 4x4, whose rate-distortion function is known",
        get="comes with rdvae",
        load=_load_gaussian,
        find=lambda request: Path(__file__).parent / "gaussian.py",
        latents=8,
        epochs=50,
        batch_size=64,
    ),
    "mnist": Source(
        about="70,000 handwritten digits, 28x28",
        get="put the IDX files (gzipped or not) in a folder; name it by --data-dir or RDVAE_DATA",
        load=_load_idx,
        find=_find_below(*IDX_IMAGES.values(), zipped=True),
    ),
    "fashion-mnist": Source(
        about="70,000 pictures of clothing, 28x28",
        get="apt install dataset-fashion-mnist, or the IDX files as for mnist",
        load=_load_idx,
        find=_find_below(*IDX_IMAGES.values(), zipped=True),
        extra_roots=(Path("/usr/share/datasets"),),
    ),
    "celeba": Source(
        about="182,732 of the 202,599 faces (train and test), cropped to 148, resized to 64x64",
        get="put img_align_celeba/ and list_eval_partition.txt in a folder; name it as for mnist",
        load=_load_celeba,
        find=_find_below("img_align_celeba", "list_eval_partition.txt"),
        latents=64,
        batch_size=128,  # with more, a training takes gigabytes
    ),
    "folder:PATH": Source(
        about="any images below PATH (train/ and test/, else every fifth is test)",
        get="name a folder of images; --image-size N resizes them",
        load=_load_folder,
        find=_find_path,
        batch_size=64,
        takes_path=True,
        resizes=True,
    ),
    "npz:PATH": Source(
        about="an array N x H x W, N x H x W x C or N x C x H x W, uint8 or float in [0, 1]",
        get="numpy.savez(PATH, images) or numpy.savez(PATH, train=..., test=...)",
        load=_load_npz,
        find=_find_path,
        batch_size=64,
        takes_path=True,
    ),
}


def source_of(name: str) -> Source:
    """The registry's entry for a name such as `mnist` or `folder:PATH`.

    Raises:
        BadInput: no such dataset, or its PATH is missing.
    """
    kind, colon, path = name.partition(":")
    if not name.isprintable() or len(name) > 1000:
        raise BadInput(f"dataset {shown(name)}: not a name that can be written down")
    source = DATASETS.get(f"{kind}:PATH" if colon else kind)
    if source is None or (colon and not path):
        raise BadInput(unknown(name, DATASETS, "dataset"))
    return source


def request_for(
    name: str,
    *,
    data_dir: str | Path | None = None,
    image_size: int | None = None,
    progress: Progress | None = None,
) -> Request:
    """Turns a dataset's name and the user's options into a `Request`.

    Raises:
        BadInput: unknown name, or a size for a dataset that has its own.
    """
    source = source_of(name)
    if image_size is not None and not source.resizes:
        raise BadInput(f"--image-size is for folder:PATH; {name} keeps its own size")
    given = [Path(root) for root in (data_dir, os.environ.get("RDVAE_DATA")) if root]
    return Request(
        name=name,
        path=_path_of(name) if source.takes_path else None,
        roots=(*given, *source.extra_roots),
        image_size=image_size,
        progress=progress,
    )


def _path_of(name: str) -> Path:
    """The PATH in a dataset's name; `~` is the user's own folder, `./~` one of that name."""
    text = name.partition(":")[2]
    try:
        return Path(text).expanduser() if text.startswith("~") else Path(text)
    except RuntimeError:  # of no user that is known
        return Path(text)


def load_dataset(
    name: str,
    *,
    data_dir: str | Path | None = None,
    image_size: int | None = None,
    progress: Progress | None = None,
) -> "Images":
    """Loads a dataset.

    Args:
        name: a name of `DATASETS`, with its PATH where it takes one.
        data_dir: folder that holds the files; tried before the one in RDVAE_DATA.
        image_size: side in pixels that the images of a folder are resized to.
        progress: called as `progress(done, total)` while images are decoded.

    Raises:
        BadInput: unknown name or unsuitable option.
        BadData: files are missing, damaged or of another shape.
    """
    request = request_for(name, data_dir=data_dir, image_size=image_size, progress=progress)
    return source_of(name).load(request)
