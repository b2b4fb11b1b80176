"""What holds of every loss: masks, forbidden tokens, large logits, types, chunks, derivatives."""

from __future__ import annotations

import doctest
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from sdpo_jax import losses
from tests.quickly import QUICKLY

BATCH, LENGTH, VOCAB_SIZE = 3, 5, 7


def quickly(function, *inputs):
    """What a function returns, from one program that is compiled without LLVM's passes."""
    return jax.jit(function, compiler_options=QUICKLY)(*inputs)


DRAW = np.random.RandomState(2)
STUDENT, TEACHER = DRAW.normal(0, 1.5, (2, BATCH, LENGTH, VOCAB_SIZE)).astype(np.float32)
TOKENS = DRAW.randint(0, VOCAB_SIZE, (BATCH, LENGTH))
ADVANTAGES = np.array([1.0, -0.5, 0.3], np.float32)
# The last sequence has no token.
MASK = np.arange(LENGTH) < np.array([[5], [2], [0]])
# Ratios to it lie well inside or well outside the clips, not at their edges.
OFFSET = np.where(DRAW.uniform(size=(BATCH, LENGTH)) < 0.5, 0.6, 0.05).astype(np.float32)
OLD = np.asarray(losses.token_log_probs(STUDENT, TOKENS)) - OFFSET


@pytest.fixture(autouse=True, scope="module")
def without_optimisations():
    """What is compared needs no speed, and compiles in half the time."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def of_logits(function, **options):
    return lambda student, teacher, tokens, old, where: function(student, where, **options)


def divergence(**options):
    return lambda student, teacher, tokens, old, where: losses.distillation(
        student, teacher, where=where, **options
    )


def of_tokens(function):
    def loss(student, teacher, tokens, old, where):
        now = losses.token_log_probs(student, tokens, where=where)
        return function(now, old, where)

    return loss


def sampled(student, teacher, tokens, old, where):
    now, target = (losses.token_log_probs(each, tokens, where=where) for each in (student, teacher))
    return losses.sampled_token(now, target, old_log_probs=old, where=where)


def preferred(student, teacher, tokens, old, where):
    # Of a sequence against itself by the teacher, all tokens under the mask left out.
    first, second = (
        losses.token_log_probs(each, tokens, where=where).sum(-1) for each in (student, teacher)
    )
    return losses.dpo(
        first, second, reference_chosen=second, reference_rejected=0.9 * second,
        strength=0.5, label_smoothing=0.1, where=None if where is None else where.any(-1),
    )  # fmt: skip


def both(student, teacher, tokens, old, where):
    kl = losses.distillation(student, teacher, where=where)
    policy = of_tokens(reinforce)(student, teacher, tokens, old, where)
    weight = losses.hybrid_weight(losses.token_mean(kl, where), threshold=0.5)
    return losses.hybrid(kl, policy, weight=weight)


def reinforce(now, old, where):
    return losses.reinforce(now, ADVANTAGES, where=where)


def clipped(**options):
    return of_tokens(
        lambda now, old, where: losses.clipped_ratio(
            now, old, ADVANTAGES, clip=0.2, clip_high=0.28, where=where, **options
        )
    )


PENALTIES = {
    name: of_tokens(
        lambda now, old, where, name=name: losses.kl_penalty(now, old, estimator=name, where=where)
    )
    for name in ("k1", "k2", "k3")
}
CHUNKED = {
    "token_log_probs": lambda student, **options: losses.token_log_probs(
        student, TOKENS, where=MASK, **options
    ),
    "entropy": lambda student, **options: losses.entropy(student, where=MASK, **options),
    "jsd": lambda student, **options: losses.distillation(
        student, TEACHER, divergence="jsd", mix=0.3, where=MASK, temperature=1.5, **options
    ),
    "top_k": lambda student, **options: losses.distillation(
        student, TEACHER, top_k=3, where=MASK, **options
    ),
}
# From logits, logits, tokens, log probabilities and a mask to values per token (of a pair for dpo).
LOSSES = {
    "log_probs": lambda student, teacher, tokens, old, where: losses.token_log_probs(
        student, tokens, where=where, temperature=0.7
    ),
    "entropy": of_logits(lambda student, where: losses.entropy(student, where=where)),
    "forward_kl": divergence(),
    "reverse_kl": divergence(divergence="reverse_kl"),
    "jsd": divergence(divergence="jsd", mix=0.3, temperature=2.0),
    "jsd at an end": divergence(divergence="jsd", mix=1.0),
    "top_k and a tail": divergence(divergence="jsd", top_k=3),
    "top_k renormalised": divergence(divergence="reverse_kl", top_k=3, tail=False),
    "the teacher's top_k": divergence(top_k=3, support="teacher"),
    "the union's top_k": divergence(divergence="jsd", top_k=3, support="union"),
    "the union's, renormalised": divergence(top_k=2, support="union", tail=False),
    "in chunks": divergence(divergence="jsd", mix=0.3, chunk=2),
    "log_probs in chunks": lambda student, teacher, tokens, old, where: losses.token_log_probs(
        student, tokens, where=where, chunk=2
    ),
    "sampled_token": sampled,
    "reinforce": of_tokens(reinforce),
    "clipped_ratio": clipped(),
    "dual clip": clipped(dual_clip=1.5),
    "ratio of sequences": clipped(level="sequence"),
    "ratio of sequences, by token": clipped(level="sequence_token"),
    **PENALTIES,
    "dpo": preferred,
    "hybrid": both,
}


def value_and_gradient(name, inputs):
    """Of the sum, by the student's logits; values stay per token."""

    def loss(student, *others):
        values = LOSSES[name](student, *others)
        return values.sum(), values

    (_, values), gradient = jax.value_and_grad(loss, has_aux=True)(*inputs)
    return values, gradient


