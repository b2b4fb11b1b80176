"""Losses of pairs of sequences of which one is preferred."""

from __future__ import annotations

import jax
import jax.numpy as jnp
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
    label_smoothing: ArrayLike = 0.0,
    where: ArrayLike | None = None,
) -> Array:
    """Direct preference optimisation, ``[...]``, one value a pair (2305.18290, Eq. 7).

        -(1 - e) log sigmoid(m) - e log sigmoid(-m),
        m = strength (log(pi / pi_ref)(chosen) - log(pi / pi_ref)(rejected))

    e is ``label_smoothing``, the share of pairs that are labelled the wrong way round: conservative
    DPO (Mitchell, "A note on DPO with noisy preferences", 2023, Eq. 3). At 0 it is DPO.

    Args:
        chosen: ``[...]``, log probabilities of the preferred sequences: ``token_log_probs`` with
            its mask, summed over positions.
        rejected: ``[...]``, of the others.
        reference_chosen: ``[...]``, the reference's; without a gradient.
        reference_rejected: ``[...]``, the reference's; without a gradient.
        strength: above 0, the beta of DPO.
        label_smoothing: e, from 0 to 0.5.
        where: mask ``[...]``, the pairs that count; the value and the gradient of
            others are 0.

    Raises:
        ValueError: an argument of another shape, type or range.

    >>> import jax.numpy as jnp, numpy as np
    >>> pair = {"chosen": jnp.array([-3.0]), "rejected": jnp.array([-5.0])}
    >>> before = {"reference_chosen": jnp.array([-4.0]), "reference_rejected": jnp.array([-4.0])}
    >>> print(np.asarray(dpo(**pair, **before, strength=0.5)).round(4))
    [0.3133]
    >>> print(np.asarray(dpo(**pair, **before, strength=0.5, label_smoothing=0.1)).round(4))
    [0.4133]
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
    wrong = checks.number("label_smoothing", label_smoothing, 0, 0.5)
    # log sigmoid(-m) = log sigmoid(m) - m; of a margin that is infinite 0 m is 0.
    finite = jnp.where((wrong == 0) & jnp.isinf(scaled), 0.0, scaled)
    return checks.kept(wrong * finite - jax.nn.log_sigmoid(scaled), mask)
