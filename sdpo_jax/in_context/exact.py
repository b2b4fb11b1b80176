"""What is exact of a network on a small world, by enumerating all V ** T answers.

    E[R] = sum_s p(s) R(s),   A(s_<t, v) = E[R | s_<t, v] - E[R | s_<t]

At a context the gradient of E[R] in the logits is ``p(s_<t) p(v | s_<t) A(s_<t, v)``. The *exact
credit* of a method's direction is its correlation over tokens with ``p(v | s_<t) A(s_<t, v)``, mean
over the contexts that the rollouts visited; its *alignment* is the cosine, in the parameters,
between its step and the gradient of E[R].
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from sdpo_jax import credit_correlation, policies, problems
from sdpo_jax.in_context.network import Causal, Params
from sdpo_jax.in_context.train import Lab, Run, Setting, State, read
from sdpo_jax.in_context.worlds import World


def all_answers(world: World) -> np.ndarray:
    """Every answer, ``[T, V ** T]``, the first token slowest.

    Raises:
        ValueError: there are more than the exact expectations enumerate.
    """
    problems.check_enumerable(world.length, world.vocab_size)
    index = np.arange(world.vocab_size**world.length)
    powers = world.vocab_size ** np.arange(world.length)[::-1]
    return (index // powers[:, None] % world.vocab_size).astype(np.int32)


def conditionals(network: Causal, world: World, params: Params) -> list[Array]:
    """The student's probabilities after every prefix, ``[V ** t, V]`` for each position."""
    logits = read(network, world, params, jnp.asarray(all_answers(world)), None)
    probs = jax.nn.softmax(logits)
    size = world.vocab_size
    # The first answer of each prefix.
    return [probs[:: size ** (world.length - t), t] for t in range(world.length)]


def answer_probs(network: Causal, world: World, params: Params) -> Array:
    """The probability of every answer, ``[V ** T]``, summing to 1."""
    total = jnp.ones(1)
    for conditional in conditionals(network, world, params):
        total = (total[:, None] * conditional).reshape(-1)
    return total


def expected_reward(network: Causal, world: World, params: Params, problem: Any) -> Array:
    """``E[R]`` of a student; differentiable in the parameters."""
    rewards = problems.all_rewards(problem)
    return policies.prefix_values(rewards, conditionals(network, world, params))[0][0]


def credit(
    lab: Lab, first: Params, student: Params, seed: ArrayLike, setting: Setting, index: ArrayLike
) -> dict[str, Array]:
    """How a method's direction on one batch agrees with the gradient of the expected reward.

    Args:
        lab: sizes, network and method; a world small enough to enumerate.
        first: the first network's parameters.
        student: those at which the direction is asked for; an averaged teacher has the same.
        seed: as for ``train``.
        setting: as for ``train``; the learning rate does not matter.
        index: of the step whose random numbers are used.

    Returns:
        ``credit`` and ``alignment``, each from -1 to 1; 0 of a direction that is nothing.

    Raises:
        ValueError: too large a world, or a method that learns a reward, which has none yet.
    """
    if lab.method.learns_reward:
        raise ValueError(f"method: {lab.method.name}; allowed: one that learns no reward")
    network, world = lab.network, lab.world
    run = Run(lab, first, seed, setting)
    batch, _, _ = run.batch(State(student, student, None, None), jnp.asarray(index))
    tokens = batch.tokens.T
    logits = run.logits(student, tokens)
    numbers = run.numbers
    in_logits = -jax.grad(lambda logits: lab.method.loss(logits, batch, numbers))(logits)
    rewards = problems.all_rewards(run.problem)
    advantage = policies.advantages_at(rewards, conditionals(network, world, student), tokens)
    worth = jnp.moveaxis(jax.nn.softmax(logits), 0, -1) * advantage
    direction = jnp.moveaxis(in_logits, 0, -1)
    step = jax.grad(lambda params: -run.loss(params, batch))(student)
    wanted = jax.grad(lambda params: expected_reward(network, world, params, run.problem))(student)
    one, other = ravel_pytree(step)[0], ravel_pytree(wanted)[0]
    size = jnp.linalg.norm(one) * jnp.linalg.norm(other)
    return {
        "credit": credit_correlation(direction, worth).mean(),
        "alignment": jnp.where(size > 0, one @ other / jnp.where(size > 0, size, 1.0), 0.0),
    }