@pytest.fixture(scope="module")
def compiled():
    """Of all losses at once: from student, teacher, tokens, old and mask."""

    def all_of_them(*inputs):
        return {name: value_and_gradient(name, inputs) for name in LOSSES}

    return jax.jit(all_of_them, compiler_options=QUICKLY)


# Masks


def with_masked_out(content, token):
    def filled(array, value):
        where = MASK.reshape(MASK.shape + (1,) * (array.ndim - 2))
        return np.where(where, array, np.array(value, array.dtype))

    return filled(STUDENT, content), filled(TEACHER, content), filled(TOKENS, token), filled(
        OLD, content
    )  # fmt: skip


@pytest.fixture(scope="module")
def clean(compiled):
    return compiled(*with_masked_out(0.5, 0), MASK)


@pytest.mark.parametrize(
    ("content", "token"),
    [(np.nan, -100), (np.inf, VOCAB_SIZE), (-np.inf, 1), (1e30, 2**31 - 1), (-3.0, 3)],
)
def test_what_is_masked_out_changes_no_bit(compiled, clean, content, token):
    found = compiled(*with_masked_out(content, token), MASK)
    for name, (values, gradient) in found.items():
        np.testing.assert_array_equal(values, clean[name][0], err_msg=name)
        np.testing.assert_array_equal(gradient, clean[name][1], err_msg=name)
        assert not np.asarray(gradient)[~MASK].any(), name
        assert np.asarray(gradient)[MASK].any(), name
        if values.ndim == 2:
            assert not np.asarray(values)[~MASK].any(), name


def test_a_batch_without_a_token_has_no_loss_and_no_gradient(compiled):
    nothing = np.full_like(STUDENT, np.nan)
    found = compiled(nothing, nothing, TOKENS, np.full_like(OLD, np.nan), np.zeros_like(MASK))
    for name, (values, gradient) in found.items():
        assert (np.asarray(values) == 0).all(), name
        assert (np.asarray(gradient) == 0).all(), name


READ = {
    "student": set(LOSSES),
    "teacher": {"sampled_token", "dpo", "hybrid"}
    | {name for name in LOSSES if name.endswith(("_kl", "jsd")) or "top_k" in name}
    | {"jsd at an end", "the union's, renormalised", "in chunks"},
    "old": {"sampled_token", "clipped_ratio", "dual clip", *PENALTIES}
    | {name for name in LOSSES if name.startswith("ratio of")},
}


@pytest.mark.parametrize(
    ("whose", "what"),
    [(whose, what) for whose in ("student", "teacher") for what in ("nan", "inf", "none")]
    + [("old", "nan")],
)
def test_what_is_no_number_and_counts_is_never_hidden(compiled, clean, whose, what):
    """A logit of NaN or infinity, of the unlikeliest token, or logits that are all -inf."""
    row, place = 1, 1
    given = dict(zip(("student", "teacher", "tokens", "old"), with_masked_out(0.5, 0), strict=True))
    if whose == "old":
        given["old"][row, place] = np.nan
    elif what == "none":
        given[whose][row, place] = -np.inf
    else:
        given[whose][row, place, given[whose][row, place].argmin()] = float(what)
    found = compiled(*given.values(), MASK)
    for name, (values, gradient) in found.items():
        values, gradient = np.asarray(values), np.asarray(gradient)
        if name not in READ[whose]:
            np.testing.assert_array_equal(values, clean[name][0], err_msg=name)
            np.testing.assert_array_equal(gradient, clean[name][1], err_msg=name)
            continue
        assert np.isnan(values[row, place] if values.ndim == 2 else values[row]), name
        assert np.isnan(gradient[row, place]).any(), name
        # And never leaks into what does not count, or into other sequences but by a mean of all.
        assert not gradient[~MASK].any(), name
        if name != "hybrid":
            np.testing.assert_array_equal(gradient[0], clean[name][1][0], err_msg=name)


