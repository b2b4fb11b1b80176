"""Self-distillation as SDPO's authors run it: a divergence, a teacher, perhaps the top k tokens.

    g = mean over lessons of grad D(S, Q_k),   Q_k = softmax(base + beta f_k c)

Huebotter et al. (2601.20802). D is the forward KL ``KL(Q || S)``, the reverse KL ``KL(S || Q)`` or
the generalised Jensen-Shannon divergence (``sdpo_jax.divergence``). The teacher's base is

    live           the student's logits l
    EMA            theta <- (1 - r) theta + r l,   from l_0 (r is ``teacher_rate``)
    trust region   l_0 + trust (l - l_0)

With the forward KL and a live teacher it is Eq. 3 (``sdpo``), but for the mask: rollouts whose
feedback is 0 teach nothing and do not count (``sdpo_jax.lessons``). The original teacher reads the
feedback as text; here, as in the paper at hand, it is shown the table c, as strongly as f says.
``sdpo_jsd_ema_top_k`` is the authors' default: JSD of a = 1/2, EMA, top k and a tail bucket.
A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

from collections.abc import Callable

from jax import Array

from sdpo_jax import divergence as divergences
from sdpo_jax import lanes
from sdpo_jax import lessons as lesson_plans
from sdpo_jax import teacher as teachers
from sdpo_jax.algorithms.base import Algorithm, Stateful, Update
from sdpo_jax.config import Config, Sizes
from sdpo_jax.divergence import Divergence
from sdpo_jax.lanes import NO_FENCE, Fence
from sdpo_jax.lessons import Lessons
from sdpo_jax.policy import Policy


def pull(
    divergence: Divergence,
    policy: Policy,
    base: Array,
    lessons: Lessons,
    config: Config,
    top_k: int | None = None,
    fence: Fence = NO_FENCE,
) -> Array:
    """The mean over lessons of the gradient towards ``softmax(base + shift)``, ``[T, V, *runs]``.

    Args:
        divergence: one of ``divergence.DIVERGENCES``.
        policy: the student.
        base: ``[T, V, *runs]``, the teacher's logits before any lesson.
        lessons: what it is shown.
        config: holds a of the JSD.
        top_k: how many tokens are told apart; all of them by default.
        fence: of this step.
    """
    student = (policy.logits - policy.log_normalizer[:, None])[:, :, None]
    lag = (base - policy.logits)[:, :, None]
    mix, count = config.divergence_mix, student.shape[1] if top_k is None else top_k

    def towards(lessons: Lessons) -> Array:
        shift = fence(lambda: lag + lessons.shift)
        gradient = fence(lambda: divergences.top_k(divergence, student, shift, mix, count))
        return lesson_plans.mean_of(gradient, lessons.weights, 2)

    gradient, of_each = towards(lessons), lessons.of_each
    if of_each is None:
        return gradient
    # The first of Chebyshev's nodes is the one with the largest feedback.
    steep = teachers.too_steep(lessons.shift[:, :, :1], lessons.shift.shape[2])
    return lanes.where_any(steep, lambda: towards(of_each()), gradient)


def _live(divergence: Divergence) -> Callable[..., Update]:
    def algorithm(
        *, policy: Policy, lessons: Lessons, config: Config, fence: Fence = NO_FENCE
    ) -> Update:
        return Update(pull(divergence, policy, policy.logits, lessons, config, fence=fence))

    return algorithm


def _trust_region(divergence: Divergence) -> Callable[..., Update]:
    def algorithm(
        *,
        policy: Policy,
        reference: Policy,
        lessons: Lessons,
        config: Config,
        fence: Fence = NO_FENCE,
    ) -> Update:
        base = reference.logits + config.trust * (policy.logits - reference.logits)
        return Update(pull(divergence, policy, base, lessons, config, fence=fence))

    return algorithm


def first_average(*, policy: Policy) -> Array:
    """The averaged teacher before step 0: the first policy's logits."""
    return policy.logits


def average(memory: Array, policy: Policy, config: Config) -> Array:
    """``theta <- (1 - r) theta + r l``; the live teacher at r = 1, the first policy at r = 0."""
    rate = config.teacher_rate
    return (1 - rate) * memory + rate * policy.logits


def _ema(name: str, divergence: Divergence) -> Algorithm:
    def update(
        *,
        policy: Policy,
        lessons: Lessons,
        memory: Array,
        config: Config,
        fence: Fence = NO_FENCE,
    ) -> Update:
        base = fence(lambda: average(memory, policy, config))
        gradient = pull(divergence, policy, base, lessons, config, fence=fence)
        return Update(gradient, memory=base)

    return Stateful(name, first_average, update)


def _ema_top_k(name: str, divergence: Divergence) -> Algorithm:
    def update(
        *,
        policy: Policy,
        lessons: Lessons,
        memory: Array,
        sizes: Sizes,
        config: Config,
        fence: Fence = NO_FENCE,
    ) -> Update:
        base = fence(lambda: average(memory, policy, config))
        gradient = pull(divergence, policy, base, lessons, config, sizes.top_k, fence)
        return Update(gradient, memory=base)

    return Stateful(name, first_average, update)


def _named(name: str, algorithm: Callable[..., Update]) -> Algorithm:
    algorithm.__name__ = name
    return algorithm


SELF_DISTILLATION: dict[str, Algorithm] = {
    **{
        f"sdpo_{name}": _named(f"sdpo_{name}", _live(divergence))
        for name, divergence in divergences.DIVERGENCES.items()
    },
    **{
        f"sdpo_{name}_trust": _named(f"sdpo_{name}_trust", _trust_region(divergence))
        for name, divergence in divergences.DIVERGENCES.items()
    },
    **{
        f"sdpo_{name}_ema": _ema(f"sdpo_{name}_ema", divergence)
        for name, divergence in divergences.DIVERGENCES.items()
    },
    "sdpo_jsd_ema_top_k": _ema_top_k("sdpo_jsd_ema_top_k", divergences.jensen_shannon),
}
