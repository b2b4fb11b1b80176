"""Self-distillation as SDPO's authors run it: a divergence, a teacher, perhaps the top k tokens.

    g = mean over lessons of grad D(S, Q_k),   Q_k = softmax(base + beta f_k c)

Huebotter et al. (2601.20802). D is the forward KL ``KL(Q || S)``, the reverse KL ``KL(S || Q)`` or
the generalised Jensen-Shannon divergence (``sdpo_jax.teachers.divergences``). The teacher's base is

    live           the student's logits l
    EMA            theta <- (1 - r) theta + r l,   from l_0 (r is ``teacher_rate``)
    trust region   l_0 + trust (l - l_0)

With the forward KL and a live teacher it is Eq. 3 (``sdpo``), but for the mask: rollouts whose
feedback is 0 teach nothing and do not count (``sdpo_jax.teachers.lessons``). The original teacher
reads the feedback as text; here, as in the paper at hand, it is shown the table c, as strongly as f
says.
``sdpo_jsd_ema_top_k`` is the authors' default: JSD of a = 1/2, EMA, top k and a tail bucket.
A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax import teachers
from sdpo_jax.algorithm import Algorithm, Update, no_memory
from sdpo_jax.algorithms.numbers import Mix, TeacherRate
from sdpo_jax.config import Sizes
from sdpo_jax.engine import meshes
from sdpo_jax.engine.materialise import boundaries, materialise, where_any
from sdpo_jax.engine.own_numbers import Number
from sdpo_jax.policies import Policy
from sdpo_jax.teachers import divergences
from sdpo_jax.teachers.divergences import Divergence, Shift
from sdpo_jax.teachers.lessons import Lessons


def pull(
    divergence: Divergence,
    policy: Policy,
    base: Array,
    lessons: Lessons,
    mix: ArrayLike = 0.5,
    top_k: int | None = None,
) -> Array:
    """The mean over lessons of the gradient towards ``softmax(base + shift)``, ``[T, V, *runs]``.

    Args:
        divergence: one of ``divergence.DIVERGENCES``.
        policy: the student.
        base: ``[T, V, *runs]``, the teacher's logits before any lesson.
        lessons: what it is shown.
        mix: a of the JSD.
        top_k: how many tokens are told apart; all of them by default.
    """
    student = divergences.student_of(policy)
    lag = None if base is policy.logits else materialise(lambda: base - policy.logits)
    count = policy.logits.shape[1] if top_k is None else top_k
    divergence = divergences.top_k(divergence, student, count)
    nothing = jnp.zeros_like(policy.logits), jnp.zeros_like(policy.logits[:, :1])
    nothing = meshes.shared(nothing, (policy.logits, base, lessons.weights, lessons.shift, mix))

    if policy.logits.ndim == lessons.shift.ndim:
        # Where each rollout has contexts of its own, its lesson is for those.
        towards = partial(divergence, student, _behind(lag, lessons.shift), mix)
        return materialise(towards) * (lessons.weights.shape[0] * lessons.weights)

    shifts = _shifts(student, lag, lessons)

    def near(place: Array) -> tuple[Array, ArrayLike]:
        shift = shifts(place)
        return materialise(lambda: divergence.near(student, shift, mix)), shift.reach

    gradient, reach = _mean(lessons.weights, near, nothing)
    beyond, every = reach > divergences.FAR, lessons.of_each
    if every is not None:
        # The first of Chebyshev's nodes is the one with the largest feedback.
        steep = teachers.too_steep(lessons.shift[:, :, :1], lessons.shift.shape[2])
        # Nodes that are not reach less far than what is near.
        beyond = steep if lag is None else steep | beyond

    def anywhere() -> Array:
        of = lessons if every is None else every()

        def far(place: Array) -> tuple[Array, ArrayLike]:
            shift = _behind(lag, _at(place, of.shift))
            return materialise(lambda: divergence.far(student, shift, mix)), 0.0

        return _mean(of.weights, far, nothing)[0]

    return where_any(beyond, anywhere, gradient, costly=every is not None)


def _shifts(
    student: divergences.Student, lag: Array | None, lessons: Lessons
) -> Callable[[Array], Shift]:
    """From the place of a lesson to its shift, from a base that is shifted by ``lag`` itself."""
    prepared = lessons.prepared
    if prepared is not None and prepared.shift is not lessons.shift:
        if lessons.of_each is not None:
            raise ValueError(
                "lessons: shift was replaced, but not in the lessons of each rollout; allowed: "
                "lessons.changed(function), which changes both"
            )
        prepared = None
    if prepared is None:

        def shift_at(place: Array) -> Shift:
            return divergences.shift_of(student, _behind(lag, _at(place, lessons.shift)))

        return shift_at
    behind = None if lag is None else divergences.shift_of(student, lag)

    def prepared_at(place: Array) -> Shift:
        shift, grown, more = (_at(place, each) for each in prepared[:3])
        shift = Shift(shift, grown, more, prepared.reach)
        return shift if behind is None else divergences.together(behind, shift)

    return prepared_at


def _behind(lag: Array | None, shift: Array) -> Array:
    """The shift from the student of a teacher whose base lags behind it; None is no lag."""
    return shift if lag is None else lag + shift


def _at(place: Array, of_lessons: Array) -> Array:
    """Of an array ``[T, V, K, *runs]`` that of one lesson."""
    one = jax.lax.dynamic_index_in_dim(of_lessons, place, 2, keepdims=False)
    # The slice itself, but not a bare copy, of which XLA's CPU code is not vectorised.
    return jnp.where(one == one, one, jnp.nan)


def _mean(
    weights: Array,
    of_one: Callable[[Array], tuple[Array, ArrayLike]],
    nothing: tuple[Array, Array],
) -> tuple[Array, Array]:
    """The mean over lessons of gradients, and the largest of what comes with each."""

    # One lesson at a time, whose arrays stay in the first cache.
    def add(place: Array, so_far: tuple[Array, Array]) -> tuple[Array, Array]:
        with boundaries(place):
            gradient, reach = of_one(place)
        return so_far[0] + weights[place] * gradient, jnp.maximum(so_far[1], reach)

    return jax.lax.fori_loop(0, weights.shape[0], add, nothing)


def _live(divergence: Divergence) -> Callable[..., Update]:
    def update(*, policy: Policy, lessons: Lessons, divergence_mix: Mix = 0.5) -> Update:
        mix = divergence_mix
        return Update(pull(divergence, policy, policy.logits, lessons, mix))

    return update


def _trust_region(divergence: Divergence) -> Callable[..., Update]:
    def update(
        *,
        policy: Policy,
        reference: Policy,
        lessons: Lessons,
        divergence_mix: Mix = 0.5,
        trust: Annotated[
            float, Number(least=0, most=1, title="share of the student in a trust-region teacher")
        ] = 0.5,
    ) -> Update:
        base = reference.logits + trust * (policy.logits - reference.logits)
        return Update(pull(divergence, policy, base, lessons, divergence_mix))

    return update


def first_average(*, params: Any) -> Any:
    """The averaged teacher before step 0: the first policy's parameters."""
    return params