REDUCTIONS = {
    "token_mean": losses.token_mean,
    "sequence_mean": losses.sequence_mean,
    "fixed_length": lambda *given, **options: losses.fixed_length(*given, length=8, **options),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_a_reduction_sees_nothing_that_is_masked_out(name):
    values = np.where(MASK, OLD, np.nan)
    value, gradient = jax.value_and_grad(REDUCTIONS[name])(values, MASK)
    expected = {
        "token_mean": OLD[MASK].mean(),
        "sequence_mean": (OLD[0].mean() + OLD[1, :2].mean()) / 2,
        "fixed_length": OLD[MASK].sum() / 8 / 2,
    }
    np.testing.assert_allclose(value, expected[name], rtol=1e-6)
    assert not np.asarray(gradient)[~MASK].any()
    value, gradient = jax.value_and_grad(REDUCTIONS[name])(values, np.zeros_like(MASK))
    assert value == 0
    assert not np.asarray(gradient).any()


# Extreme logits


def in_float64(name, student, teacher):
    """KL and JSD of a single position by definition, in float64 and with scipy's x log x."""
    from scipy.special import log_softmax, rel_entr

    s, q = (
        np.exp(log_softmax(np.asarray(each, np.float64), axis=-1)) for each in (student, teacher)
    )
    if name == "forward_kl":
        return rel_entr(q, s).sum(-1)
    if name == "reverse_kl":
        return rel_entr(s, q).sum(-1)
    m = 0.7 * s + 0.3 * q
    return 0.7 * rel_entr(s, m).sum(-1) + 0.3 * rel_entr(q, m).sum(-1)


def forbidding(logits):
    out = logits.copy()
    out[..., [1, 4]] = -np.inf
    return out


KEPT = [0, 2, 3, 5, 6]


def test_tokens_that_both_forbid_do_not_count():
    teacher = forbidding(TEACHER)
    # With five allowed tokens a top 5 and a top 6 are all there is, and the tail is of nothing.
    cases = [(name, top_k) for name in losses.DIVERGENCES for top_k in (None, 5, 6)]

    def all_of_them(student):
        def loss(student, name, top_k):
            values = losses.distillation(student, teacher, divergence=name, mix=0.3, top_k=top_k)
            return values.sum(), values

        return [jax.grad(loss, has_aux=True)(student, *case) for case in cases]

    found = quickly(all_of_them, forbidding(STUDENT))
    for (name, _), (gradient, values) in zip(cases, found, strict=True):
        expected = in_float64(name, STUDENT[..., KEPT], TEACHER[..., KEPT])
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)
        assert np.isfinite(gradient).all()
        assert not np.asarray(gradient)[..., [1, 4]].any()
        # Moving all logits of a position changes nothing.
        np.testing.assert_allclose(np.asarray(gradient).sum(-1), 0, atol=1e-6)


def test_forbidden_tokens_have_no_part_in_the_entropy_or_in_others_log_probs():
    logits = forbidding(STUDENT)
    allowed = np.where(np.isin(TOKENS, [1, 4]), 0, TOKENS)
    short = np.searchsorted(KEPT, allowed)

    def all_of_them(logits):
        pairs = [
            (losses.entropy, losses.entropy(STUDENT[..., KEPT])),
            (
                lambda logits: losses.token_log_probs(logits, allowed),
                losses.token_log_probs(STUDENT[..., KEPT], short),
            ),
        ]
        return [
            (function(logits), expected, jax.grad(lambda s, f=function: f(s).sum())(logits))
            for function, expected in pairs
        ]

    for value, expected, gradient in quickly(all_of_them, logits):
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        assert np.isfinite(gradient).all()


def test_a_token_that_only_the_second_forbids_is_infinitely_far():
    some = np.where(np.arange(VOCAB_SIZE) == 1, -np.inf, STUDENT)

    def all_of_them(some):
        infinite = (
            losses.distillation(some, TEACHER),
            losses.distillation(TEACHER, some, divergence="reverse_kl"),
        )
        pairs = (some, TEACHER), (TEACHER, some)
        finite = [losses.distillation(*pair, divergence="jsd") for pair in pairs]
        gradient = jax.grad(lambda s: losses.distillation(s, TEACHER).sum())(some)
        return infinite, finite, gradient, jax.nn.softmax(some) - jax.nn.softmax(TEACHER)

    infinite, finite, gradient, expected = quickly(all_of_them, some)
    assert np.isposinf(infinite).all()
    assert np.isfinite(finite).all()
    # The forward KL's gradient is S - Q all the same.
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("scale", [100.0, 1e4])
def test_large_logits_are_finite_and_right(scale):
    student, teacher = scale * STUDENT, scale * TEACHER

    def all_of_them(student):
        return {
            name: jax.vjp(
                lambda s, name=name: losses.distillation(s, teacher, divergence=name, mix=0.3),
                student,
            )
            for name in losses.DIVERGENCES
        }

    from scipy.special import log_softmax

    logs = [log_softmax(np.asarray(each, np.float64), axis=-1) for each in (student, teacher)]
    s, q = np.exp(logs)
    m = np.log(np.maximum(0.7 * s + 0.3 * q, 1e-300))
    expected = {
        "forward_kl": (q * (logs[1] - logs[0])).sum(-1),
        "reverse_kl": (s * (logs[0] - logs[1])).sum(-1),
        "jsd": (0.7 * s * (logs[0] - m) + 0.3 * q * (logs[1] - m)).sum(-1),
    }
    for name, (values, pull) in quickly(all_of_them, student).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-5)
        assert np.isfinite(pull(jnp.ones_like(values))[0]).all()


def test_half_precision_is_summed_in_float32():
    # 3,000 terms: a sum in bfloat16 would stop growing at a few hundred of them.
    wide = 1.5 * np.random.RandomState(1).normal(size=(2, 1, 3000))
    tokens = np.zeros((1, 1), int)

    def all_of_them(kind):
        student, teacher = (jnp.asarray(each, kind) for each in wide[:, None])

        def losses_of(student):
            options = [{}, {"divergence": "reverse_kl"}, {"divergence": "jsd", "top_k": 30}]
            return [
                losses.entropy(student),
                losses.token_log_probs(student, tokens),
                *(losses.distillation(student, teacher, **chosen) for chosen in options),
            ]

        def in_type(student):
            values, pull = jax.vjp(losses_of, student)
            return values, pull([jnp.ones_like(value) for value in values])[0]

        return *in_type(student), losses_of(student.astype(jnp.float32))

    values, gradient, expected = quickly(lambda: all_of_them(jnp.bfloat16))
    assert gradient.dtype == jnp.bfloat16
    for value, other in zip(values, expected, strict=True):
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, other, rtol=1e-6)


