from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rdkit_vae.errors import BadData
from rdkit_vae.generation import inception
from rdkit_vae.generation.inception import Inception, load_inception, resized

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    """Random weights, under which activations neither die nor explode."""
    rng = torch.Generator().manual_seed(0)
    state = {**Inception().state_dict()}
    for name, weights in state.items():
        if name.endswith("conv.weight"):
            weights.normal_(0, (2 / weights[0].numel()) ** 0.5, generator=rng)
        elif name.endswith(("bn.weight", "running_var")):
            weights.uniform_(0.5, 1.5, generator=rng)
        elif name.endswith(("bn.bias", "running_mean")):
            weights.normal_(0, 0.2, generator=rng)
    return {**state, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}


@pytest.fixture(scope="module")
def file(state: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(state, path)
    return path


def test_its_weights_have_the_published_names_and_number() -> None:
    """21,785,568: those of torchvision, less its auxiliary output and its 1,000 classes."""
    state = Inception().state_dict()
    count = sum(w.numel() for n, w in state.items() if n.endswith((".weight", ".bias")))
    assert count == 27_161_264 - 3_326_696 - 2048 * 1000 - 1000
    assert len(state) == 94 * 6  # convolution, four of the normalisation, and its counter
    assert state["Mixed_6b.branch7x7dbl_5.conv.weight"].shape == (192, 128, 1, 7)
    assert state["Mixed_7c.branch3x3dbl_3b.bn.running_var"].shape == (384,)


def test_features_of_grey_pictures_are_those_of_the_same_in_colour(file: Path) -> None:
    network, sha256, notes = load_inception(file)
    assert len(sha256) == 64
    assert "is not the published file" in notes[0]
    network.eval()
    grey = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features = network(grey)
        colour = network(grey.repeat(1, 3, 1, 1))
        eight_bits = network((grey * 255).round() / 255)
    assert features.shape == (2, 2048)
    assert features.isfinite().all()
    assert features.std(dim=0).max() > 0.1
    assert torch.equal(features, colour)
    assert torch.equal(features, eight_bits)


@pytest.mark.parametrize("size", [(5, 4), (28, 28), (299, 299), (400, 310)])
def test_resizing_is_that_of_tensorflow_1(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, size).astype(np.float64)
    expected = np.empty((299, 299))
    for row in range(299):
        for column in range(299):
            y, x = row * size[0] / 299, column * size[1] / 299
            top, left = int(y), int(x)
            bottom, right = min(top + 1, size[0] - 1), min(left + 1, size[1] - 1)
            upper = picture[top, left] * (1 - x % 1) + picture[top, right] * (x % 1)
            lower = picture[bottom, left] * (1 - x % 1) + picture[bottom, right] * (x % 1)
            expected[row, column] = upper * (1 - y % 1) + lower * (y % 1)
    actual = resized(torch.from_numpy(picture).float()[None, None])[0, 0]
    np.testing.assert_allclose(actual, expected, atol=0.02)  # of 255, in float32
    if size == (299, 299):
        assert np.array_equal(actual, picture)


def test_a_constant_picture_stays_constant_where_averages_pad() -> None:
    """An average that counted the padding would be smaller at the border."""
    block = Inception().get_submodule("Mixed_5b")
    pooled = torch.nn.functional.avg_pool2d(torch.ones(1, 1, 4, 4), 3, 1, 1)
    assert pooled[0, 0, 0, 0] < 1
    with torch.inference_mode():
        out = block.eval()(torch.ones(1, 192, 9, 9))[:, -32:]  # of the pooling branch
    assert torch.allclose(out, out[:, :, 4:5, 4:5].expand_as(out), atol=1e-6)


def test_the_published_file_is_known_by_its_hash(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inception, "PUBLISHED", load_inception(file)[1][:8])
    assert load_inception(file)[2] == ()


def _without(state: State) -> State:
    return {n: w for n, w in state.items() if n != "Mixed_7a.branch3x3_1.conv.weight"}


def _narrower(state: State) -> State:
    return {**state, "Mixed_5b.branch1x1.bn.bias": torch.zeros(63)}


def _of_imagenet(state: State) -> State:
    return {**state, "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}


def _with_auxiliary(state: State) -> State:
    return {**state, "AuxLogits.fc.weight": torch.zeros(1000, 768)}


def _not_finite(state: State) -> State:
    return {**state, "Conv2d_1a_3x3.bn.bias": torch.full((32,), torch.nan)}


def _of_another_network(state: State) -> State:
    return {"encoder.0.weight": torch.zeros(3, 4)}


def _whole_numbers(state: State) -> State:
    return {**state, "Conv2d_1a_3x3.bn.bias": torch.zeros(32, dtype=torch.int64)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_without, "the file lacks Mixed_7a.branch3x3_1.conv.weight; give pt_inception"),
        (_narrower, "Mixed_5b.branch1x1.bn.bias is 63 in the file, 64 in the network"),
        (_of_imagenet, "weights of another Inception, such as torchvision's, as fc.weight shows"),
        (_with_auxiliary, "such as torchvision's, as AuxLogits.fc.weight shows"),
        (_not_finite, "Conv2d_1a_3x3.bn.bias holds numbers that are not finite"),
        (_of_another_network, "too few for this network"),
        (_whole_numbers, "int64 in the file, float32 in the network"),
    ],
)
def test_weights_of_another_network_are_refused(
    change: Callable[[State], State], reason: str, state: State, tmp_path: Path
) -> None:
    path = tmp_path / "other.pth"
    torch.save(change(state), path)
    with pytest.raises(BadData, match=reason) as refused:
        load_inception(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_files_that_are_none(file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pth"
    cut.write_bytes(file.read_bytes()[:1_000_000])
    with pytest.raises(BadData, match=r"cut\.pth: its weights cannot be read"):
        load_inception(cut)
    with pytest.raises(BadData, match=r"missing\.pth: cannot be read \(No such file"):
        load_inception(tmp_path / "missing.pth")
    with pytest.raises(BadData, match="a folder; give the file"):
        load_inception(tmp_path)
    text = tmp_path / "page.pth"
    text.write_text("<html>not found</html>")
    with pytest.raises(BadData, match="a text file"):
        load_inception(text)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_code_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "inception-2015-12-05.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(BadData, match=r"TorchScript archive.*give the state dict pt_inception"):
        load_inception(path)
