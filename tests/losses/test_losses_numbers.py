"""Numbers and masks of every loss: what is refused, what is NaN, and derivatives by numbers."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdpo_jax import losses
from tests.quickly import QUICKLY

DRAW = np.random.RandomState(4)
STUDENT, TEACHER = DRAW.normal(0, 1.5, (2, 2, 3, 5)).astype(np.float32)
NOW, OTHER, MORE = -np.exp(DRAW.normal(size=(3, 2, 3))).astype(np.float32)
# So that every clip binds somewhere.
OLD = NOW - np.array([[1.0, -1.0, 0.05], [-1.0, 1.0, 0.02]], np.float32)
TOKENS = DRAW.randint(0, 5, (2, 3)).astype(np.int32)
ADVANTAGES = np.array([1.0, -0.5], np.float32)
MASK = np.array([[True, True, False], [True, False, False]])


@pytest.fixture(autouse=True, scope="module")
def without_optimisations():
    """What is compared needs no speed, and compiles in half the time."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


# Every function that takes a mask, from the mask.
MASKED = {
    "centred": lambda where: losses.centred(OTHER, where=where),
    "leave_one_out": lambda where: losses.leave_one_out(OTHER, where=where),
    "group_normalised": lambda where: losses.group_normalised(OTHER, where=where),
    "distillation": lambda where: losses.distillation(STUDENT, TEACHER, where=where),
    "sampled_token": lambda where: losses.sampled_token(NOW, OLD, where=where),
    "importance_weights": lambda where: losses.importance_weights(NOW, OLD, where=where),
    "token_log_probs": lambda where: losses.token_log_probs(STUDENT, TOKENS, where=where),
    "entropy": lambda where: losses.entropy(STUDENT, where=where),
    "reinforce": lambda where: losses.reinforce(NOW, ADVANTAGES, where=where),
    "clipped_ratio": lambda where: losses.clipped_ratio(
        NOW, OLD, ADVANTAGES, level="sequence", where=where
    ),
    "kl_penalty": lambda where: losses.kl_penalty(NOW, OLD, where=where),
    "dpo": lambda where: losses.dpo(
        NOW, OLD, reference_chosen=OTHER, reference_rejected=MORE, where=where
    ),
    "token_mean": lambda where: losses.token_mean(NOW, where),
    "sequence_mean": lambda where: losses.sequence_mean(NOW, where),
    "fixed_length": lambda where: losses.fixed_length(NOW, where, length=4.0),
    "token_count": losses.token_count,
    "sequence_count": losses.sequence_count,
}
COUNTS = ("token_count", "sequence_count")


def test_every_mask_is_tried():
    takes_one = {
        name
        for name in losses.__all__
        if name.islower() and "where" in inspect.signature(getattr(losses, name)).parameters
    }
    assert set(MASKED) == takes_one


@pytest.mark.parametrize("name", MASKED)
def test_a_mask_has_the_shape_of_the_values_and_holds_booleans_or_0_and_1(name):
    for shape in ((2, 1), (1, 3), (1, 1), (3,), (2,), (), (1, 2, 3), (2, 3, 1)):
        # A count knows only the mask.
        if name not in COUNTS or shape == ():
            with pytest.raises(ValueError, match=r"^where: of shape \(.*\); allowed: "):
                MASKED[name](np.ones(shape, bool))
    for bad in (2 * MASK.astype(int), -MASK.astype(np.int8), MASK.astype(np.float32)):
        with pytest.raises(ValueError, match=r"^where: .*; allowed: booleans, or integers 0 and 1"):
            MASKED[name](bad)


def test_a_mask_of_integers_is_that_of_booleans():
    def all_of_them(boolean, integer):
        return {name: (call(boolean), call(integer)) for name, call in MASKED.items()}

    found = jax.jit(all_of_them, compiler_options=QUICKLY)(MASK, MASK.astype(np.int32))
    for name, (one, other) in found.items():
        np.testing.assert_array_equal(one, other, err_msg=name)


def test_counts_are_of_what_is_summed():
    """Of each mask a reduction takes, the counts give back its own mean."""
    values = np.ones_like(NOW)
    for mask in (MASK, np.zeros_like(MASK), np.ones_like(MASK)):
        total = losses.fixed_length(values, mask, length=1.0, count=1.0)
        assert total == losses.token_count(mask) == mask.sum()
        for reduction, count in (
            (losses.token_mean, losses.token_count),
            (losses.sequence_mean, losses.sequence_count),
        ):
            assert (
                reduction(values, mask) == reduction(values, mask, count=count(mask)) == mask.any()
            )


