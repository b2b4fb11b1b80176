"""The methods by name. To add one: a file with its equation, and a line here."""

from __future__ import annotations

from sdpo_jax.methods.advantage_weighted import advantage_weighted
from sdpo_jax.methods.base import Cost, Method, Stateful, Update
from sdpo_jax.methods.hybrid import hybrid
from sdpo_jax.methods.reinforce import reinforce
from sdpo_jax.methods.sdpo import sdpo

METHODS: dict[str, Method] = {
    "sdpo": sdpo,
    "reinforce": reinforce,
    "advantage_weighted": advantage_weighted,
    "hybrid": hybrid,
}

__all__ = ["METHODS", "Cost", "Method", "Stateful", "Update"]
