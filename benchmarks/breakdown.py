"""Where a step's time goes: each part of it alone, in a loop of its own on one core."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import sdpo_jax
from benchmarks.write import Output, table
from sdpo_jax import lanes, streams
from sdpo_jax import oracle as oracles
from sdpo_jax import policy as policies
from sdpo_jax import problem as problems
from sdpo_jax import teacher as teachers
from sdpo_jax.grid import compiler_options, default_block_width
from sdpo_jax.methods import METHODS
from sdpo_jax.metrics import METRICS
from sdpo_jax.plan import default_nodes
from sdpo_jax.train import Setting

SIZES = sdpo_jax.Sizes()
CONFIG = sdpo_jax.Config()

# Of one step: from the setting, logits [T, V, W] that differ at each step, and its index.
Part = Callable[[Setting, Array, Array], Any]


def parts(oracle: str) -> dict[str, Part]:
    """The parts of a step by title; those after ``whole`` steps are inside one before them."""
    shape = (SIZES.length, SIZES.vocab_size)

    def sampled(setting: Setting, logits: Array, index: Array) -> policies.Rollouts:
        # The logits stand for probabilities: what they are does not change the work.
        return policies.sample(setting.rollout_key, index, logits, SIZES.rollouts)

    def cheap_rollouts(logits: Array, index: Array) -> policies.Rollouts:
        code = (index * 40503 + jnp.arange(2 * SIZES.rollouts)) % 512
        runs = jnp.arange(logits.shape[-1])
        return policies.Rollouts((code.reshape(2, -1)[..., None] + runs) % 512)

    def cheap_rewards(logits: Array) -> Array:
        return jnp.resize(logits, (SIZES.rollouts, logits.shape[-1])) * 0.1 + 0.5

    def tokens(logits: Array, index: Array) -> Array:
        return policies.tokens(cheap_rollouts(logits, index), *shape)

    def cheap_policy(logits: Array) -> policies.Policy:
        return policies.Policy(logits, logits, logits[:, 0])

    def taught(setting: Setting, logits: Array, index: Array) -> Array:
        reward = cheap_rewards(logits)
        return teachers.teach(
            setting.oracle,
            setting.levels,
            setting.config,
            setting.knowledge,
            cheap_policy(logits),
            tokens(logits, index),
            reward,
            oracles.feedback(setting.oracle, reward),
            setting.hint_key,
            index,
            lanes.Fence(index),
        ).mean

    def gradient(name: str) -> Part:
        def part(setting: Setting, logits: Array, index: Array) -> Array:
            told: dict[str, Any] = {
                "policy": cheap_policy(logits),
                "tokens": tokens(logits, index),
                "signal": cheap_rewards(logits),
                "fence": lanes.Fence(index),
            }
            if name == "advantage_weighted":
                told["knowledge"] = setting.knowledge
            update: Any = METHODS[name]
            return update(**told).gradient

        return part

    return {
        "random words (threefry)": lambda setting, logits, index: streams.uniforms(
            setting.rollout_key, index, (2, SIZES.rollouts)
        ),
        "sampling, words included": sampled,
        "softmax of the policy": lambda setting, logits, index: policies.policy(
            logits, lanes.Fence(index)
        ),
        "reward look-up": lambda setting, logits, index: problems.look_up(
            setting.tables, cheap_rollouts(logits, index), *shape, lanes.Fence(index)
        ),
        f"teachers, {oracle}": taught,
        "gradient of REINFORCE": gradient("reinforce"),
        "gradient, advantage-weighted": gradient("advantage_weighted"),
        "normals of the noise": lambda setting, logits, index: streams.normals(
            setting.noise_key, index, (SIZES.rollouts,), lanes.Fence(index)
        ),
        "credit": lambda setting, logits, index: METRICS["credit"].measure(
            _View(logits, setting.problem)  # pyright: ignore[reportArgumentType]
        ),
    }


class _View:
    """As much of a view as credit reads."""

    def __init__(self, direction: Array, problem: sdpo_jax.Problem):
        self.direction, self.problem = direction, problem


def _program(oracle: str) -> sdpo_jax.Program:
    nodes = default_nodes(SIZES, CONFIG.feedback_strength, CONFIG.quality_scale)
    return sdpo_jax.Program(sizes=SIZES, teacher_nodes=nodes if oracle == "continuous" else 0)


def timed(part: Part | None, oracle: str, width: int, repeats: int) -> float:
    """Microseconds that a part takes for a block; of the loop alone for ``None``."""
    program = _program(oracle)

    def loop(seeds: Array) -> Any:
        setting, state = sdpo_jax.init(seeds, program, CONFIG, sdpo_jax.ORACLES[oracle]())

        def body(carry: tuple[Array, Any], index: Array) -> tuple[tuple[Array, Any], None]:
            logits, total = carry
            logits = logits * 0.99 + 0.001
            if part is not None:
                total = jax.tree.map(jnp.add, total, part(setting, logits, index))
            return (logits, total), None

        zeros: Any = ()
        if part is not None:
            shapes = jax.eval_shape(part, setting, state.logits, jnp.int32(0))
            zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.scan(body, (state.logits, zeros), jnp.arange(SIZES.steps))[0]

    return _measured(loop, width, repeats)


def whole(method: str, oracle: str, width: int, repeats: int) -> float:
    """Microseconds that a whole step of training takes for a block."""
    from dataclasses import replace

    program = replace(_program(oracle), method=method)

    def train(seeds: Array) -> Any:
        result = sdpo_jax.train(seeds, program, CONFIG, sdpo_jax.ORACLES[oracle]())
        return result.final, result.mean

    return _measured(train, width, repeats)


def _measured(function: Callable[[Array], Any], width: int, repeats: int) -> float:
    device = jax.devices()[0]
    seeds = np.arange(width, dtype=np.uint32)
    kernel = jax.jit(lambda seeds: lanes.one_kernel(function, seeds))
    compiled = kernel.lower(seeds).compile(compiler_options(device))
    jax.block_until_ready(compiled(seeds))
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        jax.block_until_ready(compiled(seeds))
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken) / SIZES.steps * 1e6


def run(repeats: int, output: Output) -> None:
    """Time the loop, every part, and whole steps of four methods."""
    width = default_block_width()
    loop = timed(None, "continuous", width, repeats)
    results: dict[str, Any] = {"width": width, "loop": loop, "parts": {}, "whole": {}}
    for oracle in ("continuous", "binary", "critique"):
        for title, part in parts(oracle).items():
            if title not in results["parts"]:
                results["parts"][title] = timed(part, oracle, width, repeats) - loop
    for method, oracle in (
        ("reinforce", "continuous"),
        ("advantage_weighted", "continuous"),
        ("sdpo", "continuous"),
        ("sdpo", "binary"),
        ("hybrid", "continuous"),
        ("sdpo", "critique"),
    ):
        results["whole"][f"{method}, {oracle}"] = whole(method, oracle, width, repeats)
    rows = [[title, f"{value:.1f}"] for title, value in results["parts"].items()]
    rows += [[f"**a whole step: {title}**", f"{v:.1f}"] for title, v in results["whole"].items()]
    body = (
        table(["part of a step", "microseconds a block"], rows)
        + f"\nBlocks of {width} runs on one core; median of {repeats}. A part stands in a loop of "
        "its own, less the empty loop. Parts overlap (sampling holds the words) and the "
        "processor overlaps their work, so they do not add up to a whole step, which also holds "
        "the entropy, the update and what is summed up.\n"
    )
    output.save(body, results)
