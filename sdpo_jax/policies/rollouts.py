"""Sampled sequences as packed integers, for look-ups in tables."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

# Tokens that one cipher block serves, and that share one packed integer.
GROUP = 3

# Three tokens of this size fill an int32.
MAX_VOCAB_SIZE = 1024


class Rollouts(NamedTuple):
    """Sampled sequences, ``GROUP`` tokens to an integer.

    Attributes:
        codes: ``[ceil(T / GROUP), N, *runs]`` int32; the first token of a group is in the high
            bits. ``tokens`` unpacks them.
    """

    codes: Array


def token_bits(vocab_size: int) -> int:
    """Bits that one token takes in a packed code."""
    return max(1, (vocab_size - 1).bit_length())


def tokens(rollouts: Rollouts, length: int, vocab_size: int) -> Array:
    """The sampled tokens, ``[T, N, *runs]`` int32 in ``[0, V)``."""
    codes = rollouts.codes
    bits = token_bits(vocab_size)
    shifts = jnp.arange(GROUP - 1, -1, -1, dtype=jnp.int32) * bits
    shifts = shifts.reshape((1, GROUP) + (1,) * (codes.ndim - 1))
    unpacked = (codes[:, None] >> shifts) & (2**bits - 1)
    return unpacked.reshape((-1, *codes.shape[1:]))[:length]


def pack(tokens: Array, vocab_size: int) -> Rollouts:
    """The inverse of ``tokens``: pack ``[T, N, *runs]`` integers in ``[0, V)``."""
    bits = token_bits(vocab_size)
    length = tokens.shape[0]
    groups = -(-length // GROUP)
    padding = [(0, groups * GROUP - length)] + [(0, 0)] * (tokens.ndim - 1)
    grouped = jnp.pad(tokens.astype(jnp.int32), padding).reshape(groups, GROUP, *tokens.shape[1:])
    codes = jnp.zeros_like(grouped[:, 0])
    for place in range(GROUP):
        codes = (codes << bits) | grouped[:, place]
    return Rollouts(codes)
