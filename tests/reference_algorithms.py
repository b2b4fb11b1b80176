"""Every algorithm's gradient for one run, in float64 NumPy, from its equation and nothing else.

Losses are written as losses: their gradients are taken by the complex step, which has no rounding
error of its own (Squire and Trapp 1998). To be read beside the papers that the algorithms name, so
it loops where they sum. Arrays as in ``reference``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from tests import reference
from tests.reference import score, sigmoid, softmax


@dataclass(frozen=True)
class Judge:
    """A judge's strengths; what it looks at, and how it errs."""

    overlap: float = 0.0
    style: float = 0.0
    rubric: float = 0.0
    likelihood: float = 0.0
    halo: float = 0.0
    leniency: float = 0.0
    severity: float = 0.0
    central_tendency: float = 0.0
    heavy_tails: float = 0.0
    position: float = 0.0
    anchoring: float = 0.0
    preference: float = 0.0


@dataclass(frozen=True)
class Scene:
    """All that a step of any algorithm may be told, of one run."""

    problem: reference.Problem
    numbers: Mapping[str, float]  # the hyperparameters by name
    oracle: reference.Oracle
    judge: Judge
    first_logits: np.ndarray  # [T, V], of step 0
    logits: np.ndarray  # [T, V]
    panel: np.ndarray  # [M, T, V], the first is the teacher's table
    tokens: np.ndarray  # [T, N]
    noise: np.ndarray  # [N], standard normal
    hints: np.ndarray  # [T, V, N], standard normal
    coins: np.ndarray  # [N // 2], uniform: who of a pair is preferred
    tails: np.ndarray  # [N], uniform: how heavy a judge's noise is
    baseline: np.ndarray  # [T, samples]: sequences of the first policy
    order: np.ndarray  # [T, samples], uniform: their ranks order the positions
    index: int  # of the step
    steps: int
    epochs: int
    top_k: int

    @cached_property
    def policy(self):
        return softmax(self.logits)

    @cached_property
    def first_policy(self):
        return softmax(self.first_logits)

    @property
    def rollouts(self):
        return self.tokens.shape[1]

    @cached_property
    def rewards(self):
        """``[V] * T``: the reward of every sequence."""
        length, vocab_size = self.policy.shape
        table = np.empty((vocab_size,) * length)
        for sequence in reference.all_sequences(self.problem):
            table[sequence] = reference.reward(self.problem, sequence)
        return table

    @cached_property
    def reward(self):
        return np.array([self.rewards[tuple(s)] for s in self.tokens.T])

    @cached_property
    def seen(self):
        return seen(self)

    @cached_property
    def feedback(self):
        return np.array([self.oracle.says(each) for each in self.seen])

    @cached_property
    def signal(self):
        blend = self.numbers["learn_from_feedback"]
        return (1 - blend) * self.reward + blend * self.feedback

    def taught(self, base, table, strength=1.0):
        """The log probabilities of each rollout's teacher, ``[N, T, V]``."""
        beta, spread = (self.numbers[name] for name in ("feedback_strength", "hint_noise"))
        teachers = np.empty((self.rollouts, *base.shape))
        for i, f in enumerate(self.feedback):
            criticised = table + spread * self.hints[:, :, i]
            for t, v in np.ndindex(base.shape):
                shift = reference.shown(self.oracle, table, criticised, self.tokens[:, i], t, v)
                teachers[i, t, v] = base[t, v] + strength * beta * f * shift
        return log_softmax(teachers)

    @cached_property
    def teachers(self):
        return np.exp(self.taught(self.logits, self.panel[0]))

    @cached_property
    def divergence(self):
        """Mean over rollouts and positions of ``KL(teacher || student)``."""
        teachers, student = self.taught(self.logits, self.panel[0]), log_softmax(self.logits)
        return np.mean(forward_kl(student, teachers))


# A judge in the place of the reward.


