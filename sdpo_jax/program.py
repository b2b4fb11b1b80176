"""What is static of a training run, and the checks of everything that a user puts into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, cast, get_args, get_origin

import numpy as np
import optax
from jax import Array

from sdpo_jax import oracles, policies, problems, teachers
from sdpo_jax.algorithm import (
    STEP,
    Algorithm,
    AlgorithmLike,
    numbers_of,
    pair,
    what_is_told,
    what_is_told_at_first,
)
from sdpo_jax.algorithms import ALGORITHMS
from sdpo_jax.config import CONFIG_FIELDS, SIZE_FIELDS, Sizes, check_sizes, check_value
from sdpo_jax.engine import own_numbers
from sdpo_jax.engine.checks import MAX_INTEGER, can_be_key, integer, name_of, of_type, shown
from sdpo_jax.engine.own_numbers import OwnNumber
from sdpo_jax.metrics import METRICS, Metric
from sdpo_jax.optimizers import Optimizer, check_optimizer
from sdpo_jax.oracles import Oracle
from sdpo_jax.policies import Factored, Network, PolicyKind
from sdpo_jax.problems import PROBLEMS, Function, ProblemKind

# What results hold beside the axes and the metrics, and what they add to a metric's name.
FINITE_STEPS = "finite_steps"
OWN_NAMES = (FINITE_STEPS, "finished", "logits", "step", "position", "token", "quantile")
STATISTICS = ("_mean", "_curve", "_curve_sd", "_curve_count", "_curve_quantile")

# Axes of a grid, whose names no number of one's own can have.
NAMED_AXES = ("algorithm", "oracle", "policy", "problem", "optimizer")
SEED_AXES = ("seed", "problem_seed")

DEFAULT_METRICS = ("reward", "credit", "entropy")

# Sequences that an exact metric reads a network at.
MOST_READ = 2**14

ProblemLike = str | ProblemKind | Callable[..., Any]


@dataclass(frozen=True)
class Program:
    """What is static: everything that makes one compiled program differ from another.

    Attributes:
        algorithm: a name of ``ALGORITHMS``, or a function like those there (see ``algorithm``).
        sizes: the integers that shape the arrays.
        metrics: names of ``METRICS``, functions from a ``View`` to ``[*runs]``, which then go by
            their own names, or pairs of a name and a ``Metric`` or such a function. By default
            reward, credit and entropy, without credit where the problem knows no quality.
        record: those of the metrics whose curves are kept.
        record_every: steps between two points of a curve; 1 or more. The first is step 0.
        optimizer: from a learning rate to an optax transformation. It sees one run at a time.
        teacher_nodes: interpolate the teachers of an oracle with a gain from so many nodes;
            0 for a softmax for each rollout (see ``sdpo_jax.teachers``).
        policy: a name of ``POLICIES``, or a ``Network``.
        problem: a name of ``PROBLEMS``, a function of one sequence, or a ``Function``.
    """

    algorithm: str | AlgorithmLike = "sdpo"
    sizes: Sizes = field(default_factory=Sizes)
    metrics: Any = None
    record: tuple[str, ...] = ()
    record_every: int = 1
    optimizer: Optimizer = optax.sgd
    teacher_nodes: int = 0
    policy: str | PolicyKind = "factored"
    problem: ProblemLike = "bigram"

    def __post_init__(self) -> None:
        if self.metrics is None:
            object.__setattr__(self, "metrics", default_metrics((self.problem,)))
        # A name by itself is one of them, and not its letters; a list has no hash, and an array
        # no truth.
        for name in ("metrics", "record"):
            given: Any = getattr(self, name)
            if isinstance(given, str) or callable(given):
                given = (given,)
            if isinstance(given, np.ndarray):
                given = given.tolist()
            if isinstance(given, Mapping):
                given = tuple(given.items())
            if isinstance(given, Array):
                given = (given,)
            entries = isinstance(given, Sequence | Set | Mapping)
            # A range may be of any length, and bytes are numbers.
            if entries and not isinstance(given, range | bytes | bytearray | memoryview):
                given = tuple(map(_with_a_name, given))
            object.__setattr__(self, name, given)


def default_metrics(given: Sequence[Any]) -> tuple[str, ...]:
    """The default metrics that problems of all these kinds know."""
    kinds = [PROBLEMS.get(each) if isinstance(each, str) else each for each in given]
    unknown = not all(getattr(each, "knows_quality", not callable(each)) for each in kinds)
    return tuple(name for name in DEFAULT_METRICS if not (unknown and METRICS[name].needs_quality))


def _with_a_name(entry: Any) -> Any:
    """A metric as a pair of its name and a ``Metric``, where a function stands for it."""
    name: Any = None
    measure: Any = entry
    if isinstance(entry, tuple) and len(entry) == 2:
        name, measure = entry
    elif callable(entry) and str(getattr(entry, "__name__", "")).isidentifier():
        name = entry.__name__
    function = callable(measure) and not isinstance(measure, type)
    return (name, Metric(cast(Any, measure), name)) if isinstance(name, str) and function else entry


def algorithm_of(given: str | AlgorithmLike) -> Algorithm:
    """An algorithm given by name or as itself, as a pair of functions.

    Raises:
        ValueError: an unknown name, or a parameter that the engine has nothing for.
    """
    if isinstance(given, str):
        if given not in ALGORITHMS:
            raise ValueError(f"algorithm: {shown(given)}; allowed: {', '.join(ALGORITHMS)}")
        given = ALGORITHMS[given]
    can_be_key(f"algorithm: {name_of(given)}", given)
    return pair(given)


def parts_of(program: Program) -> Any:
    """What the names of a program stand for now, as a key: registries may change."""
    return (
        algorithm_of(program.algorithm),
        tuple(chosen_metrics(program).values()),
        policies.policy_kind(program.policy),
        problems.problem_kind(program.problem),
    )


def numbers_of_program(program: Program, oracle: Oracle | None = None) -> dict[str, OwnNumber]:
    """The own numbers of all parts of a program, by name.

    Raises:
        ValueError: a name with two rules, or one that is an axis or a number of the engine's.
    """
    kind, problem = policies.policy_kind(program.policy), problems.problem_kind(program.problem)
    parts = [
        numbers_of(algorithm_of(program.algorithm)),
        kind.numbers,
        problem.numbers,
        oracles.numbers_of_function(None if oracle is None else oracle.function),
    ]
    found = own_numbers.joined(number for part in parts for number in part.values())
    taken = {*NAMED_AXES, *SEED_AXES, *CONFIG_FIELDS, *SIZE_FIELDS, *OWN_NAMES}
    for name, number in found.items():
        if name in taken:
            raise ValueError(
                f"{number.owner} has a number {name!r}, a name that is the engine's; allowed: "
                "another name (or a parameter `config`, without a default)"
            )
    return found


def checked_numbers(
    program: Program, oracle: Oracle | None, given: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The values of a program's own numbers: those given, checked, and else the defaults.

    Raises:
        ValueError: a number that no part has, or one that is not allowed, in one line.
    """
    own = numbers_of_program(program, oracle)
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise ValueError(f"numbers: {shown(given)}; allowed: a mapping of names to numbers")
    for name, value in given.items():
        if name not in own:
            allowed = ", ".join(own) or "none, as no part of this program has a number of its own"
            raise ValueError(f"numbers: {shown(name)}; allowed: {allowed}")
        check_value(name, value, own[name].rule)
    return {name: given.get(name, number.default) for name, number in own.items()}


