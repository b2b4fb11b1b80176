"""The grid: labels, bits, traces, errors."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import platform
import subprocess
import sys
import tracemalloc

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

import sdpo_jax
from sdpo_jax import Config, Metric, Program, Sizes, grid
from sdpo_jax.algorithms import ALGORITHMS
from sdpo_jax.engine import lanes
from sdpo_jax.grid import execute, groups, plan, programs
from sdpo_jax.optimizers import OPTIMIZERS

SIZES = Sizes(length=4, vocab_size=5, rollouts=6, steps=12, final_window=4)
CELLS = [
    ("sdpo", "continuous"),
    ("sdpo", "critique"),
    ("hybrid", "ordinal"),
    ("advantage_weighted", "continuous"),
    *(
        pytest.param(*cell, marks=pytest.mark.slow)
        for cell in [
            *(("sdpo", "ordinal"), ("hybrid", "continuous"), ("hybrid", "critique")),
            ("reinforce", "continuous"),
        ]
    ),
]


def run(axes, **options):
    options = {"sizes": SIZES, "block_width": 8, "logits": True} | options
    return sdpo_jax.run_grid(axes, **options)


def same_bits(first, second):
    for name in first.data_vars:
        np.testing.assert_array_equal(first[name].values, second[name].values, err_msg=name)


@pytest.mark.as_shipped
@pytest.mark.parametrize(("algorithm", "feedback"), CELLS)
def test_a_runs_bits_do_not_depend_on_the_rest_of_the_grid(algorithm, feedback):
    cell = {"algorithm": [algorithm], "oracle": [feedback], "noise": [0.2]}
    alone = run({**cell, "seed": [11]})
    others = {"seed": 11, "noise": 0.2, "algorithm": algorithm, "oracle": feedback}
    in_a_block = run({**cell, "seed": range(6, 14)})
    same_bits(alone.squeeze(), in_a_block.sel(others).drop_vars("seed"))
    # Another slot, several blocks, other numbers beside it, another order of axes.
    larger = run(
        {
            "seed": [3, 11, 5],
            "learning_rate": [0.5, 0.02],
            "noise": [0.0, 0.5, 0.2],
            "oracle": ["binary", feedback],
            "algorithm": [algorithm],
        },
        workers=1,
    )
    same_bits(alone.squeeze(), larger.sel({**others, "learning_rate": 0.02}))


@pytest.mark.as_shipped
def test_the_bits_hold_at_the_width_and_the_sizes_of_the_paper():
    sizes = Sizes(steps=6, final_window=2)
    alone = run({"seed": [70]}, sizes=sizes, block_width=64)
    many = run({"seed": range(130)}, sizes=sizes, block_width=64)
    same_bits(alone.sel(seed=70), many.sel(seed=70))


def test_the_width_of_a_program_follows_from_its_sizes_alone():
    sizes = Sizes(length=6, rollouts=4, steps=4, final_window=2)
    options = {"algorithm": "reinforce", "metrics": ("reward", "entropy")}
    both = sdpo_jax.run_grid({"vocab_size": [8, 40], "seed": range(40)}, sizes=sizes, **options)
    assert both.attrs["block_width"] == [16, 64]
    for vocab_size, width in ((8, 64), (40, 16)):
        own = dataclasses.replace(sizes, vocab_size=vocab_size)
        alone = sdpo_jax.run_grid({"seed": [33]}, sizes=own, **options)
        assert alone.attrs["block_width"] == width
        same_bits(alone.sel(seed=33), both.sel(vocab_size=vocab_size, seed=33))
    # Where it is given, it is that of all of them.
    laid = plan.plan_grid({"vocab_size": [8, 40]}, width=30, sizes=sizes)
    assert laid.widths == [32]


class _Accelerator:
    def __init__(self, memory):
        self.memory = memory

    def memory_stats(self):
        return self.memory


def test_on_an_accelerator_a_block_is_halved_until_it_fits(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    small, large = sdpo_jax.Program(), sdpo_jax.Program(sizes=Sizes(48, 1024))
    for memory, program, expected in (
        (None, large, 8192),
        ({"bytes_limit": 2**37}, small, 8192),
        ({"bytes_limit": 2**34}, large, 256),
        ({"bytes_limit": 1}, large, 16),
    ):
        monkeypatch.setattr(jax, "local_devices", lambda memory=memory: [_Accelerator(memory)])
        assert grid.default_block_width(program) == expected


def test_the_number_of_cpu_devices_does_not_change_a_bit(tmp_path):
    script = """