def test_a_small_tail_is_not_lost_to_rounding():
    # log(1 - sum of the others) would have no digit of it left in float32.
    student = np.array([[9.0, 0.0, -20.0, -21.0]], np.float32)
    teacher = np.array([[9.0, 0.0, -3.0, -4.0]], np.float32)
    found = losses.distillation(student, teacher, top_k=2)

    def buckets(logits):
        probs = np.exp(logits.astype(np.float64))
        probs /= probs.sum()
        return np.log(np.append(probs[0, :2], probs[0, 2:].sum()))

    s, q = buckets(student), buckets(teacher)
    np.testing.assert_allclose(found, [(np.exp(q) * (q - s)).sum()], atol=2e-7)


def test_of_tokens_that_are_as_likely_the_lower_are_kept():
    flat = jnp.zeros((1, 4))
    teacher = jnp.asarray([[2.0, 0.0, 1.0, -1.0]])
    found = losses.distillation(flat, teacher, top_k=2, tail=False)
    np.testing.assert_allclose(found, losses.distillation(flat[:, :2], teacher[:, :2]), rtol=1e-6)


# Shapes


def test_any_leading_axes_and_sequences_of_one():
    def loss(student, teacher, tokens, old):
        values = losses.distillation(student, teacher, divergence="jsd", top_k=3, chunk=2)
        now = losses.token_log_probs(student, tokens, chunk=2)
        return values + losses.clipped_ratio(now, old, old)

    def all_of_them(*inputs):
        deeper = [each.reshape(BATCH, 1, *each.shape[1:]) for each in inputs]
        single = [each[0, :1] for each in inputs]
        return loss(*inputs), loss(*deeper)[:, 0], jax.vmap(loss)(*inputs), loss(*single)

    expected, *others, single = quickly(all_of_them, STUDENT, TEACHER, TOKENS, OLD)
    for found in others:
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert single.shape == (1,)
    np.testing.assert_allclose(single, expected[0, :1], rtol=1e-6)


def test_chunks_change_neither_value_nor_gradient():
    def value_and_gradient(student, name, chunk):
        values, pull = jax.vjp(lambda s: CHUNKED[name](s, chunk=chunk), student)
        return values, pull(jnp.asarray(OFFSET))[0]

    def all_of_them(student):
        chunks = (None, 2)
        return {
            name: [value_and_gradient(student, name, chunk) for chunk in chunks] for name in CHUNKED
        }

    for name, (whole, chunked) in quickly(all_of_them, STUDENT).items():
        for one, other in zip(chunked, whole, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7, err_msg=name)


def test_no_other_array_as_large_as_the_logits_lives_in_chunks():
    shape = jax.ShapeDtypeStruct((2, 64, 2048), jnp.float32)
    size = 2 * 64 * 2048 * 4

    def beyond(chunk, **options):
        def loss(student, teacher):
            values = losses.distillation(student, teacher, divergence="jsd", chunk=chunk, **options)
            return values.sum()

        program = jax.jit(jax.value_and_grad(loss)).lower(shape, shape).compile()
        return program.memory_analysis().temp_size_in_bytes / size

    assert beyond(None) > 2
    assert beyond(2) < 0.3
    assert beyond(2, top_k=8) < 0.3


# Derivatives


# What it returns is no function whose derivative it has: gradients are stopped within.
SURROGATES = {"sampled_token", "hybrid", "ratio of sequences, by token"}


def test_derivatives_are_those_of_finite_differences():
    with jax.enable_x64(True):
        student, teacher, old = (each.astype(float) for each in (STUDENT, TEACHER, OLD))

        @jax.jit
        def every_loss(student):
            return {
                name: LOSSES[name](student, teacher, TOKENS, old, MASK)
                for name in set(LOSSES) - SURROGATES
            }

        check_grads(every_loss, (student,), 1, modes=["rev"], atol=1e-6, rtol=1e-6, eps=1e-5)


def test_the_teacher_gets_no_gradient():
    now, target = OLD, OLD + OFFSET
    constant = {
        "distillation": (lambda q: losses.distillation(STUDENT, q), TEACHER),
        "in chunks": (lambda q: losses.distillation(STUDENT, q, chunk=2), TEACHER),
        "sampled_token": (lambda q: losses.sampled_token(now, q), target),
        "importance_weights": (lambda p: losses.importance_weights(p, target), now),
        "old": (lambda q: losses.clipped_ratio(now, q, ADVANTAGES), target),
        "advantages": (lambda a: losses.reinforce(now, a), ADVANTAGES),
        "reference": (lambda q: losses.kl_penalty(now, q), target),
        "ema": (lambda q: losses.ema(q, q), target),
        "trust_region": (lambda q: losses.trust_region(q, q, trust=0.5), TEACHER),
        "composed": (lambda q: losses.composed(q, q, TEACHER), STUDENT),
        "weight": (lambda a: losses.hybrid_weight(a, threshold=1.0), now),
    }

    def gradients():
        return {
            name: jax.grad(lambda x, function=function: function(x).sum())(argument)
            for name, (function, argument) in constant.items()
        }

    for name, gradient in quickly(gradients).items():
        assert not np.asarray(gradient).any(), name


def test_a_mix_that_is_not_known_yet():
    mixes = (0.0, 0.3, 1.0)

    def of(mix):
        def loss(student):
            values = losses.distillation(student, TEACHER, divergence="jsd", mix=mix)
            return values.sum(), values

        return jax.grad(loss, has_aux=True)(STUDENT)

    def all_of_them(traced):
        return jax.vmap(of)(traced), [of(mix) for mix in mixes]

    traced, known = quickly(all_of_them, np.array(mixes, np.float32))
    for i, expected in enumerate(known):
        for found, right in zip(traced, expected, strict=True):
            np.testing.assert_allclose(found[i], right, rtol=1e-5, atol=1e-6)