def seen(scene):
    """The reward as the oracle sees it, ``[N]``."""
    judge, numbers, count = scene.judge, scene.numbers, scene.rollouts
    scores = []
    for i in range(count):
        tail = (-np.log(scene.tails[i])) ** (-judge.heavy_tails / 2)
        value = looked_at(scene, scene.tokens[:, i], scene.reward[i])
        value += judge.leniency * (1 - value)
        value -= judge.severity * value
        value += judge.central_tendency * (0.5 - value)
        value += numbers["noise"] * scene.noise[i] * tail + numbers["bias"]
        value += judge.position * (0.5 - i / max(count - 1, 1))
        value = min(max(value, 0.0), 1.0)
        if scores:
            value += judge.anchoring * (scores[-1] - value)
        scores.append(value)
    partners = [scores[(i + count // 2) % count] for i in range(count)]
    verdicts = [(1 + np.sign(a - b)) / 2 for a, b in zip(scores, partners, strict=True)]
    return (1 - judge.preference) * np.array(scores) + judge.preference * np.array(verdicts)


def looked_at(scene, sequence, reward):
    judge, problem, length = scene.judge, scene.problem, len(sequence)
    quality = np.mean([problem.quality[t, v] for t, v in enumerate(sequence)])
    bigrams = [problem.bigram[pair] for pair in itertools.pairwise(sequence)]
    matches = np.mean(sequence == problem.target)
    criteria = (quality >= 0.5, np.mean(bigrams) >= 0.0, matches >= 0.3)
    probs = [scene.policy[t, v] for t, v in enumerate(sequence)]
    looks = (
        (judge.overlap, longest_common(sequence, problem.target) / length),
        (judge.style, np.mean([each > 0 for each in bigrams])),
        (judge.rubric, np.dot((0.5, 0.25, 0.25), criteria)),
        (judge.likelihood, math.prod(probs) ** (1 / length)),
        (judge.halo, sigmoid(quality)),
    )
    return reward + sum(share * (look - reward) for share, look in looks)


def longest_common(one, other):
    """Length of the longest common subsequence."""
    if not len(one) or not len(other):
        return 0
    if one[0] == other[0]:
        return 1 + longest_common(one[1:], other[1:])
    return max(longest_common(one[1:], other), longest_common(one, other[1:]))


# Divergences as they are defined, of log probabilities ``[..., T, V]``, and gradients.


def log_softmax(logits):
    logits = logits - logits.real.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def forward_kl(student, teacher, mix=None):
    return np.sum(np.exp(teacher) * (teacher - student), axis=-1)


def reverse_kl(student, teacher, mix=None):
    return np.sum(np.exp(student) * (student - teacher), axis=-1)


def jensen_shannon(student, teacher, mix):
    if mix == 0:
        return forward_kl(student, teacher)
    if mix == 1:
        return reverse_kl(student, teacher)
    middle = np.log((1 - mix) * np.exp(student) + mix * np.exp(teacher))
    return (1 - mix) * forward_kl(middle, student) + mix * forward_kl(middle, teacher)


DIVERGENCES = {"forward": forward_kl, "reverse": reverse_kl, "jsd": jensen_shannon}


def bucketed(student, log_probs, count):
    """What is left where all but the student's likeliest tokens are one, ``[..., T, k + 1]``."""
    if count >= student.shape[-1]:
        return log_probs
    order = np.argsort(-student.real, axis=-1, kind="stable")
    ordered = np.take_along_axis(log_probs, np.broadcast_to(order, log_probs.shape), axis=-1)
    tail = np.log(np.exp(ordered[..., count:]).sum(axis=-1, keepdims=True))
    return np.concatenate((ordered[..., :count], tail), axis=-1)


def derivative(loss, logits):
    """The gradient of a loss of the logits, by the complex step."""
    gradient = np.empty_like(logits)
    for place in np.ndindex(logits.shape):
        moved = logits.astype(complex)
        moved[place] += 1e-100j
        gradient[place] = np.imag(loss(moved)) / 1e-100
    return gradient


def towards(scene, divergence, teachers, top_k=None):
    """The gradient of the mean divergence from teachers ``[K, T, V]``, summed over positions."""
    if not len(teachers):
        return np.zeros_like(scene.logits)

    def loss(logits):
        student = log_softmax(logits)
        pair = student, teachers
        if top_k is not None:
            pair = [bucketed(student, each, top_k) for each in pair]
        return divergence(*pair, scene.numbers["divergence_mix"]).sum() / len(teachers)

    return derivative(loss, scene.logits)


def heard(scene, teachers):
    """Only the rollouts with any feedback teach."""
    return teachers[scene.feedback != 0]


# The algorithms. Each makes of a scene and its memory (``None`` at first) a gradient and a memory.


def plain(gradient):
    """An algorithm without a memory."""
    return lambda scene, memory: (gradient(scene), None)


def policy_gradient(scene, advantages):
    """``-(1/N) sum_i sum_t A_it grad log pi_t(s_it)``, advantages ``[T, N]``."""
    gradient = np.zeros_like(scene.policy)
    for t, i in np.ndindex(scene.tokens.shape):
        push = score(scene.policy, t, scene.tokens[t, i])
        gradient[t] -= advantages[t, i] * push / scene.rollouts
    return gradient


def centred(credit):
    """Less the mean over the rollouts, at each position."""
    return credit - credit.mean(axis=1, keepdims=True)


def sdpo(scene):
    return reference.sdpo(scene.policy, scene.teachers)


def hybrid(scene):
    tau = scene.numbers["hybrid_threshold"]
    a = sigmoid((scene.divergence - tau) / (tau / 3))
    return a * sdpo(scene) + (1 - a) * reinforce(scene)


def reinforce(scene):
    return reference.reinforce(scene.policy, scene.tokens, scene.signal)


def advantage_weighted(scene):
    return reference.advantage_weighted(scene.policy, scene.tokens, scene.signal, scene.panel[0])


def leave_one_out(rewards):
    if len(rewards) == 1:
        return np.zeros(1)
    return np.array([r - np.mean(np.delete(rewards, i)) for i, r in enumerate(rewards)])


def rloo(scene, rewards=None):
    advantages = leave_one_out(scene.signal if rewards is None else rewards)
    return policy_gradient(scene, np.tile(advantages, (len(scene.tokens), 1)))


def clipped(scene, memory, advantage, divisor):
    """PPO's objective on the batch of the last step that took one."""
    if scene.index % scene.epochs == 0:
        memory = scene.tokens, advantage(scene.signal), log_softmax(scene.logits)
    tokens, advantages, old = memory
    epsilon = scene.numbers["clip"]

    def loss(logits):
        log_ratio = log_softmax(logits) - old
        total = 0.0
        for t, i in np.ndindex(tokens.shape):
            ratio = np.exp(log_ratio[t, tokens[t, i]])
            within = ratio if abs(ratio.real - 1) <= epsilon else np.clip(
                ratio.real, 1 - epsilon, 1 + epsilon
            )  # fmt: skip
            total -= min(ratio * advantages[i], within * advantages[i], key=np.real)
        return total / tokens.shape[1] / divisor(len(tokens))

    return derivative(loss, scene.logits), memory


def standardised(rewards):
    if len(rewards) == 1:
        return np.zeros(1)
    return (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-6)


def less_mean(rewards):
    return rewards - rewards.mean()


def grpo(scene, memory):
    return clipped(scene, memory, standardised, lambda length: length)


def ppo(scene, memory):
    return clipped(scene, memory, less_mean, lambda length: 1)


def judged_pairs(scene):
    """Winners and losers of rollouts i against i + N / 2."""
    half = scene.rollouts // 2
    pairs = []
    for i in range(half):
        odds = scene.numbers["preference_sharpness"] * (scene.signal[i] - scene.signal[half + i])
        first, second = scene.tokens[:, i], scene.tokens[:, half + i]
        pairs.append((first, second) if scene.coins[i] < sigmoid(odds) else (second, first))
    return pairs


def best_and_worst(scene):
    if scene.signal.max() == scene.signal.min():
        return []
    return [tuple(scene.tokens[:, at(scene.signal)] for at in (np.argmax, np.argmin))]


def dpo(scene, pairs):
    """Eq. 7 of direct preference optimisation."""
    first, beta = log_softmax(scene.first_logits), scene.numbers["dpo_strength"]

    def loss(logits):
        ratio = log_softmax(logits) - first
        total = 0.0
        for winner, loser in pairs(scene):
            margin = sum(ratio[t, v] - ratio[t, loser[t]] for t, v in enumerate(winner))
            total += np.log(1 + np.exp(-beta * margin)) / len(pairs(scene))
        return total

    return derivative(loss, scene.logits)


def modelled(token, bigram, sequence):
    value = sum(token[t, v] for t, v in enumerate(sequence))
    return value + sum(bigram[pair] for pair in itertools.pairwise(sequence))


def rlhf(scene, memory):
    vocab_size = scene.logits.shape[1]
    old = memory or (np.zeros_like(scene.logits), np.zeros((vocab_size, vocab_size)))
    token, bigram = (each.copy() for each in old)
    pairs = judged_pairs(scene)
    for winner, loser in pairs:
        wrong = sigmoid(modelled(*old, loser) - modelled(*old, winner))
        pull = scene.numbers["model_rate"] * wrong / len(pairs)
        for sequence, sign in ((winner, 1), (loser, -1)):
            for t, v in enumerate(sequence):
                token[t, v] += sign * pull
            for pair in itertools.pairwise(sequence):
                bigram[pair] += sign * pull
    rewards = np.array([modelled(token, bigram, sequence) for sequence in scene.tokens.T])
    return rloo(scene, rewards), (token, bigram)


def value_of(scene, sequence, present, policy):
    """The expected reward where these positions' tokens stand and the others are drawn."""
    value = scene.rewards
    for t, v in enumerate(sequence):
        # The axis of the first position that is left is always the first.
        row = np.eye(policy.shape[1])[v] if t in present else policy[t]
        value = np.tensordot(row, value, axes=(0, 0))
    return float(value)


def shapley(scene, sequence):
    """By every order of the positions, and not by every coalition."""
    length = len(sequence)
    phi = np.zeros(length)
    for order in itertools.permutations(range(length)):
        for place, t in enumerate(order):
            before = order[:place]
            gained = value_of(scene, sequence, (*before, t), scene.first_policy)
            phi[t] += gained - value_of(scene, sequence, before, scene.first_policy)
    return phi / math.factorial(length)


def sampled_shapley(scene, sequence):
    """By the drawn orders, absent tokens from the drawn sequences."""
    samples = scene.order.shape[1]
    phi = np.zeros(len(sequence))
    for k in range(samples):
        mixed = scene.baseline[:, k].copy()
        for t in np.argsort(scene.order[:, k], kind="stable"):
            before = scene.rewards[tuple(mixed)]
            mixed[t] = sequence[t]
            phi[t] += (scene.rewards[tuple(mixed)] - before) / samples
    return phi


def shared_out(scene, values):
    share = scene.numbers["dense_share"]
    credit = share * np.stack([values(scene, sequence) for sequence in scene.tokens.T], 1)
    credit[-1] += (1 - share) * scene.signal
    return policy_gradient(scene, centred(credit))


def process_reward(scene):
    advantages = np.empty(scene.tokens.shape)
    for t, i in np.ndindex(advantages.shape):
        after, before = (
            value_of(scene, scene.tokens[:, i], range(stop), scene.policy) for stop in (t + 1, t)
        )
        advantages[t, i] = after - before
    return policy_gradient(scene, advantages)


def process_reward_learned(scene, memory):
    length, count = scene.tokens.shape
    constant, token = memory or (np.full(length + 1, 0.5), np.zeros_like(scene.logits))
    # A prefix has 1 + t features: the rate is for their mean number, 1 + T / 2.
    rate = scene.numbers["model_rate"] / (1 + length / 2)

    def values(constant, token, sequence):
        own = [token[t, v] for t, v in enumerate(sequence)]
        return [constant[t] + sum(own[:t]) for t in range(length + 1)]

    old = [values(constant, token, sequence) for sequence in scene.tokens.T]
    constant, token = constant.copy(), token.copy()
    for i, stop in itertools.product(range(count), range(length + 1)):
        pull = rate * (scene.signal[i] - old[i][stop]) / count / (length + 1)
        constant[stop] += pull
        for t in range(stop):
            token[t, scene.tokens[t, i]] += pull
    new = np.array([values(constant, token, sequence) for sequence in scene.tokens.T])
    return policy_gradient(scene, np.diff(new, axis=1).T), (constant, token)


def dense_reward(scene):
    problem, length = scene.problem, len(scene.tokens)
    share, credit = scene.numbers["dense_share"], np.zeros(scene.tokens.shape)
    for i, sequence in enumerate(scene.tokens.T):
        own = np.array([problem.quality[t, v] for t, v in enumerate(sequence)])
        own += problem.pattern_weight * (sequence == problem.target)
        for t, pair in enumerate(itertools.pairwise(sequence)):
            own[t : t + 2] += problem.bigram[pair] / 2
        paid = share * softmax(abs(own) / scene.numbers["attention_temperature"])
        paid[-1] += 1 - share
        for t in range(length):
            credit[t, i] = paid[t:].sum() * scene.signal[i]
    return policy_gradient(scene, centred(credit))


def averaged(scene, memory):
    rate = scene.numbers["teacher_rate"]
    return (1 - rate) * (scene.first_logits if memory is None else memory) + rate * scene.logits


def live(divergence, scene):
    return towards(scene, divergence, heard(scene, scene.taught(scene.logits, scene.panel[0])))


def trust_region(divergence, scene):
    trust = scene.numbers["trust"]
    base = (1 - trust) * scene.first_logits + trust * scene.logits
    return towards(scene, divergence, heard(scene, scene.taught(base, scene.panel[0])))


def ema(divergence, scene, memory, top_k=False):
    base = averaged(scene, memory)
    teachers = heard(scene, scene.taught(base, scene.panel[0]))
    return towards(scene, divergence, teachers, scene.top_k if top_k else None), base


def shown_a_sequence(scene, base, sequence):
    """The log probabilities of a policy that has read one."""
    shown = base.copy()
    for t, v in enumerate(sequence):
        shown[t, v] += scene.numbers["demonstration_strength"]
    return log_softmax(shown)[None]


def sdft(scene, memory):
    base = averaged(scene, memory)
    pairs = best_and_worst(scene)
    if not pairs:
        return np.zeros_like(base), base
    ((best, _),) = pairs
    return towards(scene, reverse_kl, shown_a_sequence(scene, base, best)), base


def opsd(scene):
    best = np.unravel_index(np.argmax(scene.rewards), scene.rewards.shape)
    return towards(scene, jensen_shannon, shown_a_sequence(scene, scene.first_logits, best))


def distillation(scene):
    tau, beta = (scene.numbers[name] for name in ("temperature", "feedback_strength"))
    teacher = log_softmax((scene.first_logits + beta * scene.panel[0]) / tau)

    def loss(logits):
        return tau**2 * forward_kl(log_softmax(logits / tau), teacher).sum()

    return derivative(loss, scene.logits)


def sdpo_entropy(scene):
    def less_entropy(logits):
        log_probs = log_softmax(logits)
        return np.sum(np.exp(log_probs) * log_probs)

    bonus = scene.numbers["entropy_bonus"]
    return sdpo(scene) + bonus * derivative(less_entropy, scene.logits)


def mixture(scene, tables):
    teachers = [heard(scene, scene.taught(scene.logits, table)) for table in tables]
    return towards(scene, forward_kl, np.concatenate(teachers))


def sdpo_annealed(scene):
    done = scene.index / max(scene.steps - 1, 1)
    left = 1 - done + scene.numbers["final_strength"] * done
    return towards(
        scene, forward_kl, heard(scene, scene.taught(scene.logits, scene.panel[0], left))
    )


Gradient = Callable[[Scene, Any], tuple[np.ndarray, Any]]

GRADIENTS: dict[str, Gradient] = {
    "sdpo": plain(sdpo),
    "reinforce": plain(reinforce),
    "advantage_weighted": plain(advantage_weighted),
    "hybrid": plain(hybrid),
    "rloo": plain(rloo),
    "grpo": grpo,
    "dr_grpo": ppo,
    "ppo": ppo,
    "dpo": plain(partial(dpo, pairs=judged_pairs)),
    "dpo_best_worst": plain(partial(dpo, pairs=best_and_worst)),
    "rlhf": rlhf,
    "scar": plain(partial(shared_out, values=shapley)),
    "scar_sampled": plain(partial(shared_out, values=sampled_shapley)),
    "process_reward": plain(process_reward),
    "process_reward_learned": process_reward_learned,
    "dense_reward": plain(dense_reward),
    **{f"sdpo_{name}": plain(partial(live, each)) for name, each in DIVERGENCES.items()},
    **{
        f"sdpo_{name}_trust": plain(partial(trust_region, each))
        for name, each in DIVERGENCES.items()
    },
    **{f"sdpo_{name}_ema": partial(ema, each) for name, each in DIVERGENCES.items()},
    "sdpo_jsd_ema_top_k": partial(ema, jensen_shannon, top_k=True),
    "sdft": sdft,
    "opsd": plain(opsd),
    "distillation": plain(distillation),
    "sdpo_entropy": plain(sdpo_entropy),
    "sdpo_mixture_probs": plain(lambda scene: mixture(scene, scene.panel)),
    "sdpo_mixture_logits": plain(lambda scene: mixture(scene, [scene.panel.mean(0)])),
    "sdpo_annealed": plain(sdpo_annealed),
}
