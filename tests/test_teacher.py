"""The self-teacher: against a float64 softmax for each rollout, and how far interpolation errs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.interpolate import BarycentricInterpolator
from scipy.special import softmax

from sdpo_jax import ORACLES, Config, Hints, Oracle, oracles, teachers
from sdpo_jax.engine import streams
from sdpo_jax.policies import kl_divergence, policy
from sdpo_jax.teachers import interpolation_error, nodes_for

LENGTH, VOCAB_SIZE, ROLLOUTS, RUNS = 3, 5, 6, 48
EPSILON = np.finfo(np.float32).eps

# Each row of the table spans less than this.
TABLE_RANGE = 1.8
STRENGTHS = (0.5, 1.5, 3.0, 6.0, -1.5, -6.0)
NODES = [nodes for nodes in teachers.NODE_CHOICES if nodes > 0]


def batch():
    """Policies from nearly uniform to nearly certain, a table, rollouts and what was seen."""
    rng = np.random.default_rng(5)
    spread = np.resize([0.1, 1.0, 5.0, 30.0], RUNS)
    logits = spread * rng.normal(size=(LENGTH, VOCAB_SIZE, RUNS))
    table = rng.uniform(-0.7, TABLE_RANGE - 0.7, (LENGTH, VOCAB_SIZE, RUNS))
    tokens = rng.integers(VOCAB_SIZE, size=(LENGTH, ROLLOUTS, RUNS), dtype=np.int32)
    seen = rng.uniform(size=(ROLLOUTS, RUNS))
    # The noisy reward is clipped, so both ends do occur.
    seen[0, ::3], seen[1, ::5] = 0.0, 1.0
    strength = np.resize(STRENGTHS, RUNS // 2).repeat(2)
    return (
        *(array.astype(np.float32) for array in (strength, table, logits, seen)),
        tokens,
    )


@partial(jax.jit, static_argnames="nodes")
def teach(feedback_type, strength, table, logits, seen, tokens, nodes=0, hint_noise=0.45):
    return teachers.teach(
        feedback_type,
        teachers.prepare(feedback_type, strength, table, nodes),
        Config(feedback_strength=strength, hint_noise=hint_noise),
        table,
        policy(logits),
        tokens,
        seen,
        oracles.feedback(feedback_type, seen),
        streams.stream(jnp.arange(RUNS), streams.Stream.HINTS),
        7,
    )


def softmax_of_each_rollout(strength, table, logits, feedback):
    """In float64: mean teacher ``[T, V, R]`` and divergence ``[R]``."""
    strength, table, logits = (np.asarray(a, np.float64) for a in (strength, table, logits))
    student = softmax(logits, axis=1)[:, :, None]
    teachers = softmax(logits[:, :, None] + strength * feedback * table[:, :, None], axis=1)
    divergence = stats.entropy(teachers, np.broadcast_to(student, teachers.shape), axis=1)
    return teachers.mean(2), divergence.mean((0, 1))


def rounding(strength, table, logits):
    """A few roundings of the largest exponent, ``[R]``: what float32 does to its exponential."""
    exponent = abs(logits).max((0, 1)) + abs(strength) * abs(table).max((0, 1))
    return 6 * EPSILON * (1 + exponent)


def assert_within(found, expected, bound):
    excess = abs(np.asarray(found, np.float64) - expected) - bound
    assert excess.max() <= 0, f"{excess.max():.3g} past a bound of {np.max(bound):.3g}"


def likert(seen, levels):
    return (1 + np.digitize(seen, np.arange(1, levels) / levels)) / levels


FEEDBACK = {
    "continuous": (oracles.continuous(), lambda seen: seen),
    "binary": (oracles.binary(), lambda seen: (seen > 0.5).astype(float)),
    "binary at 0.7": (oracles.binary(0.7), lambda seen: (seen > 0.7).astype(float)),
    "ordinal": (oracles.ordinal(), lambda seen: likert(seen, 5)),
    "three levels": (oracles.ordinal(3), lambda seen: likert(seen, 3)),
    "constant": (oracles.constant(0.6), lambda seen: np.full_like(seen, 0.6)),
    "continuous with a jump": (
        Oracle(np.float32(0.5), np.float32(0.1), np.float32([0.4]), np.float32([0.3])),
        lambda seen: 0.1 + 0.5 * seen + 0.3 * (seen >= 0.4),
    ),
}


@pytest.mark.parametrize(("feedback_type", "feedback"), FEEDBACK.values(), ids=FEEDBACK)
def test_the_teachers_are_one_softmax_for_each_rollout(feedback_type, feedback):
    strength, table, logits, seen, tokens = batch()
    found = teach(feedback_type, strength, table, logits, seen, tokens)
    seen = seen.astype(np.float64)
    mean, divergence = softmax_of_each_rollout(strength, table, logits, feedback(seen))
    bound = rounding(strength, table, logits)
    assert_within(found.mean, mean, bound)
    assert_within(found.divergence, divergence, bound)


def test_each_run_may_have_an_oracle_of_its_own():
    strength, table, logits, seen, tokens = batch()
    cuts = np.linspace(0.15, 0.85, RUNS, dtype=np.float32)
    low = np.linspace(0.0, 0.4, RUNS, dtype=np.float32)
    mixed = Oracle(None, low, cuts[None], (1 - low)[None])
    found = teach(mixed, strength, table, logits, seen, tokens)
    feedback = np.where(seen >= cuts, 1.0, low)
    mean, divergence = softmax_of_each_rollout(strength, table, logits, feedback)
    bound = rounding(strength, table, logits)
    assert_within(found.mean, mean, bound)
    assert_within(found.divergence, divergence, bound)


@pytest.mark.parametrize("nodes", [0, 16])
@pytest.mark.parametrize("name", ORACLES)
def test_the_rows_of_a_teacher_sum_to_one(name, nodes):
    strength, table, logits, seen, tokens = batch()
    found = teach(ORACLES[name](), strength, table, logits, seen, tokens, nodes)
    # Rows sum to the weights' sum, which is 1 to the rounding of a sum of a few terms.
    np.testing.assert_allclose(found.mean.sum(1), 1, rtol=0, atol=32 * EPSILON)
    bound = interpolation_error(6 * TABLE_RANGE, 16) if nodes else 0
    assert found.mean.min() >= -bound
    assert (np.asarray(found.divergence) >= -10 * bound - rounding(strength, table, logits)).all()


@pytest.mark.parametrize("nodes", [0, 16])
@pytest.mark.parametrize("name", ["continuous", "constant", "critique"])
def test_without_feedback_the_student_is_its_own_teacher(name, nodes):
    strength, table, logits, seen, tokens = batch()
    silent = oracles.constant(0.0) if name == "constant" else ORACLES[name]()
    found = teach(silent, strength, table, logits, np.zeros_like(seen), tokens, nodes)
    bound = rounding(strength, table, logits)
    assert_within(found.mean, softmax(logits.astype(np.float64), axis=1), bound)
    assert_within(found.divergence, 0, bound)


@pytest.mark.parametrize("strength", sorted(set(map(abs, STRENGTHS))))
def test_interpolated_teachers_err_by_no_more_than_the_bound(strength):
    _, table, logits, seen, tokens = batch()
    # Half of the runs are repelled from the table instead.
    strengths = np.where(np.arange(RUNS) % 8 < 4, strength, -strength).astype(np.float32)
    slope = strength * TABLE_RANGE
    nodes = nodes_for(slope)
    assert nodes > 0
    feedback_type = oracles.continuous()
    found = teach(feedback_type, strengths, table, logits, seen, tokens, nodes)
    mean, divergence = softmax_of_each_rollout(strengths, table, logits, seen.astype(np.float64))
    bound = rounding(strengths, table, logits)
    assert_within(found.mean, mean, bound + interpolation_error(slope, nodes))
    # The divergence weighs errors of probabilities with shifts of up to the slope.
    assert_within(found.divergence, divergence, bound + 10 * interpolation_error(slope, nodes))


@partial(jax.jit, static_argnames="nodes")
def interpolated(strength, table, logits, seen, nodes):
    """From nodes, however steep the table."""
    levels = teachers.prepare(oracles.continuous(), strength, table, nodes)
    weights = teachers.weights(oracles.continuous(), seen, seen, levels)
    return teachers.from_levels(levels, weights, policy(logits), table)


@pytest.mark.parametrize("nodes", NODES)
def test_interpolation_is_the_polynomial_through_chebyshevs_points(nodes):
    strength, table, logits, seen, _ = batch()
    # What is steeper takes no levels.
    most = 0.99 * teachers.steepest(nodes, VOCAB_SIZE) / np.ptp(table, axis=1).max(0)
    strength = np.clip(strength, -most, most).astype(np.float32)
    found = interpolated(strength, table, logits, seen, nodes)
    points = 0.5 + 0.5 * np.polynomial.chebyshev.chebpts1(nodes)
    at_points = [
        softmax_of_each_rollout(strength, table, logits, np.full((1, RUNS), point))
        for point in points
    ]
    bound = 2 * rounding(strength, table, logits)
    for part, values in zip(found, map(np.stack, zip(*at_points, strict=True)), strict=True):
        # Every run has a polynomial of its own, and rollouts at its own places.
        expected = [
            BarycentricInterpolator(points, values[..., run])(seen[:, run].astype(float)).mean(0)
            for run in range(RUNS)
        ]
        expected = np.stack(expected, -1)
        # Of a divergence nothing negative is left, which a polynomial may be.
        assert_within(part, expected if expected.ndim > 1 else np.maximum(expected, 0), bound)


@pytest.mark.parametrize("nodes", NODES)
def test_weights_of_nodes_reproduce_polynomials(nodes):
    strength, table, _, seen, _ = batch()
    levels = teachers.prepare(oracles.continuous(), strength, table, nodes)
    weights = jax.jit(teachers.weights)(oracles.continuous(), seen, seen, levels)
    assert weights.shape == (nodes, RUNS)
    np.testing.assert_allclose(weights.sum(0), 1, rtol=0, atol=32 * EPSILON)
    points = np.polynomial.chebyshev.chebpts1(nodes)
    values = np.polynomial.chebyshev.chebvander(2 * seen.astype(float) - 1, nodes - 1)
    for degree, expected in enumerate(np.moveaxis(values.mean(0), -1, 0)):
        at_points = np.cos(degree * np.arccos(points))
        # The order of the points is the library's own; the levels tell it.
        order = np.argsort(np.argsort(levels.strength[:, 0] / strength[0]))
        found = at_points[order] @ np.asarray(weights, np.float64)
        np.testing.assert_allclose(found, expected, rtol=0, atol=32 * EPSILON)


def test_more_nodes_err_less():
    for slope in (3.0, 6.0, 12.0):
        errors = [interpolation_error(slope, nodes) for nodes in NODES]
        assert (np.diff(errors) < 0).all()
    for nodes in NODES:
        errors = [interpolation_error(slope, nodes) for slope in (5.0, 10.0, 20.0, -40.0)]
        assert (np.diff(errors) > 0).all()


def policies_that_are_hard_to_interpolate(rng, slope, count=400):
    """Logits and table rows ``[P, 8]``; unused tokens have no probability."""
    tokens = rng.integers(2, 9, (count, 1))
    rows = rng.uniform(size=(count, 8))
    rows[:, 0], rows[:, 1] = 0.0, 1.0
    spread = rng.choice([0.1, 1.0, 5.0, 20.0], (count, 1))
    # The centre is where tokens 0 and 1 are level: within [0, 1], or just outside.
    logits = spread * rng.normal(size=rows.shape)
    logits[:, :1], logits[:, 1:2] = 0.0, -slope * rng.uniform(-0.5, 1.5, (count, 1))
    return np.where(np.arange(8) < tokens, logits, -np.inf), rows


@pytest.mark.parametrize("slope", [3.0, 6.0, 10.0, 20.0])
@pytest.mark.parametrize("nodes", NODES)
def test_no_policy_errs_by_more_than_the_bound(slope, nodes):
    logits, rows = policies_that_are_hard_to_interpolate(np.random.default_rng(nodes), slope)

    def teachers(feedback):
        return softmax(logits + slope * feedback[:, None, None] * rows, axis=-1)

    points = 0.5 + 0.5 * np.polynomial.chebyshev.chebpts1(nodes)
    feedback = np.linspace(0, 1, 501)
    polynomial = BarycentricInterpolator(points, teachers(points))
    largest = abs(polynomial(feedback) - teachers(feedback)).max()
    # The bound is good to 2%; all is in float64, hence the 1e-13.
    assert largest <= interpolation_error(slope, nodes) * 1.02 + 1e-13
    # The bound is not idle either.
    assert largest >= 0.8 * interpolation_error(slope, nodes)


@pytest.mark.parametrize("tolerance", [1e-5, 1e-3])
def test_nodes_are_the_fewest_that_meet_the_tolerance(tolerance):
    for slope in (0.5, 2.0, 4.0, 7.0, 9.0, 11.0, 15.0, 60.0):
        meeting = [n for n in NODES if interpolation_error(slope, n) <= tolerance]
        assert nodes_for(slope, tolerance) == min(meeting, default=0)
        assert nodes_for(-slope, tolerance) == nodes_for(slope, tolerance)
    assert nodes_for(60.0, tolerance) == 0


EXTREME = {
    **{name: FEEDBACK[name] for name in ("binary", "ordinal", "constant", "continuous")},
    "critique by position": (oracles.critique("position"), lambda seen: seen),
}


@pytest.mark.parametrize(
    ("name", "nodes"), [*((name, 0) for name in EXTREME), ("continuous", 8), ("continuous", 24)]
)
def test_teachers_are_right_at_any_slope(name, nodes):
    feedback_type, feedback = EXTREME[name]
    _, _, _, seen, tokens = batch()
    draw = np.random.default_rng(8)
    strength = np.resize(np.float32([1e-3, 1.0, 30.0, 300.0, 1e3, -1e3]), RUNS)
    size = np.resize(np.float32([0.1, 1.0, 4.0, 1.0, 20.0]), RUNS)
    shape = (LENGTH, VOCAB_SIZE, RUNS)
    table = (size * draw.normal(size=shape)).astype(np.float32)
    logits = np.resize([0.1, 3.0, 30.0, 200.0], RUNS) * draw.normal(size=shape)
    logits = logits.astype(np.float32)
    # A token that the student has all but given up, and the teacher wants.
    logits[:, :2, 0], table[:, :2, 0], strength[0] = [[0, -70]], [[-2, 1.5]], 30
    logits[:, 2:, 0] = -200
    found = teach(feedback_type, strength, table, logits, seen, tokens, nodes)
    seen = seen.astype(np.float64)
    mean, divergence = softmax_of_each_rollout(strength, table, logits, feedback(seen))
    slope = abs(strength) * np.ptp(table, axis=1).max(0)
    bound = 4 * rounding(strength, table, logits) + (teachers.LARGEST_ERROR if nodes else 0)
    assert_within(found.mean, mean, bound)
    # The divergence weighs errors of probabilities by shifts up to the slope, while there are any.
    steepest = teachers.steepest(nodes, VOCAB_SIZE) if nodes else 0
    assert_within(found.divergence, divergence, bound * (1 + np.minimum(slope, steepest)))
    assert (np.asarray(found.divergence) >= 0).all()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("name", "nodes"), [("binary", 0), ("constant", 0), ("continuous", 0), ("continuous", 16)]
)
def test_the_best_of_the_steepest_table_keep_their_digits(name, nodes, sign):
    """Beta 1000, a range of 1000, and tokens at its end that are close to one another."""
    feedback_type, feedback = FEEDBACK[name]
    _, _, logits, seen, tokens = batch()
    table = np.full((LENGTH, VOCAB_SIZE, RUNS), -500, np.float32)
    table[:, 1:] = np.float32(500) - np.float32([0, 2**-14, 2**-11, 2**-9])[:, None]
    logits = np.resize(np.float32([0.1, 1.0]), RUNS) * np.sign(logits)
    strength = np.full(RUNS, sign * 1000, np.float32)
    table *= sign
    found = teach(feedback_type, strength, table, logits, seen, tokens, nodes)
    mean, _ = softmax_of_each_rollout(strength, table, logits, feedback(seen.astype(np.float64)))
    assert_within(found.mean, mean, 20 * EPSILON)


def test_a_steep_run_leaves_the_bits_of_the_others_alone():
    strength, table, logits, seen, tokens = batch()
    strength = np.full_like(strength, 1.5)
    steep = np.where(np.arange(RUNS) % 5 == 2, np.float32(400), strength)
    for feedback_type, nodes in ((oracles.binary(), 0), (oracles.continuous(), 16)):
        alone, beside = (
            teach(feedback_type, each, table, logits, seen, tokens, nodes)
            for each in (strength, steep)
        )
        usual = steep == strength
        for one, other in zip(alone, beside, strict=True):
            np.testing.assert_array_equal(one[..., usual], other[..., usual])


def test_a_divergence_is_never_negative():
    draw = np.random.default_rng(9)
    spread = np.resize([1e-4, 1.0, 30.0, 300.0], RUNS)
    logits = (spread * draw.normal(size=(LENGTH, VOCAB_SIZE, RUNS))).astype(np.float32)
    moved = logits * (1 + np.resize([0, 1e-7, 1e-3], RUNS)) + 1.0
    moved = moved.astype(np.float32)
    found = np.asarray(jax.jit(lambda a, b: kl_divergence(policy(a), policy(b)))(logits, moved))
    one, other = (softmax(each.astype(np.float64), axis=1) for each in (logits, moved))
    expected = stats.entropy(one, other, axis=1).mean(0)
    assert (found >= 0).all()
    assert_within(found, expected, 4 * EPSILON * (1 + abs(logits).max((0, 1))))


def test_a_hint_on_the_position_cancels():
    numbers = batch()
    found = teach(oracles.critique("position"), *numbers)
    plain = teach(oracles.continuous(), *numbers)
    # The hint, of a few units, is added to the exponents before it cancels.
    bound = 4 * rounding(*numbers[:3])
    assert_within(found.mean, plain.mean, bound)
    assert_within(found.divergence, plain.divergence, bound)


def test_a_critic_that_never_errs_is_the_continuous_oracle():
    numbers = batch()
    critic = oracles.critique("token")
    exact = teach(critic, *numbers, hint_noise=0.0)
    plain = teach(oracles.continuous(), *numbers)
    bound = rounding(*numbers[:3])
    assert_within(exact.mean, plain.mean, bound)
    assert_within(exact.divergence, plain.divergence, bound)
    erring = teach(critic, *numbers)
    assert abs(erring.mean - plain.mean).max() > 0.1


@partial(jax.jit, static_argnames="reading")
def hint_shift(reading, hint_noise, step):
    strength, table, _, seen, tokens = batch()
    return teachers.hint_shift(
        oracles.critique(reading),
        Config(feedback_strength=strength, hint_noise=hint_noise),
        table,
        seen,
        tokens,
        streams.stream(jnp.arange(RUNS), streams.Stream.HINTS),
        step,
    )


def test_a_critic_of_the_sampled_tokens_leaves_the_others_alone():
    strength, table, _, seen, tokens = batch()
    sampled = np.arange(VOCAB_SIZE)[:, None, None] == tokens[:, None]
    shift = np.asarray(hint_shift("sampled", 0.45, 7))
    assert (shift[~sampled] == 0).all()
    assert (shift[sampled & (seen > 0)] != 0).all()
    exact = hint_shift("sampled", 0.0, 7)
    expected = np.where(sampled, strength * seen * table[:, :, None], 0.0)
    np.testing.assert_allclose(exact, expected, rtol=4 * EPSILON)


def test_the_errors_of_a_critic_are_standard_normal_and_new_at_each_step():
    strength, table, _, seen, _ = batch()
    heard = seen > 0
    exact, scale = strength * seen * table[:, :, None], 0.45 * strength * seen
    errors = [
        np.asarray(hint_shift("token", 0.45, step) - exact)[:, :, heard] / scale[heard]
        for step in (7, 8)
    ]
    count = errors[0].size
    for each in errors:
        # Five standard errors.
        assert abs(each.mean()) < 5 / np.sqrt(count)
        assert abs(each.std() - 1) < 5 / np.sqrt(2 * count)
    assert abs(np.corrcoef(errors[0].ravel(), errors[1].ravel())[0, 1]) < 5 / np.sqrt(count)


def test_readings_may_be_blended():
    numbers = batch()
    half = Hints(np.float32(0.5), np.float32(0.5), np.float32(0))
    blended = replace(oracles.continuous(), hints=half)
    found = teach(blended, *numbers, hint_noise=0.0)
    # Both readings shift by the table, one of them less a constant of the row.
    plain = teach(oracles.continuous(), *numbers)
    assert_within(found.mean, plain.mean, 4 * rounding(*numbers[:3]))
