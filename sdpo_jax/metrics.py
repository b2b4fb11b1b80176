"""What is measured at each step (section 2.6). To add a metric: a function, a line below."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax import policies, problems
from sdpo_jax.algorithm import Cost, Update
from sdpo_jax.config import Config, Sizes
from sdpo_jax.engine import lanes
from sdpo_jax.engine.checks import as_float32, numbers, under_own_settings
from sdpo_jax.oracles import Oracle
from sdpo_jax.policies import Factored, Policy, PolicyKind, at_contexts
from sdpo_jax.teachers import Teacher


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        *("seed", "step", "config", "numbers", "problem", "oracle", "knowledge", "reference"),
        *("policy", "params", "tokens", "reward", "feedback", "teacher", "update", "direction"),
    ],
    meta_fields=["kind", "sizes"],
)
@dataclass(frozen=True)
class View:
    """All that a step knows, for metrics to read; what none of them reads is never computed.

    Attributes:
        seed: ``[*runs]`` int32 (of seeds from ``2**31`` on the bits) or keys; names the run.
        step: scalar int32, the index of the step.
        config: the hyperparameters.
        problem: the true reward landscape.
        oracle: the feedback type.
        knowledge: ``[T, V, *runs]``, the teacher's table; ``None`` where the problem knows no
            quality.
        reference: the policy of step 0.
        policy: the policy that was sampled, before the update; with contexts, at those of the
            rollouts (see ``sdpo_jax.policies``).
        tokens: ``[T, N, *runs]`` int32.
        reward: ``[N, *runs]``, the true rewards.
        feedback: ``[N, *runs]``, what the oracle said.
        teacher: the teachers' averages; ``None`` where neither algorithm nor metric asks for them.
        update: what the algorithm returned.
        direction: ``[T, V, *runs]``, or with contexts, the credit direction: minus the whole
            gradient.
        params: the policy's parameters, before the update.
        numbers: by name the own numbers of the run's parts.
        kind: the policy, static.
        sizes: the sizes, static.
    """

    seed: ArrayLike
    step: Array
    config: Config
    problem: Any
    oracle: Oracle
    knowledge: Array | None
    reference: Policy
    policy: Policy
    tokens: Array
    reward: Array
    feedback: Array
    teacher: Teacher | None
    update: Update
    direction: Array
    params: Any = None
    numbers: Mapping[str, Any] = field(default_factory=dict)
    kind: PolicyKind = field(default_factory=Factored)
    sizes: Sizes = field(default_factory=Sizes)


@dataclass(frozen=True)
class Metric:
    """A number that a step yields.

    Attributes:
        measure: from a ``View`` to ``[*runs]``.
        title: what it is, with its unit, for axes and attributes.
        windowed: whether its final value is the mean over the last ``final_window`` steps; if
            not, it is the last step's.
        costly: whether it is computed only at the steps that are recorded and at those that its
            final value needs, as what enumerates all sequences had better be.
        needs_teacher: whether it reads ``View.teacher``.
        needs_quality: whether it reads the problem's quality of tokens.
        bounds: from the sizes to the least and the largest value it can have, for quantiles of
            curves that are not kept (``run_grid``'s ``curves_over``); ``None`` where it has none.
    """

    measure: Callable[[View], Array]
    title: str
    windowed: bool = True
    costly: bool = False
    needs_teacher: bool = False
    bounds: Callable[[Sizes], tuple[float, float]] | None = None
    needs_quality: bool = False


@under_own_settings
def credit_correlation(direction: Array, worth: Array) -> Array:
    """Pearson correlation over tokens, mean over positions: ``[T, V, *runs]`` to ``[*runs]``.

    Rows without any spread count as 0.

    Raises:
        ValueError: no numbers, or shapes that differ, in one line.
    """
    direction, worth = (
        jnp.asarray(as_float32(numbers(name, value, "an array of numbers")))
        for name, value in (("direction", direction), ("worth", worth))
    )
    if direction.ndim < 2 or 0 in direction.shape[:2]:
        raise ValueError(f"direction: shape {direction.shape}; allowed: positions, tokens, runs")
    if worth.shape != direction.shape:
        raise ValueError(f"worth: shape {worth.shape}; allowed: {direction.shape}, as direction's")
    direction, worth = _centred(direction), _centred(worth)
    covariance = lanes.total(direction * worth, 1)
    spread = lanes.total(direction * direction, 1) * lanes.total(worth * worth, 1)
    flat = spread == 0
    return lanes.mean(jnp.where(flat, 0.0, covariance / jnp.sqrt(jnp.where(flat, 1.0, spread))), 0)


def _centred(rows: Array) -> Array:
    # Less the first entry first: of equal entries nothing is left, not even rounding errors.
    rows = rows - rows[:, :1]
    return rows - lanes.mean(rows, 1)[:, None]


def _over_contexts(view: View, value: Array) -> Array:
    """The mean over the contexts of rollouts, where there are any: ``[*runs]``."""
    return value if isinstance(view.kind, Factored) else lanes.mean(value, 0)


def _correlation(view: View, worth: Array) -> Array:
    """``credit_correlation`` of the step's direction, mean over contexts."""
    worth = jnp.broadcast_to(worth, view.direction.shape)
    return _over_contexts(view, credit_correlation(view.direction, worth))


def _credit(view: View) -> Array:
    # Pearson's correlation does not see the constant, sum_v pi q, that makes q an advantage.
    return _correlation(view, at_contexts(view.problem.quality, view.policy, 2))


def _conditionals(view: View) -> list[Array]:
    """The probabilities after every prefix, ``[V ** t, V, *runs]`` each."""
    runs = view.reward.shape[1:]
    kind = view.kind.bound(view.numbers)
    assert not isinstance(kind, Factored)
    logits = kind.conditionals(view.params, view.sizes.length, view.sizes.vocab_size, runs)
    # The vocabulary is on axis 1, as in a policy's rows.
    return [policies.policy(each).probs for each in logits]


def _exact_credit(view: View) -> Array:
    if isinstance(view.kind, Factored):
        advantage = problems.token_advantage(view.problem, view.policy.probs)
    else:
        rewards = problems.all_rewards(view.problem)
        advantage = policies.advantages_at(rewards, _conditionals(view), view.tokens)
    return _correlation(view, advantage)


def _expected_reward(view: View) -> Array:
    if isinstance(view.kind, Factored):
        return problems.expected_reward(view.problem, view.policy.probs)
    rewards = problems.all_rewards(view.problem)
    return policies.prefix_values(rewards, _conditionals(view))[0][0]


def _exact_entropy(view: View) -> Array:
    if isinstance(view.kind, Factored):
        return policies.entropy(view.policy)
    return policies.exact_entropy(_conditionals(view))


def _optimality(view: View) -> Array:
    return problems.optimality(view.problem, _expected_reward(view))


def _divergence(view: View) -> Array:
    assert view.teacher is not None
    return view.teacher.divergence


def _weight(view: View) -> Array:
    weight = (view.update.info or {}).get("weight")
    return jnp.full_like(view.reward[0], jnp.nan) if weight is None else weight


def _cost(view: View) -> Cost:
    rollouts = view.reward.shape[0]
    return Cost(rollouts, rollouts) if view.update.cost is None else view.update.cost


def _from_0_to_1(sizes: Sizes) -> tuple[float, float]:
    return 0.0, 1.0


def _from_minus_1_to_1(sizes: Sizes) -> tuple[float, float]:
    return -1.0, 1.0


def _of_entropy(sizes: Sizes) -> tuple[float, float]:
    return 0.0, math.log(sizes.vocab_size)


def _number(view: View, value: ArrayLike) -> Array:
    return jnp.broadcast_to(jnp.asarray(value, view.reward.dtype), view.reward.shape[1:])


METRICS: dict[str, Metric] = {
    "reward": Metric(
        lambda view: lanes.mean(view.reward, 0),
        "mean reward of the rollouts",
        bounds=_from_0_to_1,
    ),
    "credit": Metric(
        _credit,
        "credit correlation with token quality",
        needs_quality=True,
        bounds=_from_minus_1_to_1,
    ),
    "entropy": Metric(
        lambda view: _over_contexts(view, policies.entropy(view.policy)),
        "policy entropy (nats)",
        windowed=False,
        bounds=_of_entropy,
    ),
    "weight": Metric(_weight, "weight of SDPO in the hybrid", bounds=_from_0_to_1),
    "divergence": Metric(
        _divergence,
        "KL(teacher || student) (nats)",
        needs_teacher=True,
    ),
    "drift": Metric(
        lambda view: _over_contexts(view, policies.kl_divergence(view.policy, view.reference)),
        "KL(policy || first policy) (nats)",
        windowed=False,
    ),
    "rollouts": Metric(
        lambda view: _number(view, _cost(view).rollouts), "rollouts that the algorithm took"
    ),
    "queries": Metric(
        lambda view: _number(view, _cost(view).queries), "times that the reward was asked"
    ),
    "mean_feedback": Metric(
        lambda view: lanes.mean(view.feedback, 0), "mean feedback", bounds=_from_0_to_1
    ),
    "expected_reward": Metric(
        _expected_reward,
        "exact expected reward",
        windowed=False,
        costly=True,
        bounds=_from_0_to_1,
    ),
    "exact_credit": Metric(
        _exact_credit,
        "credit correlation with the exact advantage of the reward",
        windowed=False,
        costly=True,
        bounds=_from_minus_1_to_1,
    ),
    "exact_entropy": Metric(
        _exact_entropy,
        "entropy of the policy's sequences, by position (nats)",
        windowed=False,
        costly=True,
        bounds=_of_entropy,
    ),
    "optimality": Metric(
        _optimality,
        "exact expected reward, 0 uniform policy to 1 best sequence",
        windowed=False,
        costly=True,
    ),
}