def test_a_count_of_nothing_does_not_hide_what_was_summed():
    assert losses.token_mean(NOW, np.zeros_like(MASK), count=0) == 0
    for count in (0, jnp.zeros(())):
        assert not np.isfinite(losses.token_mean(NOW, MASK, count=count))
        assert not np.isfinite(losses.sequence_mean(NOW, MASK, count=count))


# Every number: what takes it, one that is allowed, and those that are not.
def of_dpo(**number):
    return losses.dpo(NOW, OLD, reference_chosen=OTHER, reference_rejected=MORE, **number)


def jsd(**options):
    return losses.distillation(STUDENT, TEACHER, divergence="jsd", **options)


def ratio(**options):
    return losses.clipped_ratio(NOW, OLD, ADVANTAGES, **options)


NUMBERS = {
    "mix": (lambda x: jsd(mix=x), 0.3, (-0.1, 1.5)),
    "mix in chunks": (lambda x: jsd(mix=x, chunk=2), 0.3, (2.0,)),
    "temperature": (lambda x: jsd(temperature=x), 1.5, (0.0, -1.0)),
    "temperature in chunks": (lambda x: jsd(temperature=x, chunk=2), 1.5, (0.0,)),
    "temperature of log_probs": (
        lambda x: losses.token_log_probs(STUDENT, TOKENS, temperature=x), 0.7, (0.0,),
    ),
    "temperature of entropy": (lambda x: losses.entropy(STUDENT, temperature=x), 0.7, (0.0,)),
    "clip": (lambda x: ratio(clip=x), 0.1, (-0.1,)),
    "clip_high": (lambda x: ratio(clip_high=x), 0.3, (-0.1,)),
    "dual_clip": (lambda x: ratio(dual_clip=x), 1.4, (1.0, 0.5)),
    "clip of weights": (lambda x: losses.importance_weights(NOW, OLD, clip=x), 1.2, (0.0,)),
    "clip of sampled tokens": (
        lambda x: losses.sampled_token(NOW, OLD, old_log_probs=OTHER, clip=x), 1.2, (0.0,),
    ),
    "strength": (lambda x: of_dpo(strength=x), 0.4, (0.0,)),
    "label_smoothing": (lambda x: of_dpo(label_smoothing=x), 0.2, (-0.1, 0.6)),
    "epsilon": (lambda x: losses.group_normalised(OTHER, epsilon=x), 0.1, (-0.1,)),
    "length": (lambda x: losses.fixed_length(NOW, length=x), 4.0, (0.0,)),
    "count": (lambda x: losses.token_mean(NOW, count=x), 4.0, (-1.0,)),
    "count of sequences": (lambda x: losses.sequence_mean(NOW, count=x), 4.0, (-1.0,)),
    "weight": (lambda x: losses.hybrid(NOW, OLD, weight=x), 0.3, (-0.1, 1.1)),
    "weight, an array": (
        lambda x: losses.hybrid(NOW, OLD, weight=jnp.full(NOW.shape, x)), 0.3, (1.1,),
    ),
    "threshold": (lambda x: losses.hybrid_weight(NOW, threshold=x), 0.3, (0.0,)),
    "rate": (lambda x: losses.ema({"w": NOW}, {"w": OLD}, rate=x)["w"], 0.3, (-0.1, 1.1)),
    "trust": (lambda x: losses.trust_region(STUDENT, TEACHER, trust=x), 0.3, (-0.1, 1.1)),
    "strength of feedback": (
        lambda x: losses.composed(STUDENT, TEACHER, STUDENT, strength=x), 0.3, (-0.1,),
    ),
}  # fmt: skip


def test_every_number_is_tried():
    source = "".join(file.read_text() for file in Path(losses.__file__).parent.glob("*.py"))
    checked = set(re.findall(r'checks\.(?:number|within)\(\s*"(\w+)"', source))
    assert {re.split(r"[ ,]", name)[0] for name in NUMBERS} == checked