import sys, jax, numpy as np, sdpo_jax
assert len(jax.local_devices()) == int(sys.argv[2])
sizes = sdpo_jax.Sizes(length=4, vocab_size=5, rollouts=6, steps=12, final_window=4)
data = sdpo_jax.run_grid({"seed": range(40)}, sizes=sizes, block_width=8, logits=True)
np.savez(sys.argv[1], **{name: data[name].values for name in data.data_vars})
"""
    found = []
    for devices in (1, 2):
        path = tmp_path / f"{devices}.npz"
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)}
        subprocess.run(
            [sys.executable, "-c", script, str(path), str(devices)], check=True, env=environment
        )
        found.append(dict(np.load(path)))
    assert found[0].keys() == found[1].keys()
    for name in found[0]:
        np.testing.assert_array_equal(found[0][name], found[1][name])


@pytest.mark.parametrize(("algorithm", "feedback"), CELLS)
def test_a_plain_vmap_agrees_at_every_step(algorithm, feedback):
    metrics = ("reward", "credit", "entropy")
    data = run(
        {"algorithm": [algorithm], "oracle": [feedback], "noise": [0.0, 0.3], "seed": [0, 1, 2]},
        record=metrics,
        metrics=metrics,
    )
    program = Program(algorithm, SIZES, metrics, record=metrics)
    oracle = sdpo_jax.ORACLES[feedback]()

    def train(seed, noise):
        return sdpo_jax.train(seed, program, Config(noise=noise), oracle).curves

    over_seeds = jax.vmap(train, in_axes=(0, None))
    curves = jax.jit(jax.vmap(over_seeds, in_axes=(None, 0)))(jnp.arange(3), jnp.array([0.0, 0.3]))
    for name in metrics:
        np.testing.assert_allclose(
            data[f"{name}_curve"].values[0, 0], curves[name], rtol=1e-5, atol=1e-5, err_msg=name
        )


def test_one_trace_for_each_program(monkeypatch):
    # Sizes that no other test has, so that nothing is compiled yet.
    sizes = Sizes(length=3, vocab_size=4, rollouts=5, steps=7, final_window=3)
    chex.clear_trace_counter()
    monkeypatch.setattr(programs, "train", chex.assert_max_traces(programs.train, n=2))
    axes = {
        "algorithm": ["sdpo", "reinforce"],
        "oracle": ["binary"],
        "noise": [0.0, 0.1, 0.2],
        "learning_rate": [0.02, 0.2],
        "seed": range(5),
    }
    run(axes, sizes=sizes)
    # Another size of the grid, other numbers: nothing is traced anew.
    run({**axes, "seed": range(30), "noise": [0.4], "kl_weight": [0.0, 0.1]}, sizes=sizes)
    with pytest.raises(AssertionError, match="traced"):
        run({**axes, "algorithm": ["hybrid"]}, sizes=sizes)


def test_algorithms_without_a_teacher_share_one_program_and_their_numbers():
    data = run({"oracle": ["binary", "ordinal", "critique"], "algorithm": ["reinforce"],
                "seed": range(3)})  # fmt: skip
    first = data.isel(oracle=0)
    for other in (1, 2):
        same_bits(first, data.isel(oracle=other))


def test_learning_from_feedback_hears_each_oracle():
    data = run(
        {"oracle": ["binary", "ordinal", "continuous"], "algorithm": ["reinforce"],
         "seed": range(3), "learn_from_feedback": [1.0]},
    )  # fmt: skip
    assert len(np.unique(data.logits.values[:, 0, 0, 0, 0, 0])) == 3


def test_labels():
    data = run(
        {"noise": [0.0, 0.5], "algorithm": {"mine": ALGORITHMS["sdpo"]}, "seed": [4, 2],
         "oracle": {"likert": sdpo_jax.ordinal(7)}},
        record=("reward",),
        record_every=5,
    )  # fmt: skip
    assert data.reward.dims == ("noise", "algorithm", "seed", "oracle")
    assert data.reward_curve.dims == (*data.reward.dims, "step")
    assert data.step.values.tolist() == [0, 5, 10]
    assert data.algorithm.values.tolist() == ["mine"]
    assert data.oracle.values.tolist() == ["likert"]
    assert data.logits.dims == (*data.reward.dims, "position", "token")
    assert data.logits.shape[-2:] == (4, 5)
    assert data.attrs["learning_rate"] == 0.02
    # What was asked for, 8, is rounded up to whole vectors.
    assert data.attrs["block_width"] == 16
    assert "noise" not in data.attrs
    assert data.reward.attrs["long_name"]


def test_an_axis_of_sizes():
    data = run({"vocab_size": [3, 5], "rollouts": [4, 6], "seed": range(2)}, logits=False)
    one = run({"seed": range(2)}, logits=False)
    same_bits(data.sel(vocab_size=5, rollouts=6), one)


def test_the_problem_held_while_the_rest_varies():
    data = run({"problem_seed": [1, 2], "seed": [1, 2]})
    same_bits(data.isel(problem_seed=0, seed=0), run({"seed": [1]}).isel(seed=0))
    assert len(np.unique(data.reward.values)) == 4


def test_zipped_axes_vary_together():
    pairs = {"algorithm": ["sdpo", "sdpo"], "noise": [0.0, 0.3]}
    data = run({"pair": pairs, "seed": range(3)})
    assert data.reward.dims == ("pair", "seed")
    whole = run({"noise": [0.0, 0.3], "seed": range(3)})
    for noise in (0.0, 0.3):
        same_bits(data.sel(noise=noise), whole.sel(noise=noise))


def test_optimizers_by_name():
    data = run({"optimizer": ["sgd", "adam"], "learning_rate": [0.1], "seed": range(3)})
    mine = run({"learning_rate": [0.1], "seed": range(3)}, optimizer=optax.adam)
    same_bits(data.sel(optimizer="adam"), mine)
    assert data.optimizer.values.tolist() == ["sgd", "adam"]
    assert (data.logits.sel(optimizer="sgd") != data.logits.sel(optimizer="adam")).any()


def test_every_optimizer_on_offer_takes_a_step():
    def moved(name, logits):
        optimizer = OPTIMIZERS[name](0.1)
        updates, _ = optimizer.update(logits, optimizer.init(logits), logits)
        return updates

    for name in OPTIMIZERS:
        logits = jnp.ones((4, 5))
        assert jax.eval_shape(functools.partial(moved, name), logits).shape == logits.shape, name


def test_chosen_runs_are_the_same_runs():
    axes = {"noise": [0.0, 0.3], "seed": range(60)}
    laid = plan.plan_grid(axes, width=64, sizes=SIZES, logits=True)
    chunks = list(laid.chunks(runs=70))
    assert [len(chunk.places) for chunk in chunks] == [70, 50]
    ((chunk, arrays),) = grid.compute(laid, chunks[1:])
    assert chunk is chunks[1]
    whole = run(axes, block_width=64)
    for name, array in arrays.items():
        flat = whole[name].values.reshape(-1, *array.shape[1:])
        np.testing.assert_array_equal(array, flat[chunk.runs], err_msg=name)
    last = laid.coordinates(int(chunk.runs[-1]))
    assert last == {"noise": 0.3, "seed": 59}


def test_a_stop_finishes_what_was_begun_and_begins_nothing():
    laid = plan.plan_grid({"seed": range(160)}, width=8, sizes=SIZES, logits=True)
    found = []
    for chunk, arrays in grid.compute(laid, laid.chunks(16), workers=1, stop=lambda: bool(found)):
        assert all(len(array) == 16 for array in arrays.values())
        found.append(chunk.runs)
    assert 1 <= len(found) <= 3
    np.testing.assert_array_equal(np.concatenate(found), np.arange(16 * len(found)))


def breaks_at_the_step_of_its_rate(rate):
    """Plain descent at 0.02, whose update is infinite at the step with the number of the rate."""

    def update(gradient, step, params=None):
        del params
        wrong = jnp.where(step.astype(jnp.float32) == rate, jnp.inf, 0.0)
        return -0.02 * gradient + wrong, step + 1

    return optax.GradientTransformation(lambda _: jnp.zeros((), jnp.int32), update)


def test_a_run_that_breaks_down_is_noticed_at_its_step_and_stops_no_other():
    steps = [0, 5, SIZES.steps - 1, SIZES.steps]
    axes = {"optimizer": {"breaks": breaks_at_the_step_of_its_rate}, "learning_rate": steps}
    data = run({**axes, "seed": range(3)}).squeeze()
    assert (data.finite_steps == data.learning_rate).all()
    alone = run({**axes, "learning_rate": [SIZES.steps], "seed": range(3)}).squeeze()
    same_bits(data.sel(learning_rate=SIZES.steps), alone)


def test_nodes_follow_from_strength_and_scale():
    def nodes(strength, scale=1.0):
        return grid.default_nodes(Sizes(), strength, scale)

    assert 0 < nodes(0.5) < nodes(1.5) < nodes(3.0)
    assert nodes(1.5) == nodes(3.0, 0.5) == nodes(-1.5)
    assert nodes(50.0) == 0


@pytest.mark.parametrize(("length", "vocab_size"), [(1, 2), (6, 8), (24, 8), (6, 1024)])
def test_the_typical_range_is_scipys(length, vocab_size):
    expected = scipy.stats.studentized_range.ppf(0.5 ** (1 / length), vocab_size, np.inf)
    assert groups._typical_range(length, vocab_size) == pytest.approx(expected, abs=1e-9)


def test_importing_the_library_does_not_import_what_it_may_never_need():
    script = "import sys, sdpo_jax; print(*sys.modules)"
    told = subprocess.check_output([sys.executable, "-c", script], text=True).split()
    assert not {"scipy.stats", "xarray", "pandas", "matplotlib"} & set(told)


def test_a_plan_holds_a_few_bytes_a_run():
    runs = 200_000
    tracemalloc.start()
    laid = plan.plan_grid({"algorithm": ["sdpo"], "seed": range(runs)}, width=64)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert laid.total == runs
    assert held < 6 * runs
    assert peak < 10 * runs


def test_a_plan_gives_each_run_what_its_labels_say():
    oracle = {"likert": sdpo_jax.ordinal(5), "stars": sdpo_jax.ordinal(5), "critic": "critique"}
    laid = plan.plan_grid(
        {"seed": [7, 5], "oracle": oracle, "pair": {"noise": [0.1, 0.2], "steps": [25, 30]},
         "feedback_strength": [0.5, 3.0], "problem_seed": [1, 2]},
        width=8,
        algorithm="sdpo",
    )  # fmt: skip
    assert len(laid.groups) == 4
    assert sorted(np.concatenate([group.runs for group in laid.groups])) == list(range(48))
    for group in laid.groups:
        given = group.inputs
        for place, run in enumerate(group.runs):
            labels = laid.coordinates(int(run))
            assert given["seed"][place] == labels["seed"]
            assert given["problem_seed"][place] == labels["problem_seed"]
            assert given["config"].noise[place] == np.float32(labels["noise"])
            assert given["config"].feedback_strength[place] == labels["feedback_strength"]
            assert group.program.sizes.steps == labels["steps"]
            assert (given["oracle"].hints is not None) == (labels["oracle"] == "critic")


def test_progress_tells_all_runs():
    told = []
    axes = {"algorithm": ["sdpo", "reinforce"], "seed": range(20)}
    run(axes, workers=2, progress=told.append)
    blocks = [each for each in told if each.kind == "block"]
    # Of each algorithm's three blocks one worker is called with two, the other with one.
    assert len(blocks) == 4
    assert blocks[-1].done == blocks[-1].total == 40
    assert {each.label for each in told if each.kind == "compile"} == {
        "sdpo, continuous",
        "reinforce",
    }


@pytest.mark.parametrize(
    ("axes", "options", "words"),
    [
        ({"nois": [0.1]}, {}, ["axes", "'nois'", "noise"]),
        ({"noise": [-0.1]}, {}, ["noise", "-0.1", "0 or more"]),
        ({"noise": [float("nan")]}, {}, ["noise", "nan", "0 or more"]),
        ({"noise": ["loud"]}, {}, ["noise", "'loud'", "0 or more"]),
        ({"noise": 0.1}, {}, ["noise", "0.1", "sequence"]),
        ({"noise": []}, {}, ["noise", "no values"]),
        ({"noise": [0.1, 0.1]}, {}, ["noise", "0.1", "once"]),
        ({"algorithm": ["sdqo"]}, {}, ["algorithm", "'sdqo'", "sdpo"]),
        ({"algorithm": "sdpo"}, {}, ["algorithm", "'sdpo'", "sequence"]),
        ({"oracle": ["ternary"]}, {}, ["oracle", "'ternary'", "binary"]),
        ({"seed": [-1]}, {}, ["seed", "-1", "0 to"]),
        ({"seed": [0.5]}, {}, ["seed", "0.5", "integers"]),
        ({"seed": np.array([3, 1, 3])}, {}, ["seed: 3", "once"]),
        ({"rollouts": [0]}, {}, ["rollouts", "0", "1 or more"]),
        ({"vocab_size": [1]}, {}, ["vocab_size", "1", "2 to"]),
        ({"pair": {"noise": [0.1], "seed": [1, 2]}}, {}, ["pair.seed", "2 values", "1"]),
        ({"pair": {"nois": [0.1]}}, {}, ["axes", "'pair'"]),
        ({"pair": {"noise": [0.1]}, "noise": [0.2]}, {}, ["'noise'", "once"]),
        ({"pair": {"noise": [0, 0], "seed": [1, 1]}}, {}, ["pair", "(0.0, 1)", "once"]),
        ({"noise": {"low": 0.1}}, {}, ["noise", "sequence"]),
        ({"optimizer": ["adem"]}, {}, ["optimizer", "'adem'", "adam"]),
        ({"seed": [0]}, {"metrics": [("logits", sdpo_jax.METRICS["reward"])]}, ["'logits'"]),
        ({"seed": [0]}, {"block_width": 0}, ["block_width", "0", "1 or more"]),
        ({"seed": [0]}, {"workers": 0}, ["workers", "0", "1 or more"]),
        ({"seed": [0]}, {"teacher_nodes": -1}, ["teacher_nodes", "-1", "0, 4, 8"]),
        ({"seed": [0]}, {"metrics": ["rewrad"]}, ["metrics", "'rewrad'", "reward"]),
        ({"seed": [0]}, {"record": ["drift"]}, ["record", "'drift'", "reward"]),
        ({"seed": [0]}, {"config": Config(kl_weight=-1.0)}, ["kl_weight", "-1.0", "0 or more"]),
        ({"seed": [0]}, {"sizes": Sizes(steps=0)}, ["steps", "0", "1 or more"]),
    ],
)
def test_errors_name_the_field_the_value_and_what_is_allowed(monkeypatch, axes, options, words):
    monkeypatch.setattr(
        execute.Execution, "results", lambda *_: pytest.fail("reached the compiler")
    )
    with pytest.raises(ValueError) as error:
        run(axes, **options)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_metrics_may_not_hide_an_axis():
    mine = ("noise", sdpo_jax.METRICS["reward"])
    with pytest.raises(ValueError, match="metrics: 'noise'"):
        run({"noise": [0.1], "seed": [0]}, metrics=(mine,))


# Between them every part that an algorithm is made of. The others are slow to compile one by one.
PARTS = [
    *("reinforce", "advantage_weighted", "ppo", "dpo_best_worst", "rlhf", "hybrid", "sdft"),
    *("process_reward_learned", "scar_sampled", "sdpo_mixture_logits"),
    *("sdpo_forward_trust", "sdpo_reverse_ema", "sdpo_jsd_ema_top_k"),
]


@pytest.mark.as_shipped
@pytest.mark.parametrize(
    ("algorithm", "feedback"),
    [
        *((algorithm, "continuous") for algorithm in PARTS),
        *itertools.product(["sdpo"], ("binary", "ordinal", "continuous", "critique")),
        *(
            pytest.param(algorithm, "continuous", marks=pytest.mark.slow)
            for algorithm in sorted(ALGORITHMS.keys() - {*PARTS, "sdpo"})
        ),
    ],
)
def test_every_lane_of_a_block_gets_the_same_bits(monkeypatch, algorithm, feedback):
    """In one kernel too, which only wide blocks are: a block of one run, over and over."""
    fits, found = lanes.fits_one_kernel, []
    monkeypatch.setattr(lanes, "fits_one_kernel", lambda text: found.append(fits(text)) or True)
    laid = plan.plan_grid(
        {"algorithm": [algorithm], "oracle": [feedback], "noise": [0.2]},
        sizes=SIZES,
        metrics=("reward",),
        logits=True,
    )
    copies = plan.Chunk(laid.groups[0], np.zeros(laid.groups[0].width, int))
    [(_, arrays)] = grid.compute(laid, [copies], workers=1)
    assert found == [True]
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, np.broadcast_to(array[:1], array.shape), err_msg=name)


def slots_that_differ(algorithm, width, sizes):
    """How many runs of a block have other bits than its first one, although all are that one."""
    laid = plan.plan_grid(
        {"algorithm": [algorithm], "noise": [0.2]}, width=width, sizes=sizes, logits=True
    )
    copies = plan.Chunk(laid.groups[0], np.zeros(laid.groups[0].width, int))
    [(_, arrays)] = grid.compute(laid, [copies], workers=1)
    rows = [array.reshape(laid.groups[0].width, -1) for array in arrays.values()]
    return sum(int((row != row[:1]).any(axis=1).sum()) for row in rows)


# Where blocks of these very widths had slots with bits of their own.
WIDTHS = [
    *(("reinforce", width, Sizes(3, 5, 7, 60, 5)) for width in (4, 12)),
    *(("sdpo", width, Sizes(steps=20)) for width in (17, 36)),
]


@pytest.mark.as_shipped
@pytest.mark.parametrize(("algorithm", "width", "sizes"), WIDTHS)
def test_every_slot_gets_the_same_bits_at_any_width(algorithm, width, sizes):
    assert slots_that_differ(algorithm, width, sizes) == 0


@pytest.mark.as_shipped
def test_a_runs_bits_do_not_depend_on_its_slot_at_a_width_that_is_no_vector():
    sizes = Sizes(3, 5, 7, 60, 5)
    options = {"algorithm": "reinforce", "sizes": sizes, "block_width": 4}
    whole = run({"seed": range(64)}, **options)
    shifted = run({"seed": range(1, 64)}, **options)
    same_bits(whole.isel(seed=slice(1, None)), shifted)


@pytest.mark.as_shipped
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="sets of x86")
def test_every_slot_gets_the_same_bits_on_a_processor_with_narrower_vectors():
    script = """
