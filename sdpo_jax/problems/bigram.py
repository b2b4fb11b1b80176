"""The problem: a reward landscape over token sequences, and what can be known of it exactly.

    R(s) = sigmoid((sum_t q[t, s_t] + sum_t b[s_t, s_{t+1}] + alpha_p #{t: s_t = s*_t}) / T)

(Eq. 1)

Everything acts on the leading axes and broadcasts over whatever trails (``*runs``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from sdpo_jax import policies
from sdpo_jax.engine import lanes, meshes, streams
from sdpo_jax.engine.checks import (
    WHOLE,
    as_float32,
    finite,
    integer,
    numbers,
    of_type,
    on_host,
    over_runs,
    under_own_settings,
)
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.engine.own_numbers import Number
from sdpo_jax.engine.streams import Key, Stream
from sdpo_jax.policies import GROUP, MAX_VOCAB_SIZE, Rollouts, token_bits

# Largest number of sequences, V ** T, that the exact expectations enumerate.
MAX_SEQUENCES = 2**21

# Packed bits of a table's index: larger tables fall out of the cache.
_TABLE_BITS = 12


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Problem:
    """A reward landscape.

    Attributes:
        quality: ``[T, V, *runs]``, the quality q of each token at each position.
        bigram: ``[V, V, *runs]``, the coherence b of two tokens in a row.
        target: ``[T, *runs]`` integers in ``[0, V)``, the target sequence s*.
        pattern_weight: ``[*runs]``, what each match with the target adds.
    """

    quality: Array
    bigram: Array
    target: Array
    pattern_weight: Any


# Of an algorithm's parameter: it needs the parts of Eq. 1 and not only a reward.
EQUATION_ONE = "the parts of Eq. 1"
EquationOne = Annotated[Problem, EQUATION_ONE]


class ScoreTables(NamedTuple):
    """The score of a sequence as a few table look-ups (see ``tabulate``).

    Attributes:
        chunks: ``[C, 2 ** (k * bits), *runs]``, the score inside each chunk of k positions.
        bridges: ``[2 ** (2 * bits), *runs]``, the score of two tokens where chunks meet.
    """

    chunks: Array
    bridges: Array


@under_own_settings
def sample_problem(
    seed: ArrayLike | Key,
    length: int,
    vocab_size: int,
    quality_scale: Annotated[
        ArrayLike, Number(least=0, title="standard deviation of token quality")
    ] = 1.0,
    bigram_scale: Annotated[
        ArrayLike, Number(least=0, title="standard deviation of bigram coherence")
    ] = 0.3,
    pattern_weight: Annotated[ArrayLike, Number(title="score of each match with the target")] = 0.3,
) -> Problem:
    """Draw a problem: q and b normal with the given scales, the target uniform.

    Args:
        seed: ``[*runs]`` integers or typed threefry keys.
        length: T, positions.
        vocab_size: V, tokens.
        quality_scale: ``[*runs]`` or scalar, standard deviation of q.
        bigram_scale: ``[*runs]`` or scalar, standard deviation of b.
        pattern_weight: ``[*runs]`` or scalar, what each match with the target adds.

    Raises:
        ValueError: the argument, its value or shape and what is allowed, in one line.
    """
    length = integer("length", length, 1)
    vocab_size = integer("vocab_size", vocab_size, 2, MAX_VOCAB_SIZE)
    key = streams.stream(seed, Stream.PROBLEM)
    runs = key.high.shape

    def scale(name: str, value: ArrayLike) -> Array:
        over_runs(name, finite(name, value), runs)
        return jnp.asarray(as_float32(value))

    uniform, _, _ = streams.uniforms(key, 2, (length,))
    quality = scale("quality_scale", quality_scale)
    bigram = scale("bigram_scale", bigram_scale)
    return Problem(
        quality=quality * streams.normals(key, 0, (length, vocab_size)),
        bigram=bigram * streams.normals(key, 1, (vocab_size, vocab_size)),
        target=(uniform * vocab_size).astype(jnp.int32),
        pattern_weight=jnp.broadcast_to(scale("pattern_weight", pattern_weight), runs),
    )


@under_own_settings
def reward(problem: Problem, tokens: ArrayLike) -> Array:
    """``R`` of Eq. 1 for each of N sequences: ``[T, N, *runs]`` integers to ``[N, *runs]``.

    Where many batches meet one problem, ``tabulate`` it once and ``look_up`` each.

    Raises:
        ValueError: a problem or tokens of another type or shape, or, where they are not traced,
            tokens outside of ``[0, V)``, in one line.
    """
    problem = _checked(problem)
    length, vocab_size, *runs = problem.quality.shape
    packed = policies.pack(checked_sequences(tokens, length, vocab_size, runs), vocab_size)
    return look_up(tabulate(problem), packed, length, vocab_size)


def checked_sequences(
    tokens: ArrayLike, length: int, vocab_size: int, runs: Sequence[int]
) -> Array:
    """Sequences ``[T, N, *runs]`` of a problem, as int32: small types would overflow.

    Raises:
        ValueError: as ``reward``.
    """
    given: Any = _checked_tokens("tokens", tokens, vocab_size)
    if given.ndim < 2 or given.shape != (length, given.shape[1], *runs):
        raise ValueError(
            f"tokens: shape {given.shape}; allowed: "
            f"({', '.join(map(str, (length, 'sequences', *runs)))})"
        )
    return jnp.asarray(given)


def token_scores(problem: Problem) -> Array:
    """What each token adds to the score by itself, ``[T, V, *runs]``: quality and pattern."""
    vocab_size = problem.quality.shape[1]
    vocabulary = jnp.arange(vocab_size, dtype=jnp.int32)
    vocabulary = vocabulary.reshape((1, vocab_size) + (1,) * (problem.quality.ndim - 2))
    matches = problem.target[:, None] == vocabulary
    return problem.quality + jnp.where(matches, problem.pattern_weight, 0.0)


def tabulate(problem: Problem) -> ScoreTables:
    """Tables of the score, divided by T, for chunks of as many positions as a small table holds."""
    length, vocab_size = problem.quality.shape[:2]
    runs = problem.quality.shape[2:]
    bits = token_bits(vocab_size)
    chunk = _chunk_length(vocab_size)
    holes = [(0, 2**bits - vocab_size)] + [(0, 0)] * len(runs)
    singles = jnp.pad(token_scores(problem), [(0, -length % chunk), *holes]) / length
    pairs = jnp.pad(problem.bigram, [holes[0], *holes]) / length
    singles = singles.reshape(-1, chunk, 2**bits, *runs)
    table = singles[:, 0]
    for place in range(1, chunk):
        count = table.shape[0]
        last = jnp.broadcast_to(pairs, (table.shape[1] // 2**bits, *pairs.shape)).reshape(
            -1, 2**bits, *runs
        )
        # Positions past the end hold token 0 and must add nothing.
        inside = np.arange(count) * chunk + place < length
        inside = inside.reshape((-1, 1, 1) + (1,) * len(runs))
        table = table[:, :, None] + singles[:, place, None] + jnp.where(inside, last, 0.0)
        table = table.reshape(count, -1, *runs)
    return ScoreTables(table, pairs.reshape(-1, *runs))


def look_up(
    tables: ScoreTables,
    rollouts: Rollouts,
    length: int,
    vocab_size: int,
) -> Array:
    """``R`` of Eq. 1 for packed sequences, ``[N, *runs]``, from ``tabulate``'s tables."""
    bits = token_bits(vocab_size)
    chunk = _chunk_length(vocab_size)
    token = policies.tokens(rollouts, length, vocab_size)
    if chunk == GROUP:
        codes = rollouts.codes
    else:
        missing = -length % chunk
        padded = jnp.pad(token, [(0, missing)] + [(0, 0)] * (token.ndim - 1))
        grouped = padded.reshape(-1, chunk, *token.shape[1:])
        codes = grouped[:, 0]
        for place in range(1, chunk):
            codes = (codes << bits) | grouped[:, place]
    # A gather is scalar code, so nothing else may be fused into its loop.
    parts = [materialise(lambda: _take(tables.chunks, codes))]
    if length > chunk:
        left = token[chunk - 1 : length - 1 : chunk]
        right = token[chunk::chunk]
        meeting = materialise(lambda: ((left << bits) | right).reshape(-1, *token.shape[2:]))
        bridges = materialise(lambda: _take(tables.bridges, meeting, axis=0))
        parts.append(bridges.reshape(left.shape))
    return materialise(lambda: jax.nn.sigmoid(sum(lanes.total(part, 0) for part in parts)))


