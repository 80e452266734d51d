"""Image datasets as uint8 arrays with fixed splits. Never imports torch.

`DATASETS` lists the names a user can give. The module of an entry is imported when its images are
loaded, so names can be checked without NumPy.
"""

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.text import shown, unknown

if TYPE_CHECKING:
    from rdkit_vae.datasets.images import Images, Labels

Progress = Callable[[int, int], None]  # (images decoded, images in total)


@dataclass(frozen=True, kw_only=True)
class Request:
    """Where to look for a dataset and how to read it.

    Attributes:
        name: what the user typed, such as `mnist` or `folder:PATH`.
        path: the PATH of `folder:PATH` and `npz:PATH`.
        roots: folders to look in, in this order.
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
    """A registry entry: how a dataset is found and loaded, and defaults for its trials.

    Attributes:
        about: one line for the user.
        get: how the user gets the data.
        module: module of this package whose `load` reads the images.
        find: returns where the data is; None if it is not there.
        takes_path: the name ends in `:PATH`.
        resizes: `image_size` applies.
        has_labels: `load_labels` of the module reads the class of each image.
        extra_roots: folders to look in after those that the user names.
    """

    about: str
    get: str
    module: str
    find: Callable[[Request], Path | None]
    latents: int = 32
    epochs: int = 50
    batch_size: int = 512
    takes_path: bool = False
    resizes: bool = False
    has_labels: bool = False
    extra_roots: tuple[Path, ...] = ()

    def load(self, request: Request) -> "Images":
        """Loads the images; raises `BadData` if they are missing, damaged or unusable."""
        images: Images = importlib.import_module(f"{__name__}.{self.module}").load(request)
        return images


IDX_IMAGES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
IDX_LABELS = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}


def _find_below(*names: str, zipped: bool = False) -> Callable[[Request], Path | None]:
    """Looks for all files `names` in each root and in its subfolder named like the dataset."""
    suffixes = ("", ".gz") if zipped else ("",)

    def find(request: Request) -> Path | None:
        for root in request.roots:
            for folder in (root / request.name, root):
                if all(any((folder / f"{n}{end}").exists() for end in suffixes) for n in names):
                    return folder
        return None

    return find


def _find_path(request: Request) -> Path | None:
    return request.path if request.path and request.path.exists() else None


DATASETS: Mapping[str, Source] = {
    "digits": Source(
        about="1,797 scans of handwritten digits, 8x8, 17 grey levels (UCI)",
        get="comes with rdvae",
        module="digits",
        find=lambda request: Path(__file__).parent / "data" / "digits.npz",
        latents=16,
        epochs=25,
        batch_size=64,
        has_labels=True,
    ),
    "gaussian": Source(
        about="5,120 Gaussian images, 4x4, with a known rate-distortion function",
        get="comes with rdvae",
        module="gaussian",
        find=lambda request: Path(__file__).parent / "gaussian.py",
        latents=8,
        epochs=50,
        batch_size=64,
    ),
    "mnist": Source(
        about="70,000 handwritten digits, 28x28",
        get="put the IDX files (gzipped or not) in a folder; pass it by --data-dir or RDVAE_DATA",
        module="idx",
        find=_find_below(*IDX_IMAGES.values(), zipped=True),
        has_labels=True,
    ),
    "fashion-mnist": Source(
        about="70,000 pictures of clothing, 28x28",
        get="apt install dataset-fashion-mnist, or use the IDX files as for mnist",
        module="idx",
        find=_find_below(*IDX_IMAGES.values(), zipped=True),
        has_labels=True,
        extra_roots=(Path("/usr/share/datasets"),),
    ),
    "celeba": Source(
        about="182,732 of the 202,599 faces (train and test), cropped to 148, resized to 64x64",
        get="put img_align_celeba/ and list_eval_partition.txt in a folder; pass it as for mnist",
        module="celeba",
        find=_find_below("img_align_celeba", "list_eval_partition.txt"),
        latents=64,
        batch_size=128,  # a larger batch takes gigabytes of memory
    ),
    "folder:PATH": Source(
        about="all images below PATH; split by train/ and test/, or else every fifth is test",
        get="give the path of a folder of images; --image-size N resizes them",
        module="folder",
        find=_find_path,
        batch_size=64,
        takes_path=True,
        resizes=True,
    ),
    "npz:PATH": Source(
        about="an array N x H x W, N x H x W x C or N x C x H x W, uint8 or float in [0, 1]",
        get="numpy.savez(PATH, images) or numpy.savez(PATH, train=..., test=...)",
        module="npz",
        find=_find_path,
        batch_size=64,
        takes_path=True,
    ),
}


def source_of(name: str) -> Source:
    """Returns the registry entry for a name such as `mnist` or `folder:PATH`.

    Raises:
        BadInput: the dataset is unknown, or its PATH is missing.
    """
    kind, colon, path = name.partition(":")
    if not name.isprintable() or len(name) > 1000:
        raise BadInput(
            f"dataset {shown(name)}: a name must be printable and at most 1,000 characters long"
        )
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
    """Makes a `Request` from the name of a dataset and the user's options.

    Raises:
        BadInput: the name is unknown, or the dataset cannot be resized.
    """
    source = source_of(name)
    if image_size is not None and not source.resizes:
        raise BadInput(f"--image-size applies only to folder:PATH, not to {name}")
    roots = [Path(root) for root in (data_dir, os.environ.get("RDVAE_DATA")) if root]
    return Request(
        name=name,
        path=_path_of(name) if source.takes_path else None,
        roots=(*roots, *source.extra_roots),
        image_size=image_size,
        progress=progress,
    )


def _path_of(name: str) -> Path:
    """Returns the PATH in a dataset name; `~` is the home folder, `./~` a folder of that name."""
    text = name.partition(":")[2]
    try:
        return Path(text).expanduser() if text.startswith("~") else Path(text)
    except RuntimeError:  # `~name` of an unknown user
        return Path(text)


def folder_of(request: Request, files: str) -> Path:
    """Returns the folder that holds the files of a dataset.

    Raises:
        BadData: none of the folders to look in holds them.
    """
    folder = DATASETS[request.name].find(request)
    if folder is None:
        places = ", ".join(str(root) for root in request.roots)
        searched = f"in {places}" if places else "as no folder was given"
        raise BadData(
            f"{request.name}: {files} not found {searched}; use --data-dir or set RDVAE_DATA"
        )
    return folder


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
        data_dir: folder that holds the files; searched before RDVAE_DATA.
        image_size: side in pixels to which the images of a folder are resized.
        progress: called as `progress(done, total)` while images are decoded.

    Raises:
        BadInput: the name is unknown, or an option does not apply to the dataset.
        BadData: files are missing, damaged or of the wrong shape.
    """
    request = request_for(name, data_dir=data_dir, image_size=image_size, progress=progress)
    return source_of(name).load(request)


def load_labels(name: str, *, data_dir: str | Path | None = None) -> "tuple[Labels, Labels]":
    """Loads the class of each image of a dataset, in the order of its images.

    Args:
        name: `digits`, `mnist` or `fashion-mnist`; other datasets have no labels.
        data_dir: folder that holds the files; searched before RDVAE_DATA.

    Returns:
        uint8 arrays from 0 to 9 of the train and of the test split.

    Raises:
        BadInput: the dataset is unknown, or has no labels.
        BadData: files are missing or damaged, or hold another number of labels than of images.
    """
    source, request = source_of(name), request_for(name, data_dir=data_dir)
    if not source.has_labels:
        known = ", ".join(each for each, other in DATASETS.items() if other.has_labels)
        raise BadInput(f"{name} has no labels; the datasets with labels are {known}")
    module = importlib.import_module(f"{__name__}.{source.module}")
    labels: tuple[Labels, Labels] = module.load_labels(request)
    return labels
