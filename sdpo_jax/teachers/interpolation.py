"""Interpolation of teachers in feedback: Chebyshev nodes on [0, 1], weights and error."""

from __future__ import annotations

import math
from functools import cache

import jax.numpy as jnp
import numpy as np
from jax import Array

from sdpo_jax.engine import lanes
from sdpo_jax.engine.checks import shown
from sdpo_jax.engine.materialise import materialise

# No interpolated probability errs by more. A typical table's errs by a hundredth of it.
LARGEST_ERROR = 1e-3

# Interpolation weights are made of products of polynomials in fours.
MAX_NODES = 24
NODE_CHOICES = tuple(range(0, MAX_NODES + 1, 4))


def check_nodes(nodes: int) -> None:
    """Check a number of nodes.

    Raises:
        ValueError: a number that ``prepare`` has no weights for, in one line.
    """
    if type(nodes) is not int or nodes not in NODE_CHOICES:
        allowed = ", ".join(str(choice) for choice in NODE_CHOICES)
        raise ValueError(f"teacher_nodes: {shown(nodes)}; allowed: {allowed}")


@cache
def steepest(nodes: int, vocab_size: int) -> float:
    """The largest slope, ``beta`` times the range of a row of the table, that levels are good for.

    Args:
        nodes: Chebyshev nodes; 0 for an oracle of levels.
        vocab_size: V.

    Returns:
        For nodes, where ``interpolation_error`` reaches ``LARGEST_ERROR``, and never more than
        for levels: there the tilt is exact, and the slope ends where float32 does. The likeliest
        token has a probability of ``1/V`` or more and keeps ``exp(-slope)`` of it; up to V numbers
        below the smallest normal one are lost beside it, and may not come to a rounding error.
    """
    numbers = np.finfo(np.float32)
    exact = math.log(numbers.eps / numbers.tiny) - 2 * math.log(vocab_size)
    if nodes == 0:
        return exact
    low, high = 0.0, exact
    if interpolation_error(high, nodes) <= LARGEST_ERROR:
        return high
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (
            (middle, high) if interpolation_error(middle, nodes) <= LARGEST_ERROR else (low, middle)
        )
    return low


def interpolation_error(slope: float, nodes: int) -> float:
    """Largest error of a teacher's probability from interpolation in f.

    Args:
        slope: ``beta`` times the range of a row of the teacher's table.
        nodes: number of Chebyshev nodes.

    Returns:
        The largest error over f in [0, 1] and over where the teacher changes its mind, for two
        tokens: ``1 / (1 + exp(-slope (f - centre)))``; to 2%. More tokens change it more gently.
    """
    centre = np.linspace(-0.5, 1.5, 161)
    f = np.linspace(0.0, 1.0, 321)

    def probability(x: np.ndarray) -> np.ndarray:
        return 0.5 + 0.5 * np.tanh(0.5 * slope * (x[:, None] - centre))

    weights_of_nodes = _products(2 * f - 1, nodes).T @ _moments_to_weights(nodes)
    interpolated = weights_of_nodes @ probability(nodes_of(nodes))
    return float(np.abs(interpolated - probability(f)).max())


@cache
def nodes_for(slope: float, tolerance: float = 1e-5) -> int:
    """The fewest nodes whose ``interpolation_error`` stays below ``tolerance``; 0 if none do."""
    for nodes in NODE_CHOICES[1:]:
        if interpolation_error(slope, nodes) <= tolerance:
            return nodes
    return 0


def weights_at_0(count: int) -> np.ndarray:
    """The weights of the nodes for a rollout whose feedback is 0, ``[K]``."""
    return _products(np.array([-1.0]), count)[:, 0] @ _moments_to_weights(count)


def interpolation_weights(feedback: Array, count: int) -> Array:
    """Means over rollouts of the interpolating polynomials: ``[N, *runs]`` to ``[K, *runs]``.

    Polynomials of degree below K are spanned by the products of ``T_0 .. T_3`` and ``T_0, T_4,
    T_8, ...``: a few wide loops where a recurrence would be many narrow ones.
    """
    x = 2 * feedback - 1
    low = materialise(lambda: _chebyshev(x, 4))
    # T_4a(x) = T_a(T_4(x)).
    square = x * x
    high = materialise(lambda: _chebyshev(8 * square * (square - 1) + 1, count // 4))
    moments = materialise(
        lambda: lanes.total_of(lambda h, r: h[:, None] * r[None], 1, high, low) / x.shape[0]
    )
    moments = moments.reshape(count, *x.shape[1:])
    matrix = jnp.asarray(_moments_to_weights(count), x.dtype)
    matrix = matrix.reshape(matrix.shape + (1,) * (x.ndim - 1))
    return lanes.total_of(lambda row, moment: row * moment[None], 0, matrix, moments)


def nodes_of(count: int) -> np.ndarray:
    """Chebyshev nodes on [0, 1]."""
    return 0.5 + 0.5 * np.cos((2 * np.arange(count) + 1) * np.pi / (2 * count))


def _basis() -> np.ndarray:
    """Coefficients of the Chebyshev polynomials ``T_0`` to ``T_5``, lowest power last."""
    rows = [np.polynomial.chebyshev.cheb2poly(np.eye(6)[j])[::-1] for j in range(6)]
    return np.stack([np.pad(row, (6 - len(row), 0)) for row in rows])


def _products(x: np.ndarray, count: int) -> np.ndarray:
    """``T_4a(x) T_r(x)`` for r < 4, ``[count, *x.shape]``: a basis of degree below ``count``."""
    basis = np.polynomial.chebyshev.chebvander(x, count)
    return np.stack([basis[..., 4 * (j // 4)] * basis[..., j % 4] for j in range(count)])


def _moments_to_weights(count: int) -> np.ndarray:
    """``[j, k]``: what the mean of the j-th of ``_products`` adds to the weight of node k."""
    return np.linalg.inv(_products(2 * nodes_of(count) - 1, count)).T


def _chebyshev(x: Array, count: int) -> Array:
    """``T_0(x)`` to ``T_count-1(x)``, ``[count, *x.shape]``, by one Horner scheme for all."""
    coefficients = _basis()[:count, 6 - count :].astype(x.dtype)
    coefficients = coefficients.reshape(coefficients.shape + (1,) * x.ndim)
    value = jnp.zeros((count, *x.shape), x.dtype)
    for power in range(count):
        value = value * x + coefficients[:, power]
    return value
