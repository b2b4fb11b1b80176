"""Where a step's time goes: each part of it alone, in a loop of its own on one core."""

from __future__ import annotations

import contextlib
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import sdpo_jax
from benchmarks.write import Output, table
from sdpo_jax import oracles, policies, problems, teachers
from sdpo_jax.algorithms import ALGORITHMS
from sdpo_jax.engine import lanes, materialise, streams
from sdpo_jax.grid import compiler_options, default_block_width, default_nodes
from sdpo_jax.metrics import METRICS
from sdpo_jax.train import Setting

CASES = (
    ("reinforce", "continuous"),
    ("advantage_weighted", "continuous"),
    ("sdpo", "continuous"),
    ("sdpo", "binary"),
    ("hybrid", "continuous"),
    ("sdpo", "critique"),
)
SIZES = sdpo_jax.Sizes()
CONFIG = sdpo_jax.Config()

# Of one step: from the setting, logits [T, V, W] that differ at each step, and its index.
Part = Callable[[Setting, Array, Array], Any]


def parts(oracle: str) -> dict[str, Part]:
    """The parts of a step by title."""
    shape = (SIZES.length, SIZES.vocab_size)

    def sampled(setting: Setting, logits: Array, index: Array) -> policies.Rollouts:
        # The logits stand for probabilities: what they are does not change the work.
        return policies.sample(setting.rollout_key, index, logits, SIZES.rollouts)

    def cheap_rollouts(logits: Array, index: Array) -> policies.Rollouts:
        groups = -(-SIZES.length // policies.GROUP)
        most = 1 << policies.GROUP * policies.token_bits(SIZES.vocab_size)
        code = (index * 40503 + jnp.arange(groups * SIZES.rollouts)) % most
        runs = jnp.arange(logits.shape[-1])
        return policies.Rollouts((code.reshape(groups, -1)[..., None] + runs) % most)

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
            cast(Array, setting.knowledge),
            cheap_policy(logits),
            tokens(logits, index),
            reward,
            oracles.feedback(setting.oracle, reward),
            setting.hint_key,
            index,
        ).mean

    def gradient(name: str) -> Part:
        def part(setting: Setting, logits: Array, index: Array) -> Array:
            told: dict[str, Any] = {
                "policy": cheap_policy(logits),
                "tokens": tokens(logits, index),
                "signal": cheap_rewards(logits),
            }
            if name == "advantage_weighted":
                told["knowledge"] = setting.knowledge
            update: Any = ALGORITHMS[name]
            return update(**told).gradient

        return part

    return {
        "random words (threefry)": lambda setting, logits, index: streams.uniforms(
            setting.rollout_key, index, (2, SIZES.rollouts)
        ),
        "sampling, words included": sampled,
        "softmax of the policy": lambda setting, logits, index: policies.policy(logits),
        "reward look-up": lambda setting, logits, index: problems.look_up(
            cast(Any, setting.tables), cheap_rollouts(logits, index), *shape
        ),
        f"teachers, {oracle}": taught,
        "gradient of REINFORCE": gradient("reinforce"),
        "gradient, advantage-weighted": gradient("advantage_weighted"),
        "normals of the noise": lambda setting, logits, index: streams.normals(
            setting.noise_key, index, (SIZES.rollouts,)
        ),
        "credit": lambda setting, logits, index: METRICS["credit"].measure(
            _View(logits, setting.problem)  # pyright: ignore[reportArgumentType]
        ),
    }


class _View:
    """As much of a view as credit reads."""

    def __init__(self, direction: Array, problem: sdpo_jax.Problem):
        self.direction, self.problem = direction, problem
        self.policy = policies.Policy(direction, direction, direction[:, 0])
        self.reward = direction[0]
        self.kind = policies.policy_kind("factored")


def _program(oracle: str) -> sdpo_jax.Program:
    nodes = default_nodes(SIZES, CONFIG.feedback_strength)
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
                with materialise.boundaries(index):
                    found = part(setting, logits, index)
                total = jax.tree.map(jnp.add, total, found)
            return (logits, total), None

        zeros: Any = ()
        if part is not None:
            shapes = jax.eval_shape(part, setting, state.params, jnp.int32(0))
            zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.scan(body, (state.params, zeros), jnp.arange(SIZES.steps))[0]

    return _measured(loop, width, repeats)


