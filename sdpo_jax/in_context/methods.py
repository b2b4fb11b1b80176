"""Methods of post-training, each a loss of the student's logits, built from ``sdpo_jax.losses``.

    loss(student [N, T, V], batch, numbers) -> a number

What a method is told is its ``told``: a score a rollout, as a number; the same feedback, read in
context by a network that was pretrained on the family; or the solution. Only those that are told
the same are compared. The teachers are ways to read and to put together what was read:

    live           theta, with the context
    ema            an average of theta, with the context
    frozen         the first parameters, with the context
    trust          between the first and theta, both with the context, in logits
    composed       theta, without + strength (first with - first without), in logits
    composed_live  theta, without + strength (theta with - theta without), in logits

At strength 1 the last is ``live``. The composed teacher follows Bayes' rule,
``p(v | f) ~ p(v) p(f | v)``: the student is the prior, and the likelihood is what the first network
has learned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from sdpo_jax import losses

SCORE = "score"
READ = "feedback, read in context"
SOLUTION = "solution"


class Batch(NamedTuple):
    """What a loss may read, without gradients.

    Attributes:
        tokens: ``[N, T]``, the rollouts.
        feedback: ``[N]``, their scores.
        old: ``[N, T]``, log probabilities when they were sampled; ``None`` where these are those of
            now, as in the first step on a batch.
        first: ``[N, T]``, log probabilities of the first network; ``None`` if not asked for.
        teacher: ``[N, T, V]``, logits; ``None`` without a teacher.
        predicted: ``[N]``, a learned reward; ``None`` if none is learned.
    """

    tokens: Array
    feedback: Array
    old: Array | None = None
    first: Array | None = None
    teacher: Array | None = None
    predicted: Array | None = None


Numbers = Mapping[str, Any]
Loss = Callable[[Array, Batch, Numbers], Array]


@dataclass(frozen=True)
class Teacher:
    """A teacher: whose logits it needs, and how they are put together.

    Attributes:
        streams: pairs of whose parameters (``"student"``, ``"first"``, ``"average"``) and whether
            they read the context.
        combine: from their logits ``[..., V]`` and the numbers to the teacher's.
    """

    streams: tuple[tuple[str, bool], ...]
    combine: Callable[[Sequence[Array], Numbers], Array]


def _alone(logits: Sequence[Array], numbers: Numbers) -> Array:
    return losses.frozen(logits[0])


def _between(logits: Sequence[Array], numbers: Numbers) -> Array:
    return losses.trust_region(logits[0], logits[1], trust=numbers["trust"])


def _composed(logits: Sequence[Array], numbers: Numbers) -> Array:
    own, having, without = logits[0], logits[1], logits[-1]
    return losses.composed(own, having, without, strength=numbers["strength"])


TEACHERS = {
    "live": Teacher((("student", True),), _alone),
    "ema": Teacher((("average", True),), _alone),
    "frozen": Teacher((("first", True),), _alone),
    "trust": Teacher((("student", True), ("first", True)), _between),
    "composed": Teacher((("student", False), ("first", True), ("first", False)), _composed),
    "composed_live": Teacher((("student", False), ("student", True)), lambda logits, numbers: (
        _composed((*logits, logits[0]), numbers)
    )),
}  # fmt: skip

# Every number of any method and what it is by default.
NUMBERS = {
    "strength": 1.0,
    "trust": 0.5,
    "teacher_rate": 0.05,
    "mix": 0.5,
    "weight": 0.5,
    "clip": 0.2,
    "dpo_strength": 0.1,
    "model_rate": 0.1,
}


@dataclass(frozen=True)
class Method:
    """A method of post-training.

    Attributes:
        name: in tables.
        label: for readers.
        told: the group that it may be compared in.
        loss: see ``Loss``.
        teacher: a name in ``TEACHERS``, or ``None``.
        context: what a teacher reads: ``"feedback"`` on each rollout, the best rollout of the step
            by its feedback as a ``"demonstration"``, or the ``"solution"``.
        numbers: the names of those it has, all in ``NUMBERS``.
        epochs: steps on each batch.
        asks_first: whether the loss reads ``Batch.first``.
        learns_reward: whether it reads ``Batch.predicted``.
    """

    name: str
    label: str
    told: str
    loss: Loss = field(repr=False)
    teacher: str | None = None
    context: str = "feedback"
    numbers: tuple[str, ...] = ()
    epochs: int = 1
    asks_first: bool = False
    learns_reward: bool = False

    def __post_init__(self) -> None:
        if self.teacher is not None and self.teacher not in TEACHERS:
            raise ValueError(f"teacher: {self.teacher!r}; allowed: {', '.join(TEACHERS)}")
        if self.context not in ("feedback", "demonstration", "solution"):
            raise ValueError(
                f"context: {self.context!r}; allowed: feedback, demonstration, solution"
            )
        for name in self.numbers:
            if name not in NUMBERS:
                raise ValueError(f"numbers: {name!r}; allowed: {', '.join(NUMBERS)}")


def _log_probs(student: Array, batch: Batch) -> Array:
    return losses.token_log_probs(student, batch.tokens)


def _ratio(student: Array, batch: Batch, advantages: Array, clip: Any = 0.2) -> Array:
    now = _log_probs(student, batch)
    old = now if batch.old is None else batch.old
    return losses.clipped_ratio(now, old, advantages, clip=clip)


def reinforce(student: Array, batch: Batch, numbers: Numbers) -> Array:
    """``-f log pi``: the score itself is the advantage (Williams 1992)."""
    return losses.token_mean(losses.reinforce(_log_probs(student, batch), batch.feedback))


def rloo(student: Array, batch: Batch, numbers: Numbers) -> Array:
    """``losses.leave_one_out`` (2402.14740)."""
    advantages = losses.leave_one_out(batch.feedback)
    return losses.token_mean(losses.reinforce(_log_probs(student, batch), advantages))


def grpo(student: Array, batch: Batch, numbers: Numbers) -> Array:
    """``losses.group_normalised`` in PPO's ratio, a mean over each sequence (2402.03300)."""
    advantages = losses.group_normalised(batch.feedback)
    return losses.sequence_mean(_ratio(student, batch, advantages))


