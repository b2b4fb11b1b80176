"""Pretraining: a network learns to read feedback, over the whole family of problems.

    L = CE(answer | attempts, feedback) + CE(answer)

in nats a token, on examples drawn anew at each step (``world.lessons``). A network's *skill* is the
cross entropy that the context saves on examples that it has not seen: 0 of one that reads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.typing import ArrayLike

from sdpo_jax import losses
from sdpo_jax.engine.checks import finite, integer
from sdpo_jax.in_context.network import Causal, Params
from sdpo_jax.in_context.worlds import KINDS, Lesson, World, asked, lessons

# Of random streams: what is drawn for the first parameters, the examples, the skill.
_INIT, _LESSONS, _SKILL = range(3)


@dataclass(frozen=True)
class Pretraining:
    """How a network is pretrained.

    Attributes:
        checkpoints: after how many steps parameters are kept, ascending; 0 is before the first.
        batch: examples a step.
        learning_rate: of Adam, the largest; it rises over ``warmup`` steps and falls as a cosine.
        warmup: steps.
        noise: standard deviation of the oracles' noise on the reward.
        hint_noise: standard deviation of a critic's errors.
        informed: how many of the attempts are informed; see ``world.lessons``.
        examples: on which skill is measured, for each kind of feedback.
    """

    checkpoints: tuple[int, ...] = (0, 250, 500, 1000, 2000, 4000)
    batch: int = 128
    learning_rate: float = 3e-3
    warmup: int = 100
    noise: float = 0.1
    hint_noise: float = 0.45
    informed: float = 0.5
    examples: int = 2048

    def __post_init__(self) -> None:
        for name in ("batch", "warmup", "examples"):
            integer(name, getattr(self, name), 1)
        steps = [integer("checkpoints", each, 0) for each in self.checkpoints]
        if not steps or steps != sorted(set(steps)):
            raise ValueError(f"checkpoints: {self.checkpoints}; allowed: ascending, one or more")
        for name in ("learning_rate", "noise", "hint_noise", "informed"):
            value = float(finite(name, getattr(self, name)))
            most = 1.0 if name == "informed" else float("inf")
            if not 0 <= value <= most:
                allowed = "0 to 1" if name == "informed" else "0 or more"
                raise ValueError(f"{name}: {value:g}; allowed: {allowed}")


class Pretrained(NamedTuple):
    """A network along its pretraining.

    Attributes:
        params: of each checkpoint, in front of every array: ``[K, ...]``.
        skill: ``[K, kinds]``, nats a token that the context saves, by ``KINDS``.
        without: ``[K]``, nats a token of an answer without context.
        loss: ``[K]``, L on the last batch before each checkpoint; NaN where there was none.
    """

    params: Params
    skill: Array
    without: Array
    loss: Array


def pretrain(
    network: Causal, world: World, plan: Pretraining, seed: ArrayLike, init: Params = None
) -> Pretrained:
    """Pretrain a network; pure, so that ``jit`` and ``vmap`` over seeds are the caller's.

    Args:
        network: what learns.
        world: sizes.
        plan: how.
        seed: an integer, or a typed key. The same seed gives the same network.
        init: parameters to begin from; the network's own by default.
    """
    key = _key(seed)
    keys = [jax.random.fold_in(key, each) for each in (_INIT, _LESSONS, _SKILL)]
    total = max(plan.checkpoints)
    optimizer = optax.adam(
        optax.warmup_cosine_decay_schedule(
            0.0, plan.learning_rate, min(plan.warmup, max(total - 1, 1)), max(total, 2)
        )
    )

    def step(index: Array, state: tuple[Any, Any, Array]) -> tuple[Any, Any, Array]:
        params, memory, _ = state
        lesson = lessons(
            world,
            jax.random.fold_in(keys[1], index),
            plan.batch,
            noise=plan.noise,
            hint_noise=plan.hint_noise,
            informed=plan.informed,
        )

        def loss(params: Params) -> Array:
            return sum(
                cross_entropy(network, world, params, lesson, context).mean()
                for context in (True, False)
            )  # pyright: ignore[reportReturnType]

        value, gradient = jax.value_and_grad(loss)(params)
        updates, memory = optimizer.update(gradient, memory)
        return optax.apply_updates(params, updates), memory, value

    def to_checkpoint(state: Any, ends: tuple[Array, Array]) -> tuple[Any, tuple[Params, Array]]:
        state = lax.fori_loop(ends[0], ends[1], step, state)
        return state, (state[0], state[2])

    params = network.init(keys[0]) if init is None else init
    state = params, optimizer.init(params), jnp.float32(jnp.nan)
    stops = jnp.asarray(plan.checkpoints)
    starts = jnp.concatenate((jnp.zeros(1, stops.dtype), stops[:-1]))
    _, (kept, loss) = lax.scan(to_checkpoint, state, (starts, stops))
    saved, without = lax.map(lambda params: skill(network, world, plan, params, keys[2]), kept)
    return Pretrained(kept, saved, without, loss)


def skill(
    network: Causal, world: World, plan: Pretraining, params: Params, key: ArrayLike
) -> tuple[Array, Array]:
    """What a context saves of the cross entropy of a good answer, in nats a token.

    Returns:
        saved: ``[kinds]``, by ``KINDS``.
        without: what the answer costs without a context.
    """
    wanted = jnp.repeat(jnp.arange(len(KINDS)), plan.examples)
    lesson = lessons(
        world,
        _key(key),
        len(wanted),
        noise=plan.noise,
        hint_noise=plan.hint_noise,
        informed=plan.informed,
        kind=wanted,
    )
    having, without = (
        cross_entropy(network, world, params, lesson, context).mean(1) for context in (True, False)
    )
    return (without - having).reshape(len(KINDS), -1).mean(1), without.mean()


def skill_of(skills: Array, names: Sequence[str]) -> Array:
    """Columns of ``Pretrained.skill`` by name."""
    return jnp.stack([skills[..., KINDS.index(name)] for name in names], axis=-1)


def cross_entropy(
    network: Causal, world: World, params: Params, lesson: Lesson, context: bool
) -> Array:
    """Nats ``[B, T]`` of an example's answer, with its context or without."""
    ids, places = asked(world, lesson.answer), world.answer_places
    if context:
        ids = jnp.concatenate((lesson.context, ids))
        places = jnp.concatenate((world.context_places, places))
    logits = network.read(params, ids, places, world.length)
    return -losses.token_log_probs(logits, lesson.answer.T)


def _key(seed: ArrayLike) -> Array:
    """A typed key from an integer, or as it is."""
    given: Any = jnp.asarray(seed)
    return given if jnp.issubdtype(given.dtype, jax.dtypes.prng_key) else jax.random.key(given)
