"""SDPO with a panel of teachers, whose tables have errors of their own.

    probabilities   g = S - mean_m mean_i softmax(l + beta f_i c_m)
    logits          g = S - mean_i softmax(l + beta f_i mean_m c_m)

The paper's future work (section 4, "mixture-of-teacher approaches"). ``Sizes.teachers`` tables of
the same fidelity (``knowledge``): where they disagree, averaged probabilities keep both opinions
and averaged logits (a product of experts) neither. At a knowledge of 1 all tables are q and both
are ``sdpo_forward``. A critique's errors are shared by the panel. A descent gradient, ``[T, V,
*runs]``.
"""

from __future__ import annotations

from jax import Array

from sdpo_jax.algorithm import Update
from sdpo_jax.algorithms.self_distillation import pull
from sdpo_jax.engine import lanes
from sdpo_jax.policies import Policy
from sdpo_jax.teachers.divergences import forward_kl
from sdpo_jax.teachers.lessons import Lessons


def _taught_by(lessons: Lessons, knowledge: Array, table: Array) -> Lessons:
    """The same lessons from a teacher that has another table."""
    difference = table - knowledge
    # Beside contexts the tables have the axis of lessons already.
    difference = difference if difference.ndim == lessons.shift.ndim else difference[:, :, None]

    def taught(lessons: Lessons) -> Lessons:
        shown = difference if lessons.exposure is None else lessons.exposure * difference
        return lessons._replace(shift=lessons.shift + lessons.strength * shown)

    return lessons.changed(taught)


def sdpo_mixture_probs(
    *,
    policy: Policy,
    lessons: Lessons,
    knowledge: Array,
    panel: Array,
) -> Update:
    """The panel's probabilities averaged; ``panel`` is ``[M, T, V, *runs]``."""

    def towards(table: Array) -> Array:
        taught = _taught_by(lessons, knowledge, table)
        return pull(forward_kl, policy, policy.logits, taught)

    members = panel.shape[0]
    return Update(sum((towards(panel[m]) for m in range(1, members)), towards(panel[0])) / members)


def sdpo_mixture_logits(
    *,
    policy: Policy,
    lessons: Lessons,
    knowledge: Array,
    panel: Array,
) -> Update:
    """The panel's logits averaged, which is to average its tables."""
    taught = _taught_by(lessons, knowledge, lanes.mean(panel, 0))
    return Update(pull(forward_kl, policy, policy.logits, taught))