def dr_grpo(student: Array, batch: Batch, numbers: Numbers) -> Array:
    """``losses.centred``, over a fixed length (2503.20783)."""
    advantages = losses.centred(batch.feedback)
    values = _ratio(student, batch, advantages)
    return losses.fixed_length(values, length=float(values.shape[-1]))


def ppo(student: Array, batch: Batch, numbers: Numbers) -> Array:
    """Several steps a batch, each within the ``clip`` of the first (1707.06347), no critic."""
    advantages = losses.centred(batch.feedback)
    return losses.token_mean(_ratio(student, batch, advantages, numbers["clip"]))


def dpo(student: Array, batch: Batch, numbers: Numbers) -> Array:
    """Rollout i against i + N/2, the better by its score; equal scores teach nothing.

    Online: the pairs are of this step (2305.18290, Eq. 7; 2402.04792).
    """
    assert batch.first is not None
    half = len(batch.feedback) // 2
    both = (slice(half), slice(half, 2 * half))
    now, before = (each.sum(-1) for each in (_log_probs(student, batch), batch.first))
    better, other = (batch.feedback[each] for each in both)

    def ordered(values: Array) -> tuple[Array, Array]:
        one, two = (values[each] for each in both)
        return jnp.where(better > other, one, two), jnp.where(better > other, two, one)

    decided = better != other
    chosen, rejected = ordered(now)
    reference_chosen, reference_rejected = ordered(before)
    values = losses.dpo(
        chosen,
        rejected,
        reference_chosen=reference_chosen,
        reference_rejected=reference_rejected,
        strength=numbers["dpo_strength"],
        where=decided,
    )
    return values.sum() / jnp.maximum(decided.sum(), 1)


def rlhf(student: Array, batch: Batch, numbers: Numbers) -> Array:
    """RLOO of a reward that is learned from which rollout scored more (2203.02155)."""
    assert batch.predicted is not None
    return rloo(student, batch._replace(feedback=batch.predicted), numbers)


def distilled(student: Array, batch: Batch, numbers: Numbers, *, divergence: str) -> Array:
    """The divergence from a teacher along the student's own rollouts (2601.20802)."""
    assert batch.teacher is not None
    values = losses.distillation(
        student, batch.teacher, divergence=divergence, mix=numbers.get("mix", 0.5)
    )
    return losses.token_mean(values)


def mixed(student: Array, batch: Batch, numbers: Numbers, *, divergence: str) -> Array:
    """``weight`` of distillation and the rest of GRPO."""
    teaching = distilled(student, batch, numbers, divergence=divergence)
    return losses.hybrid(teaching, grpo(student, batch, numbers), weight=numbers["weight"])


def _sdpo(teacher: str, divergence: str = "forward_kl", **more: Any) -> Method:
    short = {"forward_kl": "forward", "reverse_kl": "reverse", "jsd": "JSD"}[divergence]
    words = {
        "live": "live",
        "ema": "EMA",
        "frozen": "frozen",
        "trust": "trust region",
        "composed": "composed",
        "composed_live": "composed, own reading",
    }
    own = {
        "ema": ("teacher_rate",),
        "trust": ("trust",),
        "composed": ("strength",),
        "composed_live": ("strength",),
    }
    return Method(
        name=f"sdpo_{teacher}_{short.lower()}",
        label=f"SDPO, {words[teacher]}, {short}",
        told=READ,
        loss=partial(distilled, divergence=divergence),
        teacher=teacher,
        numbers=own.get(teacher, ()),
        **more,
    )


METHODS = {
    method.name: method
    for method in (
        Method("reinforce", "REINFORCE", SCORE, reinforce),
        Method("rloo", "RLOO", SCORE, rloo),
        Method("grpo", "GRPO", SCORE, grpo),
        Method("dr_grpo", "Dr. GRPO", SCORE, dr_grpo),
        Method("ppo", "PPO, 4 epochs", SCORE, ppo, numbers=("clip",), epochs=4),
        Method("dpo", "DPO, online", SCORE, dpo, numbers=("dpo_strength",), asks_first=True),
        Method(
            "rlhf", "RLHF, learned reward", SCORE, rlhf, numbers=("model_rate",), learns_reward=True
        ),
        *(_sdpo(teacher, divergence) for teacher in TEACHERS for divergence in losses.DIVERGENCES),
        Method(
            "grpo_sdpo",
            "GRPO and SDPO, composed",
            READ,
            partial(mixed, divergence="forward_kl"),
            teacher="composed",
            numbers=("strength", "weight"),
        ),
        Method(
            "grpo_sdpo_live",
            "GRPO and SDPO, live",
            READ,
            partial(mixed, divergence="forward_kl"),
            teacher="live",
            numbers=("weight",),
        ),
        Method(
            "sdft",
            "SDFT, own best rollout",
            READ,
            partial(distilled, divergence="forward_kl"),
            teacher="live",
            context="demonstration",
        ),
        Method(
            "sdft_composed",
            "SDFT, own best rollout, composed",
            READ,
            partial(distilled, divergence="forward_kl"),
            teacher="composed",
            context="demonstration",
            numbers=("strength",),
        ),
        Method(
            "opsd",
            "OPSD, sees the solution",
            SOLUTION,
            partial(distilled, divergence="forward_kl"),
            teacher="live",
            context="solution",
        ),
    )
}
