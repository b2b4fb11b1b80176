"""The engine's algorithms and the losses: on a factored policy their gradients are the same.

A factored policy is a model whose logits are its parameters. Each algorithm's update is compared
with ``jax.grad`` of its loss at the same policy, rollouts, rewards and teachers.
"""

from __future__ import annotations

import inspect
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdpo_jax
from sdpo_jax import ALGORITHMS, Program, Sizes, Update, losses, policies
from sdpo_jax.algorithm import STEP, chosen, what_is_told, what_is_told_at_first
from sdpo_jax.credit import preferences
from sdpo_jax.program import algorithm_of
from tests.every_number import Numbers
from tests.quickly import QUICKLY

SIZES = Sizes(
    length=3, vocab_size=4, rollouts=6, steps=5, final_window=2, epochs=2, teachers=2, top_k=2
)
# So much noise that some rollouts have no feedback; knobs off their defaults, which are 1 or 0.
CONFIG = Numbers(
    noise=0.6,
    knowledge=0.7,
    trust=0.4,
    teacher_rate=0.3,
    divergence_mix=0.3,
    temperature=2.0,
    entropy_bonus=0.2,
    hybrid_threshold=0.3,
    clip=0.2,
)


class Step:
    """What a step tells, laid out as the losses have it: sequences first."""

    def __init__(self, told, advantage=None, memory=(), update=None):
        self.told, self.advantage, self.memory, self.update = told, advantage, memory, update
        self.tokens = told["tokens"].T
        self.config = CONFIG

    def now(self, logits, tokens=None):
        """Log probabilities of the rollouts, ``[N, T]``."""
        tokens = self.tokens if tokens is None else tokens
        rows = jnp.broadcast_to(logits, (*tokens.shape, logits.shape[-1]))
        return losses.token_log_probs(rows, tokens)

    def rewarded(self, logits, advantages):
        """REINFORCE, summed over positions."""
        return losses.fixed_length(losses.reinforce(self.now(logits), advantages), length=1)

    def towards(self, logits, teachers, **options):
        """The divergence from each of several teachers ``[K, T, V]``: ``[K, T]``."""
        rows = jnp.broadcast_to(logits, teachers.shape)
        return losses.distillation(rows, teachers, **options)

    def shown(self, logits):
        """The teachers of the rollouts, ``[N, T, V]``: the student with its feedback at hand."""
        read = self.told["feedback"][:, None, None] * self.told["knowledge"]
        rows = jnp.broadcast_to(logits, read.shape)
        return losses.composed(rows, rows + read, rows, strength=self.config.feedback_strength)

    def taught(self, logits, base, table=None, left=1.0, **options):
        """The mean over lessons of the divergence from a base with their shifts."""
        lessons = self.told["lessons"]
        shift = left * jnp.moveaxis(lessons.shift, 2, 0)
        if table is not None:
            shift += lessons.strength[:, None, None] * (table - self.told["knowledge"])
        values = self.towards(logits, losses.frozen(base) + shift, **options)
        return (lessons.weights[:, None] * values).sum()


def reinforce(step, logits):
    return step.rewarded(logits, losses.centred(step.told["signal"]))


def rloo(step, logits):
    return step.rewarded(logits, losses.leave_one_out(step.told["signal"]))


def rlhf(step, logits):
    reward = sdpo_jax.credit.reward_models.score(step.update.memory, step.told["tokens"])
    return step.rewarded(logits, losses.leave_one_out(reward))


def credited(step, logits):
    """Algorithms that are told apart by the credit of each token, and share the loss."""
    return step.rewarded(logits, step.advantage.T)


def clipped(step, logits, advantages):
    before = step.now(step.told["reference"].logits)
    return losses.clipped_ratio(step.now(logits), before, advantages, clip=step.config.clip)


def ppo(step, logits):
    values = clipped(step, logits, losses.centred(step.told["signal"]))
    return losses.fixed_length(values, length=1)


