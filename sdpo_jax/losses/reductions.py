"""From values per token to one loss: which token counts how much.

    token_mean      sum of all / number of tokens                              DAPO (2503.14476)
    sequence_mean   sum of each sequence's mean / number of sequences          GRPO (2402.03300)
    fixed_length    sum of all / (a fixed length x number of sequences)        Dr. GRPO (2503.20783)

A sequence without a token counts in none of them. A batch without any has a loss of 0.

Batches in parts: with the ``count`` of the whole batch (``token_count``, or ``sequence_count``)
given, the losses of its parts, microbatches or devices, *sum* to that of the whole, and so do
their gradients. What averages over n parts (``lax.pmean``, ``optax.MultiSteps``) wants
``count / n``. The mean of each part's own mean is another loss, wherever parts differ in tokens.
A count has no gradient. One of 0 is for a batch without a token; where there are some, the loss is
infinite or NaN.

The mask has the shape of the values. Nothing is broadcast, so that what is summed is what is
counted.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from sdpo_jax.losses import checks


def token_mean(
    values: ArrayLike, where: ArrayLike | None = None, *, count: ArrayLike | None = None
) -> Array:
    """The mean over all tokens, a number.

    Args:
        values: ``[..., T]``.
        where: mask ``[..., T]``, the tokens that count.
        count: tokens of the whole batch, of which these may be a part; by default of these.

    Raises:
        ValueError: an argument of another shape, type or range.
    """
    array, mask = _checked(values, where)
    return _over(array.sum(), mask, token_count(mask) if count is None else count)


def sequence_mean(
    values: ArrayLike, where: ArrayLike | None = None, *, count: ArrayLike | None = None
) -> Array:
    """The mean over sequences of each one's mean over its tokens, a number.

    Args:
        values: ``[..., T]``.
        where: mask ``[..., T]``, the tokens that count.
        count: sequences of the whole batch, of which these may be a part; by default those of
            these that have a token. TRL counts those without one, too.

    Raises:
        ValueError: an argument of another shape, type or range.
    """
    array, mask = _checked(values, where)
    lengths = jnp.maximum(mask.sum(-1), 1)
    total = (array.sum(-1) / lengths).sum()
    return _over(total, mask, sequence_count(mask) if count is None else count)


def fixed_length(
    values: ArrayLike,
    where: ArrayLike | None = None,
    *,
    length: ArrayLike,
    count: ArrayLike | None = None,
) -> Array:
    """The sum over all tokens for each sequence and unit of a fixed length, a number.

    Args:
        values: ``[..., T]``.
        where: mask ``[..., T]``, the tokens that count.
        length: above 0, the same for every batch, such as the largest length of a completion.
        count: sequences of the whole batch, of which these may be a part; by default those of
            these that have a token. TRL counts those without one, too.

    Raises:
        ValueError: an argument of another shape, type or range.
    """
    array, mask = _checked(values, where)
    total = array.sum() / checks.number("length", length, 0, above=True, finite=True)
    return _over(total, mask, sequence_count(mask) if count is None else count)


def token_count(where: ArrayLike) -> Array:
    """How many tokens count.

    Args:
        where: mask ``[..., T]``, of the shape of the values: nothing is broadcast.

    Raises:
        ValueError: it is not of booleans, or integers 0 and 1, or has no axis.
    """
    return _mask(where).sum()


def sequence_count(where: ArrayLike) -> Array:
    """How many sequences have a token that counts.

    Args:
        where: mask ``[..., T]``, of the shape of the values: nothing is broadcast.

    Raises:
        ValueError: it is not of booleans, or integers 0 and 1, or has no axis.
    """
    return _mask(where).any(-1).sum()


def _mask(where: ArrayLike) -> Array:
    mask = checks.booleans("where", where)
    if not mask.ndim:
        raise ValueError("where: of shape (); allowed: [..., T]")
    return mask


def _checked(values: ArrayLike, where: ArrayLike | None) -> tuple[Array, Array]:
    """The values that count, and 0 in the place of others; and the mask."""
    array = checks.floating("values", values, 1)
    mask = checks.mask(where, array.shape)
    return checks.kept(checks.wide(array), mask), (
        jnp.ones(array.shape, bool) if mask is None else mask
    )


def _over(total: Array, mask: Array, count: ArrayLike) -> Array:
    number = lax.stop_gradient(checks.wide(checks.number("count", count, 0, finite=True)))
    # Nothing was summed where nothing was counted. A share of a count may be below 1.
    nothing = (number == 0) & ~mask.any()
    return total / jnp.where(nothing, 1.0, number)
