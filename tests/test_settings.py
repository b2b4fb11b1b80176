"""JAX's global settings and devices are the caller's: each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

# Every algorithm and every metric is traced; no number of double precision may appear on the way.
TRACED = """
import jax, jax.numpy as jnp, sdpo_jax
from jax.extend.core import jaxprs_in_params
from sdpo_jax import ALGORITHMS, METRICS, ORACLES, Config, Program, Sizes

def kinds(jaxpr):
    for equation in jaxpr.eqns:
        yield from (str(var.aval.dtype) for var in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from kinds(inner)

sizes = Sizes(length=2, vocab_size=3, rollouts=4, steps=3, final_window=2, epochs=2)
for place, algorithm in enumerate(ALGORITHMS):
    oracle = list(ORACLES.values())[place % len(ORACLES)]()
    program = Program(algorithm, sizes, metrics=("reward",) if place else tuple(METRICS))
    train = lambda seed: sdpo_jax.train(seed, program, Config(noise=0.1), oracle)
    traced, result = jax.make_jaxpr(train, return_shape=True)(jnp.arange(3))
    assert "float64" not in set(kinds(traced.jaxpr)), algorithm
    assert {leaf.dtype.name for leaf in jax.tree.leaves(result)} == {"float32", "int32"}, algorithm
"""

SMALL = """
import jax, jax.numpy as jnp, numpy as np, sdpo_jax
from sdpo_jax import Config, Program, Sizes
sizes = Sizes(length=2, vocab_size=3, rollouts=4, steps=3, final_window=2)
program = Program("sdpo", sizes, metrics=("reward", "expected_reward"), record=("expected_reward",))
def run(seed, noise):
    return sdpo_jax.train(seed, program, Config(noise=noise, learning_rate=1.0))
seeds, noise = jnp.arange(4), jnp.array([0.0, 0.1, 0.2, 0.3])
"""

EAGER = f"{SMALL}\nrun(seeds, noise)\n"

SHARDED = f"""{SMALL}
from jax.sharding import PartitionSpec as P
expected = jax.jit(run)(seeds, noise)
placed = jax.tree.map(lambda leaf: P(*[None] * (leaf.ndim - 1), "runs"), expected)
mesh = jax.make_mesh((2,), ("runs",))
inputs = jax.device_put((seeds, noise), jax.NamedSharding(mesh, P("runs")))
mapped = jax.shard_map(run, mesh=mesh, in_specs=(P("runs"), P("runs")), out_specs=placed)
found = jax.jit(mapped)(*inputs)
jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6),
             found, expected)

# Derivatives too, through what is computed only where a run asks for it.
program = Program("sdpo_jsd", sizes, metrics=("expected_reward",), teacher_nodes=16)
def slope(seed, noise):
    def loss(noise):
        oracle = sdpo_jax.ORACLES["self_judge"]()
        config = Config(noise=noise, learning_rate=1.0)
        return sdpo_jax.train(seed, program, config, oracle).final["expected_reward"].sum()
    return jax.grad(loss)(noise)
mapped = jax.shard_map(slope, mesh=mesh, in_specs=(P("runs"), P("runs")), out_specs=P("runs"))
expected = jax.jit(slope)(seeds, noise)
assert np.abs(expected).min() > 1e-4
np.testing.assert_allclose(jax.jit(mapped)(*inputs), expected, rtol=1e-4, atol=1e-6)
"""


@pytest.mark.parametrize(
    ("script", "settings"),
    [
        (
            TRACED,
            {
                "JAX_ENABLE_X64": "1",
                "JAX_NUMPY_RANK_PROMOTION": "raise",
                "JAX_NUMPY_DTYPE_PROMOTION": "strict",
                "JAX_TRANSFER_GUARD": "disallow",
            },
        ),
        (EAGER, {"JAX_DISABLE_JIT": "1", "JAX_DEBUG_NANS": "1"}),
        (SHARDED, {"JAX_NUM_CPU_DEVICES": "2"}),
    ],
    ids=["types", "eager", "sharded"],
)
def test_the_engine_runs_under_other_settings_of_jax(script, settings):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **settings}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


VALUES = f"""{SMALL}
import sys
seeds = np.array([0, 7, 2**31 + 5, 2**32 - 1], np.uint32)
found = {{}}
cases = {{"hybrid": "critique", "ppo": "binary", "sdpo_jsd_ema_top_k": "ordinal"}}
for algorithm, oracle in cases.items():
    program = Program(algorithm, sizes, metrics=("reward", "credit", "entropy", "expected_reward"))
    def train(seed, noise):
        config = Config(noise=noise, learning_rate=np.float64(1 / 3), kl_weight=0.01)
        return sdpo_jax.train(seed, program, config, sdpo_jax.ORACLES[oracle]())
    result = jax.jit(train)(seeds, np.linspace(0, 0.3, 4))
    for path, leaf in jax.tree_util.tree_leaves_with_path(result.final):
        found[algorithm + jax.tree_util.keystr(path)] = leaf
np.savez(sys.argv[1], **found)
"""


def test_the_types_that_jax_may_use_change_no_number(tmp_path):
    """Also of seeds that need all 32 bits, and of numbers that are given in 64."""
    found = []
    for name, settings in (
        ("plain", {}),
        ("wide", {"JAX_ENABLE_X64": "1"}),
        ("strict", {"JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_NUMPY_RANK_PROMOTION": "raise"}),
    ):
        path = tmp_path / f"{name}.npz"
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", **settings}
        done = subprocess.run(
            [sys.executable, "-c", VALUES, str(path)],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        with np.load(path) as arrays:
            found.append(dict(arrays))
    plain, *others = found
    assert len(plain) == 12
    for other in others:
        for name, value in plain.items():
            assert other[name].dtype == value.dtype
            np.testing.assert_allclose(other[name], value, rtol=0, atol=1e-6, err_msg=name)