@under_own_settings
def best_sequence(problem: Problem) -> tuple[Array, Array]:
    """The sequence of largest reward, by dynamic programming over positions (Viterbi).

    Returns:
        tokens: ``[T, *runs]`` int32; the lowest tokens where several sequences are best.
        reward: ``[*runs]``, its reward.

    Raises:
        ValueError: no problem, in one line.
    """
    problem = _checked(problem)
    singles = token_scores(problem)
    length = singles.shape[0]
    value = singles[-1]
    best_next = []
    for t in range(length - 2, -1, -1):
        continued = problem.bigram + value[None]
        best_next.append(continued.argmax(1).astype(jnp.int32))
        value = singles[t] + continued.max(1)
    token = value.argmax(0).astype(jnp.int32)
    chosen = [token]
    for choice in reversed(best_next):
        token = jnp.take_along_axis(choice, token[None], axis=0)[0]
        chosen.append(token)
    return jnp.stack(chosen), jax.nn.sigmoid(value.max(0) / length)


@under_own_settings
def expected_reward(problem: Problem, probs: Array) -> Array:
    """``E[R]`` of the factored policy ``probs`` ``[T, V, *runs]``, summed over all sequences.

    Raises:
        ValueError: ``V ** T`` exceeds ``MAX_SEQUENCES``; arguments of another type or shape.
    """
    problem = _checked(problem)
    probs = _checked_probs(problem, probs)
    cut, prefixes, rewards_after = _split(problem)
    value = jax.lax.map(lambda index: expectation(rewards_after(index), probs[cut:]), prefixes)
    return expectation(value, probs[:cut])