# Estimators, by sums over all tokens


def expected_gradient(loss, student):
    """The expectation over a token of the student's, of the gradient of its loss."""
    rows = jnp.broadcast_to(student, (VOCAB_SIZE, 1, VOCAB_SIZE))

    def losses_of(rows):
        return loss(losses.token_log_probs(rows, jnp.arange(VOCAB_SIZE)[:, None]))

    gradients = jax.grad(lambda rows: losses_of(rows).sum())(rows)[:, 0]
    return jax.nn.softmax(student) @ gradients


def test_expected_gradients_are_those_of_the_divergences():
    student, teacher = STUDENT[0, 0], TEACHER[0, 0]
    target = jax.nn.log_softmax(teacher)[:, None]

    def kl(student, divergence):
        return jax.grad(
            lambda s: losses.distillation(s[None], teacher[None], divergence=divergence).sum()
        )(student)

    estimators = {
        "sampled": lambda now: losses.sampled_token(now, target),
        **{
            name: lambda now, name=name: losses.kl_penalty(now, target, estimator=name)
            for name in ("k1", "k2", "k3")
        },
    }

    def all_of_them(student):
        found = {name: expected_gradient(loss, student) for name, loss in estimators.items()}
        return found, kl(student, "forward_kl"), kl(student, "reverse_kl")

    found, forward, reverse = quickly(all_of_them, student)
    expected = {"sampled": reverse, "k1": np.zeros(VOCAB_SIZE), "k2": reverse, "k3": forward}
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, expected[name], atol=1e-6, err_msg=name)


def test_expected_values_of_the_penalties():
    def all_of_them(student, teacher):
        now, target = jax.nn.log_softmax(student), jax.nn.log_softmax(teacher)
        values = {name: losses.kl_penalty(now, target, estimator=name)[0] for name in ("k1", "k3")}
        expected = {name: jnp.exp(now[0]) @ value for name, value in values.items()}
        return expected, values, losses.distillation(student, teacher, divergence="reverse_kl")

    # One position; the tokens of the vocabulary in the place of those of a sequence.
    expected, values, exact = quickly(all_of_them, STUDENT[0, :1], TEACHER[0, :1])
    for value in expected.values():
        np.testing.assert_allclose(value, exact[0], rtol=1e-5)
    assert (values["k3"] >= 0).all()


def test_importance_correction_makes_old_tokens_as_good_as_new():
    # Unclipped: the expectation over the old policy's tokens is that over the new one's.
    student, teacher, old = STUDENT[0, 0], TEACHER[0, 0], STUDENT[0, 1]
    sampled_by = jax.nn.log_softmax(old)[:, None]
    target = jax.nn.log_softmax(teacher)[:, None]
    rows = jnp.broadcast_to(student, (VOCAB_SIZE, 1, VOCAB_SIZE))

    def loss(rows):
        now = losses.token_log_probs(rows, jnp.arange(VOCAB_SIZE)[:, None])
        return losses.sampled_token(now, target, old_log_probs=sampled_by, clip=1e6).sum()

    def both_of_them():
        of_old = jax.nn.softmax(old) @ jax.grad(loss)(rows)[:, 0]
        return of_old, expected_gradient(lambda now: losses.sampled_token(now, target), student)

    found, expected = quickly(both_of_them)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_extreme_ratios_are_those_of_the_formulas():
    now = np.array([[0.0, -1e4, -1e4, 0.0]], np.float32)
    old = np.array([[-1e4, 0.0, -1e4, 0.0]], np.float32)

    def all_of_them(now):
        functions = {
            **{
                f"{advantage} {dual}": lambda now, a=advantage, c=dual: losses.clipped_ratio(
                    now, old, jnp.full(now.shape, a), dual_clip=c
                )
                for advantage in (-1.0, 0.0, 1.0)
                for dual in (None, 3.0)
            },
            "k2": lambda now: losses.kl_penalty(now, old, estimator="k2"),
            "k3": lambda now: losses.kl_penalty(now, old),
            "weights": lambda now: losses.importance_weights(now, old),
        }
        return {
            name: (function(now), jax.grad(lambda x, f=function: f(x).sum())(now))
            for name, function in functions.items()
        }

    infinity = np.inf
    expected = {
        "-1.0 None": ([infinity, 0.8, 1, 1], [infinity, 0, 1, 1]),
        "-1.0 3.0": ([3, 0.8, 1, 1], [0, 0, 1, 1]),
        "0.0 None": (4 * [0], 4 * [0]),
        "0.0 3.0": (4 * [0], 4 * [0]),
        "1.0 None": ([-1.2, 0, -1, -1], [0, 0, -1, -1]),
        "1.0 3.0": ([-1.2, 0, -1, -1], [0, 0, -1, -1]),
        "k2": ([5e7, 5e7, 0, 0], [1e4, -1e4, 0, 0]),
        "k3": ([9999, infinity, 0, 0], [1, -infinity, 0, 0]),
        "weights": ([2, 0, 1, 1], 4 * [0]),
    }
    for name, found in quickly(all_of_them, now).items():
        for one, other in zip(found, expected[name], strict=True):
            np.testing.assert_allclose(one[0], other, rtol=1e-6, err_msg=name)


# Advantages


