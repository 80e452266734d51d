"""The committed page of findings is what its script draws from the committed rows."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def findings() -> ModuleType:
    spec = importlib.util.spec_from_file_location("findings", ROOT / "docs" / "findings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_its_script_draws(findings: ModuleType) -> None:
    assert findings.page(*findings.committed()) == findings.PAGE.read_text("utf-8")


def test_the_mse_of_a_value_gives_that_value(findings: ModuleType) -> None:
    """BS-VAE of the paper: minus the loss from an mse, by the density of a Gaussian."""
    mse, beta, rate, dims = 0.0123, 0.1, 40.0, 784
    sse = np.full(10, mse * dims)
    nll = sse / (2 * mse) + dims / 2 * math.log(2 * math.pi * mse)
    value = -(nll.mean() + beta * rate)
    assert findings.mse_of_paper(value, beta, rate, dims) == pytest.approx(mse, rel=1e-12)


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ((2.0, 1.0, 3.0), "ahead"),
        ((-2.0, -3.0, -1.0), "behind"),
        ((2.0, -1.0, 5.0), "not told apart"),  # the interval holds zero
        ((2.0, 1.0, 3.0, 2.5), "not told apart"),  # the interpolation error is larger
        ((0.01, 0.005, 0.02), "not told apart"),  # printed as 0.0
        ((2.0, math.nan, math.nan), "higher"),
        ((-2.0, math.nan, math.nan), "lower"),
    ],
)
def test_what_is_called_ahead(
    findings: ModuleType, numbers: tuple[float, ...], verdict: str
) -> None:
    assert findings._verdict(*numbers) == verdict
