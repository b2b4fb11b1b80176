"""The first parameters of policies that are tables of logits."""

from __future__ import annotations

from typing import Annotated

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax.engine import streams
from sdpo_jax.engine.own_numbers import Number

# What a policy's functions are given by these names, which are no numbers of its own.
TOLD = frozenset(("key", "length", "vocab_size"))


def normal_logits(
    key: streams.Key,
    length: int,
    vocab_size: int,
    init_scale: Annotated[
        ArrayLike, Number(least=0, title="standard deviation of the first logits")
    ] = 0.1,
) -> Array:
    """Independent normal logits, ``[T, V, *runs]``.

    Args:
        key: the stream of the first parameters.
        length: T.
        vocab_size: V.
        init_scale: their standard deviation, one or ``[*runs]``.
    """
    return jnp.asarray(init_scale * streams.normals(key, 0, (length, vocab_size)))
