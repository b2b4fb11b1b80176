"""Our gradients against TRL's losses, where TRL is installed (``pip install -e '.[trl]'``).

It is not among the locked packages: it brings PyTorch and Transformers with it. Its losses are
differentiated by PyTorch, over the logits of our factored policy in the place of a language
model's: a "completion" is a sequence of T tokens. Of a trainer only the loss is called, on a
stand-in that holds what the loss reads.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from sdpo_jax import ALGORITHMS, Sizes, policies
from sdpo_jax.algorithms.dpo import pair_gradient
from sdpo_jax.credit import clipped
from sdpo_jax.credit.preferences import Pairs
from sdpo_jax.teachers import divergences

REASON = "not installed; pip install -e '.[trl]'"

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("trl", reason=REASON)
    torch = pytest.importorskip("torch", reason=REASON)
    from trl import DPOTrainer, GRPOTrainer
    from trl.experimental.gkd import GKDTrainer
    from trl.experimental.sdpo import loss_utils

pytestmark = pytest.mark.filterwarnings("ignore")

LENGTH, VOCAB_SIZE, ROLLOUTS = 4, 6, 10
SIZES = Sizes(length=LENGTH, vocab_size=VOCAB_SIZE, rollouts=ROLLOUTS)
CLOSE = {"rtol": 2e-4, "atol": 2e-6}
MIXES = {"forward": 0.0, "reverse": 1.0}


@pytest.fixture(scope="module")
def drawn():
    """Logits of two policies, rollouts ``[T, N]`` and rewards ``[N]``."""
    draw = np.random.default_rng(3)
    one, other = draw.normal(size=(2, LENGTH, VOCAB_SIZE)).astype(np.float32)
    tokens = draw.integers(0, VOCAB_SIZE, (LENGTH, ROLLOUTS))
    reward = draw.uniform(size=ROLLOUTS).astype(np.float32)
    return one, other, tokens, reward


def gradient(loss, logits):
    """Of a loss in PyTorch, at logits ``[T, V]``."""
    leaf = torch.tensor(logits, requires_grad=True)
    loss(leaf).backward()
    return leaf.grad.numpy()


def log_probs(logits, tokens):
    """Of each token of the rollouts ``[T, N]``: ``[N, T]``."""
    table = torch.log_softmax(logits, -1)
    return torch.gather(table, 1, torch.as_tensor(tokens)).T


class Accelerator:
    """One process: what is gathered is what was given."""

    device = "cpu"
    num_processes = 1
    sync_gradients = True

    def gather(self, value):
        return value

    gather_for_metrics = gather

    def reduce(self, value, reduction):
        return value


def stand_in(**fields):
    metrics = defaultdict(lambda: defaultdict(list))
    model = SimpleNamespace(training=True)
    return SimpleNamespace(model=model, accelerator=Accelerator(), _metrics=metrics, **fields)


def student_of(logits):
    return divergences.student_of(policies.policy(jnp.asarray(logits)))


@pytest.mark.parametrize("name", ["forward", "reverse"])
def test_divergences_of_their_sdpo(drawn, name):
    student, teacher, _, _ = drawn

    def loss(leaf):
        return loss_utils.compute_full_logit_self_distillation_loss(
            leaf, torch.tensor(teacher), distillation_alpha=MIXES[name]
        ).sum()

    found = divergences.DIVERGENCES[name](student_of(student), teacher - student, 0.5)
    np.testing.assert_allclose(found, gradient(loss, student), **CLOSE)


@pytest.mark.parametrize("mix", [0.0, 0.1, 0.5, 0.8, 1.0])
def test_the_generalised_jensen_shannon_divergence(drawn, mix):
    student, teacher, _, _ = drawn

    def of_sdpo(leaf):
        return loss_utils.compute_full_logit_self_distillation_loss(
            leaf, torch.tensor(teacher), distillation_alpha=mix
        ).sum()

    def of_gkd(leaf):
        return GKDTrainer.generalized_jsd_loss(
            leaf[None], torch.tensor(teacher)[None], beta=mix, reduction="sum"
        )

    found = divergences.jensen_shannon(student_of(student), teacher - student, mix)
    for theirs in (of_sdpo, of_gkd):
        np.testing.assert_allclose(found, gradient(theirs, student), **CLOSE)


@pytest.mark.parametrize("count", [1, 2, 4, 5])
@pytest.mark.parametrize("name", ["forward", "reverse", "jsd"])
def test_top_k_with_a_tail(drawn, name, count):
    student, teacher, _, _ = drawn

    def loss(leaf):
        return loss_utils.compute_topk_self_distillation_loss(
            leaf,
            torch.tensor(teacher),
            distillation_topk=count,
            distillation_alpha=MIXES.get(name, 0.3),
            distillation_add_tail=True,
        ).sum()

    shift = teacher - student
    ours = student_of(student)
    found = divergences.top_k(divergences.DIVERGENCES[name], ours, count)(ours, shift, 0.3)
    np.testing.assert_allclose(found, gradient(loss, student), **CLOSE)


@pytest.mark.parametrize("clip", [0.1, 0.4])
def test_grpo_and_its_clip(drawn, clip):
    logits, old, tokens, reward = drawn
    advantage = (reward - reward.mean()) / (reward.std(ddof=1) + 1e-6)
    theirs = grpo_gradient("grpo", logits, old, tokens, advantage, clip)
    before = policies.policy(jnp.asarray(old))
    batch = clipped.batch(before, jnp.asarray(tokens), jnp.asarray(advantage))
    found = clipped.gradient(policies.policy(jnp.asarray(logits)), batch, clip) / LENGTH
    np.testing.assert_allclose(found, theirs, **CLOSE)


def test_grpo_where_the_policy_is_the_one_that_sampled(drawn):
    logits, _, tokens, reward = drawn
    advantage = (reward - reward.mean()) / (reward.std(ddof=1) + 1e-6)
    theirs = grpo_gradient("grpo", logits, logits, tokens, advantage, 0.2)
    np.testing.assert_allclose(ours("grpo", logits, tokens, reward), theirs, **CLOSE)


def test_dr_grpo(drawn):
    logits, _, tokens, reward = drawn
    # Theirs divides by a constant length, ours by none.
    theirs = LENGTH * grpo_gradient("dr_grpo", logits, logits, tokens, reward - reward.mean(), 0.2)
    np.testing.assert_allclose(ours("dr_grpo", logits, tokens, reward), theirs, **CLOSE)


def ours(algorithm, logits, tokens, reward):
    """Of an algorithm that keeps a batch, at the first step."""
    update = ALGORITHMS[algorithm].update(
        policy=policies.policy(jnp.asarray(logits)),
        params=jnp.asarray(logits),
        read=lambda params, tokens=None: params,
        tokens=jnp.asarray(tokens),
        signal=jnp.asarray(reward),
        memory=(),
        step=0,
        sizes=SIZES,
    )
    return update.gradient


def grpo_gradient(kind, logits, old, tokens, advantage, clip):
    """Of ``GRPOTrainer``'s loss, at logits ``[T, V]``."""
    ones = torch.ones(ROLLOUTS, LENGTH, dtype=torch.long)
    inputs = {
        "prompt_ids": ones[:, :1],
        "prompt_mask": ones[:, :1],
        "completion_ids": torch.as_tensor(tokens.T),
        "completion_mask": ones,
        "advantages": torch.tensor(advantage),
        "old_per_token_logps": log_probs(torch.tensor(old), tokens),
    }

    def loss(leaf):
        def per_token(*_, **__):
            return log_probs(leaf, tokens), torch.zeros(ROLLOUTS, LENGTH), None

        trainer = stand_in(
            loss_type=kind,
            beta=0.0,
            epsilon_low=clip,
            epsilon_high=clip,
            importance_sampling_level="token",
            top_entropy_quantile=1.0,
            off_policy_mask_threshold=None,
            use_vllm=False,
            aux_loss_enabled=False,
            current_gradient_accumulation_steps=1,
            max_completion_length=LENGTH,
            args=SimpleNamespace(delta=None, use_bias_correction_kl=False),
            _entropy_bonus_enabled=False,
            _get_per_token_logps_and_entropies=per_token,
        )
        return GRPOTrainer._compute_loss(trainer, None, inputs)

    return gradient(loss, logits)