REWARDS = np.array([[1.0, 0.0, 0.25, 0.5], [0.1, 0.1, 0.1, 0.1], [3.0, -1.0, 7.0, 2.0]], np.float32)


def test_advantages_are_those_of_their_definitions():
    rewards = REWARDS.astype(np.float64)
    mean, spread = rewards.mean(1, keepdims=True), rewards.std(1, ddof=1, keepdims=True)
    others = (rewards.sum(1, keepdims=True) - rewards) / 3

    def all_of_them(given):
        return (
            losses.centred(given),
            losses.leave_one_out(given),
            losses.group_normalised(given, epsilon=1e-4),
            losses.centred(given.T, axis=0).T,
        )

    expected = rewards - mean, rewards - others, (rewards - mean) / (spread + 1e-4), rewards - mean
    for found, right in zip(quickly(all_of_them, REWARDS), expected, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6)


ADVANTAGE_FUNCTIONS = (losses.centred, losses.leave_one_out, losses.group_normalised)


def test_equal_rewards_teach_nothing_and_missing_ones_do_not_count():
    level = np.array([[0.1], [-1 / 3], [1e6], [0.0], [1e-30]], np.float32)
    missing = np.array([True, True, False, True])
    no_number = np.array([1.0, np.nan, 0.0], np.float32)

    def of(function):
        return {
            "none": [
                function(np.repeat(level, 3, axis=1)),
                function(level),
                function(REWARDS, where=np.zeros(REWARDS.shape, bool)),
            ],
            "some": function(
                np.where(missing, REWARDS, np.nan), where=np.broadcast_to(missing, REWARDS.shape)
            ),
            "same": function(REWARDS[:, missing]),
            "loud": function(no_number),
            "whole numbers": function(np.array([1, 0, 0])),
            "numbers": function(np.array([1.0, 0.0, 0.0], np.float32)),
        }

    for found in quickly(lambda: [of(function) for function in ADVANTAGE_FUNCTIONS]):
        assert not any(np.asarray(each).any() for each in found["none"])
        np.testing.assert_allclose(found["some"][:, missing], found["same"], rtol=1e-6, atol=1e-7)
        assert not np.asarray(found["some"][:, ~missing]).any()
        # A reward that is not a number is no reason to be quiet.
        assert np.isnan(found["loud"]).all()
        np.testing.assert_array_equal(found["whole numbers"], found["numbers"])


def test_rewards_that_differ_by_rounding_are_equal():
    sums = np.array([0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1, 0.6], np.float32)
    rewards = np.nextafter(sums, np.array([0, 1, 2], np.float32))
    assert len(set(rewards.tolist())) > 1
    assert not np.asarray(losses.group_normalised(rewards)).any()
    assert np.asarray(losses.group_normalised(np.float32([0.6, 0.6001, 0.6]))).any()