def needs_teacher(program: Program) -> bool:
    """Whether a program computes the teachers at all; if not, its oracle's kind is irrelevant."""
    told = what_is_told(algorithm_of(program.algorithm))
    return "teacher" in told or "lessons" in told or metrics_need_teacher(program)


def metrics_need_teacher(program: Program) -> bool:
    """Whether a metric reads the teachers."""
    return any(metric.needs_teacher for metric in chosen_metrics(program).values())


# Who is told one of these sees what the teacher's table is made with.
_OF_THE_TABLE = {"teacher", "lessons", "knowledge", "panel"}
# Sizes that an algorithm alone may read, where it asks for ``sizes``.
_OF_ALGORITHMS = ("epochs", "samples", "top_k")
# Sizes that some programs do not read.
SELDOM_READ = (*_OF_ALGORITHMS, "teachers")


def not_read(program: Program, oracle: Oracle) -> frozenset[str]:
    """Fields of ``Config`` and ``Sizes`` that no outcome of a program depends on.

    Read off what its algorithm's parameters name. Of a metric or algorithm that may see the whole
    of them nothing is said.
    """
    algorithm = algorithm_of(program.algorithm)
    told = {*what_is_told(algorithm), *what_is_told_at_first(algorithm)}
    ours = {id(metric) for metric in METRICS.values()}
    if any(id(metric) not in ours for metric in chosen_metrics(program).values()):
        return frozenset()
    found: set[str] = set()
    teacher = needs_teacher(program)
    if "config" not in told:
        found |= set() if teacher else {"feedback_strength"}
        found |= set() if teacher and oracle.hints is not None else {"hint_noise"}
        found |= set() if teacher or told & _OF_THE_TABLE else {"knowledge"}
    if "sizes" not in told:
        found |= {*_OF_ALGORITHMS, *(() if "panel" in told else ("teachers",))}
    return frozenset(found)