def grpo(step, logits):
    values = clipped(step, logits, losses.group_normalised(step.told["signal"]))
    return losses.sequence_mean(values)


def preferred(step, logits, pairs):
    reference = step.told["reference"].logits
    first_wins = pairs.verdict > 0
    chosen, rejected = (
        jnp.where(first_wins, *both).T
        for both in ((pairs.first, pairs.second), (pairs.second, pairs.first))
    )
    values = losses.dpo(
        step.now(logits, chosen).sum(-1),
        step.now(logits, rejected).sum(-1),
        reference_chosen=step.now(reference, chosen).sum(-1),
        reference_rejected=step.now(reference, rejected).sum(-1),
        strength=step.config.dpo_strength,
    )
    return values.mean()


def dpo(step, logits):
    told = step.told
    pairs = preferences.judged_pairs(
        told["tokens"], told["signal"], step.config.preference_sharpness, told["key"], told["step"]
    )
    return preferred(step, logits, pairs)


def dpo_best_worst(step, logits):
    told = step.told
    return preferred(step, logits, preferences.best_and_worst(told["tokens"], told["signal"]))


def sdpo(step, logits):
    return losses.fixed_length(step.towards(logits, step.shown(logits)), length=1)


def hybrid(step, logits):
    far = losses.token_mean(step.towards(logits, step.shown(logits)))
    weight = losses.hybrid_weight(far, threshold=step.config.hybrid_threshold)
    return losses.hybrid(sdpo(step, logits), reinforce(step, logits), weight=weight)


def sdpo_entropy(step, logits):
    return sdpo(step, logits) - step.config.entropy_bonus * losses.entropy(logits).sum()


def averaged(step, logits):
    return losses.ema(step.memory, logits, rate=step.config.teacher_rate)


def within(step, logits):
    reference = step.told["reference"].logits
    return losses.trust_region(logits, reference, trust=step.config.trust)


def live(step, logits):
    return logits


def self_distillation(base, **options):
    def loss(step, logits):
        mix = CONFIG.divergence_mix
        return step.taught(logits, base(step, logits), mix=mix, **options)

    return loss


def sdpo_mixture_probs(step, logits):
    panel = step.told["panel"]
    return sum(step.taught(logits, logits, table) for table in panel) / len(panel)


def sdpo_mixture_logits(step, logits):
    return step.taught(logits, logits, step.told["panel"].mean(0))


def sdpo_annealed(step, logits):
    done = step.told["step"] / (SIZES.steps - 1)
    return step.taught(logits, logits, left=1 + (step.config.final_strength - 1) * done)


def solved(step, base, sequence):
    onehot = jax.nn.one_hot(sequence, SIZES.vocab_size)
    return (base + step.config.demonstration_strength * onehot)[None]


def opsd(step, logits):
    teacher = solved(step, step.told["reference"].logits, step.told["solution"])
    return step.towards(logits, teacher, divergence="jsd", mix=CONFIG.divergence_mix).sum()


def sdft(step, logits):
    best = step.tokens[step.told["signal"].argmax()]
    teacher = solved(step, averaged(step, logits), best)
    return step.towards(logits, teacher, divergence="reverse_kl").sum()


def distillation(step, logits):
    told, temperature = step.told, step.config.temperature
    teacher = told["reference"].logits + step.config.feedback_strength * told["knowledge"]
    return temperature**2 * losses.distillation(logits, teacher, temperature=temperature).sum()


