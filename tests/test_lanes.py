"""Lanes: sums and maxima over leading axes, one kernel, and what is computed once."""

from __future__ import annotations

import contextlib
import functools
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdpo_jax
from sdpo_jax import ALGORITHMS, ORACLES, grid
from sdpo_jax.engine import lanes
from sdpo_jax.engine.materialise import boundaries, materialise, where_any
from sdpo_jax.program import algorithm_of
from tests.all_in_one import all_in_one

# Around the 32 terms that are written out, and beyond: one term over, several loops, no rest.
LENGTHS = (1, 5, 32, 33, 48, 65, 128, 200)

EXPECTED = {
    "total": lambda values, axis: values.sum(axis),
    "mean": lambda values, axis: values.mean(axis),
    "largest": lambda values, axis: values.max(axis),
}


def values_of(length, axis, seed=0):
    """Whole numbers, whose sums float32 holds exactly."""
    shape = [2, 3, 4]
    shape[axis] = length
    return np.random.default_rng(seed).integers(-99, 100, shape).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("length", LENGTHS)
def test_reductions_over_a_leading_axis(length, axis):
    values = values_of(length, axis)
    found = jax.jit(lambda x: {name: getattr(lanes, name)(x, axis) for name in EXPECTED})(values)
    for name, reference in EXPECTED.items():
        expected = reference(values.astype(np.float64), axis)
        # A compiled division by a constant multiplies by its rounded reciprocal.
        rounding = 2.0**-23 if name == "mean" else 0.0
        np.testing.assert_allclose(found[name], expected, rtol=rounding, err_msg=name)


@pytest.mark.parametrize("length", [5, 64, 65, 200])
def test_total_of_takes_slices_of_several_arrays_in_step(length):
    first, second = values_of(length, 1, seed=1), values_of(length, 1, seed=2)

    def term(x, y):
        return (x * y)[:, None] + jnp.arange(2.0)[:, None]

    found = jax.jit(lambda x, y: lanes.total_of(term, 1, x, y))(first, second)
    product = (first * second).sum(1)
    expected = product[:, None] + length * np.arange(2.0)[:, None]
    np.testing.assert_array_equal(found, expected)


def test_the_largest_of_negative_numbers_is_negative():
    for length in (5, 65):
        assert float(lanes.largest(jnp.full((length, 1), -3.0), 0)[0]) == -3.0


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("length", [5, 65])
def test_gradients_pass_through_a_reduction(name, length):
    # Without ties, which share the gradient of the largest.
    values = np.random.default_rng(4).permuted(np.arange(2.0 * length * 4)).astype(np.float32)
    values = values.reshape(2, length, 4)
    weights = np.random.default_rng(5).normal(size=(2, 4)).astype(np.float32)
    found = jax.jit(jax.grad(lambda x: (getattr(lanes, name)(x, 1) * weights).sum()))(values)
    share = {
        "total": np.ones_like(values),
        "mean": np.full_like(values, 1 / length),
        "largest": values == values.max(1, keepdims=True),
    }[name]
    np.testing.assert_allclose(found, share * weights[:, None], rtol=1e-6)


# --- boundaries ----------------------------------------------------------------------------------


@functools.cache
def fenced():
    """A boundary around values of several types in a tree, with the witness as input."""

    def compute(witness, x):
        with boundaries(witness):
            return materialise(lambda: {"sine": jnp.sin(x), "parts": (x > 0, x.astype(jnp.int32))})

    return jax.jit(compute)


def check_fenced(found, x):
    np.testing.assert_allclose(found["sine"], np.sin(x), rtol=1e-6)
    np.testing.assert_array_equal(found["parts"][0], x > 0)
    np.testing.assert_array_equal(found["parts"][1], x.astype(np.int32))


X = np.array([0.5, -2.25, 3.75], np.float32)


