"""The commands of ``python -m sweeps``: of each its arguments, and what it does."""
