"""Sweeps from Python: what `sweeps.run`, `sweeps.open` and `sweeps.join` are."""