import sys
sys.path.insert(0, "tests")
from sdpo_jax import Sizes
from test_grid import slots_that_differ
small = Sizes(3, 5, 7, 20, 5)
print(slots_that_differ("reinforce", 8, small), slots_that_differ("reinforce", 48, small))
"""
    environment = {**os.environ, "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"}
    told = subprocess.check_output([sys.executable, "-c", script], text=True, env=environment)
    assert told.split() == ["0", "0"]


MATRIX = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
PRODUCTS = {
    "of_reward": lambda view: ((MATRIX @ view.reward) ** 2).sum(0),
    "of_row": lambda view: (MATRIX @ view.policy.probs[0]).sum(0),
    "largest": lambda view: (MATRIX @ view.policy.probs[0]).max(0),
    "of_column": lambda view: jnp.einsum("ij,j...->i...", MATRIX, view.policy.probs[:, 0]).sum(0),
    "of_table": lambda view: jnp.einsum("ij,tj...->ti...", MATRIX, view.policy.probs).max((0, 1)),
    "form": lambda view: jnp.einsum("i...,ij,j...->...", view.reward, MATRIX, view.reward),
}


def last_runs(metrics, options, rollouts=3):
    """Of 32,769 runs that are mapped over at once the last few; and the same runs by themselves.

    XLA's CPU compiler of jaxlib 0.10.2 rewrites the sum of a product of this size to a call of a
    library, which is wrong in the last of so many rows.
    """
    program = Program("reinforce", Sizes(3, 3, rollouts, 1, 1), metrics)
    mapped = jax.vmap(lambda seed: sdpo_jax.train(seed, program).final)
    seeds = jnp.arange(32_769)
    together = jax.jit(mapped, compiler_options=options)(seeds)
    alone = jax.jit(mapped, compiler_options=options)(seeds[-9:])
    return {name: (values[-9:], alone[name]) for name, values in together.items()}


def test_matrix_products_of_a_users_metric_are_right_in_a_jit_of_his_own():
    metrics = tuple((name, Metric(measure, name)) for name, measure in PRODUCTS.items())
    data = sdpo_jax.run_grid(
        {"seed": range(32_760, 32_769)}, algorithm="reinforce", sizes=Sizes(3, 3, 3, 1, 1),
        metrics=metrics,
    )  # fmt: skip
    for name, (together, alone) in last_runs(metrics, sdpo_jax.compiler_options()).items():
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(together, data[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_what_the_library_measures_itself_is_right_in_a_plain_jit():
    # With so many rollouts no row's credit is a matter of rounding.
    metrics = ("reward", "credit", "entropy")
    for name, (together, alone) in last_runs(metrics, None, rollouts=12).items():
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "largest",
    [
        lambda probs: jnp.sort(probs, axis=1)[:, -1],
        lambda probs: jax.pure_callback(
            lambda x: np.asarray(x).max(1),
            jax.ShapeDtypeStruct((probs.shape[0], probs.shape[2]), probs.dtype),
            probs,
        ),
    ],
    ids=["sort", "callback"],
)
def test_a_metric_that_no_kernel_can_hold(largest):
    plain = Metric(lambda view: view.policy.probs.max(1).mean(0), "largest probability")
    called = Metric(lambda view: largest(view.policy.probs).mean(0), "largest probability")
    metrics = (("plain", plain), ("called", called))
    data = sdpo_jax.run_grid({"seed": range(3)}, sizes=SIZES, metrics=metrics)
    np.testing.assert_allclose(data.called, data.plain, rtol=1e-6)


def test_programs_are_compiled_ahead_and_only_once(monkeypatch):
    sizes = Sizes(length=2, vocab_size=3, rollouts=5, steps=4, final_window=2)
    compiled = []
    real = programs._compiled

    def compile_one(program, *rest):
        compiled.append(program.algorithm)
        return real(program, *rest)

    monkeypatch.setattr(programs, "_compiled", compile_one)
    monkeypatch.setattr(programs, "_PROGRAMS", programs._Programs())
    plans = [
        plan.plan_grid({"algorithm": names, "seed": range(3)}, width=8, sizes=sizes)
        for names in (["reinforce"], ["rloo", "reinforce"])
    ]
    ahead = [(each, group) for each in plans for group in each.groups]
    with grid.compiled_ahead(ahead):
        for each in plans:
            for _ in grid.compute(each, each.chunks(8)):
                pass
    assert sorted(compiled) == ["reinforce", "rloo"]


def test_a_program_that_does_not_compile_is_told_by_who_computes_it(monkeypatch):
    monkeypatch.setattr(programs, "_PROGRAMS", programs._Programs())
    monkeypatch.setattr(programs, "_compiled", lambda *_: 1 / 0)
    wanted = plan.plan_grid({"seed": range(3)}, width=8, sizes=SIZES)
    with grid.compiled_ahead([(wanted, wanted.groups[0])]), pytest.raises(ZeroDivisionError):
        list(grid.compute(wanted, wanted.chunks(8)))