def average(memory: Any, params: Any, rate: ArrayLike) -> Any:
    """``theta <- (1 - r) theta + r l``; the live teacher at r = 1, the first policy at r = 0."""
    return jax.tree.map(lambda kept, new: (1 - rate) * kept + rate * new, memory, params)


def _ema(divergence: Divergence) -> Callable[..., Update]:
    def update(
        *,
        policy: Policy,
        params: Any,
        read: Callable[[Any], Array],
        lessons: Lessons,
        memory: Any,
        divergence_mix: Mix = 0.5,
        teacher_rate: TeacherRate = 0.05,
    ) -> Update:
        kept = materialise(lambda: average(memory, params, teacher_rate))
        gradient = pull(divergence, policy, read(kept), lessons, divergence_mix)
        return Update(gradient, memory=kept)

    return update


def _ema_top_k(divergence: Divergence) -> Callable[..., Update]:
    def update(
        *,
        policy: Policy,
        params: Any,
        read: Callable[[Any], Array],
        lessons: Lessons,
        memory: Any,
        sizes: Sizes,
        divergence_mix: Mix = 0.5,
        teacher_rate: TeacherRate = 0.05,
    ) -> Update:
        kept = materialise(lambda: average(memory, params, teacher_rate))
        gradient = pull(divergence, policy, read(kept), lessons, divergence_mix, sizes.top_k)
        return Update(gradient, memory=kept)

    return update


def _numbers_it_reads(
    make: Callable[[Divergence], Callable[..., Update]], divergence: Divergence
) -> Callable[..., Update]:
    """An update by a divergence; only the JSD has a mix, which no other reads."""
    update = make(divergence)
    jsd = divergence is divergences.jensen_shannon
    return update if jsd else partial(update, divergence_mix=0.5)


def _all(ending: str, make: Callable[[Divergence], Callable[..., Update]]) -> dict[str, Algorithm]:
    init = first_average if make is _ema else no_memory
    return {
        f"sdpo_{name}{ending}": Algorithm(
            f"sdpo_{name}{ending}", init, _numbers_it_reads(make, divergence)
        )
        for name, divergence in divergences.DIVERGENCES.items()
    }


SELF_DISTILLATION: dict[str, Algorithm] = {
    **_all("", _live),
    **_all("_trust", _trust_region),
    **_all("_ema", _ema),
    "sdpo_jsd_ema_top_k": Algorithm(
        "sdpo_jsd_ema_top_k", first_average, _ema_top_k(divergences.jensen_shannon)
    ),
}