NAMED = {"forward": "forward_kl", "reverse": "reverse_kl", "jsd": "jsd"}
LOSSES = {
    "sdpo": sdpo,
    "reinforce": reinforce,
    "advantage_weighted": credited,
    "hybrid": hybrid,
    "rloo": rloo,
    "grpo": grpo,
    "dr_grpo": ppo,
    "ppo": ppo,
    "dpo": dpo,
    "dpo_best_worst": dpo_best_worst,
    "rlhf": rlhf,
    "scar": credited,
    "scar_sampled": credited,
    "process_reward": credited,
    "process_reward_learned": credited,
    "dense_reward": credited,
    **{
        f"sdpo_{short}{suffix}": self_distillation(base, divergence=name)
        for short, name in NAMED.items()
        for suffix, base in (("", live), ("_trust", within), ("_ema", averaged))
    },
    "sdpo_jsd_ema_top_k": self_distillation(averaged, divergence="jsd", top_k=SIZES.top_k),
    "sdft": sdft,
    "opsd": opsd,
    "distillation": distillation,
    "sdpo_entropy": sdpo_entropy,
    "sdpo_mixture_probs": sdpo_mixture_probs,
    "sdpo_mixture_logits": sdpo_mixture_logits,
    "sdpo_annealed": sdpo_annealed,
}


def test_every_algorithm_has_a_loss():
    assert set(LOSSES) == set(ALGORITHMS)


@pytest.fixture(scope="module")
def gradients():
    """Of each algorithm and of its loss, ``[T, V]`` each, from one program."""
    with pytest.MonkeyPatch.context() as patch:
        return jax.jit(lambda: _gradients(patch), compiler_options=QUICKLY)()


def _gradients(patch):
    told = everything_told()
    first = {name: told[name] for name in ("policy", *what_is_known_first(told))}
    first["policy"] = told["reference"]
    first["params"] = told["reference"].logits
    found = {}
    for name in ALGORITHMS:
        algorithm = algorithm_of(name)
        update, own = algorithm.update, CONFIG.all_own
        memory = algorithm.init(
            **{key: first[key] for key in what_is_told_at_first(algorithm)},
            **chosen(algorithm.init, own),
        )
        credit = watched(patch, update)

        def asked(step, memory, policy, algorithm=algorithm, update=update, own=own):
            given = {**told, "memory": memory, "step": step, "policy": policy}
            given["params"] = policy.logits
            names = [key for key in what_is_told(algorithm)]
            return update(**{key: given[key] for key in names}, **chosen(update, own))

        step = told["step"]
        if name in ("ppo", "grpo", "dr_grpo"):
            # The batch is the first policy's; the second step on it is the one that is clipped.
            memory, step = asked(0, memory, told["reference"]).memory, 1
        outcome = asked(step, memory, told["policy"])
        given = Step(told, credit[-1] if credit else None, memory, outcome)
        loss = LOSSES[name]
        expected = jax.grad(lambda logits, g=given, f=loss: f(g, logits))(told["policy"].logits)
        found[name] = outcome.gradient, expected
    return found


def what_is_known_first(told):
    return [name for name in told if name not in ("tokens", "signal", "feedback", "lessons")]


def watched(patch, update):
    """The weights that an algorithm gives ``mean_score``, as they come."""
    seen = []
    module = sys.modules[getattr(update, "func", update).__module__]
    original = getattr(module, "mean_score", None)
    if original is not None:

        def mean_score(probs, tokens, weights):
            seen.append(weights)
            return policies.mean_score(probs, tokens, weights)

        patch.setattr(module, "mean_score", mean_score)
    return seen


def everything_told():
    """What an algorithm that asks for everything is told in a step whose policy has moved."""
    kept = {}

    def asks(**told):
        kept.update(told)
        return Update(jnp.zeros_like(told["policy"].logits))

    names = [name for name in STEP if name not in ("memory",)]
    asks.__signature__ = inspect.Signature(
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names
    )
    program = Program(asks, SIZES)
    setting, state = sdpo_jax.init(3, program, CONFIG.config)
    moved = np.random.RandomState(0).normal(0, 0.7, state.params.shape).astype(np.float32)
    sdpo_jax.step(program, setting, state._replace(params=state.params + moved), 2)
    return kept


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithms_update_is_the_gradient_of_its_loss(gradients, name):
    found, expected = gradients[name]
    size = abs(expected).max()
    assert size > 1e-4
    np.testing.assert_allclose(found / size, expected / size, rtol=1e-4, atol=1e-5)