def check_program(program: Program) -> None:
    """Check what is static.

    Raises:
        ValueError: the field, the value and what is allowed, in one line.
    """
    of_type("program", program, Program)
    sizes = program.sizes
    of_type("sizes", sizes, Sizes)
    check_sizes(sizes)
    for name, most in (
        ("steps", sizes.steps),
        ("length * vocab_size * rollouts", sizes.length * sizes.vocab_size * sizes.rollouts),
        ("length * vocab_size * teachers", sizes.length * sizes.vocab_size * sizes.teachers),
    ):
        if most > MAX_INTEGER:
            raise ValueError(f"{name}: {most}; allowed: up to {MAX_INTEGER}")
    chosen = chosen_metrics(program)
    if not isinstance(program.record, tuple):
        raise ValueError(f"record: {shown(program.record)}; allowed: a tuple of metrics' names")
    for name in program.record:
        if not isinstance(name, str) or name not in chosen:
            raise ValueError(f"record: {shown(name)}; allowed: the metrics {', '.join(chosen)}")
    if len(set(program.record)) < len(program.record):
        raise ValueError(f"record: {shown(program.record)}; allowed: each metric once")
    integer("record_every", program.record_every, 1)
    check_optimizer(program.optimizer)
    teachers.check_nodes(program.teacher_nodes)
    _check_parts_fit(program)
    numbers_of_program(program)


def check_oracle_fits(program: Program, oracle: Oracle) -> None:
    """Refuse an oracle whose judge looks at what the problem does not have.

    Raises:
        ValueError: in one line.
    """
    problem = problems.problem_kind(program.problem)
    if oracle.judge is None or not isinstance(problem, Function):
        return
    for look in ("overlap", "style", "rubric", "halo"):
        share = getattr(oracle.judge, look)
        if not isinstance(share, (int, float, np.ndarray, np.generic)) or np.any(share):
            raise ValueError(
                f"oracle: its judge looks at {look}, which problem {problem.name} does not have; "
                "allowed: likelihood, and biases"
            )