@pytest.fixture(scope="module")
def traced():
    """Of each number its values, as it is known, traced, and traced out of its range."""

    def all_of_them(good, bad):
        return {
            name: (take(right), take(good[name]), [take(each) for each in bad[name]])
            for name, (take, right, _) in NUMBERS.items()
        }

    good = {name: right for name, (_, right, _) in NUMBERS.items()}
    bad = {name: [*wrong, np.nan] for name, (_, _, wrong) in NUMBERS.items()}
    return jax.jit(all_of_them, compiler_options=QUICKLY)(good, bad)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_its_range_is_refused_or_makes_all_nan(traced, name):
    take, _, wrong = NUMBERS[name]
    for each in (*wrong, np.nan):
        for known in (each, np.float32(each), jnp.asarray(each)):
            with pytest.raises(ValueError, match=r"^\w+: (holds )?\S+; allowed: "):
                take(known)
    known, found, bad = traced[name]
    np.testing.assert_allclose(found, known, rtol=1e-6, atol=1e-6)
    for each in bad:
        assert np.isnan(each).all()


# Derivatives by numbers, and of second order

STOPPED = {
    "clip of weights", "clip of sampled tokens", "count", "count of sequences", "weight",
    "weight, an array", "threshold", "rate", "trust", "strength of feedback",
}  # fmt: skip
FORBIDDING = (
    np.where(np.arange(5) == 1, -np.inf, STUDENT),
    np.where(np.arange(5) == 1, -np.inf, TEACHER),
)


def test_gradients_by_numbers_are_those_of_finite_differences():
    """Every loss has its own number: one step of all of them at once is one of each."""
    student, teacher = (each.astype(float) for each in FORBIDDING)

    def forbidding(**options):
        return losses.distillation(student, teacher, top_k=2, where=MASK, **options)

    takes = {name: (take, right) for name, (take, right, _) in NUMBERS.items()}
    for divergence, chunk in (("forward_kl", None), ("reverse_kl", 2), ("jsd", 2)):
        options = {"divergence": divergence, "chunk": chunk}
        takes[f"temperature {divergence}"] = (
            lambda x, o=options: forbidding(temperature=x, **o),
            1.5,
        )
        takes[f"mix {divergence}"] = lambda x, o=options: forbidding(mix=x, **o), 0.3

    def weighted(take):
        def loss(number):
            values = take(number)
            return (jnp.linspace(0.5, 1.5, values.size).reshape(values.shape) * values).sum()

        return jax.value_and_grad(loss)

    def all_of_them(given):
        return {name: weighted(take)(given[name]) for name, (take, _) in takes.items()}

    with jax.enable_x64(True):
        program = jax.jit(all_of_them, compiler_options=QUICKLY)
        step = 1e-6
        at, before, after = (
            jax.device_get(program({name: right + move for name, (_, right) in takes.items()}))
            for move in (0, -step, step)
        )
    for name, (_, gradient) in at.items():
        expected = (after[name][0] - before[name][0]) / (2 * step)
        flat = name in STOPPED or name in ("mix forward_kl", "mix reverse_kl")
        assert (gradient == 0) == flat, name
        if name not in STOPPED:
            np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_what_is_masked_out_has_no_part_in_a_gradient_by_a_number():
    tokens = np.where(MASK, TOKENS, -100)
    student = np.where(MASK[..., None], STUDENT, np.nan)

    def loss(temperature, student, tokens, chunk):
        values = losses.token_log_probs(
            student, tokens, temperature=temperature, where=MASK, chunk=chunk
        )
        return values.sum() + losses.entropy(student, temperature=temperature, where=MASK).sum()

    def all_of_them(temperature):
        return [
            jax.grad(loss)(temperature, *given, chunk)
            for given in ((STUDENT, TOKENS), (student, tokens))
            for chunk in (None, 2)
        ]

    whole, chunks, *rest = jax.jit(all_of_them, compiler_options=QUICKLY)(0.7)
    np.testing.assert_allclose(chunks, whole, rtol=1e-6)
    np.testing.assert_array_equal(rest, [whole, chunks])


