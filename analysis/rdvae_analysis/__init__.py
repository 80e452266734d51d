"""The analysis layer: results to curves, tables and figures. Never imports torch.

Names load when they are used, as pandas and matplotlib take a second.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdvae_analysis.figures.rd import plot_rd as plot_rd
    from rdvae_analysis.load import load_results as load_results
    from rdvae_analysis.points import rd_points as rd_points
    from rdvae_analysis.tables import elbo_table as elbo_table

_HOMES = {
    "elbo_table": "tables",
    "load_results": "load",
    "plot_rd": "figures.rd",
    "rd_points": "points",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rdvae_analysis' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"rdvae_analysis.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
