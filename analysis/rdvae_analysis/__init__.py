"""From results to curves, tables and figures, without torch.

- Read results: `load_results`; distances of samples, rates under fitted priors:
  `load_generation`, `load_priors`. Select rows: `final_rows`, `rd_points`.
- Curves, tables with a row per model: `frontier`, `hull`, `at_rate`, `at_distortion`, `slopes`,
  `areas`, `over_seeds`, `bjontegaard`.
- Tables: `elbo_table`, `table1`, and `render` to write them as text.
- Figures: `plot_rd`; all others are in `rdvae_analysis.figures`.

Names are imported when they are first used, because pandas and matplotlib take a second to load.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdvae_analysis.curves import areas as areas
    from rdvae_analysis.curves import at_distortion as at_distortion
    from rdvae_analysis.curves import at_rate as at_rate
    from rdvae_analysis.curves import frontier as frontier
    from rdvae_analysis.curves import hull as hull
    from rdvae_analysis.curves import slopes as slopes
    from rdvae_analysis.deltas import bjontegaard as bjontegaard
    from rdvae_analysis.figures.rd import plot_rd as plot_rd
    from rdvae_analysis.generation import load_generation as load_generation
    from rdvae_analysis.generation import load_priors as load_priors
    from rdvae_analysis.intervals import over_seeds as over_seeds
    from rdvae_analysis.load import load_results as load_results
    from rdvae_analysis.paper_table import table1 as table1
    from rdvae_analysis.points import final_rows as final_rows
    from rdvae_analysis.points import rd_points as rd_points
    from rdvae_analysis.tables import elbo_table as elbo_table
    from rdvae_analysis.tables import render as render

_HOMES = {
    "areas": "curves",
    "at_distortion": "curves",
    "at_rate": "curves",
    "bjontegaard": "deltas",
    "elbo_table": "tables",
    "final_rows": "points",
    "frontier": "curves",
    "hull": "curves",
    "load_generation": "generation",
    "load_priors": "generation",
    "load_results": "load",
    "over_seeds": "intervals",
    "plot_rd": "figures.rd",
    "rd_points": "points",
    "render": "tables",
    "slopes": "curves",
    "table1": "paper_table",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rdvae_analysis' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"rdvae_analysis.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