def _check_parts_fit(program: Program) -> None:
    """Refuse parts that ask for what another does not have."""
    algorithm = algorithm_of(program.algorithm)
    kind, problem = policies.policy_kind(program.policy), problems.problem_kind(program.problem)
    sizes = program.sizes
    if isinstance(kind, Network):
        kind.check(sizes.length, sizes.vocab_size)
    problem.check(sizes.length, sizes.vocab_size)
    what = f"algorithm: {algorithm.name} needs"
    if not isinstance(kind, Factored):
        for asked in wants(algorithm, policies.ONE_CONTEXT):
            raise ValueError(
                f"{what} a {asked} with {policies.ONE_CONTEXT}; allowed: policy factored, "
                f"not {kind.name}"
            )
    if isinstance(problem, Function):
        for _ in wants(algorithm, problems.EQUATION_ONE):
            raise ValueError(
                f"{what} {problems.EQUATION_ONE}; allowed: problem bigram, not {problem.name}"
            )
        asked = {*what_is_told(algorithm), *what_is_told_at_first(algorithm)}
        table = sorted(asked & {"teacher", "lessons", "knowledge", "panel"})
        lacks = (
            f"a table of token quality, which problem {problem.name} does not know; allowed: a "
            "Function with a quality, or what does without"
        )
        if not problem.knows_quality:
            if table:
                raise ValueError(f"algorithm: {algorithm.name} asks for {table[0]!r}, {lacks}")
            for name, metric in chosen_metrics(program).items():
                if metric.needs_quality or metric.needs_teacher:
                    raise ValueError(f"metrics: {name} needs {lacks}")
        if "solution" in asked:
            check_enumerated(f"algorithm {algorithm.name}", sizes.length, sizes.vocab_size)


def wants(algorithm: Algorithm, mark: str) -> list[str]:
    """The parameters of an algorithm that are annotated with a mark, or imply it."""
    found = []
    for function, first in ((algorithm.init, True), (algorithm.update, False)):
        for name, annotation in _annotations(function).items():
            marked = get_origin(annotation) is Annotated and mark in get_args(annotation)[1:]
            early = first and mark == policies.ONE_CONTEXT and name in ("policy", "reference")
            if marked or early:
                found.append(name)
    return found


@lru_cache(1024)
def _annotations(function: Callable[..., Any]) -> Mapping[str, Any]:
    return own_numbers.annotated_with(function, frozenset(STEP))


def check_enumerated(
    who: str, length: int, tokens: int, most: int = problems.MAX_SEQUENCES
) -> None:
    """Refuse what enumerates more sequences than it can.

    Args:
        who: enumerates them.
        length: T.
        tokens: of how many each position of a sequence is.
        most: how many it can.

    Raises:
        ValueError: in one line.
    """
    # A power of large numbers takes long to reckon, and longer to print.
    if length * np.log(tokens) > np.log(most) + 1e-9:
        raise ValueError(
            f"length: {length}, with {who}, which enumerates {tokens} ** length sequences; "
            f"allowed: up to {most} of them"
        )


def chosen_metrics(program: Program) -> dict[str, Metric]:
    """The metrics of a program by name.

    Raises:
        ValueError: an unknown name, one that is taken, or what is no metric, in one line.
    """
    if not isinstance(program.metrics, tuple):
        raise ValueError(f"metrics: {shown(program.metrics)}; allowed: a tuple of metrics")
    chosen: dict[str, Metric] = {}
    for entry in program.metrics:
        name, metric = _named_metric(entry)
        if name in chosen:
            raise ValueError(f"metrics: {shown(name)} occurs twice; allowed: each name once")
        chosen[name] = metric
    taken = set(OWN_NAMES) | {name + end for name in chosen for end in STATISTICS}
    for name in chosen:
        if name in taken or not name:
            raise ValueError(f"metrics: {shown(name)} is taken; allowed: a name of its own")
    return chosen


def _named_metric(entry: Any) -> tuple[str, Metric]:
    if isinstance(entry, str):
        if entry not in METRICS:
            raise ValueError(f"metrics: {shown(entry)}; allowed: {', '.join(METRICS)}")
        return entry, METRICS[entry]
    if not isinstance(entry, tuple) or len(entry) != 2 or not isinstance(entry[0], str):
        raise ValueError(
            f"metrics: {shown(entry)}; allowed: a name of METRICS, a function that has a name, or "
            "a pair of a name and a Metric"
        )
    name, metric = entry
    if not isinstance(metric, Metric):
        raise ValueError(f"metrics: {name} is {shown(metric)}; allowed: a Metric or a function")
    if not callable(metric.measure):
        raise ValueError(
            f"metrics: {name} measures by {shown(metric.measure)}; allowed: a function of a View"
        )
    can_be_key(f"metrics: {name} measures by {shown(metric.measure)}, which", metric)
    return name, metric