@under_own_settings
def token_advantage(problem: Problem, probs: Array) -> Array:
    """``E[R | s_t = v] - E[R]``, ``[T, V, *runs]``: what the reward really pays for each token.

    The gradient of ``E[R]`` with respect to the logits is ``probs * token_advantage``.

    Raises:
        ValueError: ``V ** T`` exceeds ``MAX_SEQUENCES``; arguments of another type or shape.
    """
    problem = _checked(problem)
    probs = _checked_probs(problem, probs)
    cut, prefixes, rewards_after = _split(problem)
    weight = jnp.ones_like(probs[:1, 0])
    for t in range(cut):
        weight = (weight[:, None] * probs[t]).reshape(-1, *weight.shape[1:])

    def add(sofar: Array, prefix: tuple[Array, Array]) -> tuple[Array, Array]:
        index, weight = prefix
        late, mean = conditional(rewards_after(index), probs[cut:])
        return sofar + weight * late, mean

    start = meshes.shared(jnp.zeros_like(probs[cut:]), problem)
    late, value = jax.lax.scan(add, start, (prefixes, weight))
    early, mean = conditional(value, probs[:cut])
    return jnp.concatenate([early, late]) - mean


def uniform_probs(problem: Problem) -> Array:
    """The policy that knows nothing, ``1 / V`` everywhere, ``[T, V, *runs]``."""
    return jnp.full_like(problem.quality, 1.0 / problem.quality.shape[1])


@under_own_settings
def optimality(problem: Problem, reward: ArrayLike) -> Array:
    """``(R - R_uniform) / (R_best - R_uniform)``: 0 for the uniform policy, 1 for the best.

    NaN where all sequences are worth the same, so that there is no scale.

    Args:
        problem: the reward landscape.
        reward: ``[..., *runs]``.

    Raises:
        ValueError: ``V ** T`` exceeds ``MAX_SEQUENCES``; arguments of another type or shape.
    """
    problem = _checked(problem)
    runs = problem.quality.shape[2:]
    given: Any = numbers("reward", reward, "numbers")
    over_runs("reward", given, runs, given.shape[: max(given.ndim - len(runs), 0)])
    uniform = expected_reward(problem, uniform_probs(problem))
    _, best = best_sequence(problem)
    return (jnp.asarray(as_float32(given)) - uniform) / (best - uniform)


def check_enumerable(length: int, vocab_size: int) -> None:
    """Refuse a problem with more sequences than the exact expectations enumerate."""
    if vocab_size**length > MAX_SEQUENCES:
        raise ValueError(
            f"vocab_size ** length: {vocab_size} ** {length} = {vocab_size**length} sequences; "
            f"exact expectations enumerate at most {MAX_SEQUENCES}"
        )


def check_problem(problem: Problem, shape: tuple[int, ...]) -> Problem:
    """Check a problem against logits ``[T, V, *runs]``.

    Returns:
        The same with float32 numbers and int32 tokens.

    Raises:
        ValueError: the field, its type, shape or a value, and what is allowed, in one line; values
            where they are not traced.
    """
    of_type("problem", problem, Problem)
    length, vocab_size, *runs = shape
    allowed = {
        "quality": (length, vocab_size, *runs),
        "bigram": (vocab_size, vocab_size, *runs),
        "target": (length, *runs),
    }
    parts: dict[str, Any] = {}
    for name, expected in allowed.items():
        part = numbers(f"problem.{name}", getattr(problem, name), "an array of numbers")
        if part.shape != expected:
            raise ValueError(f"problem.{name}: shape {part.shape}; allowed: {expected}")
        parts[name] = part
    weight = finite("problem.pattern_weight", problem.pattern_weight)
    over_runs("problem.pattern_weight", weight, tuple(runs))
    target = _checked_tokens("problem.target", parts["target"], vocab_size)
    return Problem(
        as_float32(finite("problem.quality", parts["quality"])),
        as_float32(finite("problem.bigram", parts["bigram"])),
        target,
        as_float32(weight),
    )


