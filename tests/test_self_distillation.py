"""Divergences, teachers and their algorithms, against automatic gradients, optax and
enumeration."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

import sdpo_jax
from sdpo_jax import ALGORITHMS, ORACLES, Config, Program, Sizes, policies
from sdpo_jax.algorithms.self_distillation import pull
from sdpo_jax.teachers import divergences
from sdpo_jax.teachers.divergences import DIVERGENCES
from tests import reference
from tests.enumeration import BETA, SHAPES, Case

VARIANTS = [
    name for name in ALGORITHMS if name.startswith(("sdpo_forward", "sdpo_reverse", "sdpo_jsd"))
]
LIVE = [f"sdpo_{name}" for name in DIVERGENCES]


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def case(request) -> Case:
    return Case(*request.param)


# Divergences


def kl(one, other):
    """As optax has it: ``KL(other || one)`` of its log predictions and its targets."""
    return optax.losses.kl_divergence(jnp.log(other), one).sum()


LOSSES = {
    "forward": lambda s, q, a: kl(q, s),
    "reverse": lambda s, q, a: kl(s, q),
    "jsd": lambda s, q, a: (1 - a) * kl(s, (1 - a) * s + a * q) + a * kl(q, (1 - a) * s + a * q),
}


def student_of(logits):
    return divergences.student_of(policies.policy(jnp.asarray(logits)))


def two_policies(seed=0, vocab_size=6):
    return np.random.default_rng(seed).normal(0, 1.5, (2, 3, vocab_size)).astype(np.float32)


def units_in_the_last_place(found, expected):
    """How far apart, in the spacing of float32 there."""
    spacing = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    return np.max(np.abs(np.asarray(found, np.float64) - expected) / spacing)


def small_and_large(largest_below, largest_above):
    """Numbers of both signs, from nearly the smallest of float32 on, and many around 1."""
    draw = np.random.default_rng(7)
    parts = [draw.uniform(-largest_below, largest_above, 40_000), draw.uniform(-0.49, 2, 40_000)]
    for sign, largest in ((-1, largest_below), (1, largest_above)):
        parts.append(sign * np.geomspace(1e-35, 0.99 * largest, 40_000))
    return np.concatenate([*parts, [0.0]]).astype(np.float32)


def test_an_exponential_less_1_has_all_its_digits():
    x = small_and_large(86.9, 87.9)
    exp, expm1 = jax.jit(divergences._exp_and_expm1)(x)
    assert units_in_the_last_place(exp, np.exp(x.astype(np.float64))) < 2
    assert units_in_the_last_place(expm1, np.expm1(x.astype(np.float64))) < 4
    slope = jax.vmap(jax.grad(lambda x: divergences._exp_and_expm1(x)[1]))(x)
    np.testing.assert_allclose(slope, np.exp(x.astype(np.float64)), rtol=3e-6, atol=1e-30)
    beyond = divergences._exp_and_expm1(jnp.array([np.nan, -np.inf, -1e30, -87.5]))
    np.testing.assert_array_equal(beyond[1], [np.nan, -1, -1, -1])


def log1p(x):
    return divergences._log1p(x, 1 + x)


def test_a_logarithm_of_1_and_more_has_all_its_digits():
    x = small_and_large(0.49, 1e30)
    exact = np.log1p(x.astype(np.float64))
    assert units_in_the_last_place(jax.jit(log1p)(x), exact) < 6
    slope = jax.vmap(jax.grad(log1p))(x)
    np.testing.assert_allclose(slope, 1 / (1 + x.astype(np.float64)), rtol=3e-6)
    # Nearer to -1, of the sum that is given.
    whole = np.geomspace(1e-37, 0.49, 1000).astype(np.float32)
    found = jax.jit(divergences._log1p)(whole - 1, whole)
    assert units_in_the_last_place(found, np.log(whole.astype(np.float64))) < 6


@pytest.mark.parametrize("mix", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_divergences_gradient_is_that_of_its_definition(name, mix):
    logits, teacher = two_policies()

    def loss(logits):
        return LOSSES[name](jax.nn.softmax(logits), jax.nn.softmax(teacher), mix)

    expected = jax.grad(loss)(jnp.asarray(logits))
    found = DIVERGENCES[name](student_of(logits), teacher - logits, mix)
    assert abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


# A student that is nearly sure, one that is nearly uniform, and shifts from tiny to steep.
STUDENTS = (0.01, 1.0, 8.0)
SHIFTS = (1e-6, 1e-3, 0.1, 1.0, 10.0)
MIXES = (0.0, 1e-6, 1e-3, 0.5, 1 - 1e-3, 1 - 1e-6, 1.0)


@pytest.fixture(scope="module")
def tilted():
    """Log probabilities and shifts ``[V, rows]``, of every kind above."""
    draw = np.random.default_rng(4)
    kinds = [(s, k) for s in STUDENTS for k in SHIFTS for _ in range(8)]
    logits, shift = (
        np.stack([kind[i] * draw.normal(size=6) for kind in kinds], 1) for i in range(2)
    )
    logits = logits - special.logsumexp(logits, axis=0)
    return logits.astype(np.float32), shift.astype(np.float32)


def value(name, logits, shift, mix):
    """The divergence, in longdouble, of logits and shifts ``[V, rows]``; its ends are the KLs."""
    logits, shift, mix = (np.asarray(each, np.longdouble) for each in (logits, shift, mix))
    student, teacher = (
        np.exp(each - each.max(0)) / np.exp(each - each.max(0)).sum(0)
        for each in (logits, logits + shift)
    )

    def kl(one, other):
        return (one * np.log(one / other)).sum(0)

    if name == "forward" or (name == "jsd" and mix == 0):
        return kl(teacher, student)
    if name == "reverse" or (name == "jsd" and mix == 1):
        return kl(student, teacher)
    mixture = (1 - mix) * student + mix * teacher
    return (1 - mix) * kl(student, mixture) + mix * kl(teacher, mixture)


def slopes(name, logits, shift, mix):
    """Its derivative by finite differences, the teacher held."""
    teacher = np.asarray(logits, np.longdouble) + shift
    found = np.empty_like(teacher)
    step = np.longdouble(1e-3)
    for v in range(len(logits)):
        move = np.zeros_like(teacher)
        move[v] = step
        up, down, twice_up, twice_down = (
            value(name, logits + way * move, teacher - logits - way * move, mix)
            for way in (1, -1, 2, -2)
        )
        # Of fourth order, for what is left of a difference of longdoubles.
        found[v] = (8 * (up - down) - (twice_up - twice_down)) / (12 * step)
    return found


@pytest.mark.parametrize(
    ("name", "mix"),
    [("forward", 0.5), ("reverse", 0.5), *(("jsd", mix) for mix in MIXES)],
)
def test_a_gradient_is_exact_in_proportion_to_its_size(tilted, name, mix):
    logits, shift = tilted
    mix = np.float32(mix)
    student = student_of(logits[None])
    found = np.asarray(DIVERGENCES[name](student, shift[None], mix)[0], np.float64)
    expected = slopes(name, logits, shift, mix)
    size = abs(expected).max(0)
    # A difference quotient of longdoubles holds 1e-16.
    compared = size > 1e-10
    assert compared.mean() > 0.5
    error = abs(found - expected).max(0)[compared] / size[compared]
    # As the inputs are float32: a log probability of 30 holds 2e-6 of its probability.
    assert error.max() < 1e-5


@pytest.mark.parametrize(
    ("name", "mix"),
    [("forward", 0.5), ("reverse", 0.5), *(("jsd", mix) for mix in MIXES)],
)
def test_a_gradient_is_right_of_shifts_of_any_size(name, mix):
    # Around where exponentials are no longer taken of what is counted from the likeliest token.
    draw = np.random.default_rng(8)
    steep = np.repeat([20.0, 30.0, 40.0, 60.0, 100.0, 1000.0], 20)
    logits = (3 * draw.normal(size=(6, len(steep)))).astype(np.float32)
    shift = (steep * draw.uniform(-1, 1, (6, len(steep)))).astype(np.float32)
    mix = np.float32(mix)
    found = np.asarray(DIVERGENCES[name](student_of(logits[None]), shift[None], mix)[0], np.float64)
    expected = slopes(name, logits, shift, mix)
    # A sum of 1000 holds 6e-5 of its exponential, and a log probability is the difference of two
    # numbers as large as the logits, which are rounded by 2e-7.
    share = mix * (1 - mix) if name == "jsd" and 0 < mix < 1 else 1.0
    allowed = (1e-5 + 2e-7 * steep) * abs(expected).max(0) + 3e-7 * share
    np.testing.assert_array_less(abs(found - expected).max(0), allowed)


@pytest.mark.parametrize("name", ["forward", "jsd"])
@pytest.mark.parametrize("opposed", [0.0, 1e-4, 0.3, 3.0, 12.0, 18.0])
def test_two_shifts_together_are_the_shift_of_their_sum(name, opposed):
    draw = np.random.default_rng(9)
    student = student_of(draw.normal(size=(4000, 6)).astype(np.float32))
    base = (opposed * draw.normal(size=(4000, 6))).astype(np.float32)
    # Against the base, but for what is left of it.
    lesson = (draw.normal(size=(4000, 6)) * min(1, 10 * opposed + 1e-5)).astype(np.float32) - base
    highest = lesson.max(1, keepdims=True)
    prepared = divergences.Shift(
        lesson,
        np.exp(lesson - highest),
        np.expm1(lesson - highest),
        np.ptp(lesson, 1, keepdims=True),
    )
    shift = divergences.together(divergences.shift_of(student, jnp.asarray(base)), prepared)
    near = np.asarray((shift.reach < divergences.FAR)[:, 0])
    assert near.sum() > 50
    found = DIVERGENCES[name].near(student, shift, 0.5)[near]
    alone = DIVERGENCES[name](student, jnp.asarray(base + lesson), 0.5)[near]
    size = abs(alone).max(1, keepdims=True)
    # A base of 18 is rounded by 1e-6.
    np.testing.assert_allclose(found / size, alone / size, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_top_k_is_that_of_the_buckets_whatever_the_shift(name, count):
    draw = np.random.default_rng(10)
    size = np.repeat([1.0, 30.0, 60.0, 150.0, 1000.0], 20)[:, None]
    logits = (np.minimum(size, 60) * draw.normal(size=(100, 5))).astype(np.float32)
    shift = (size * draw.normal(size=(100, 5))).astype(np.float32)
    student = student_of(logits)
    found = divergences.top_k(DIVERGENCES[name], student, count)(student, shift, 1.0)
    logits, shift = logits.astype(np.float64), shift.astype(np.float64)
    kept = np.argsort(np.argsort(-logits, axis=1), axis=1) < count
    logs = special.log_softmax(logits, axis=1)
    rest = special.logsumexp(np.where(kept, -np.inf, logs), axis=1, keepdims=True)
    taught = special.log_softmax(logits + shift, axis=1)
    taught_rest = special.logsumexp(np.where(kept, -np.inf, taught), axis=1, keepdims=True)
    ratio = np.concatenate((np.where(kept, taught - logs, 0.0), taught_rest - rest), axis=1)
    probs = np.concatenate((np.where(kept, np.exp(logs), 0.0), np.exp(rest)), axis=1)
    expected = probs * ((probs * ratio).sum(1, keepdims=True) - ratio)
    if name == "forward":
        teacher = np.concatenate((np.where(kept, np.exp(taught), 0.0), np.exp(taught_rest)), axis=1)
        expected = probs - teacher
    share = np.where(kept, 1.0, np.exp(np.where(kept, -np.inf, logs) - rest))
    expected = np.where(kept, expected[:, :5], expected[:, 5:]) * share
    # Logits of 30 are rounded by 2e-6.
    scale = np.maximum(abs(expected).max(1, keepdims=True), 0.1)
    np.testing.assert_array_less(abs(found - expected) / scale, (2e-5 + 4e-7 * size) * np.ones(5))


@pytest.mark.parametrize("mix", [1e-6, 1 - 1e-6])
def test_near_its_ends_the_jsd_is_a_small_share_of_the_kl(tilted, mix):
    logits, shift = (each[None] for each in tilted)
    mix = np.float32(mix)
    gentle = abs(shift).max((0, 1)) < 3
    share = np.float64(mix) * (1 - np.float64(mix))
    student = student_of(logits)
    found = divergences.jensen_shannon(student, shift, mix)[..., gentle] / share
    end = divergences.jensen_shannon(student, shift, np.round(mix))[..., gentle]
    size = abs(end).max((0, 1))
    np.testing.assert_allclose(found / size, end / size, rtol=0, atol=1e-4)


@pytest.mark.parametrize("algorithm", ["opsd", *(m for m in VARIANTS if "jsd" in m)])
def test_at_its_ends_an_algorithm_learns_by_a_kl(case, algorithm):
    ends = [case.ours(algorithm, divergence_mix=mix) for mix in (0.0, 1.0)]
    if algorithm == "sdpo_jsd":
        for end, name in zip(ends, ("forward", "reverse"), strict=True):
            np.testing.assert_allclose(end, case.ours(f"sdpo_{name}"), rtol=1e-6, atol=1e-7)
    assert min(abs(end).max() for end in ends) > 0.01
    # One value for each run, ends and others side by side.
    runs = case.tokens.shape[-1]
    mixed = np.resize(np.float32([0.0, 0.5, 1.0]), runs)
    found = case.ours(algorithm, divergence_mix=mixed)
    alone = [case.ours(algorithm, divergence_mix=mix) for mix in (0.0, 0.5, 1.0)]
    for place, each in enumerate(alone):
        np.testing.assert_array_equal(found[..., place::3], each[..., place::3])


def bucketed(probs, kept):
    """Probabilities of the kept tokens and of all the others together."""
    return jnp.concatenate((probs[kept], probs[~kept].sum(keepdims=True)))


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_top_k_divergence_is_that_of_the_buckets(name, count):
    logits, teacher = two_policies(1)
    # Which tokens are kept does not depend on the gradient's direction.
    order = np.argsort(-logits, axis=1)[:, :count]

    def loss(logits):
        total = 0.0
        for t in range(len(logits)):
            kept = np.isin(np.arange(logits.shape[1]), order[t])
            student, shown = jax.nn.softmax(logits[t]), jax.nn.softmax(teacher[t])
            total += LOSSES[name](bucketed(student, kept), bucketed(shown, kept), 0.3)
        return total

    expected = jax.grad(loss)(jnp.asarray(logits))
    student = student_of(logits)
    found = divergences.top_k(DIVERGENCES[name], student, count)(student, teacher - logits, 0.3)
    assert abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("count", [6, 7])
def test_all_tokens_are_the_divergence_itself(count):
    student = student_of(two_policies()[0])
    told_apart = divergences.top_k(divergences.reverse_kl, student, count)
    assert told_apart is divergences.reverse_kl


def test_of_tokens_that_are_as_likely_the_lower_are_kept():
    np.testing.assert_array_equal(
        divergences._rank(jnp.asarray([[1.0, 3.0, 1.0, 3.0, 2.0]])), [[3, 0, 4, 1, 2]]
    )


def test_the_entropys_gradient_is_that_of_its_definition():
    logits, _ = two_policies()

    def negative_entropy(logits):
        probs = jax.nn.softmax(logits)
        return (probs * jnp.log(probs)).sum()

    expected = jax.grad(negative_entropy)(jnp.asarray(logits))
    found = divergences.entropy_gradient(policies.policy(jnp.asarray(logits)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


# Algorithms, by sums over all sequences

FEEDBACK = {
    "binary": reference.binary(),
    "ordinal": reference.ordinal(5),
    "continuous": reference.continuous(),
}
GRADIENTS = {
    "forward": lambda s, q, a: s - q,
    "reverse": lambda s, q, a: s * (np.log(s / q) - reference.kl(s, q)),
    "jsd": lambda s, q, a: (
        (1 - a) * s * (np.log(s / ((1 - a) * s + a * q)) - reference.kl(s, (1 - a) * s + a * q))
    ),
}


def expected_push(case, name, says, base, table=None, beta=BETA, mix=0.5):
    """The mean over batches of the mean over the heard rollouts of the published gradients."""
    table = case.table if table is None else table
    pushes, heard = [], []
    for reward in case.rewards:
        f = says(reward)
        teacher = reference.softmax(base + beta * f * table)
        rows = zip(case.probs, teacher, strict=True)
        pushes.append(np.stack([GRADIENTS[name](s, q, mix) for s, q in rows]))
        heard.append(f != 0)
    total = np.zeros_like(case.probs)
    for p, pair in zip(case.batch_probability, case.pairs, strict=True):
        listened = [pushes[i] for i in pair if heard[i]]
        if listened:
            total += p * np.mean(listened, axis=0)
    return total


# Chebyshev's nodes leave 1e-5 at the most; binary and ordinal have none.
CLOSE = {"rtol": 1e-4, "atol": 3e-6}


@pytest.mark.parametrize("oracle", FEEDBACK)
@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_live_teacher(case, name, oracle):
    found = case.expected(case.ours(f"sdpo_{name}", ORACLES[oracle](), divergence_mix=0.3))
    expected = expected_push(case, name, FEEDBACK[oracle].says, case.logits, mix=0.3)
    assert abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, **CLOSE)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_trust_region_lies_between_the_first_policy_and_the_student(case, name):
    found = case.expected(case.ours(f"sdpo_{name}_trust", trust=0.3))
    base = case.first_logits + 0.3 * (case.logits - case.first_logits)
    expected = expected_push(case, name, lambda reward: reward, base)
    np.testing.assert_allclose(found, expected, **CLOSE)
    # All the way is the live teacher.
    live = case.ours(f"sdpo_{name}_trust", trust=1.0)
    np.testing.assert_allclose(live, case.ours(f"sdpo_{name}"), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_an_averaged_teacher_follows_the_student(case, name):
    memory = np.random.default_rng(2).normal(size=case.logits.shape)
    algorithm = f"sdpo_{name}_ema"
    update = case.update(algorithm, memory=case.spread(memory), teacher_rate=0.25)
    base = 0.75 * memory + 0.25 * case.logits
    np.testing.assert_allclose(update.memory[..., 0], base, rtol=1e-5, atol=1e-6)
    expected = expected_push(case, name, lambda reward: reward, base)
    found = case.expected(np.asarray(update.gradient, np.float64))
    np.testing.assert_allclose(found, expected, **CLOSE)


@pytest.mark.parametrize("algorithm", [*(f"{name}_ema" for name in LIVE), "sdft"])
def test_a_rate_of_0_is_the_fixed_teacher_and_1_the_live_one(algorithm):
    sizes = Sizes(length=2, vocab_size=3, rollouts=8, steps=6, final_window=1)
    program = Program(algorithm, sizes)
    seeds = np.arange(2)
    config = Config(learning_rate=1.0, feedback_strength=2.0)
    own = {"teacher_rate": np.array([0.0, 1.0])}
    setting, state = sdpo_jax.init(seeds, program, config, numbers=own)
    first = state.params
    for index in range(3):
        before = state.params
        state, _ = sdpo_jax.step(program, setting, state, index)
        np.testing.assert_array_equal(state.memory[..., 0], first[..., 0])
        np.testing.assert_array_equal(state.memory[..., 1], before[..., 1])
    assert abs(state.params - first).max() > 0.05


def test_the_average_is_optaxs():
    rate, draw = 0.05, np.random.default_rng(0)
    policy = policies.policy(jnp.asarray(draw.normal(size=(2, 3)), jnp.float32))
    memory = jnp.asarray(draw.normal(size=(2, 3)), jnp.float32)
    from sdpo_jax.algorithms.self_distillation import average

    found = average(memory, policy.logits, rate)
    expected = optax.incremental_update(policy.logits, memory, rate)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_top_k_of_an_algorithm_are_those_of_the_sizes(case):
    vocab_size = case.probs.shape[1]
    everything = Sizes(**{**vars(case.sizes), "top_k": vocab_size})
    found = case.ours("sdpo_jsd_ema_top_k", sizes=everything)
    np.testing.assert_allclose(found, case.ours("sdpo_jsd_ema"), rtol=1e-5, atol=1e-6)
    if vocab_size > 2:
        fewer = case.ours("sdpo_jsd_ema_top_k", sizes=Sizes(**{**vars(case.sizes), "top_k": 1}))
        assert abs(found - fewer).max() > 0.01


def test_the_papers_sdpo_is_the_forward_kl_to_a_live_teacher(case):
    # Where every rollout is heard.
    for oracle in (sdpo_jax.ordinal(), sdpo_jax.continuous()):
        np.testing.assert_allclose(
            case.ours("sdpo", oracle), case.ours("sdpo_forward", oracle), atol=3e-6
        )
    binary = case.ours("sdpo", sdpo_jax.binary()) - case.ours("sdpo_forward", sdpo_jax.binary())
    assert abs(binary).max() > 0.01


# Nothing is learned from nothing
#
# "No knowledge" is a table whose rows are constant, which the softmax can't see; knowledge of 0 is
# not that, but a table of errors alone. "No feedback" is f = 0 for every rollout.

TAUGHT = [*VARIANTS, "sdpo", "sdpo_mixture_probs", "sdpo_mixture_logits", "sdpo_annealed"]


@pytest.mark.parametrize("algorithm", TAUGHT)
def test_a_teacher_without_knowledge_does_not_push(case, algorithm):
    first = case.first_logits
    case.first_logits = case.logits
    try:
        flat = np.repeat(np.arange(len(case.probs))[:, None] * 0.5, case.probs.shape[1], axis=1)
        push = case.ours(algorithm, knowledge=flat)
        table = case.ours(algorithm)
    finally:
        case.first_logits = first
    np.testing.assert_allclose(push, 0, atol=1e-6)
    assert abs(table).max() > 0.01


@pytest.mark.parametrize("algorithm", TAUGHT)
def test_a_teacher_without_feedback_does_not_push(case, algorithm):
    silent = sdpo_jax.constant(0.0)
    first = case.first_logits
    case.first_logits = case.logits
    try:
        push = case.ours(algorithm, silent)
    finally:
        case.first_logits = first
    # What is masked weighs exactly nothing. Eq. 3 has no mask, but a teacher that is the student up
    # to two roundings of a probability.
    roundings = 2 if algorithm == "sdpo" else 0
    np.testing.assert_allclose(push, 0, atol=roundings * np.finfo(np.float32).eps)


def test_a_masked_rollout_does_not_count_whatever_the_teacher(case):
    # An old teacher pulls even without feedback, unless its rollouts are masked.
    found = case.ours("sdpo_forward_ema", sdpo_jax.constant(0.0), teacher_rate=0.0)
    np.testing.assert_array_equal(found, 0)


# Demonstrations, solutions, fixed teachers


def test_sdft_is_the_reverse_kl_to_the_reader_of_the_best_rollout(case):
    found = case.expected(case.ours("sdft", demonstration_strength=1.3, teacher_rate=1.0))
    expected = np.zeros_like(case.probs)
    for p, pair, batch in zip(case.batch_probability, case.pairs, case.batches, strict=True):
        first, second = case.rewards[list(pair)]
        if first == second:
            continue
        best = batch[0] if first > second else batch[1]
        teacher = reference.softmax(case.logits + 1.3 * np.eye(case.probs.shape[1])[best])
        rows = zip(case.probs, teacher, strict=True)
        expected += p * np.stack([GRADIENTS["reverse"](s, q, 0.5) for s, q in rows])
    assert abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_opsd_is_the_divergence_to_the_reader_of_the_solution(case):
    found = case.ours("opsd", demonstration_strength=1.3, divergence_mix=0.3)
    best = np.array(reference.best_sequence(case.problem))
    teacher = reference.softmax(case.first_logits + 1.3 * np.eye(case.probs.shape[1])[best])
    rows = zip(case.probs, teacher, strict=True)
    expected = np.stack([GRADIENTS["jsd"](s, q, 0.3) for s, q in rows])
    np.testing.assert_allclose(found[..., 0], expected, rtol=1e-4, atol=1e-6)


def test_distillations_gradient_is_that_of_its_loss(case):
    temperature = 1.7
    found = case.ours("distillation", temperature=temperature)
    teacher = jax.nn.softmax((case.first_logits + BETA * case.table) / temperature)

    def loss(logits):
        return temperature**2 * kl(teacher, jax.nn.softmax(logits / temperature))

    expected = jax.grad(loss)(jnp.asarray(case.logits, jnp.float32))
    np.testing.assert_allclose(found[..., 0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 1.0, 30.0, 1e4, 1e6])
def test_distillation_is_exact_at_any_temperature(temperature):
    draw = np.random.default_rng(5)
    logits, first, table = draw.normal(size=(3, 2, 5)).astype(np.float32)
    update = ALGORITHMS["distillation"](
        policy=policies.policy(jnp.asarray(logits)),
        reference=policies.policy(jnp.asarray(first)),
        knowledge=jnp.asarray(table),
        config=Config(feedback_strength=1.5),
        temperature=temperature,
    )
    shown = first.astype(np.float64) + 1.5 * table
    tau = np.float64(np.float32(temperature))
    student, teacher = (reference.softmax(each / tau) for each in (logits.astype(float), shown))
    expected = tau * (student - teacher)
    error = abs(np.asarray(update.gradient) - expected).max() / abs(expected).max()
    # At 1e6 the reference itself, a difference in float64, holds 1e-9. At 1e-3 a rounding of the
    # shift is divided by tau.
    assert error < max(1e-5, 1e-7 / tau)


@pytest.mark.parametrize("algorithm", ["opsd", "distillation"])
def test_what_needs_no_reward_costs_nothing(algorithm):
    sizes = Sizes(length=2, vocab_size=3, rollouts=8, steps=2, final_window=1)
    result = sdpo_jax.train(0, Program(algorithm, sizes, metrics=("rollouts", "queries")))
    assert float(result.mean["rollouts"]) == float(result.mean["queries"]) == 0


# Diversity


def test_an_entropy_bonus_adds_the_entropys_gradient(case):
    with_bonus = case.ours("sdpo_entropy", entropy_bonus=0.3)[..., 0]
    added = with_bonus - case.ours("sdpo")[..., 0]
    entropy = -np.sum(case.probs * np.log(case.probs), axis=1, keepdims=True)
    expected = 0.3 * case.probs * (np.log(case.probs) + entropy)
    np.testing.assert_allclose(added, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["probs", "logits"])
def test_a_panel_is_averaged_as_probabilities_or_as_logits(case, kind):
    found = case.expected(case.ours(f"sdpo_mixture_{kind}"))
    tables = np.stack([case.table, -0.5 * case.table, case.table[::-1]])
    # As in the enumeration's panel.
    says = FEEDBACK["continuous"].says
    if kind == "logits":
        expected = expected_push(case, "forward", says, case.logits, tables.mean(0))
    else:
        pushes = [expected_push(case, "forward", says, case.logits, table) for table in tables]
        expected = np.mean(pushes, axis=0)
    np.testing.assert_allclose(found, expected, **CLOSE)


@pytest.mark.parametrize(("step", "left"), [(0, 1.0), (7, 1 - 0.8 * 7 / 10), (10, 0.2)])
def test_annealing_weakens_the_teacher_step_by_step(case, step, left):
    sizes = Sizes(**{**vars(case.sizes), "steps": 11, "final_window": 1})
    found = case.ours("sdpo_annealed", step=step, sizes=sizes, final_strength=0.2)
    says = FEEDBACK["continuous"].says
    expected = expected_push(case, "forward", says, case.logits, beta=left * BETA)
    np.testing.assert_allclose(case.expected(found), expected, **CLOSE)


def test_lessons_whose_shift_is_replaced_but_not_that_of_each_rollout_are_refused():
    def replaced(*, policy, lessons):
        lessons = lessons._replace(shift=2 * lessons.shift)
        return pull(divergences.forward_kl, policy, policy.logits, lessons)

    sizes = Sizes(length=2, vocab_size=3, rollouts=4, steps=2, final_window=1)
    program = Program(replaced, sizes, teacher_nodes=8)
    with pytest.raises(ValueError, match=r"lessons: shift was replaced.*allowed: lessons\.changed"):
        sdpo_jax.train(jnp.arange(4), program, oracle=ORACLES["continuous"]())
    # Levels are exact, whatever they are of.
    sdpo_jax.train(jnp.arange(4), program, oracle=ORACLES["binary"]())
