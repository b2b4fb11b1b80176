"""The parts of a step that the breakdown times are the engine's, whatever that asks of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdpo_jax
from benchmarks import breakdown


@pytest.mark.parametrize("oracle", ["continuous", "binary", "critique"])
def test_every_part_of_a_step_is_traced(oracle):
    program = breakdown._program(oracle)

    def begun():
        return sdpo_jax.init(np.arange(4), program, breakdown.CONFIG, sdpo_jax.ORACLES[oracle]())

    setting, state = jax.eval_shape(begun)
    parts = breakdown.parts(oracle)
    assert len(parts) > 5
    for name, part in parts.items():
        found = jax.eval_shape(part, setting, state.params, jnp.int32(0))
        assert jax.tree.leaves(found), name
