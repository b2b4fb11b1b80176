"""Our gradients against rlax's losses, where rlax is installed (``pip install -e '.[peers]'``).

It is not among the locked packages: it brings a nightly build of TensorFlow Probability with it.
"""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdpo_jax import ALGORITHMS, Config, policies
from sdpo_jax.credit import clipped
from sdpo_jax.teachers import divergences

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    rlax = pytest.importorskip("rlax", reason="not installed; pip install -e '.[peers]'")

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")

LENGTH, VOCAB_SIZE, ROLLOUTS = 3, 5, 8
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


@pytest.fixture(scope="module")
def drawn():
    """Logits of two policies, rollouts ``[T, N]`` and rewards ``[N]``."""
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(2, LENGTH, VOCAB_SIZE)).astype(np.float32)
    tokens = draw.integers(0, VOCAB_SIZE, (LENGTH, ROLLOUTS))
    reward = draw.uniform(size=ROLLOUTS).astype(np.float32)
    return jnp.asarray(one), jnp.asarray(other), jnp.asarray(tokens), jnp.asarray(reward)


def over_positions(loss):
    """Ours sum over positions and average over rollouts; rlax's average over a sequence."""
    return sum(loss(t) for t in range(LENGTH))


@pytest.mark.parametrize("algorithm", ["reinforce", "rloo"])
def test_policy_gradients(drawn, algorithm):
    logits, _, tokens, reward = drawn
    scale = 1.0 if algorithm == "reinforce" else ROLLOUTS / (ROLLOUTS - 1)
    advantage = scale * (reward - reward.mean())
    ones = jnp.ones(ROLLOUTS)

    def loss(logits):
        return over_positions(
            lambda t: rlax.policy_gradient_loss(
                jnp.tile(logits[t], (ROLLOUTS, 1)), tokens[t], advantage, ones
            )
        )

    update = ALGORITHMS[algorithm](policy=policies.policy(logits), tokens=tokens, signal=reward)
    np.testing.assert_allclose(update.gradient, jax.grad(loss)(logits), **CLOSE)


@pytest.mark.parametrize("clip", [0.1, 0.3])
def test_the_clipped_surrogate(drawn, clip):
    logits, old, tokens, reward = drawn
    advantage = reward - reward.mean()

    def loss(logits):
        def of_position(t):
            new, before = (jax.nn.softmax(each[t])[tokens[t]] for each in (logits, old))
            return rlax.clipped_surrogate_pg_loss(new / before, advantage, clip)

        return over_positions(of_position)

    batch = clipped.batch(policies.policy(old), tokens, advantage)
    found = clipped.gradient(policies.policy(logits), batch, clip)
    np.testing.assert_allclose(found, jax.grad(loss)(logits), **CLOSE)


def test_the_forward_divergence(drawn):
    logits, teacher, _, _ = drawn

    def loss(logits):
        return rlax.categorical_kl_divergence(teacher, logits).sum()

    student = divergences.student_of(policies.policy(logits))
    found = divergences.forward_kl(student, teacher - logits)
    np.testing.assert_allclose(found, jax.grad(loss)(logits), **CLOSE)


def test_the_reverse_divergence(drawn):
    logits, teacher, _, _ = drawn

    def loss(logits):
        return rlax.categorical_kl_divergence(logits, teacher).sum()

    student = divergences.student_of(policies.policy(logits))
    found = divergences.reverse_kl(student, teacher - logits)
    np.testing.assert_allclose(found, jax.grad(loss)(logits), **CLOSE)


def test_distillation_at_a_temperature(drawn):
    logits, first, _, _ = drawn
    temperature = 1.7
    table = jnp.asarray(np.random.default_rng(1).normal(size=first.shape), jnp.float32)

    def loss(logits):
        divided = rlax.categorical_kl_divergence(first + 1.5 * table, logits, temperature)
        return temperature**2 * divided.sum()

    update = ALGORITHMS["distillation"](
        policy=policies.policy(logits),
        reference=policies.policy(first),
        knowledge=table,
        config=Config(feedback_strength=1.5),
        temperature=temperature,
    )
    np.testing.assert_allclose(update.gradient, jax.grad(loss)(logits), **CLOSE)


def test_the_entropy_bonus(drawn):
    logits, _, _, _ = drawn

    def loss(logits):
        return LENGTH * rlax.entropy_loss(logits, jnp.ones(LENGTH))

    found = divergences.entropy_gradient(policies.policy(logits))
    np.testing.assert_allclose(found, jax.grad(loss)(logits), **CLOSE)