def _checked(problem: Problem) -> Problem:
    """A problem whose shapes fit each other."""
    of_type("problem", problem, Problem)
    shape = numbers("problem.quality", problem.quality, "an array of numbers").shape
    if len(shape) < 2 or shape[0] < 1 or not 2 <= shape[1] <= MAX_VOCAB_SIZE:
        raise ValueError(
            f"problem.quality: shape {shape}; allowed: positions, 1 or more, "
            f"and tokens, 2 to {MAX_VOCAB_SIZE}, in front of the runs"
        )
    return check_problem(problem, shape)


def _checked_tokens(name: str, tokens: Any, vocab_size: int) -> Any:
    allowed = f"integers from 0 to {vocab_size - 1}"
    tokens = numbers(name, tokens, allowed, WHOLE)
    if not isinstance(tokens, Tracer):
        concrete = on_host(tokens)
        wrong = concrete[(concrete < 0) | (concrete >= vocab_size)]
        if wrong.size:
            raise ValueError(f"{name}: {int(wrong.flat[0])}; allowed: {allowed}")
    return tokens.astype(np.int32)


def _checked_probs(problem: Problem, probs: Any) -> Array:
    probs = numbers("probs", probs, "an array of numbers")
    if probs.shape != problem.quality.shape:
        raise ValueError(
            f"probs: shape {probs.shape}; allowed: {problem.quality.shape}, as problem.quality has"
        )
    return jnp.asarray(as_float32(probs))


def all_rewards(problem: Problem) -> Array:
    """Rewards of all sequences, ``[V ** T, *runs]``, the first token slowest."""
    length, vocab_size = problem.quality.shape[:2]
    check_enumerable(length, vocab_size)
    singles = token_scores(problem)
    return jax.nn.sigmoid(_extended(singles[0], singles[1:], problem.bigram) / length)


def _extended(score: Array, singles: Array, bigram: Array) -> Array:
    """Scores of all ways to go on over the positions of ``singles``, the last token fastest.

    From ``[M * V, *runs]`` and ``[n, V, *runs]`` to ``[M * V ** (n + 1), *runs]``.
    """
    for single in singles:
        before = score.reshape(-1, *single.shape)
        score = (before[:, :, None] + (bigram + single)[None]).reshape(-1, *single.shape[1:])
    return score


def _split(problem: Problem) -> tuple[int, Array, Callable[[Array], Array]]:
    """All sequences, a prefix at a time, so that what is worked on stays in the cache.

    Returns:
        cut: the length of the prefixes, half of the positions.
        prefixes: their indices, 0 to ``V ** cut - 1``, the first token slowest.
        rewards_after: from an index to the rewards of all sequences that begin so,
            ``[V ** (T - cut), *runs]``.
    """
    length, vocab_size = problem.quality.shape[:2]
    check_enumerable(length, vocab_size)
    cut = length // 2
    if cut == 0:
        return cut, jnp.arange(1), lambda index: all_rewards(problem)
    singles = token_scores(problem)
    bigram = jnp.asarray(problem.bigram)
    before = _extended(singles[0], singles[1:cut], bigram)

    def rewards_after(index: Array) -> Array:
        score = before[index] + bigram[index % vocab_size] + singles[cut]
        return jax.nn.sigmoid(_extended(score, singles[cut + 1 :], bigram) / length)

    return cut, jnp.arange(vocab_size**cut), rewards_after


def expectation(value: Array, probs: Array) -> Array:
    """Of ``[V ** n, *runs]`` values under ``probs`` ``[n, V, *runs]``: ``[*runs]``."""
    for t in range(probs.shape[0] - 1, -1, -1):
        value = _contract_last(value, probs[t])
    return value[0]


def conditional(value: Array, probs: Array) -> tuple[Array, Array]:
    """Expectations given each token, ``[n, V, *runs]``, and given none, as ``_expectation``."""
    length, vocab_size = probs.shape[:2]
    given_each = []
    for t in range(length - 1, -1, -1):
        given = value
        for earlier in range(t):
            given = given.reshape(vocab_size, -1, *given.shape[1:])
            given = lanes.total(given * probs[earlier][:, None], 0)
        given_each.append(given)
        value = _contract_last(value, probs[t])
    return jnp.stack(given_each[::-1]) if length else jnp.zeros_like(probs), value[0]


def _contract_last(value: Array, probs: Array) -> Array:
    """Expectation over the fastest token: ``[M * V, *runs]`` to ``[M, *runs]``."""
    return lanes.total(value.reshape(-1, *probs.shape) * probs, 1)


def _chunk_length(vocab_size: int) -> int:
    return max(1, min(GROUP, _TABLE_BITS // token_bits(vocab_size)))


def _take(tables: Array, index: Array, axis: int = 1) -> Array:
    return jnp.take_along_axis(tables, index, axis=axis, mode="promise_in_bounds")