@pytest.mark.parametrize("strength", [0.1, 2.0])
def test_dpo(drawn, strength):
    logits, reference, tokens, _ = drawn
    pairs = ROLLOUTS // 2
    verdict = np.where(np.arange(pairs) % 3 == 0, -1.0, 1.0).astype(np.float32)
    first, second = tokens[:, :pairs], tokens[:, pairs:]
    chosen = np.where(verdict > 0, first, second)
    rejected = np.where(verdict > 0, second, first)
    both = np.concatenate((chosen, rejected), axis=1)

    def loss(leaf):
        def model(**_):
            nothing = torch.zeros(ROLLOUTS, LENGTH)
            return SimpleNamespace(
                log_probs=log_probs(leaf, both),
                entropy=nothing,
                mean_logits=nothing,
                is_top1=nothing.bool(),
            )

        trainer = stand_in(
            aux_loss_enabled=False,
            ld_alpha=None,
            precompute_ref_logps=True,
            f_divergence_type="reverse_kl",
            loss_types=["sigmoid"],
            loss_weights=[1.0],
            beta=strength,
            use_weighting=False,
            _total_train_tokens=0,
            _tp_size=1,
        )
        before = log_probs(torch.tensor(reference), both).sum(1)
        # A prompt of one token, then the completion.
        mask = torch.ones(ROLLOUTS, LENGTH + 1, dtype=torch.long)
        mask[:, 0] = 0
        inputs = {
            "input_ids": torch.zeros_like(mask),
            "attention_mask": torch.ones_like(mask),
            "completion_mask": mask,
            "ref_chosen_logps": before[:pairs],
            "ref_rejected_logps": before[pairs:],
        }
        return DPOTrainer._compute_loss(trainer, model, inputs, False)

    found = pair_gradient(
        policies.policy(jnp.asarray(logits)),
        policies.policy(jnp.asarray(reference)),
        Pairs(jnp.asarray(first), jnp.asarray(second), jnp.asarray(verdict)),
        strength,
    )
    np.testing.assert_allclose(found, gradient(loss, logits), **CLOSE)
