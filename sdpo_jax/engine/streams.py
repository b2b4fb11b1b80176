"""Random numbers with the runs in the last axis: threefry-2x32-20, as JAX's own keys use it.

A run is named by its seed. Every kind of draw has a stream of its own, and the words of a stream
are addressed by (step, index), so a draw depends on nothing but the seed, the stream, the step and
its place in the step: not on the batch, the algorithm, the oracle or what was drawn before.

``stream(seed, s)`` is ``jax.random.fold_in(jax.random.key(seed), s)``, and ``words`` holds the
threefry-2x32 cipher of the counters ``(step, index)`` under that key. JAX's own generator is not
called because it writes its words along the last axis, where runs have to be to fill SIMD lanes.

Source: Salmon, Moraes, Dror and Shaw (2011), *Parallel random numbers: as easy as 1, 2, 3*.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from sdpo_jax.engine.checks import WHOLE, numbers, on_host, shown
from sdpo_jax.engine.materialise import materialise

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_KEY_PARITY = 0x1BD11BDA

_CIPHER = "threefry2x32"
_SEEDS = "integers from 0 to 2**32 - 1, or typed keys (jax.random.key)"

# The 64 bits of a cipher block serve three uniforms of this many bits.
_UNIFORM_BITS = 21


class Stream(IntEnum):
    """The named sub-streams of a seed. The numbers are part of what makes a run repeatable."""

    PROBLEM = 0
    INIT = 1
    ROLLOUTS = 2
    NOISE = 3
    HINTS = 4
    KNOWLEDGE = 5
    ALGORITHM = 6
    JUDGE = 7
    ORACLE = 8


class Key(NamedTuple):
    """The two key words of a stream.

    Attributes:
        high: ``[*runs]`` uint32.
        low: ``[*runs]`` uint32.
    """

    high: Array
    low: Array


def stream(seed: ArrayLike | Key, name: int) -> Key:
    """The key of one sub-stream, ``fold_in(key(seed), name)``.

    Args:
        seed: as for ``root``, or what that returned.
        name: which sub-stream, a ``Stream`` or any number of the caller's own.

    Raises:
        ValueError: a seed that is none, in one line.
    """
    key = seed if isinstance(seed, Key) else root(seed)
    return Key(*_threefry(key, jnp.uint32(0), jnp.uint32(name)))


def root(seed: ArrayLike, field: str = "seed") -> Key:
    """The key that a seed is, ``key(seed)``.

    Args:
        seed: ``[*runs]`` integers in ``[0, 2**32)``, or typed threefry keys ``[*runs]`` whose two
            words are then used as they are. The words of a raw key (``jax.random.PRNGKey``) can't
            be told from two seeds of their type, and are refused, as are those seeds.
        field: what the seed is called in messages.

    Raises:
        ValueError: another type, whether traced or not, or an integer out of range where it is
            not traced, in one line.
    """
    if isinstance(seed, Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        if jax.random.key_impl(seed) != _CIPHER:
            raise ValueError(f"{field}: {shown(seed)}; allowed: keys of {_CIPHER}, or integers")
        data = jax.random.key_data(seed)
        return Key(data[..., 0], data[..., 1])
    # Checked, and converted, before JAX makes an int32 of it.
    given = numbers(field, seed, _SEEDS, WHOLE)
    if 0 in given.shape:
        raise ValueError(f"{field}: {shown(given)}; allowed: one or more")
    if given.dtype == np.uint32 and given.shape[-1:] == (_words_of_a_raw_key(),):
        raise ValueError(
            f"{field}: {shown(given)}, as raw keys are; allowed: typed keys, jax.random.key(5) "
            "and not PRNGKey(5), or integers of another type, such as int32"
        )
    if not isinstance(given, Tracer):
        concrete = on_host(given)
        if (concrete < 0).any() or (concrete >= 2**32).any():
            raise ValueError(f"{field}: {shown(seed)}; allowed: {_SEEDS}")
        given = concrete.astype(np.uint32)
    low = jnp.asarray(given).astype(jnp.uint32)
    return Key(jnp.zeros_like(low), low)


def at_step(key: Key, step: ArrayLike) -> Key:
    """The key of one step of a stream, ``fold_in(key, step)``."""
    return Key(*_threefry(key, jnp.uint32(0), jnp.asarray(step).astype(jnp.uint32)))


def typed(key: Key) -> Array:
    """The same as JAX's own typed keys, ``[*runs]``."""
    return jax.random.wrap_key_data(jnp.stack((key.high, key.low), axis=-1), impl=_CIPHER)


