"""Figures: one file each, a function from a DataFrame to a matplotlib Figure. The caller saves."""