def test_derivatives_of_second_order_whole_and_in_chunks():
    with jax.enable_x64(True):
        student, teacher = (jnp.asarray(each[:1].astype(float)) for each in (STUDENT, TEACHER))

        def loss(student, chunk):
            return losses.distillation(student, teacher, chunk=chunk).sum()

        def all_of_them(student):
            found = {}
            for chunk in (None, 2):
                gradient = jax.grad(lambda s, chunk=chunk: loss(s, chunk))
                found[f"forward over reverse {chunk}"] = jax.jacfwd(gradient)(student)
                found[f"reverse over reverse {chunk}"] = jax.jacrev(gradient)(student)
            return found

        found = jax.jit(all_of_them, compiler_options=QUICKLY)(student)
        # Of the forward KL: the Fisher information of the student, at each position.
        probs = np.asarray(jax.nn.softmax(student)[0])
        expected = np.zeros((3, 5, 3, 5))
        for t in range(3):
            expected[t, :, t] = np.diag(probs[t]) - np.outer(probs[t], probs[t])
        for name, hessian in found.items():
            np.testing.assert_allclose(hessian[0, :, :, 0], expected, atol=1e-9, err_msg=name)


def test_forward_mode_is_for_formulas_that_are_taken_whole():
    def along(chunk):
        def loss(student):
            return losses.distillation(student, TEACHER, chunk=chunk)

        return jax.jvp(loss, (STUDENT,), (TEACHER,))[1]

    # Of the forward KL it is (S - Q) . direction.
    softmax = jax.nn.softmax
    expected = ((softmax(STUDENT) - softmax(TEACHER)) * TEACHER).sum(-1)
    np.testing.assert_allclose(along(None), expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(TypeError, match="forward-mode"):
        along(2)


# A divergence


def test_a_divergence_is_never_negative_and_keeps_its_gradient():
    draw = np.random.RandomState(0)
    student = draw.normal(0, 3, (400, 1, 64)).astype(np.float32)
    # As near as rounding, and nearer.
    near = (student * (1 + draw.choice([0, 1e-7, 3e-7, 1e-6], (400, 1, 1)))).astype(np.float32)

    def all_of_them(student, near):
        found = {
            f"{divergence} {top_k} {support}": losses.distillation(
                student, near, divergence=divergence, mix=0.3, top_k=top_k, support=support
            )
            for divergence in losses.DIVERGENCES
            for top_k, support in ((None, "student"), (5, "student"), (5, "union"))
        }
        now = jax.nn.log_softmax(student)[..., 0]
        found["k3"] = losses.kl_penalty(now, jax.nn.log_softmax(near)[..., 0])
        found["entropy"] = losses.entropy(30 * student)
        gradient = jax.grad(lambda s: losses.distillation(s, near).sum())(student)
        return found, gradient, jax.nn.softmax(student) - jax.nn.softmax(near)

    found, gradient, expected = jax.jit(all_of_them, compiler_options=QUICKLY)(student, near)
    for name, values in found.items():
        assert (np.asarray(values) >= 0).all(), name
    # Some were: otherwise this tests nothing.
    assert (np.asarray(found["forward_kl None student"]) == 0).any()
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_a_token_that_one_of_the_two_forbids():
    """Values and gradients, at a mix that is known and at one that is not."""
    allowed = STUDENT[:1, :1]
    forbidden = np.where(np.arange(5) == 1, -np.inf, TEACHER[:1, :1])
    inputs = {"teacher": (allowed, forbidden), "student": (forbidden, allowed)}

    def all_of_them(mixes):
        found = {}
        for who, (student, teacher) in inputs.items():
            for name in ("forward_kl", "reverse_kl"):
                found[f"{who} {name}"] = of(student, teacher, name, 0.5)
            for index, mix in enumerate((0.0, 0.3, 1.0)):
                found[f"{who} {mix}"] = of(student, teacher, "jsd", mixes[index])
        return found

    def of(student, teacher, divergence, mix):
        def loss(student):
            return losses.distillation(student, teacher, divergence=divergence, mix=mix).sum()

        return jax.value_and_grad(loss)(student)

    found = jax.jit(all_of_them, compiler_options=QUICKLY)(jnp.array([0.0, 0.3, 1.0]))

    from scipy.special import rel_entr, softmax

    s, q = softmax(allowed, -1).astype(float), softmax(forbidden, -1).astype(float)
    m = 0.7 * s + 0.3 * q, 0.7 * q + 0.3 * s
    between = [0.7 * rel_entr(s, m[0]) + 0.3 * rel_entr(q, m[0])]
    between += [0.7 * rel_entr(q, m[1]) + 0.3 * rel_entr(s, m[1])]
    values = {
        "teacher": (rel_entr(q, s), rel_entr(s, q), between[0]),
        "student": (rel_entr(s, q), rel_entr(q, s), between[1]),
    }
    for who, (forward, reverse, middle) in values.items():
        expected = {"forward_kl": forward, "reverse_kl": reverse}
        expected |= {0.0: forward, 0.3: middle, 1.0: reverse}
        for name, right in expected.items():
            value, gradient = found[f"{who} {name}"]
            np.testing.assert_allclose(value, right.sum(), rtol=1e-5, err_msg=f"{who} {name}")
            # It is infinite all around a teacher that forbids what the student does not.
            none = who == "teacher" and name in ("reverse_kl", 1.0)
            finite = np.isfinite(gradient)
            assert not finite.any() if none else finite.all(), (who, name)


# Against NumPy in float64, written out


def by_hand(now, old, advantages, low, high, dual, level, mask):
    out = np.zeros(now.shape)
    for i in range(len(now)):
        mean = np.exp((now - old)[i][mask[i]].mean()) if mask[i].any() else 1.0
        for t in np.flatnonzero(mask[i]):
            r = np.exp(now[i, t] - old[i, t]) if level == "token" else mean
            a = advantages[i]
            objective = min(r * a, min(max(r, 1 - low), 1 + high) * a)
            if dual is not None and a < 0:
                objective = max(objective, dual * a)
            out[i, t] = -objective
    return out


@pytest.mark.parametrize("level", ["token", "sequence", "sequence_token"])
@pytest.mark.parametrize("dual", [None, 1.1, 3.0])
def test_clipped_ratios_are_those_of_a_loop(level, dual):
    draw = np.random.RandomState(1)
    now, old = draw.normal(-2, 0.7, (2, 8, 6)).astype(np.float32)
    advantages = draw.normal(size=8).astype(np.float32)
    advantages[0] = 0
    mask = draw.uniform(size=(8, 6)) < np.array([1, 1, 0.7, 0.7, 0.5, 0.5, 0.3, 0])[:, None]
    found = losses.clipped_ratio(
        now, old, advantages, clip=0.2, clip_high=0.28, dual_clip=dual, level=level, where=mask
    )
    now, old, advantages = (each.astype(float) for each in (now, old, advantages))
    expected = by_hand(now, old, advantages, 0.2, 0.28, dual, level, mask)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)