def words(key: Key, step: ArrayLike, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Cipher blocks ``(step, 0), (step, 1), ...``: two ``[*shape, *runs]`` uint32 arrays."""
    index = np.arange(math.prod(shape), dtype=np.uint32).reshape(shape + (1,) * key.high.ndim)
    return _threefry(key, jnp.asarray(step).astype(jnp.uint32), jnp.asarray(index))


def uniforms(key: Key, step: ArrayLike, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Three independent uniform numbers of each cipher block.

    Returns:
        Three ``[*shape, *runs]`` float32 arrays of multiples of ``2**-21`` in ``[0, 1)``: a
        probability is met to ``2**-21``, about the rounding of a float32 softmax.
    """
    high, low = words(key, step, shape)
    rest = 32 - _UNIFORM_BITS
    left_over = (high << rest) | (low & jnp.uint32(2**rest - 1))
    thirds = (high >> rest, low >> rest, left_over & jnp.uint32(2**_UNIFORM_BITS - 1))
    # Through int32, for which every SIMD unit has a conversion; the values are below 2**21.
    first, second, third = (
        integer.astype(jnp.int32).astype(jnp.float32) * jnp.float32(2.0**-_UNIFORM_BITS)
        for integer in thirds
    )
    return first, second, third


def token_uniforms(key: Key, step: ArrayLike, length: int, rollouts: int) -> Array:
    """One uniform a token, ``[T, N, *runs]``: those that a factored policy samples with."""
    thirds = uniforms(key, step, (-(-length // 3), rollouts))
    stacked = jnp.stack(thirds, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])[:length]


def normals(key: Key, step: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Standard normal numbers, ``[*shape, *runs]`` float32, by Box and Muller's transform.

    A cipher block gives two: the cosine's goes to the first half of the shape's last axis, the
    sine's to the second. The radius has 24 bits, so that nothing lies further out than 5.77
    (probability 8e-9).
    """
    half = -(-shape[-1] // 2)

    def pairs() -> Array:
        high, low = words(key, step, (*shape[:-1], half))
        # (0, 1], so that the logarithm is finite.
        unit = ((high >> 8).astype(jnp.int32) + 1).astype(jnp.float32) * jnp.float32(2.0**-24)
        radius = jnp.sqrt(-2.0 * jnp.log(unit))
        cosine, sine = _turn(low)
        # XLA's CPU loops have one output each; a complex one carries both numbers.
        return jax.lax.complex(radius * cosine, radius * sine)

    both = materialise(pairs)
    axis = len(shape) - 1
    numbers = jnp.concatenate((both.real, both.imag), axis)
    return jax.lax.slice_in_dim(numbers, 0, shape[-1], axis=axis)


def _words_of_a_raw_key() -> int:
    return 2 if jax.config.jax_default_prng_impl == _CIPHER else 4  # pyright: ignore


# A function of its own to JAX, which then traces and lowers its 20 rounds once for each shape.
@jax.jit
def _threefry(key: Key, high: Array, low: Array) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds of the counter ``(high, low)``; all arguments broadcast."""
    schedule = (key.high, key.low, key.high ^ key.low ^ jnp.uint32(_KEY_PARITY))
    high = high + schedule[0]
    low = low + schedule[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            high = high + low
            low = (low << rotation) | (low >> (32 - rotation))
            low = low ^ high
        high = high + schedule[(group + 1) % 3]
        low = low + schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return high, low


def _turn(word: Array) -> tuple[Array, Array]:
    """Cosine and sine of ``2 pi (word / 2**32 - 1/8)``, to 3e-8.

    Taylor's polynomials on an eighth of a turn either side of the quarter that the top two bits
    name: XLA's own functions reduce arguments of any size, and are not SIMD code on CPU.
    """
    inner = (word & jnp.uint32(2**30 - 1)).astype(jnp.int32) - 2**29
    angle = inner.astype(jnp.float32) * jnp.float32(2 * math.pi * 2.0**-32)
    square = angle * angle
    sine = angle * _polynomial(square, (1.0, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880))
    cosine = _polynomial(square, (1.0, -1 / 2, 1 / 24, -1 / 720, 1 / 40320))
    quarter = word >> 30
    odd = quarter & 1 == 1
    across, along = jnp.where(odd, sine, cosine), jnp.where(odd, cosine, sine)
    # Quarters 0 to 3: the cosine is cos, -sin, -cos, sin; the sine sin, cos, -sin, -cos.
    return (
        jnp.where((quarter == 1) | (quarter == 2), -across, across),
        jnp.where(quarter >= 2, -along, along),
    )


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    value = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + jnp.float32(coefficient)
    return value