def whole(
    algorithm: str,
    oracle: str,
    width: int,
    repeats: int,
    *,
    exact: bool = False,
    one_kernel: bool = True,
    options: Mapping[str, Any] | None = None,
) -> float:
    """Microseconds that a whole step of training takes for a block.

    Args:
        algorithm: a name of ``ALGORITHMS``.
        oracle: a name of ``ORACLES``.
        width: runs of the block.
        repeats: timings of which the median is taken.
        exact: a softmax for each rollout, whatever the oracle.
        one_kernel: as ``run_grid`` compiles it; if not, a kernel for each loop.
        options: of the compiler, instead of the engine's.
    """
    program = replace(_program(oracle), algorithm=algorithm)
    if exact:
        program = replace(program, teacher_nodes=0)

    def train(seeds: Array) -> Any:
        result = sdpo_jax.train(seeds, program, CONFIG, sdpo_jax.ORACLES[oracle]())
        return result.final, result.mean

    return _measured(train, width, repeats, one_kernel, options)


def _measured(
    function: Callable[[Array], Any],
    width: int,
    repeats: int,
    one_kernel: bool = True,
    options: Mapping[str, Any] | None = None,
) -> float:
    seeds = np.arange(width, dtype=np.uint32)

    def kernel(seeds: Array) -> Any:
        return lanes.one_kernel(function, seeds) if one_kernel else function(seeds)

    compiled = jax.jit(kernel).lower(seeds).compile({**compiler_options(), **(options or {})})
    jax.block_until_ready(compiled(seeds))
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        jax.block_until_ready(compiled(seeds))
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken) / SIZES.steps * 1e6


def without(algorithm: str, oracle: str, width: int, repeats: int) -> dict[str, float]:
    """Microseconds of a whole step where one thing is left out, by what that is."""
    found = {
        "one kernel": whole(algorithm, oracle, width, repeats, one_kernel=False),
        "wide vectors": whole(
            algorithm, oracle, width, repeats, options={"xla_cpu_prefer_vector_width": 256}
        ),
        "boundaries": _fused(lambda: whole(algorithm, oracle, width, repeats)),
    }
    if oracle == "continuous" and algorithm in ("sdpo", "hybrid"):
        found["interpolated teachers"] = whole(algorithm, oracle, width, repeats, exact=True)
    return found


def _fused(measure: Callable[[], float]) -> float:
    with patch.object(
        sys.modules["sdpo_jax.train"], "boundaries", lambda witness: contextlib.nullcontext()
    ):
        return measure()


def run(repeats: int, output: Output) -> None:
    """Time the loop, every part, whole steps, and whole steps with something left out."""
    width = default_block_width()
    loop = timed(None, "continuous", width, repeats)
    results: dict[str, Any] = {
        "width": width,
        "loop": loop,
        "parts": {},
        "whole": {},
        "without": {},
    }
    for oracle in ("continuous", "binary", "critique"):
        for title, part in parts(oracle).items():
            if title not in results["parts"]:
                results["parts"][title] = timed(part, oracle, width, repeats) - loop
    for algorithm, oracle in CASES:
        case = f"{algorithm}, {oracle}"
        results["whole"][case] = whole(algorithm, oracle, width, repeats)
        results["without"][case] = without(algorithm, oracle, width, repeats)
    rows = [[title, f"{value:.1f}"] for title, value in results["parts"].items()]
    kinds = list(dict.fromkeys(kind for case in results["without"].values() for kind in case))
    columns = ["a whole step", "microseconds a block", *(f"without {kind}" for kind in kinds)]
    steps = [
        [case, f"{taken:.1f}"]
        + [
            f"{results['without'][case].get(kind, math.nan):.1f}".replace("nan", "")
            for kind in kinds
        ]
        for case, taken in results["whole"].items()
    ]
    body = (
        table(["part of a step", "microseconds a block"], rows)
        + "\n"
        + table(columns, steps)
        + f"\nBlocks of {width} runs on one core; median of {repeats}. A part stands in a loop of "
        "its own, less the empty loop. Parts overlap (sampling holds the words) and the "
        "processor overlaps their work, so they do not add up to a whole step, which also holds "
        "the entropy, the update and what is summed up. *Without one kernel*: XLA starts a kernel "
        "for each loop. *Without wide vectors*: 256 bits. *Without boundaries*: what is read twice "
        "is computed twice. *Without interpolated teachers*: a softmax for each rollout.\n"
    )
    output.save(body, results)