@pytest.mark.parametrize(
    "witness",
    [
        *map(np.float32, (np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 0.5, 1.0, 1e-45)),
        *map(np.int32, (0, 1, -1, 2**31 - 1, -(2**31))),
        *map(np.uint32, (0, 1, 2**32 - 1)),
        np.array([np.nan, -1.0, np.inf], np.float32),
    ],
)
def test_a_boundary_gives_the_value_whatever_the_witness(witness):
    check_fenced(fenced()(witness, X), X)


def test_a_boundary_stays_a_conditional_in_the_program():
    assert "materialise" in str(jax.make_jaxpr(fenced())(np.float32(1), X))
    compiled = fenced().lower(np.float32(1), X).compile().as_text()
    assert "conditional(" in compiled


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_elsewhere_a_boundary_is_nothing(platform):
    lowered = fenced().trace(np.float32(1), X).lower(lowering_platforms=(platform,)).as_text()
    assert "stablehlo.case" not in lowered
    assert "stablehlo.sine" in lowered
    assert "stablehlo.case" in fenced().lower(np.float32(1), X).as_text()


def test_elsewhere_a_program_has_no_conditional():
    """But for the one of continuous feedback, for a teacher whose feedback is very strong."""
    every = all_in_one({name: algorithm_of(each) for name, each in ALGORITHMS.items()})
    for algorithm, oracle, nodes, conditionals in (
        (every, "ordinal", 0, 0),
        ("sdpo", "critique", 0, 0),
        ("sdpo", "continuous", 0, 0),
        ("sdpo", "continuous", 16, 1),
    ):
        program = sdpo_jax.Program(algorithm, teacher_nodes=nodes)
        spoken = ORACLES[oracle]()
        whole = jax.jit(functools.partial(sdpo_jax.train, program=program, oracle=spoken))
        traced = whole.trace(jnp.arange(4))
        for platform in ("cuda", "tpu"):
            lowered = traced.lower(lowering_platforms=(platform,)).as_text()
            assert "stablehlo.while" in lowered
            assert lowered.count("stablehlo.case") == conditionals


def test_a_function_that_is_compiled_by_itself_keeps_no_predicate_of_another():
    """Its trace is kept, and the predicate would be one of a trace that is over."""
    inner = jax.jit(lambda x: materialise(lambda: jnp.sin(x)))

    def outer(witness, x):
        with boundaries(witness):
            return materialise(lambda: inner(x)) + inner(2 * x)

    for _ in range(2):
        # Each time another function, so that it is traced again.
        found = jax.jit(lambda witness, x: outer(witness, x))(np.float32(1), X)
        np.testing.assert_allclose(found, np.sin(X) + np.sin(2 * X), rtol=1e-6)
    np.testing.assert_allclose(inner(X), np.sin(X), rtol=1e-6)


def test_boundaries_stand_inside_of_each_other_and_end():
    def nested(witness, x):
        with boundaries(witness):
            value = materialise(lambda: materialise(lambda: jnp.sin(x)) * 2)
        return value + materialise(lambda: jnp.cos(x))

    assert str(jax.make_jaxpr(nested)(np.float32(1), X)).count("materialise[") == 2


def test_a_thread_has_no_boundaries_of_another():
    with boundaries(np.float32(1)), ThreadPoolExecutor(1) as pool:
        text = pool.submit(
            lambda: str(jax.make_jaxpr(lambda x: materialise(lambda: jnp.sin(x)))(X))
        ).result()
    assert "materialise" not in text


def test_a_boundary_works_eagerly_and_none_as_well():
    for around in (boundaries(3), boundaries(jnp.float32(-1)), contextlib.nullcontext()):
        with around:
            found = materialise(lambda: {"sine": jnp.sin(X), "parts": (X > 0, X.astype(np.int32))})
        check_fenced(found, X)


