"""Idiomatic JAX: one run as a scan over steps, batched by ``vmap`` on the leading axis."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.peers.common import CONSTANTS, check, final_values


def prepare(algorithm: str, oracle: str, runs: int) -> Callable[[int], dict[str, np.ndarray]]:
    """See the package."""
    check(algorithm, oracle)

    @jax.jit
    def train_all(first_seed: Array) -> dict[str, Any]:
        keys = jax.vmap(jax.random.key)(first_seed + jnp.arange(runs))
        curves = jax.vmap(partial(_train, algorithm=algorithm, oracle=oracle))(keys)
        return jax.vmap(lambda kept: final_values(*kept))(curves)

    def train(first_seed: int) -> dict[str, np.ndarray]:
        return jax.tree.map(np.asarray, train_all(jnp.asarray(first_seed)))

    train(0)
    return train


def _train(key: Array, algorithm: str, oracle: str) -> tuple[Array, Array, Array]:
    """Curves of reward, credit and entropy, each ``[S]``, of one run."""
    c = CONSTANTS
    keys = jax.random.split(key, 5)
    shape = (c.length, c.vocab_size)
    quality = c.quality_scale * jax.random.normal(keys[0], shape)
    bigram = c.bigram_scale * jax.random.normal(keys[1], (c.vocab_size, c.vocab_size))
    target = jax.random.randint(keys[2], (c.length,), 0, c.vocab_size)
    first_logits = c.init_scale * jax.random.normal(keys[3], shape)
    reference = jax.nn.softmax(first_logits)
    positions = jnp.arange(c.length)

    def reward_of(tokens: Array) -> Array:
        score = quality[positions, tokens].sum() + bigram[tokens[:-1], tokens[1:]].sum()
        score += c.pattern_weight * (tokens == target).sum()
        return jax.nn.sigmoid(score / c.length)

    def step(logits: Array, key: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        policy = jax.nn.softmax(logits)
        tokens = jax.random.categorical(key, logits, shape=(c.rollouts, c.length))
        reward = jax.vmap(reward_of)(tokens)

        if algorithm == "sdpo":
            heard = reward if oracle == "continuous" else (reward > 0.5).astype(reward.dtype)
            shift = c.feedback_strength * heard[:, None, None] * quality
            gradient = policy - jax.nn.softmax(logits + shift).mean(0)
        else:
            advantage = reward - reward.mean()
            score = jax.nn.one_hot(tokens, c.vocab_size) - policy
            gradient = -(advantage[:, None, None] * score).mean(0)

        gradient += c.kl_weight * (policy - reference)
        entropy = -(policy * jnp.log(policy)).sum(-1).mean()
        metrics = reward.mean(), _credit(-gradient, quality), entropy
        return logits - c.learning_rate * gradient, metrics

    _, curves = jax.lax.scan(step, first_logits, jax.random.split(keys[4], c.steps))
    return curves


def _credit(direction: Array, quality: Array) -> Array:
    """Pearson correlation over tokens, mean over positions; 0 where a row has no spread."""
    direction -= direction.mean(-1, keepdims=True)
    quality -= quality.mean(-1, keepdims=True)
    covariance = (direction * quality).sum(-1)
    spread = jnp.sqrt((direction**2).sum(-1) * (quality**2).sum(-1))
    return (covariance / jnp.where(spread > 0, spread, jnp.inf)).mean()