@pytest.mark.parametrize("kind", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("size", [1e-30, 1e-4, 1.0, 1e2, 1e4, 3e19, 1e37])
def test_rewards_of_any_type_and_size_are_taken_for_what_they_are(kind, size):
    """As in float64, also where two are neighbours in their type."""
    finest = float(jnp.finfo(kind).eps)
    apart = max(finest, 16 * float(jnp.finfo(jnp.float32).eps))
    plain = np.array([[1.0, 1 + apart, 1 + 2 * apart, 1.0], [0.3, -0.8, 1.0, 0.1]])
    rewards = jnp.asarray((size * plain).astype(np.float32)).astype(kind)
    exact = np.asarray(rewards.astype(jnp.float32)).astype(np.float64)
    if not np.isfinite(exact).all() or not exact.any():
        pytest.skip("no such numbers of this type")
    centred = exact - exact.mean(1, keepdims=True)
    found = quickly(lambda each: losses.group_normalised(each, epsilon=0.0), rewards)
    spread = exact.std(1, ddof=1, keepdims=True)
    expected = np.where(spread > 0, centred / np.where(spread > 0, spread, 1), 0)
    # Of the first row the mean is rounded to a part of the differences.
    np.testing.assert_allclose(found, expected, atol=0.1 if kind == jnp.float32 else 1e-3)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("others", [(0.0, 1.0), (0.0, 0.0), (np.inf, 1.0)])
def test_a_reward_that_is_infinite_is_not_hidden(bad, others):
    for rewards in itertools.permutations((bad, *others)):
        for function in ADVANTAGE_FUNCTIONS:
            assert not np.isfinite(function(np.float32(rewards))).all(), (function, rewards)
        assert np.isnan(losses.group_normalised(np.float32(rewards))).any()


def test_tokens_that_fit_no_type_are_outside_of_the_vocabulary():
    logits = np.zeros((4, 3), np.float32)
    tokens = np.array([2**32 + 1, -(2**32), 2**63 - 1, 1], np.int64)
    for kind in (np.int64, np.uint64):
        found = np.asarray(losses.token_log_probs(logits, tokens.astype(kind)))
        np.testing.assert_array_equal(np.isnan(found), [True, True, True, False])


# Teachers


@pytest.mark.parametrize("of_student", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("of_teacher", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_averaged_parameters(of_teacher, of_student):
    teacher = {"w": jnp.ones(3, of_teacher), "b": jnp.zeros((), of_teacher)}
    student = {"w": jnp.full(3, 3.0, of_student), "b": jnp.ones((), of_student)}
    found = losses.ema(teacher, student, rate=0.25)
    np.testing.assert_allclose(found["w"], 1.5)
    np.testing.assert_allclose(found["b"], 0.25)
    # As a scan over steps needs it.
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(of_teacher)}


def test_teachers_of_logits():
    feedback = STUDENT[::-1]
    softmax = jax.nn.softmax
    np.testing.assert_allclose(
        softmax(losses.composed(STUDENT, feedback, STUDENT)), softmax(feedback), atol=1e-6
    )
    np.testing.assert_array_equal(losses.composed(STUDENT, feedback, TEACHER, strength=0), STUDENT)
    for trust, expected in ((0.0, TEACHER), (1.0, STUDENT), (0.5, (STUDENT + TEACHER) / 2)):
        found = losses.trust_region(STUDENT, TEACHER, trust=trust)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    s, q = forbidding(STUDENT), forbidding(TEACHER)
    for found in (losses.composed(s, q, q), losses.trust_region(s, q, trust=0.0)):
        assert not np.isnan(found).any()
        np.testing.assert_array_equal(found == -np.inf, s == -np.inf)


# Parts of a batch


def a_batchs_loss(name, parameters, part, count):
    student = parameters * part["student"]
    now = losses.token_log_probs(student, part["tokens"])
    values = losses.distillation(student, part["teacher"], where=part["mask"], chunk=2)
    values += losses.clipped_ratio(now, part["old"], part["advantages"], where=part["mask"])
    return REDUCTIONS[name](values, part["mask"], count=count)


def test_microbatches_sum_to_the_whole():
    whole = {
        "student": STUDENT, "teacher": TEACHER, "tokens": TOKENS, "old": OLD, "mask": MASK,
        "advantages": ADVANTAGES,
    }  # fmt: skip
    counts = {
        name: losses.token_count(MASK) if name == "token_mean" else losses.sequence_count(MASK)
        for name in REDUCTIONS
    }

    def gradients(part, counts):
        return {
            name: jax.value_and_grad(a_batchs_loss, argnums=1)(
                name, jnp.ones(()), part, None if counts is None else counts[name]
            )
            for name in REDUCTIONS
        }

    program = jax.jit(gradients, compiler_options=QUICKLY)
    expected = program(whole, None)
    parts = [{key: array[i : i + 1] for key, array in whole.items()} for i in range(BATCH)]
    found = [program(part, counts) for part in parts]
    for name in REDUCTIONS:
        summed = np.sum([part[name] for part in found], axis=0)
        np.testing.assert_allclose(summed, expected[name], rtol=1e-6, atol=1e-7)
    # The mean of their own means is another number.
    own = [part["token_mean"][0] * 7 / n for part, n in zip(found, (5, 2, 1), strict=True)]
    assert abs(np.mean(own) - expected["token_mean"][0]) > 0.01


def test_two_devices_give_the_gradient_of_one():
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    script = Path(__file__).with_name("two_devices.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        env=environment,
        capture_output=True,
        text=True,
        cwd=script.parent.parent.parent,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"jit", "shard_map", "shard_map, shared"}
    for name, error in found.items():
        assert error <= 1e-6, name


# Mistakes


MISTAKES = {
    "teacher_logits: of shape (2, 5, 7); allowed: (3, 5, 7)": lambda: losses.distillation(
        STUDENT, TEACHER[:2]
    ),
    "student_logits: of shape (7,); allowed: [..., T, V]": lambda: losses.distillation(
        STUDENT[0, 0], TEACHER[0, 0]
    ),
    "student_logits: of type int32; allowed: a floating-point type": lambda: losses.distillation(
        STUDENT.astype(np.int32), TEACHER
    ),
    "divergence: 'kl'; allowed: forward_kl, reverse_kl, jsd": lambda: losses.distillation(
        STUDENT, TEACHER, divergence="kl"
    ),
    "support: 'both'; allowed: student, teacher, union": lambda: losses.distillation(
        STUDENT, TEACHER, top_k=2, support="both"
    ),
    "mix: 1.5; allowed: 0 to 1": lambda: losses.distillation(STUDENT, TEACHER, mix=1.5),
    "mix: of shape (2,); allowed: one number": lambda: losses.distillation(
        STUDENT, TEACHER, mix=np.zeros(2)
    ),
    "mix: nan; allowed: 0 to 1": lambda: losses.distillation(STUDENT, TEACHER, mix=np.nan),
    "top_k: 0; allowed: a whole number, 1 or more": lambda: losses.distillation(
        STUDENT, TEACHER, top_k=0
    ),
    "chunk: 2.0; allowed: a whole number, 1 or more": lambda: losses.entropy(STUDENT, chunk=2.0),
    "temperature: 0; allowed: above 0": lambda: losses.entropy(STUDENT, temperature=0),
    "tokens: of type float32; allowed: an integer type": lambda: losses.token_log_probs(
        STUDENT, TOKENS.astype(np.float32)
    ),
    "tokens: of shape (5,); allowed: (3, 5)": lambda: losses.token_log_probs(STUDENT, TOKENS[0]),
    "where: of type float32; allowed: booleans, or integers 0 and 1": lambda: losses.entropy(
        STUDENT, where=MASK.astype(np.float32)
    ),
    "where: of shape (3,); allowed: (3, 5)": lambda: losses.entropy(STUDENT, where=MASK[:, 0]),
    "where: holds 2; allowed: booleans, or integers 0 and 1": lambda: losses.token_count(2 * MASK),
    "where: of shape (); allowed: [..., T]": lambda: losses.sequence_count(True),
    "logits: of shape (3, 5, 0); allowed: a V of 1 or more": lambda: losses.entropy(
        STUDENT[..., :0]
    ),
    "level: 'group'; allowed: token, sequence, sequence_token": lambda: losses.clipped_ratio(
        OLD, OLD, ADVANTAGES, level="group"
    ),
    "dual_clip: 1; allowed: above 1": lambda: losses.clipped_ratio(
        OLD, OLD, ADVANTAGES, dual_clip=1
    ),
    "label_smoothing: 0.6; allowed: 0 to 0.5": lambda: losses.dpo(
        ADVANTAGES,
        ADVANTAGES,
        reference_chosen=ADVANTAGES,
        reference_rejected=ADVANTAGES,
        label_smoothing=0.6,
    ),
    "mix: None; allowed: one number": lambda: losses.distillation(STUDENT, TEACHER, mix=None),
    "temperature: of type bool; allowed: one number": lambda: losses.entropy(
        STUDENT, temperature=True
    ),
    "weight: holds 2; allowed: 0 to 1": lambda: losses.hybrid(
        OLD, OLD, weight=np.where(MASK, 0.5, 2)
    ),
    "student['w']: of shape (1,); allowed: (3,)": lambda: losses.ema(
        {"w": np.ones(3)}, {"w": np.ones(1)}
    ),
    "teacher['n']: of type int32; allowed: a floating-point type": lambda: losses.ema(
        {"n": np.int32(1)}, {"n": np.int32(1)}
    ),
    "student: of structure PyTreeDef([*]); allowed: the teacher's, PyTreeDef({'w': *})": lambda: (
        losses.ema({"w": np.ones(3)}, [np.ones(3)])
    ),
    "rewards: of type complex64; allowed: a floating-point type": lambda: losses.centred(
        np.complex64([1 + 5j, 2])
    ),
    "count: inf; allowed: a finite number, 0 or more": lambda: losses.token_mean(
        jnp.ones((1, 2)), count=np.inf
    ),
    "length: inf; allowed: a finite number, above 0": lambda: losses.fixed_length(
        jnp.ones((1, 2)), length=np.inf
    ),
    "advantages: of shape (5,); allowed: (3,) or (3, 5)": lambda: losses.reinforce(
        OLD, np.zeros(5, np.float32)
    ),
    "old_log_probs: of shape (3, 4); allowed: (3, 5)": lambda: losses.clipped_ratio(
        OLD, OLD[:, :4], ADVANTAGES
    ),
    "clip: -0.1; allowed: 0 or more": lambda: losses.clipped_ratio(OLD, OLD, ADVANTAGES, clip=-0.1),
    "estimator: 'k4'; allowed: k1, k2, k3": lambda: losses.kl_penalty(OLD, OLD, estimator="k4"),
    "tail: 'no'; allowed: True, False": lambda: losses.distillation(
        STUDENT, TEACHER, top_k=2, tail="no"
    ),
    "axis: None; allowed: an axis of rewards of shape (3,)": lambda: losses.centred(
        ADVANTAGES, axis=None
    ),
    "axis: 2; allowed: an axis of rewards of shape (3,)": lambda: losses.centred(
        ADVANTAGES, axis=2
    ),
    "reference_rejected: of shape (2,); allowed: (3,)": lambda: losses.dpo(
        ADVANTAGES, ADVANTAGES, reference_chosen=ADVANTAGES, reference_rejected=ADVANTAGES[:2]
    ),
    "weight: 2; allowed: 0 to 1": lambda: losses.hybrid(OLD, OLD, weight=2),
    "policy_gradient: of shape (3,); allowed: (3, 5)": lambda: losses.hybrid(
        OLD, ADVANTAGES, weight=0.5
    ),
    "threshold: 0; allowed: above 0": lambda: losses.hybrid_weight(OLD, threshold=0),
    "length: 0; allowed: a finite number, above 0": lambda: losses.fixed_length(OLD, length=0),
    "count: -1; allowed: a finite number, 0 or more": lambda: losses.token_mean(OLD, count=-1),
    "rate: 2; allowed: 0 to 1": lambda: losses.ema(OLD, OLD, rate=2),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_said_in_one_line(message):
    with pytest.raises(ValueError) as error:
        MISTAKES[message]()
    assert str(error.value) == message


def test_an_unmasked_token_outside_the_vocabulary_is_loud():
    for token in (-100, -1, VOCAB_SIZE):
        assert np.isnan(losses.token_log_probs(STUDENT[0, :1], np.array([token])))


# The package


FUNCTIONS = [name for name in losses.__all__ if name.islower()]


def test_it_knows_nothing_of_the_engine():
    folder = Path(losses.__file__).parent
    for file in folder.glob("*.py"):
        for line in file.read_text().splitlines():
            if line.startswith(("import ", "from ")):
                root = line.split()[1]
                allowed = ("sdpo_jax.losses", "jax", "numpy", "optax", "__future__")
                standard = ("collections", "dataclasses", "functools", "operator", "typing")
                assert root.startswith(allowed + standard), f"{file.name}: {line}"


def test_its_examples_run_and_its_names_are_all_there():
    modules = {sys.modules[getattr(losses, name).__module__] for name in FUNCTIONS} | {losses}
    outcomes = [doctest.testmod(module) for module in modules]
    assert not sum(outcome.failed for outcome in outcomes)
    assert sum(outcome.attempted for outcome in outcomes) > 20
    assert list(losses.__all__) == sorted(
        losses.__all__, key=lambda name: (not name.isupper(), name)
    )
    assert all(hasattr(losses, name) for name in losses.__all__)