def test_a_boundary_works_under_vmap():
    witnesses = np.array([np.nan, 0.0, -1.0], np.float32)
    many = X * np.array([[1], [2], [-1]], np.float32)
    check_fenced(jax.vmap(fenced())(witnesses, many), many)
    check_fenced(jax.vmap(fenced(), (None, 0))(np.float32(0), many), many)


def test_gradients_pass_through_a_boundary():
    def loss(x, witness):
        with boundaries(witness):
            return (materialise(lambda: jnp.sin(x)) * jnp.arange(1.0, 4.0)).sum()

    found = jax.jit(jax.grad(loss))(X, np.float32(-1))
    np.testing.assert_allclose(found, np.cos(X) * [1, 2, 3], rtol=1e-6)
    # The witness itself may be what is differentiated: it decides nothing.
    found = jax.jit(jax.grad(lambda x: loss(x, x[0])))(X)
    np.testing.assert_allclose(found, np.cos(X) * [1, 2, 3], rtol=1e-6)


def inner_and_outer(witness, x, y):
    """Boundaries inside of each other, of two arguments."""
    with boundaries(witness):
        one = materialise(lambda: {"sum": x + y.sum(), "count": (y > 0).sum()})
        two = materialise(lambda: materialise(lambda: jnp.sin(one["sum"])) * y.prod())
        kept, _ = materialise(lambda: (two**2, jnp.exp(y)))
    return kept, one


def plain(witness, x, y):
    del witness
    kept = (jnp.sin(x + y.sum()) * y.prod()) ** 2
    return kept, {"sum": x + y.sum(), "count": (y > 0).sum()}


Y = np.array([0.5, -1.5, 2.0], np.float32)


@pytest.mark.parametrize(
    ("wrap", "witness"),
    [(lambda f: f, np.float32(np.nan)), (jax.jit, np.int32(0)), (jax.checkpoint, np.uint32(1))],
    ids=["plain", "jit", "remat"],
)
def test_transformations_of_boundaries_are_those_of_the_function(wrap, witness):
    def close(transformed):
        found, expected = (transformed(wrap(f)) for f in (inner_and_outer, plain))
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), found, expected)

    def of(f, part=0):
        return lambda *given: f(witness, *given)[part]

    def scalar(f):
        return lambda *given: of(f)(*given).sum()

    many = np.stack([Y, 2 * Y])
    close(lambda f: f(witness, X, Y))
    # Over x alone, y alone, both, and twice.
    close(lambda f: jax.vmap(f, (None, 0, None))(witness, X, Y))
    close(lambda f: jax.vmap(f, (None, None, 0))(witness, X, many))
    close(lambda f: jax.vmap(f, (None, 1, 0), (0, 0))(witness, np.stack([X, -X], 1), many))
    close(lambda f: jax.vmap(jax.vmap(f, (None, 0, None)), (None, None, 0))(witness, X, many))
    # Derivatives: forward, backward, of one argument or both, twice, and of what is mapped.
    close(lambda f: jax.jvp(of(f), (X, Y), (Y, X)))
    close(lambda f: jax.grad(scalar(f), (0, 1))(X, Y))
    close(lambda f: jax.grad(scalar(f), 1)(X, Y))
    close(lambda f: jax.hessian(scalar(f), 1)(X, Y))
    close(lambda f: jax.jacrev(of(f))(X, Y))
    close(lambda f: jax.vmap(jax.grad(scalar(f), 1), (None, 0))(X, many))
    close(lambda f: jax.grad(lambda x: jax.vmap(of(f), (None, 0))(x, many).sum())(X))
    close(lambda f: jax.linearize(of(f), X, Y)[1](Y, X))


def test_what_nobody_reads_of_a_boundary_is_not_computed():
    def compute(x, y):
        with boundaries(x[0]):
            return materialise(lambda: (jnp.sin(x), jnp.exp(y)))[0]

    lowered = jax.jit(compute).lower(X, Y).as_text()
    assert "sine" in lowered
    assert "exponential" not in lowered


