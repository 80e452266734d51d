"""The registry of adapters, and networks that the user's own code makes."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rdkit_vae.adapters import ADAPTERS, load_model
from rdkit_vae.adapters.reading import number
from rdkit_vae.errors import BadData, BadInput

CODE = """
import torch
from torch import nn
from rdkit_vae.models.adapted import adapt

class Linear(nn.Module):
    def __init__(self, latents=3):
        super().__init__()
        self.down = nn.Linear(16, 2 * latents)
        self.up = nn.Linear(latents, 16)

    def encode(self, x):
        return self.down(x.flatten(1)).chunk(2, dim=1)

    def decode(self, z):
        return self.up(z).reshape(-1, 1, 4, 4)

def centred(latents=3):
    return adapt(Linear(latents), pixel_range=(-1, 1))

def fails():
    raise RuntimeError("two\\nlines")

def number():
    return 3
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """The module of a user, which `ownmodels` names."""
    (tmp_path / "ownmodels.py").write_text(CODE, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "ownmodels", raising=False)
    yield importlib.import_module("ownmodels")
    sys.modules.pop("ownmodels", None)


@pytest.fixture
def saved(code: object, tmp_path: Path) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    network: nn.Module = code.Linear()  # type: ignore[attr-defined]
    path = tmp_path / "weights.pt"
    torch.save(network.state_dict(), path)
    return network, path


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_says_what_it_reads(name: str) -> None:
    adapter = ADAPTERS[name]
    assert 20 < len(adapter.about) < 100
    assert "\n" not in adapter.about
    assert all(help_line for help_line in adapter.options.values())
    module = importlib.import_module(f"rdkit_vae.adapters.{adapter.module}")
    assert callable(module.load)


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_unknown_option_is_one_line(name: str, tmp_path: Path) -> None:
    message = f"unknown option of adapter {name} 'size'"
    if not ADAPTERS[name].options:
        message = f"adapter {name} has no options, got 'size'"
    with pytest.raises(BadInput, match=message) as caught:
        load_model(name, tmp_path, {"size": 3})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_missing_file_is_one_line(name: str, tmp_path: Path) -> None:
    pytest.importorskip(ADAPTERS[name].extra or "torch")
    with pytest.raises(BadData) as caught:
        load_model(name, tmp_path / "nothing.pt")
    assert "\n" not in str(caught.value)
    assert "nothing.pt" in str(caught.value)


@pytest.mark.parametrize("name", [name for name in ADAPTERS if ADAPTERS[name].extra])
def test_a_missing_library_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = ADAPTERS[name].extra
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(BadInput) as caught:
        load_model(name, tmp_path)
    assert str(caught.value) == (
        f"adapter {name} needs {library}: pip install 'rdkit-vae[{library}]'"
    )


def test_an_unknown_adapter_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"unknown adapter 'difusers' \(did you mean diffusers\?\)"):
        load_model("difusers", tmp_path)


def test_the_registry_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, rdkit_vae.adapters; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_factory_makes_the_network(saved: tuple[nn.Module, Path]) -> None:
    network, path = saved
    x = torch.rand(2, 1, 4, 4)
    loaded = load_model("ownmodels:Linear", path)
    mean, log_var = loaded.model.encode(x)
    expected: tuple[Tensor, Tensor] = network.encode(x)
    assert torch.equal(mean, expected[0])
    assert torch.equal(log_var, expected[1])
    assert torch.equal(loaded.model.decode(mean), network.decode(mean))
    assert loaded.architecture == "ownmodels.Linear"
    assert not loaded.model.training


def test_a_factory_may_adapt_its_network(saved: tuple[nn.Module, Path]) -> None:
    network, path = saved
    x = torch.rand(2, 1, 4, 4)
    loaded = load_model("ownmodels:centred", path, {"latents": 3})
    mean, _ = loaded.model.encode(x)
    torch.testing.assert_close(mean, network.encode(2 * x - 1)[0])
    torch.testing.assert_close(loaded.model.decode(mean), (network.decode(mean) + 1) / 2)
    assert loaded.architecture == "ownmodels.Linear"


def test_a_lightning_checkpoint_of_the_network_is_read(saved: tuple[nn.Module, Path]) -> None:
    network, path = saved
    weights = {f"model.{name}": weight for name, weight in network.state_dict().items()}
    torch.save(
        {
            "state_dict": weights,
            "epoch": 7,
            "global_step": 300,
            "pytorch-lightning_version": "2.6.6",
            "hyper_parameters": {},
        },
        path,
    )
    loaded = load_model("ownmodels:Linear", path)
    assert torch.equal(loaded.model.module.state_dict()["up.weight"], network.up.weight)
    assert loaded.notes[0] == "The file of weights says: Lightning 2.6.6, epoch 7, step 300."


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ownmodels:fails", {}, "calling it raised RuntimeError: two lines"),
        ("ownmodels:number", {}, "must return a torch.nn.Module, got int"),
        ("ownmodels:nothing", {}, "ownmodels has no nothing"),
        ("ownmodels:Linear", {"width": 3}, "its options are latents"),
        ("ownmodels:fails", {"width": 3}, "it has no options"),
        ("no.such.module:make", {}, "there is no module no"),
    ],
)
def test_a_factory_that_does_not_fit_is_one_line(
    name: str, options: dict[str, int], message: str, saved: tuple[nn.Module, Path]
) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        load_model(name, saved[1], options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in ADAPTERS if not ADAPTERS[name].extra])
def test_other_weights_are_one_line_with_the_file(name: str, saved: tuple[nn.Module, Path]) -> None:
    with pytest.raises(BadData) as caught:
        load_model(name, saved[1])
    assert str(caught.value).startswith(f"{saved[1]}: these are not weights of ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2, 2.0), (0.5, 0.5), (True, None), ("2", None), (10**400, None), (float("nan"), None)],
    ids=lambda value: str(value)[:9],
)
def test_a_number_among_settings_is_finite(value: object, expected: float | None) -> None:
    assert number({"beta": value}, "beta") == expected
    assert number({}, "beta") is None


def test_weights_of_another_shape_are_refused(saved: tuple[nn.Module, Path]) -> None:
    with pytest.raises(BadData, match=r"weights.pt: .* in the file, .* in the network") as caught:
        load_model("ownmodels:Linear", saved[1], {"latents": 4})
    assert "\n" not in str(caught.value)