def test_two_ratios_of_sequences_have_one_gradient():
    """With one advantage a sequence, and weights that its tokens share (2507.18071, Eq. 10, 17)."""

    def loss(now, level):
        values = losses.clipped_ratio(now, OLD, ADVANTAGES, clip=0.5, level=level, where=MASK)
        return losses.sequence_mean(values, MASK)

    program = jax.jit(jax.grad(loss), static_argnums=1, compiler_options=QUICKLY)
    one, other = (program(NOW, level) for level in ("sequence", "sequence_token"))
    assert np.asarray(one).any()
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_smoothed_preferences_are_those_of_their_definition():
    chosen, rejected, before, after = (each.astype(float) for each in (NOW, OLD, OTHER, MORE))
    margin = 0.7 * ((chosen - before) - (rejected - after))
    for wrong in (0.0, 0.1, 0.5):
        found = of_dpo(strength=0.7, label_smoothing=wrong)
        expected = (1 - wrong) * np.log1p(np.exp(-margin)) + wrong * np.log1p(np.exp(margin))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    far = {
        "reference_chosen": np.zeros(2, np.float32),
        "reference_rejected": np.zeros(2, np.float32),
    }
    margins = np.array([1e4, np.inf], np.float32)
    found = losses.dpo(margins, np.zeros(2, np.float32), **far, strength=1.0)
    np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize("tail", [True, False])
def test_a_union_of_likeliest_tokens_is_that_of_sets(tail):
    student, teacher = np.random.RandomState(3).normal(0, 2, (2, 4, 3, 9)).astype(np.float32)
    found = losses.distillation(student, teacher, top_k=3, support="union", tail=tail)
    for place in np.ndindex(4, 3):
        probs = [np.exp(each[place].astype(float)) for each in (student, teacher)]
        s, q = (each / each.sum() for each in probs)
        union = sorted(set(np.argsort(-s)[:3]) | set(np.argsort(-q)[:3]))
        assert 3 <= len(union) <= 6
        s, q = ([*each[union], 1 - each[union].sum()] if tail else each[union] for each in (s, q))
        s, q = (np.asarray(each) / np.sum(each) for each in (s, q))
        np.testing.assert_allclose(found[place], (q * np.log(q / s)).sum(), rtol=1e-4)
