"""What a problem allows: the ends of the scale that a reward is read on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sdpo_jax import Problem, Sizes, problems
from sdpo_jax.engine import lanes

# Problems side by side; each may have millions of sequences.
_WIDTH = 16


def sample(seeds: jax.Array, sizes: Sizes) -> Problem:
    """The problems of these seeds, as training draws them by default."""
    return problems.sample_problem(seeds, sizes.length, sizes.vocab_size)


def reward_range(
    seeds: Sequence[int] | np.ndarray, sizes: Sizes, samples: int = 4096
) -> tuple[np.ndarray, np.ndarray]:
    """Mean reward of the uniform policy and of the best sequence, of each seed's problem.

    The uniform policy's mean is exact where all sequences can be enumerated, and else the mean of
    ``samples`` sequences (standard error below 0.002); the best sequence is exact always.

    Args:
        seeds: ``[n]`` integers.
        sizes: the problems' length and vocabulary.
        samples: sequences of the mean where it is not exact.

    Returns:
        Both ``[n]``.
    """
    ends = jax.jit(partial(_ends, sizes=sizes, samples=samples))
    # Two uint32 would be the words of a raw key; as int32 their bits are the same.
    padded = (
        np.resize(np.asarray(seeds), -(-len(seeds) // _WIDTH) * _WIDTH)
        .astype(np.uint32)
        .view(np.int32)
    )
    found = [ends(jnp.asarray(block)) for block in padded.reshape(-1, _WIDTH)]
    uniform, best = (np.concatenate(part)[: len(seeds)] for part in zip(*found, strict=True))
    return uniform, best


def _ends(seeds: jax.Array, sizes: Sizes, samples: int) -> tuple[jax.Array, jax.Array]:
    problem = sample(seeds, sizes)
    if sizes.vocab_size**sizes.length <= problems.MAX_SEQUENCES:

        def mean(problem: Any) -> jax.Array:
            return problems.expected_reward(problem, problems.uniform_probs(problem))

        uniform = lanes.one_kernel(mean, problem)
    else:
        shape = (sizes.length, samples, *seeds.shape)
        tokens = jax.random.randint(jax.random.key(0), shape, 0, sizes.vocab_size)
        uniform = problems.reward(problem, tokens).mean(0)
    return uniform, problems.best_sequence(problem)[1]