def special_where(mask, x):
    return where_any(mask, lambda: jnp.log(x), x * x)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
@pytest.mark.parametrize("mask", [[0, 0, 0], [0, 1, 0], [1, 1, 1]])
def test_what_is_special_is_computed_where_it_is_asked_for(wrap, mask):
    mask, x = np.array(mask, bool), np.array([0.5, 1.5, 2.0], np.float32)
    expected = np.where(mask, np.log(x), x * x)
    np.testing.assert_allclose(wrap(special_where)(mask, x), expected, rtol=1e-6)
    one_by_one = wrap(jax.vmap(special_where))(mask, x)
    np.testing.assert_allclose(one_by_one, expected, rtol=1e-6)
    slope = wrap(jax.grad(lambda x: special_where(mask, x).sum()))(x)
    np.testing.assert_allclose(slope, np.where(mask, 1 / x, 2 * x), rtol=1e-6)


def test_what_is_special_is_a_conditional_on_a_cpu_and_a_selection_elsewhere():
    traced = jax.jit(special_where).trace(np.zeros(3, bool), X)
    assert "stablehlo.case" in traced.lower().as_text()
    elsewhere = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.case" not in elsewhere
    assert "stablehlo.select" in elsewhere
    # Where nobody asks, no derivative goes through it: that of log(0) would be NaN.
    slope = jax.jit(jax.grad(lambda x, mask: special_where(mask, x).sum()))
    np.testing.assert_array_equal(slope(np.zeros(3, np.float32), np.zeros(3, bool)), 0)


def test_one_kernel_is_the_function():
    def function(x, unused, empty):
        del unused, empty
        return {"y": jnp.sin(x), "n": jax.lax.fori_loop(0, 3, lambda i, y: y * x + i, x)}

    def marked(x):
        return lanes.one_kernel(function, x, jnp.arange(3), jnp.zeros(0))

    x = jnp.linspace(0.0, 1.0, 64)
    for wrap in (lambda f: f, jax.jit, jax.vmap, lambda f: jax.jit(jax.vmap(f))):
        found, expected = wrap(marked)(x), wrap(lambda x: function(x, None, None))(x)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), found, expected)
    slope = jax.grad(lambda x: marked(x)["y"])(0.3)
    np.testing.assert_allclose(slope, np.cos(0.3), rtol=1e-6)


def test_one_kernel_starts_no_other():
    def steps(x):
        return jax.lax.fori_loop(0, 9, lambda i, y: jnp.sin(y)[::-1] + i, x)

    text = jax.jit(lambda x: lanes.one_kernel(steps, x)).lower(jnp.ones(64)).compile().as_text()
    entry = text[text.index("ENTRY") :]
    assert 'xla_cpu_small_call="true"' in entry
    assert "while(" not in entry
    assert "while(" in text


@pytest.mark.parametrize(
    ("function", "fits"),
    [
        (jnp.sin, True),
        (lambda x: x.sum() + x.argmax() + jnp.cumsum(x), True),
        (lambda x: x @ x, True),
        (jnp.sort, False),
        (jnp.median, False),
        (lambda x: x.at[jnp.arange(3)].add(1.0), False),
        (lambda x: jnp.abs(jnp.fft.fft(x)), False),
        (lambda x: jax.lax.top_k(x, 2)[0], False),
        (lambda x: jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x), False),
    ],
)
def test_what_fits_one_kernel(function, fits):
    lowered = jax.jit(function).lower(jnp.ones(8))
    assert lanes.fits_one_kernel(lowered.as_text()) == fits
    if fits:
        options = grid.compiler_options(jax.devices()[0])
        kernel = jax.jit(lambda x: lanes.one_kernel(function, x)).lower(jnp.ones(8))
        found = kernel.compile(options)(jnp.arange(8.0))
        np.testing.assert_allclose(found, function(jnp.arange(8.0)), rtol=1e-6)
