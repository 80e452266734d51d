"""The Inception-v3 of FID: its layers, what it does to pictures, and the files it refuses."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rdkit_vae.errors import BadData, BadInput
from rdkit_vae.generation.inception import (
    FidInception,
    Inception,
    load_inception,
    prepared,
    resize,
)

State = dict[str, Tensor]

# Some layers by name, as in the published file; and the numbers of all layers before `fc`.
SHAPES = {
    "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
    "Conv2d_4a_3x3.bn.running_var": (192,),
    "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
    "Mixed_5d.branch5x5_2.conv.weight": (64, 48, 5, 5),
    "Mixed_6a.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
    "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
    "Mixed_6e.branch7x7dbl_4.conv.weight": (192, 192, 7, 1),
    "Mixed_7a.branch7x7x3_4.bn.bias": (192,),
    "Mixed_7b.branch3x3_2a.conv.weight": (384, 384, 1, 3),
    "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
    "Mixed_7c.branch_pool.bn.running_mean": (192,),
}
NUMBERS, CONVOLUTIONS = 21_785_568, 94


@pytest.fixture(scope="module")
def state() -> State:
    """Random weights that keep the scale of the features from layer to layer."""
    rng = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in FidInception().state_dict().items()}
    made: State = {}
    for name, shape in shapes.items():
        noise = torch.empty(shape).normal_(generator=rng)
        if name.endswith("conv.weight"):
            made[name] = noise * (2 / shape[1:].numel()) ** 0.5
        elif name.endswith(("bn.weight", "running_var")):
            made[name] = 1 + noise.clamp(-3, 3) / 10
        else:
            made[name] = noise / 10
        if name.endswith("running_var"):
            made[name.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    return {**made, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}


@pytest.fixture(scope="module")
def path(state: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(state, path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def inception(path: Path) -> Inception:
    return load_inception(path)


def pictures(*shape: int) -> Tensor:
    rng = np.random.default_rng(shape)
    return torch.from_numpy(rng.integers(0, 256, shape).astype(np.float32)) / 255


# The network.


def test_the_layers_are_those_of_the_published_file(inception: Inception) -> None:
    layers = inception.network.state_dict()
    assert {name: tuple(layers[name].shape) for name in SHAPES} == SHAPES
    assert sum(weight.numel() for weight in inception.network.parameters()) == NUMBERS
    assert sum(name.endswith("conv.weight") for name in layers) == CONVOLUTIONS


def test_features_are_finite_and_those_of_a_network_that_does_not_learn(
    inception: Inception, path: Path
) -> None:
    features = inception.network(pictures(2, 3, 9, 12))
    assert features.shape == (2, inception.dims) == (2, 2048)
    assert features.dtype == torch.float32
    assert features.isfinite().all()
    assert features.std() > 0.01
    assert not inception.network.training
    assert not features.requires_grad
    assert not any(weight.requires_grad for weight in inception.network.parameters())
    assert inception.note == f"not the published FID weights (SHA-256 {inception.sha256[:12]}...)"


def test_features_do_not_depend_on_the_batch(inception: Inception) -> None:
    x = pictures(5, 1, 8, 8)
    one_by_one = torch.cat([inception.network(picture[None]) for picture in x])
    torch.testing.assert_close(inception.network(x), one_by_one, rtol=1e-4, atol=1e-5)
    assert inception.network(x[:0]).shape == (0, 2048)


def test_no_more_than_64_pictures_pass_at_a_time(
    inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def features(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return x.mean(dim=(2, 3))

    monkeypatch.setattr(inception.network, "_features", features)
    x = pictures(70, 3, 2, 2)
    torch.testing.assert_close(inception.network(x), torch.cat([features(prepared(x))]))
    assert sum(sizes[:-1]) == 70
    assert max(sizes[:-1]) <= 64


def test_grey_is_three_equal_channels(inception: Inception) -> None:
    x = pictures(1, 1, 7, 11)
    assert torch.equal(inception.network(x), inception.network(x.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("shape", [(1, 2, 8, 8), (1, 4, 8, 8), (3, 8, 8)])
def test_other_numbers_of_channels_are_refused(
    inception: Inception, shape: tuple[int, ...]
) -> None:
    with pytest.raises(
        BadInput, match="pictures of 1 or 3 channels.*: " + "x".join(map(str, shape))
    ):
        inception.network(torch.zeros(shape))


@pytest.mark.parametrize(
    ("name", "width"), [("Mixed_5b", 192), ("Mixed_6e", 768), ("Mixed_7b", 1280)]
)
def test_average_pools_leave_out_the_padding(inception: Inception, name: str, width: int) -> None:
    pooled = inception.network.get_submodule(name)(torch.ones(1, width, 5, 5))[:, -32:]
    torch.testing.assert_close(pooled, pooled[..., 2:3, 2:3].expand_as(pooled))


def test_the_last_block_takes_the_maximum(inception: Inception) -> None:
    block = inception.network.get_submodule("Mixed_7c")
    peaks, ones = torch.full((1, 2048, 3, 3), -5.0), torch.ones(1, 2048, 3, 3)
    peaks[:, :, 1, 1] = 1
    torch.testing.assert_close(block(peaks)[:, -192:], block(ones)[:, -192:])


# What it does to pictures before.


def test_pixels_are_rounded_to_8_bits_around_zero() -> None:
    x = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 127.7 / 255, 1.0, 1.1]).reshape(6, 1, 1, 1)
    seen = prepared(x)
    assert seen.shape == (6, 3, 299, 299)
    expected = (torch.tensor([0.0, 0, 1, 128, 255, 255]) - 128) / 128
    assert torch.equal(seen, expected.reshape(6, 1, 1, 1).expand_as(seen))


def resized(x: np.ndarray, side: int) -> np.ndarray:
    """One picture, one pixel at a time."""
    rows, columns = x.shape
    result = np.empty((side, side))
    for i in range(side):
        for j in range(side):
            y, top = np.modf(i * rows / side)
            z, left = np.modf(j * columns / side)
            below, right = min(int(top) + 1, rows - 1), min(int(left) + 1, columns - 1)
            upper = (1 - z) * x[int(top), int(left)] + z * x[int(top), right]
            lower = (1 - z) * x[below, int(left)] + z * x[below, right]
            result[i, j] = (1 - y) * upper + y * lower
    return result


@pytest.mark.parametrize(
    ("rows", "columns", "side"), [(4, 7, 19), (28, 28, 31), (40, 23, 9), (5, 30, 12), (1, 2, 5)]
)
def test_resizing_is_that_of_tensorflow_1(rows: int, columns: int, side: int) -> None:
    x = 255 * pictures(2, 3, rows, columns)
    expected = [[resized(channel.numpy(), side) for channel in picture] for picture in x]
    np.testing.assert_allclose(resize(x, side).numpy(), expected, rtol=0, atol=2e-3)


def test_pixels_are_placed_by_their_corners() -> None:
    x = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    expected = torch.tensor([0, 0.5, 1, 1]).expand(4, 4)  # with half-pixel centres: 0, 1/4, 3/4, 1
    assert torch.equal(resize(x, 4)[0, 0], expected)


# Files.


def test_files_of_all_forms_give_the_same_network(
    inception: Inception, state: State, tmp_path: Path
) -> None:
    expected = inception.network.state_dict()
    path = tmp_path / "other.pth"
    auxiliary = {"AuxLogits.conv0.conv.weight": torch.zeros(128, 768, 1, 1)}
    without = {n: w for n, w in state.items() if "fc." not in n and "num_batches" not in n}
    for content, old in ((state, True), (state | auxiliary, False), (without, False)):
        torch.save(content, path, _use_new_zipfile_serialization=not old)
        network = load_inception(path).network.state_dict()
        assert network.keys() == expected.keys()
        assert all(torch.equal(network[name], expected[name]) for name in expected)


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_other_types_of_numbers_become_float32(
    inception: Inception, state: State, kind: torch.dtype, tmp_path: Path
) -> None:
    path = tmp_path / "other.pth"
    torch.save({name: weight.to(kind) for name, weight in state.items()}, path)
    for name, weight in load_inception(path).network.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, state[name].to(kind).float())


def test_the_published_file_needs_no_note(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = load_inception(path).sha256
    monkeypatch.setattr("rdkit_vae.generation.inception._PUBLISHED_SHA256", digest[:8])
    assert load_inception(path).note == ""


NAME = "Mixed_6c.branch1x1.conv.weight"
WRONG: dict[str, tuple[Callable[[State], State], str]] = {
    "missing": (
        lambda state: {name: w for name, w in state.items() if name != NAME},
        f"the file lacks {NAME}",
    ),
    "surplus": (
        lambda state: {**state, "Mixed_6c.branch2x2.conv.weight": torch.ones(1)},
        r"the network lacks Mixed_6c\.branch2x2\.conv\.weight",
    ),
    "shape": (
        lambda state: {**state, NAME: torch.zeros(192, 768, 3, 3)},
        f"{NAME} is 192x768x3x3 in the file, 192x768x1x1 in the network",
    ),
    "whole numbers": (
        lambda state: {**state, NAME: torch.zeros(192, 768, 1, 1, dtype=torch.int64)},
        f"{NAME} is int64 in the file, float32 in the network",
    ),
    "not finite": (
        lambda state: {**state, NAME: torch.full((192, 768, 1, 1), torch.nan)},
        f"{NAME} holds numbers that are not finite",
    ),
    "too large": (
        lambda state: {**state, NAME: torch.full((192, 768, 1, 1), 1e300, dtype=torch.float64)},
        f"{NAME} holds numbers that are too large for float32",
    ),
    "variance": (
        lambda state: {**state, "Mixed_5b.branch_pool.bn.running_var": -torch.ones(32)},
        r"Mixed_5b\.branch_pool\.bn\.running_var holds variances below 0",
    ),
    "another network": (
        lambda state: nn.Linear(3, 2).state_dict(),
        r"the file lacks Conv2d_1a_3x3\.bn\.bias, .* and \d+ more",
    ),
}


def refused(path: Path, reason: str) -> None:
    """Asserts one line that names the file, the reason and what to give instead."""
    with pytest.raises(BadData, match=reason) as error:
        load_inception(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert message.count(str(path)) == 1
    assert "\n" not in message
    assert "pt_inception-2015-12-05-6726825d.pth" in message


@pytest.mark.parametrize("fault", WRONG)
def test_weights_of_another_network_are_refused(fault: str, state: State, tmp_path: Path) -> None:
    change, reason = WRONG[fault]
    torch.save(change(state), tmp_path / "wrong.pth")
    refused(tmp_path / "wrong.pth", f"not weights of the Inception-v3 of FID .*{reason}")


def test_damaged_files_are_refused(path: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.pth"
    content = path.read_bytes()
    for count in (0, 10, 1000, len(content) // 2, len(content) - 1):
        damaged.write_bytes(content[:count])
        refused(damaged, "empty" if not count else "cut short|not a")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other"
    refused(path, "No such file")
    refused(tmp_path, "a folder")
    path.write_text("These are not weights.\n")
    refused(path, "a text file")
    torch.save(torch.zeros(3), path)
    refused(path, "a single tensor")
    with path.open("wb") as file:
        file.truncate(2**29 + 1)
    refused(path, "536,870,913 bytes are too many")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_code_and_refused(tmp_path: Path) -> None:
    path = tmp_path / "inception-2015-12-05.pt"
    torch.jit.save(torch.jit.trace(nn.Linear(3, 2), torch.zeros(1, 3)), path)  # type: ignore[no-untyped-call]
    refused(path, "a TorchScript archive is code")
