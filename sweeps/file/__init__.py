"""Sweep files: what a page of TOML may say, and what it says."""
