"""Every batch that can occur on a small asymmetric problem, so that expectations are sums."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdpo_jax
from sdpo_jax import Config, Sizes, Update, policies, teachers
from sdpo_jax.algorithm import chosen, numbers_of, what_is_told, what_is_told_at_first
from sdpo_jax.config import CONFIG_FIELDS
from sdpo_jax.engine import streams
from sdpo_jax.program import algorithm_of
from sdpo_jax.teachers import lessons
from tests import reference
from tests.every_number import FIELDS

BETA = 2.0
# Where the weight of the hybrid is far from 0 and from 1.
TAU = 0.4
ROLLOUTS = 2
# T and V.
SHAPES = [(2, 3), pytest.param((3, 2), marks=pytest.mark.slow)]


class Case:
    """An asymmetric problem and every batch of two rollouts, batches in the runs' place."""

    def __init__(self, length: int, vocab_size: int):
        draw = np.random.default_rng(10 * length + vocab_size)
        shape = (length, vocab_size)
        self.problem = reference.Problem(
            quality=draw.normal(0, 1.5, shape),
            bigram=draw.normal(0, 1.0, (vocab_size, vocab_size)),
            target=draw.integers(0, vocab_size, length),
            pattern_weight=0.7,
        )
        # A table that is not q, so that an algorithm which takes one for the other is seen.
        self.table = draw.normal(0, 1.5, shape)
        self.logits = draw.normal(0, 1.0, shape)
        # A first policy that is not the one at hand.
        self.first_logits = draw.normal(0, 1.0, shape)
        self.probs = reference.softmax(self.logits)
        self.sequences = list(reference.all_sequences(self.problem))
        self.probability = np.array(
            [np.prod([self.probs[t, v] for t, v in enumerate(s)]) for s in self.sequences]
        )
        self.rewards = np.array([reference.reward(self.problem, s) for s in self.sequences])
        self.pairs = list(itertools.product(range(len(self.sequences)), repeat=ROLLOUTS))
        self.batch_probability = np.array([np.prod(self.probability[list(p)]) for p in self.pairs])
        self.batches = np.array([[self.sequences[i] for i in pair] for pair in self.pairs])
        self.tokens = jnp.asarray(self.batches.transpose(2, 1, 0))
        self.sizes = Sizes(length=length, vocab_size=vocab_size, rollouts=ROLLOUTS)

    def spread(self, array: Any) -> jax.Array:
        """The same for every batch."""
        runs = self.tokens.shape[-1]
        return jnp.repeat(jnp.asarray(array, jnp.float32)[..., None], runs, axis=-1)

    def update(
        self,
        algorithm: str,
        oracle: sdpo_jax.Oracle | None = None,
        *,
        divergence: float | None = None,
        memory: Any = None,
        step: int = 0,
        sizes: Sizes | None = None,
        knowledge: Any = None,
        **numbers: float,
    ) -> Update:
        """The algorithm's update for each batch.

        ``memory`` is that of ``init`` unless given; ``divergence`` replaces the teacher's.
        """
        function = algorithm_of(algorithm)
        own = {name: each.default for name, each in numbers_of(function).items()}
        own |= {"hybrid_threshold": TAU} if "hybrid_threshold" in own else {}
        own |= {name: value for name, value in numbers.items() if name in own}
        shared = {name: value for name, value in numbers.items() if name in CONFIG_FIELDS}
        assert numbers.keys() <= set(FIELDS)
        given = {
            "oracle": sdpo_jax.continuous() if oracle is None else oracle,
            "own": own,
            "config": replace(Config(feedback_strength=BETA, hint_noise=0.0), **shared),
            "divergence": divergence,
            "memory": memory,
            "step": jnp.int32(step),
            "knowledge": self.table if knowledge is None else knowledge,
            "logits": self.logits,
            "first_logits": self.first_logits,
        }
        # Whatever is a number is traced, so that a call with others compiles nothing.
        given = jax.tree.map(lambda leaf: jnp.asarray(leaf), given)
        return self._updates(function, self.sizes if sizes is None else sizes)(given)

    @lru_cache(256)  # noqa: B019 (a case lives as long as the tests)
    def _updates(self, function: Any, sizes: Sizes) -> Any:
        """The compiled update of an algorithm."""
        return jax.jit(partial(self._update, function, sizes))

    def _update(self, function: Any, sizes: Sizes, given: dict[str, Any]) -> Update:
        oracle, config = given["oracle"], given["config"]
        divergence, memory, step = (given[name] for name in ("divergence", "memory", "step"))
        runs = self.tokens.shape[-1]
        spread = self.spread
        problem = sdpo_jax.Problem(
            spread(self.problem.quality),
            spread(self.problem.bigram),
            jnp.repeat(jnp.asarray(self.problem.target)[:, None], runs, axis=-1),
            spread(np.float32(self.problem.pattern_weight)),
        )
        policy = policies.policy(spread(given["logits"]))
        table = spread(given["knowledge"])
        reward = sdpo_jax.reward(problem, self.tokens)
        feedback = sdpo_jax.feedback(oracle, reward)
        strength = jnp.full(runs, config.feedback_strength)
        levels = teachers.prepare(oracle, strength, table, nodes=16, each=True)
        key = streams.stream(jnp.arange(runs), streams.Stream.HINTS)
        heard = (self.tokens, reward, feedback, key, 0)
        taught = teachers.teach(oracle, levels, config, table, policy, *heard)
        if divergence is not None:
            taught = taught._replace(divergence=jnp.full(runs, divergence))
        told = {
            "policy": policy,
            "params": policy.logits,
            "read": lambda params, tokens=None: params,
            "runs": (runs,),
            "contexts": 1,
            "reference": policies.policy(spread(given["first_logits"])),
            "tokens": self.tokens,
            "signal": reward,
            "feedback": feedback,
            "teacher": taught,
            "lessons": lessons.lessons_of(oracle, levels, config, table, *heard),
            "knowledge": table,
            "panel": jnp.stack([table, -0.5 * table, table[::-1]]),
            "problem": problem,
            "solution": sdpo_jax.best_sequence(problem)[0],
            "key": streams.stream(jnp.arange(runs), streams.Stream.ALGORITHM),
            "step": step,
            "sizes": sizes,
            "config": config,
        }
        first = {**told, "policy": told["reference"], "params": told["reference"].logits}
        own = given["own"]
        names = what_is_told_at_first(function)
        if memory is None:
            own_at_first = chosen(function.init, own)
            memory = function.init(**{name: first[name] for name in names}, **own_at_first)
        told["memory"] = memory
        names = what_is_told(function)
        return function.update(
            **{name: told[name] for name in names}, **chosen(function.update, own)
        )

    def ours(self, algorithm: str, oracle: sdpo_jax.Oracle | None = None, **options: Any):
        """The algorithm's gradient for each batch, ``[T, V, batches]``."""
        return np.asarray(self.update(algorithm, oracle, **options).gradient, np.float64)

    def expected(self, gradients: np.ndarray) -> np.ndarray:
        """The mean over batches, as often as each occurs."""
        return gradients @ self.batch_probability

    def teachers(self, oracle: reference.Oracle) -> list[np.ndarray]:
        """The teacher of each sequence, ``[T, V]``, from feedback without noise."""
        return [
            reference.softmax(self.logits + BETA * oracle.says(reward) * self.table)
            for reward in self.rewards
        ]

    def scores(self, sequence: tuple[int, ...]) -> np.ndarray:
        """``onehot(s_t) - pi_t``, ``[T, V]``."""
        return np.eye(self.probs.shape[1])[list(sequence)] - self.probs


# Sums of up to 81 float32 gradients of size 0.01 to 1, whose weights sum to 1.
TOLERANCE = {"rtol": 1e-5, "atol": 2e-7}
