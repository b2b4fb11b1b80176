"""Losses of pairs of sequences of which one is preferred."""

from __future__ import annotations

import jax
from jax import Array, lax
from jax.typing import ArrayLike

from sdpo_jax.losses import checks


def dpo(
    chosen: ArrayLike,
    rejected: ArrayLike,
    *,
    reference_chosen: ArrayLike,
    reference_rejected: ArrayLike,
    strength: ArrayLike = 0.1,
    where: ArrayLike | None = None,
) -> Array:
    """Direct preference optimisation, ``[...]``, one value a pair (2305.18290, Eq. 7).

        -log sigmoid(strength (log(pi / pi_ref)(chosen) - log(pi / pi_ref)(rejected)))

    Args:
        chosen: ``[...]``, log probabilities of the preferred sequences: ``token_log_probs`` with
            its mask, summed over positions.
        rejected: ``[...]``, of the others.
        reference_chosen: ``[...]``, the reference's; without a gradient.
        reference_rejected: ``[...]``, the reference's; without a gradient.
        strength: above 0, the beta of DPO.
        where: mask ``[...]``, the pairs that count; the value and the gradient of
            others are 0.

    Raises:
        ValueError: an argument of another shape, type or range.
    """
    first = checks.floating("chosen", chosen)
    mask = checks.mask(where, first.shape)
    named = {
        "rejected": rejected,
        "reference_chosen": reference_chosen,
        "reference_rejected": reference_rejected,
    }
    others = (
        checks.alike(name, checks.floating(name, each), first.shape) for name, each in named.items()
    )
    winner, loser, before, after = (
        checks.kept(checks.wide(each), mask) for each in (first, *others)
    )
    margin = (winner - lax.stop_gradient(before)) - (loser - lax.stop_gradient(after))
    scaled = checks.number("strength", strength, 0, above=True) * margin
    return checks.kept(-jax.nn.log_sigmoid(scaled), mask)
