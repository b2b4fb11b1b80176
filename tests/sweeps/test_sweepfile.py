"""Sweep files: what they mean, and that every mistake is named before anything is compiled."""

from __future__ import annotations

import copy
import math
import random
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import sdpo_jax
import sweeps
from sdpo_jax import ALGORITHMS, METRICS, OPTIMIZERS, ORACLES, grid
from sdpo_jax.config import CONFIG_FIELDS, SIZE_FIELDS
from sdpo_jax.grid import AXES, TITLES, programs
from sdpo_jax.oracles import judges
from sweeps.file import oracle_tables, reader, sweepfile
from sweeps.file.mistakes import SweepError
from sweeps.file.sweepfile import parse
from sweeps.store import labelled

EXAMPLES = sorted((Path(sweeps.__file__).parent / "examples").glob("*.toml"))
MALFORMED = 400


def labels(text, name="main"):
    return {
        axis: list(values)
        for each in parse(text, "test").plans[name].axes
        for axis, values in each.labels.items()
    }


@pytest.fixture(autouse=True)
def never_compiled(monkeypatch):
    monkeypatch.setattr(programs._PROGRAMS, "get", lambda *_: pytest.fail("reached the compiler"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_right(path):
    sweep = sweepfile.read(path)
    assert sweep.title
    assert all(plan.total > 1 for plan in sweep.plans.values())


def test_the_examples_that_were_asked_for_are_there():
    assert {path.stem for path in EXAMPLES} >= {
        "paper", "learning_rate", "likert", "scaling", "kl_frontier",
    }  # fmt: skip


def test_the_page_on_sweeps_shows_files_that_are_right():
    page = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text()
    whole, oracles = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert parse(whole, "docs").plans["main"].shape == (2, 7, 64, 2)
    assert len(labels(f"[axes]\n{oracles}")["oracle"]) == 14


def test_short_forms_are_numpys_and_pythons():
    found = labels(
        """
        [axes]
        noise = { linspace = [0.0, 0.5, 6] }
        learning_rate = { logspace = [0.001, 10.0, 9] }
        rollouts = { logspace = [4, 64, 5] }
        seed = { range = [3, 20, 4] }
        problem_seed = { count = 5 }
        """
    )
    np.testing.assert_allclose(found["noise"], np.linspace(0, 0.5, 6), rtol=1e-12)
    assert found["noise"][3] == 0.3
    np.testing.assert_allclose(found["learning_rate"], np.geomspace(1e-3, 10, 9), rtol=1e-11)
    assert found["rollouts"] == [4, 8, 16, 32, 64]
    assert found["seed"] == list(range(3, 20, 4))
    assert found["problem_seed"] == list(range(5))


def test_dimensions_stand_in_the_order_of_the_file():
    plan = parse("[axes]\nseed = [1]\nalgorithm = ['sdpo']\nbias = [0]\nnoise = [0]", "x").plans[
        "main"
    ]
    assert [axis.dimension for axis in plan.axes] == ["seed", "algorithm", "bias", "noise"]


def test_oracles_by_table():
    found = labels(
        """
        [axes]
        oracle = [
            "critique",
            { kind = "critique", reading = "sampled" },
            { kind = "ordinal", levels = { range = [2, 5] } },
            { kind = "constant", value = [0.0, 0.5] },
            { kind = "custom", name = "mine", gain = 0.5, cuts = [0.5], rises = [0.25] },
        ]
        """
    )
    assert found["oracle"] == [
        "critique",
        "critique(reading=sampled)",
        "ordinal(levels=2)",
        "ordinal(levels=3)",
        "ordinal(levels=4)",
        "constant(value=0.0)",
        "constant(value=0.5)",
        "mine",
    ]


def test_judges_by_table():
    text = """
    [axes]
    oracle = [
        "rubric",
        { kind = "self_judge", likelihood = [0.2, 0.4] },
        { kind = "ordinal", levels = 7, judge = { halo = [0.0, 0.3], leniency = 0.2 } },
        { kind = "references", judge = { severity = 0.1 } },
    ]
    """
    axis = parse(text, "x").plans["main"].axes[0]
    assert list(axis.labels["oracle"]) == [
        "rubric",
        "self_judge(likelihood=0.2)",
        "self_judge(likelihood=0.4)",
        "ordinal(levels=7, halo=0.0, leniency=0.2)",
        "ordinal(levels=7, halo=0.3, leniency=0.2)",
        "references(severity=0.1)",
    ]
    own, last = axis.values["oracle"][4].judge, axis.values["oracle"][5].judge
    assert (own.halo, own.leniency, own.style) == pytest.approx((0.3, 0.2, 0.0))
    # What the references' judge looks at stays.
    assert (last.overlap, last.style, last.severity) == pytest.approx((0.8, 0.2, 0.1))


def test_every_axis_has_a_title_and_every_oracle_a_table():
    assert set(AXES) < set(TITLES)
    assert set(oracle_tables.KINDS) == {*ORACLES, "custom", "function"}


def test_zipped_oracles_may_repeat():
    text = """
    [zip.pair]
    oracle = ["binary", "binary", "ordinal"]
    noise = [0.0, 0.1, 0.1]
    """
    assert labels(text)["oracle"] == ["binary", "binary", "ordinal"]


def test_a_grids_base_goes_before_the_files():
    text = """
    [base]
    noise = 0.1
    optimizer = "adam"
    [grid.one.axes]
    seed = [1]
    [grid.two.base]
    noise = 0.2
    algorithm = "reinforce"
    [grid.two.axes]
    seed = [1]
    """
    plans = parse(text, "x").plans
    assert plans["one"].held["noise"] == 0.1
    assert plans["two"].held["noise"] == 0.2
    assert plans["two"].held["algorithm"] == "reinforce"
    for plan in plans.values():
        assert plan.groups[0].program.optimizer is OPTIMIZERS["adam"]


def test_all_mistakes_at_once_each_with_path_value_allowed_and_nearest_name():
    text = """
    titel = "x"
    [base]
    nois = 0.1
    steps = 10
    metrics = ["reward", "credt"]
    [axes]
    algorithm = ["sdpo", "reinforse"]
    noise = [0.1, -0.2]
    oracle = ["binary", { kind = "ordinal", levels = 1 }]
    seed = { cuont = 4 }
    [zip.pair]
    kl_weight = [0.0, 0.1]
    bias = [0.0]
    """
    with pytest.raises(SweepError) as error:
        parse(text, "x")
    found = {mistake.path: mistake for mistake in error.value.mistakes}
    assert set(found) == {
        "titel", "base.nois", "base.metrics[1]", "axes.algorithm[1]", "axes.noise[1]",
        "axes.oracle[1].levels", "axes.seed", "zip.pair.bias",
    }  # fmt: skip
    nearest = {path: mistake.nearest for path, mistake in found.items() if mistake.nearest}
    assert nearest == {
        "titel": "title", "base.nois": "noise", "base.metrics[1]": "credit",
        "axes.algorithm[1]": "reinforce", "axes.seed": "count",
    }  # fmt: skip
    assert found["axes.noise[1]"].problem == "-0.2"
    assert found["axes.noise[1]"].allowed == "0 or more"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[axes]\nnoise = [0.1\n", ["Unclosed array", "TOML"]),
        ("[axes]\nnoise = [0.1]\nnoise = [0.2]", ["line 3", "noise = [0.2]"]),
        ("grid = 3", ["grid", "table"]),
        ("[grid]", ["grid", "one or more"]),
        ("[grid.a.axes]\nseed = [1]\n[axes]\nseed = [1]", ["grid", "beside"]),
        ("[base]\nfinal_window = 400", ["base.final_window", "400", "300"]),
        ("[axes]\nsteps = [10, 300]", ["axes.steps", "20", "10"]),
        ("[base]\nmetrics = ['optimality']\nlength = 9", ["base.metrics", "'optimality'"]),
        ("[base]\nrecord = ['drift']", ["base.record[0]", "'drift'", "reward"]),
        ("[base]\nrecord = ['reward']\n[axes]\nsteps = [30, 40]", ["base.record", "axis of steps"]),
        ("[base]\nlogits = true\n[axes]\nlength = [3, 4]", ["base.logits", "length"]),
        ("[axes]\nseed = { count = 100000 }\nproblem_seed = { count = 1000 }", ["100000000 runs"]),
        ("[axes]\nnoise = [1e39]", ["axes.noise[0]", "32 bits"]),
        ("[zip.seed]\nnoise = [1]\nbias = [1]", ["zip.seed", "no axis"]),
        ("[zip.a]\nnoise = [1]", ["zip.a", "two or more"]),
        ("[zip.a]\nnoise = [1, 1]\nbias = [1, 1]", ["zip.a", "twice"]),
        ("[zip.a]\nnoise = [0.1, 0.10000000001]\nbias = [1, 1]", ["zip.a", "twice"]),
        ("[axes]\nnoise = [0.1, 0.10000000001]", ["axes.noise", "one number in 32 bits"]),
        ("[axes]\nlearning_rate = [1e-50]", ["axes.learning_rate[0]", "32 bits"]),
        ("[axes]\noracle = [{kind = 'constant', value = 1e-50}]", ["value", "32 bits"]),
        ("[axes]\noracle = [{kind = 'binary', threshold = [0.1, 0.10000000001]}]", ["32 bits"]),
        ("[base]\nnoise = " + "9" * 400, ["base.noise", "32 bits"]),
        ("[base]\nnoise = " + "9" * 5000, ["digits"]),
        ("[axes]\nnoise = { linspace = [0, " + "9" * 400 + ", 3] }", ["axes.noise"]),
        ("a = " + "[" * 10_000 + "]" * 10_000, ["levels deep"]),
        ("a = " + "{a = " * 10_000 + "1" + "}" * 10_000, ["levels deep"]),
        (".".join("a" * 10_000) + " = 1", ["line 1", "32 parts"]),
        ("", ["empty"]),
        ("[axes]\nnoise = { linspace = [0, 1, 20000000] }", ["axes.noise", "50000"]),
        ("[axes]\nseed = { linspace = [0, 1, 20000000] }", ["axes.seed", "50000"]),
        ("[axes]\noracle = [{kind = 'ordinal', levels = {count = 20000000}}]", ["1000"]),
        (
            "[axes]\noracle = [{kind = 'rubric', judge = {"
            + ", ".join(f"{bias} = {[i / 100 for i in range(100)]}" for bias in judges.BIASES[:5])
            + "}}]",
            ["axes.oracle", "at most 1000 oracles"],
        ),
        ("[axes]\nsteps = { range = [20, 3020] }", ["3000 programs", "1000"]),
        (
            "[axes]\nfeedback_strength = { linspace = [0, 1, 1000] }\n"
            "quality_scale = { linspace = [0, 1, 1000] }",
            ["1000000 combinations", "50000"],
        ),
        ("[grid.A.axes]\nseed = [1]\n[grid.a.axes]\nseed = [1]", ["grid.a", "a.csv", "'A'"]),
        (
            "[grid.a.axes]\nseed = [1]\n[grid.a-comparisons.axes]\nseed = [1]",
            ["grid.a-comparisons", "a-comparisons.csv"],
        ),
        ("[grid.con.axes]\nseed = [1]", ["grid.con", "device"]),
        ("name = 'nul'\n[axes]\nseed = [1]", ["name", "device"]),
        (f"name = '{'x' * 65}'\n[axes]\nseed = [1]", ["name", "at most 64"]),
        ('title = "\\u001b[2J"\n[axes]\nseed = [1]', ["title", "control characters"]),
        (
            "[zip.a]\noracle = [{kind = 'binary', name = 'x'}, {kind = 'ordinal', name = 'x'}]\n"
            "noise = [0.1, 0.2]",
            ["zip.a.oracle[1]", "'x'"],
        ),
        # What the library finds when it lays the grids out.
        ("[base]\nrollouts = 1048576", ["block_width", "402,653,184 tokens"]),
        ("[base]\nblock_width = 1048576", ["block_width", "tokens"]),
        ("[base]\nlength = 100000", ["block_width", "length 100000"]),
        ("[grid.a]\n[grid.b.base]\nalgorithm = 'scar'\nlength = 30", ["grid.b.length", "scar"]),
        (
            "[grid.a]\n[grid.b.base]\nalgorithm = 'process_reward'\nlength = 30",
            ["grid.b.length", "process_reward"],
        ),
    ],
    ids=lambda each: each[:40] if isinstance(each, str) else "",
)
def test_what_entries_say_together(text, words):
    with pytest.raises(SweepError) as error:
        parse(text, "x")
    assert len(error.value.mistakes) == 1
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("name", sorted(reader.RESERVED))
def test_no_dimension_has_a_name_of_the_results(name):
    with pytest.raises(SweepError) as error:
        parse(f"[zip.{name}]\nnoise = [0.1, 0.2]\nbias = [0.0, 0.1]", "x")
    assert [mistake.path for mistake in error.value.mistakes] == [f"zip.{name}"]


def test_what_results_hold_is_reserved():
    plan = parse("[base]\nrecord = ['reward']\nlogits = true", "x").plans["main"]
    dims = {dim for dims, _ in grid.describe(plan).values() for dim in dims}
    assert {*grid.describe(plan), *dims, labelled.FINISHED} <= reader.RESERVED


def test_all_grids_are_laid_out_before_one_is_trained_and_the_wrong_one_is_named(monkeypatch):
    laid = []

    def refuse(axes, **options):
        laid.append(options["sizes"].length)
        if len(laid) > 1:
            raise ValueError("length: 7; allowed: less")

    monkeypatch.setattr(sdpo_jax, "plan_grid", refuse)
    with pytest.raises(SweepError) as error:
        parse("[grid.a]\n[grid.b.base]\nlength = 7\n[grid.c.base]\nlength = 8", "x")
    assert laid == [6, 7, 8]
    assert [each.path for each in error.value.mistakes] == ["grid.b.length", "grid.c.length"]


def test_millions_of_seeds_are_one_range():
    plan = parse("[axes]\nseed = { count = 20000000 }", "x").plans["main"]
    assert plan.shape == (20_000_000,)
    assert plan.axes[0].labels["seed"] == range(20_000_000)


def test_of_many_mistakes_a_readable_number_is_listed():
    with pytest.raises(SweepError) as error:
        parse("[axes]\nnoise = { linspace = [-5, -1, 50000] }", "x")
    said = str(error.value)
    assert "49980 mistakes more" in said
    assert len(said.splitlines()) < 60


def test_several_numbers_of_an_oracle_stay_as_they_are():
    oracle = "[{kind = 'binary', threshold = {linspace = [0.2, 0.8, 3]}}]"
    assert labels(f"[axes]\noracle = {oracle}")["oracle"] == [
        "binary(threshold=0.2)", "binary(threshold=0.5)", "binary(threshold=0.8)",
    ]  # fmt: skip
    assert len(labels("[axes]\noracle = [{kind = 'ordinal', levels = {range = [2, 101]}}]")[
        "oracle"
    ]) == 99  # fmt: skip


def test_feedback_of_the_base_keeps_its_name():
    for given, name in (
        ("'critique'", "critique"),
        ("{ kind = 'ordinal', levels = 7 }", "ordinal(levels=7)"),
        ("{ kind = 'binary', name = 'mine' }", "mine"),
    ):
        assert parse(f"[base]\noracle = {given}", "x").plans["main"].held["oracle"] == name


def typo(rng, name):
    """A name that is one slip away from a valid one."""
    at = rng.randrange(1, len(name))
    slips = (name[:at] + name[at + 1 :], name[:at] + "q" + name[at:], name[:at] + name[at - 1 :])
    return rng.choice(slips)


def mutations(rng, raw):
    """Ways to spoil a valid file: a function that does it and gives the field to be named."""
    base = raw.setdefault("base", {})
    holder = next(iter(raw["grid"].values())) if "grid" in raw else raw
    axes = holder.setdefault("axes", {})
    number = rng.choice(CONFIG_FIELDS)
    count = rng.choice(SIZE_FIELDS)
    for table in (axes, *holder.get("zip", {}).values()):
        for name in (number, count):
            if name in table:
                base.pop(name, None)

    def put(table, name, value):
        def spoil():
            table[name] = value
            return name

        return spoil

    wrong_type = rng.choice(["much", True, [0.1], {"a": 1}])
    bad_number = rng.choice([math.nan, math.inf, -math.inf, 1e39])
    negatives = ["learning_rate", "noise", "kl_weight", "knowledge", "hint_noise", "init_scale"]
    slip = typo(rng, rng.choice([*CONFIG_FIELDS, *SIZE_FIELDS, "algorithm", "oracle"]))
    return [
        put(base, slip, 1),
        put(axes, slip, [1]),
        put(raw, typo(rng, "title"), "x"),
        put(base, number, wrong_type),
        put(base, number, bad_number),
        put(base, rng.choice(negatives), -0.5),
        put(base, count, rng.choice([0, -3, 2.5, "six", True, 2**40])),
        put(base, "algorithm", typo(rng, rng.choice(list(ALGORITHMS)))),
        put(base, "optimizer", typo(rng, "adam")),
        put(base, "oracle", {"kind": typo(rng, "ordinal")}),
        put(base, "oracle", {"kind": "ordinal", "levels": rng.choice([1, 2.5, "x", 10**6])}),
        put(base, "oracle", {"kind": "custom", "gain": rng.choice([1.5, -0.1, math.nan])}),
        put(base, "oracle", {"kind": "custom", "cuts": [0.5, 0.2], "rises": [0.1, 0.1]}),
        put(base, "oracle", {"kind": "custom", "cuts": [0.5], "rises": []}),
        put(base, "metrics", rng.choice([[], ["drift"] * 2, [typo(rng, "entropy")], "reward"])),
        put(base, "record", [rng.choice([m for m in METRICS if m not in base.get("metrics", [])
                                         and m not in ("reward", "credit", "entropy")])]),
        put(base, "record_every", rng.choice([0, -1, 1.5, "often"])),
        put(base, "block_width", rng.choice([0, -64, "wide"])),
        put(base, "teacher_nodes", rng.choice([-1, 3, "many"])),
        put(base, "logits", rng.choice([1, "yes"])),
        put(axes, number, rng.choice([0.1, "all", [], [0.1, 0.1], [bad_number], ["low"]])),
        put(axes, number, {typo(rng, "linspace"): [0, 1, 3]}),
        put(axes, number, {"linspace": rng.choice([[0, 1], [0, 1, 0], [0, 1, 2.5], "0 to 1"])}),
        put(axes, number, {"logspace": rng.choice([[0.0, 1.0, 3], [-1, 1, 3]])}),
        put(axes, "seed", rng.choice([[-1], [2**32], [0.5], {"count": 0}, {"range": [1]}, [3, 3]])),
        put(axes, "problem_seed", {"range": [0, 10, 0]}),
        put(axes, "algorithm", rng.choice([["sdpo", "sdpo"], "sdpo", [], {"count": 3}, [1]])),
    ]  # fmt: skip


def written(value, path=()):
    """TOML of a parsed file, for the few types that it has."""
    plain = [(k, v) for k, v in value.items() if not isinstance(v, dict) or path]
    if path:
        return [f"{'.'.join(path)} = {inline(value)}"]
    lines = [f"{key} = {inline(each)}" for key, each in plain]
    for key, each in value.items():
        if isinstance(each, dict):
            lines.append(f"{key} = {inline(each)}")
    return lines


def inline(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {inline(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def test_generated_malformed_files_are_refused_and_the_field_is_named():
    rng = random.Random(20261124)
    valid = [tomllib.loads(path.read_text()) for path in EXAMPLES]
    for raw in valid:
        parse("\n".join(written(raw)), "valid")
    kinds = set()
    for _ in range(MALFORMED):
        raw = copy.deepcopy(rng.choice(valid))
        options = mutations(rng, raw)
        which = rng.randrange(len(options))
        kinds.add(which)
        field = options[which]()
        text = "\n".join(written(raw))
        with pytest.raises(SweepError) as error:
            parse(text, "spoiled")
        paths = [mistake.path for mistake in error.value.mistakes]
        assert any(field in path for path in paths), (field, text, str(error.value))
        assert all(mistake.allowed for mistake in error.value.mistakes)
    assert len(kinds) == len(options)
