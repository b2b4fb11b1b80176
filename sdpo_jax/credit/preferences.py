"""Preferences between pairs of rollouts, by Bradley and Terry's model (1952).

P(i is preferred to j) = sigmoid(sharpness (R_i - R_j))
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax.engine import lanes, streams


class Pairs(NamedTuple):
    """P pairs of rollouts and what a judge said of each.

    Attributes:
        first: ``[T, P, *runs]`` int32.
        second: ``[T, P, *runs]`` int32.
        verdict: ``[P, *runs]``, +1 where the first was preferred, -1 where the second.
        first_place: ``[P, *runs]`` int32, which rollout of a step the first is.
        second_place: ``[P, *runs]`` int32.
    """

    first: Array
    second: Array
    verdict: Array
    first_place: Array | None = None
    second_place: Array | None = None


def judged_pairs(
    tokens: Array, signal: Array, sharpness: ArrayLike, key: streams.Key, step: ArrayLike
) -> Pairs:
    """Rollout i against rollout i + N/2: N/2 pairs that share none (an odd last one is left out).

    Args:
        tokens: ``[T, N, *runs]``.
        signal: ``[N, *runs]``, what the judge sees.
        sharpness: ``[*runs]``; at 0 preferences are coin flips.
        key: a stream of the caller's own.
        step: index of the step.
    """
    count = tokens.shape[1] // 2
    thirds = streams.uniforms(key, step, (-(-count // 3),)) if count else ()
    uniform = jnp.concatenate(thirds)[:count] if count else signal[:0]
    odds = sharpness * (signal[:count] - signal[count : 2 * count])
    verdict = jnp.where(uniform < jax.nn.sigmoid(odds), np.float32(1), np.float32(-1))
    place = jnp.arange(count, dtype=jnp.int32).reshape((-1,) + (1,) * (signal.ndim - 1))
    place = jnp.broadcast_to(place, verdict.shape)
    return Pairs(tokens[:, :count], tokens[:, count : 2 * count], verdict, place, place + count)


def best_and_worst(tokens: Array, signal: Array) -> Pairs:
    """The rollout of the largest signal against that of the smallest, one pair.

    Of equal ones the first; where all are equal there is nothing to prefer, and the verdict is 0.
    """
    best, worst = jnp.argmax(signal, 0), jnp.argmin(signal, 0)
    verdict = (signal.max(0) > signal.min(0)).astype(signal.dtype)[None]
    places = (best[None].astype(jnp.int32), worst[None].astype(jnp.int32))
    return Pairs(rollout(tokens, best)[:, None], rollout(tokens, worst)[:, None], verdict, *places)


def of_places(values: Array, places: Array) -> Array:
    """``values[places]``: ``[N, *runs]`` and ``[P, *runs]`` to ``[P, *runs]``."""
    return jnp.take_along_axis(values, places, axis=0, mode="promise_in_bounds")


def to_places(values: Array, places: Array, count: int) -> Array:
    """Values ``[P, *runs]`` added up at their places, ``[N, *runs]``."""
    index = jnp.arange(count, dtype=places.dtype).reshape((-1,) + (1,) * places.ndim)
    return jnp.where(places[None] == index, values[None], 0.0).sum(1)


def rollout(tokens: Array, index: Array) -> Array:
    """Rollout ``index`` ``[*runs]`` of ``tokens`` ``[T, N, *runs]``: ``[T, *runs]``."""
    places = jnp.arange(tokens.shape[1]).reshape((-1,) + (1,) * index.ndim)
    return lanes.total_of(
        lambda token, place: jnp.where(place == index, token, 0), 1, tokens, places[None]
    )
