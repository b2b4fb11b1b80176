"""One training run: ``init``, ``step`` and ``train``, the only scan over steps.

    l <- l - lr (sign g + lambda (pi - pi_ref))

Runs ride behind every array's own axes (``*runs``), so the same functions train one run, a block
of runs, or, under the caller's own ``vmap``, whatever he maps over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from sdpo_jax import judge as judges
from sdpo_jax import lanes, streams
from sdpo_jax import lessons as lesson_plans
from sdpo_jax import oracle as oracles
from sdpo_jax import policy as policies
from sdpo_jax import problem as problems
from sdpo_jax import teacher as teachers
from sdpo_jax.algorithms import ALGORITHMS, Algorithm, Stateful
from sdpo_jax.algorithms.base import (
    as_update,
    check_algorithm,
    check_kept,
    name_of,
    returned,
    what_is_told,
    what_is_told_at_first,
)
from sdpo_jax.checks import (
    MAX_INTEGER,
    WHOLE,
    as_float32,
    finite,
    integer,
    numbers,
    of_type,
    on_host,
    over_runs,
    shown,
    under_own_settings,
)
from sdpo_jax.config import CONFIG_FIELDS, Config, Sizes, check_config, check_sizes
from sdpo_jax.metrics import METRICS, Metric, View
from sdpo_jax.oracle import Oracle
from sdpo_jax.policy import Policy
from sdpo_jax.problem import Problem, ScoreTables
from sdpo_jax.streams import Key, Stream

Optimizer = Callable[[Any], optax.GradientTransformation]


# What results hold beside the axes and the metrics, and what they add to a metric's name.
FINITE_STEPS = "finite_steps"
OWN_NAMES = (FINITE_STEPS, "finished", "logits", "step", "position", "token", "quantile")
STATISTICS = ("_mean", "_curve", "_curve_sd", "_curve_count", "_curve_quantile")


@dataclass(frozen=True)
class Program:
    """What is static: everything that makes one compiled program differ from another.

    Attributes:
        algorithm: a name of ``ALGORITHMS``, or a function like those there (see
            ``algorithms.base``).
        sizes: the integers that shape the arrays.
        metrics: names of ``METRICS``, functions from a ``View`` to ``[*runs]``, which then go by
            their own names, or pairs of a name and a ``Metric`` or such a function.
        record: those of the metrics whose curves are kept.
        record_every: steps between two points of a curve; 1 or more. The first is step 0.
        optimizer: from a learning rate to an optax transformation. It sees one run at a time.
        teacher_nodes: interpolate the teachers of an oracle with a gain from so many nodes;
            0 for a softmax for each rollout (see ``sdpo_jax.teacher``).
    """

    algorithm: str | Algorithm = "sdpo"
    sizes: Sizes = field(default_factory=Sizes)
    metrics: tuple[str | tuple[str, Metric], ...] = ("reward", "credit", "entropy")
    record: tuple[str, ...] = ()
    record_every: int = 1
    optimizer: Optimizer = optax.sgd
    teacher_nodes: int = 0

    def __post_init__(self) -> None:
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


class Setting(NamedTuple):
    """What stays the same during a run; numbers are float32, seeds int32 or keys."""

    seed: Array
    config: Config
    oracle: Oracle
    problem: Problem
    knowledge: Array
    tables: ScoreTables
    reference: Policy
    levels: teachers.Levels | None
    rollout_key: Key
    noise_key: Key
    hint_key: Key
    algorithm_key: Key
    judge_key: Key
    panel: Array | None = None
    solution: Array | None = None


class State(NamedTuple):
    """What a step changes.

    Attributes:
        logits: ``[T, V, *runs]``.
        optimizer: the optimiser's state, runs behind every array.
        memory: what a ``Stateful`` algorithm keeps; of any other there is none.
    """

    logits: Array
    optimizer: Any
    memory: Any = ()


class Result(NamedTuple):
    """What a run yields.

    Attributes:
        final: by metric ``[*runs]``: mean over the last ``final_window`` steps, or the last
            step's value where the metric says so. NaN, as ``mean``, where a run broke down.
        mean: by metric ``[*runs]``: mean over all steps (costly metrics: over recorded steps).
        curves: by recorded metric ``[points, *runs]``, at steps 0, ``record_every``, ...
        logits: ``[T, V, *runs]``, after the last update.
        finite_steps: ``[*runs]`` int32, the steps that left all logits finite: ``steps``, or where
            a run broke down, the index of the step at which a number that is not finite appeared.
    """

    final: dict[str, Array]
    mean: dict[str, Array]
    curves: dict[str, Array]
    logits: Array
    finite_steps: Array


@under_own_settings
def train(
    seed: ArrayLike,
    program: Program | None = None,
    config: Config | None = None,
    oracle: Oracle | None = None,
    *,
    problem_seed: ArrayLike | None = None,
    problem: Problem | None = None,
    knowledge: ArrayLike | None = None,
) -> Result:
    """Train from scratch for ``sizes.steps`` steps.

    Args:
        seed: ``[*runs]`` integers from 0 to ``2**32 - 1`` or typed threefry keys
            (``jax.random.key``); names every random draw of a run. Algorithm, oracle and numbers do
            not enter, so runs of one seed are paired.
        program: what is static; SDPO at the paper's sizes by default.
        config: the numbers, each a float or ``[*runs]``; the paper's by default.
        oracle: the feedback type; ``continuous()`` by default.
        problem_seed: ``[*runs]`` or one for all, draws the problem and the teacher's errors;
            ``seed`` by default. Hold it to see the luck of training alone.
        problem: a problem of one's own, instead of a drawn one.
        knowledge: ``[T, V, *runs]``, the teacher's table, instead of ``config.knowledge``'s.

    Returns:
        A ``Result``.

    Raises:
        ValueError: a bad size, name, number or shape, in one line.
    """
    program = Program() if program is None else program
    setting, state = init(
        seed,
        program,
        config,
        oracle,
        problem_seed=problem_seed,
        problem=problem,
        knowledge=knowledge,
    )
    steps = program.sizes.steps
    runs = state.logits.shape[2:]
    record = _Record(program, chosen_metrics(program), runs, state.logits.dtype)
    start = lanes.shared((state, record.empty()), setting)

    def body(carry: tuple[State, dict], index: Array) -> tuple[tuple[State, dict], None]:
        state, kept = carry
        state, view = step(program, setting, state, index)
        return (state, record.add(kept, view, state.logits, index)), None

    (state, kept), _ = jax.lax.scan(body, start, jnp.arange(steps, dtype=jnp.int32))
    return record.result(kept, state.logits)


@under_own_settings
def init(
    seed: ArrayLike,
    program: Program,
    config: Config | None = None,
    oracle: Oracle | None = None,
    *,
    problem_seed: ArrayLike | None = None,
    problem: Problem | None = None,
    knowledge: ArrayLike | None = None,
) -> tuple[Setting, State]:
    """Everything before step 0. Arguments and errors as for ``train``."""
    config = Config() if config is None else config
    oracle = oracles.continuous() if oracle is None else oracle
    check_program(program)
    key = streams.root(seed)
    runs = key.high.shape
    config = _checked_config(config, runs)
    oracle = oracles.checked(oracle, runs)
    task = key if problem_seed is None else _task_key(problem_seed, runs)
    sizes = program.sizes
    fence = lanes.Fence(config.init_scale)
    if problem is None:
        problem = fence(
            lambda: problems.sample_problem(
                task,
                sizes.length,
                sizes.vocab_size,
                config.quality_scale,
                config.bigram_scale,
                config.pattern_weight,
            )
        )
    init_key = streams.stream(key, Stream.INIT)
    shape = (sizes.length, sizes.vocab_size)
    logits = fence(lambda: config.init_scale * streams.normals(init_key, 0, shape))
    problem = problems.check_problem(problem, logits.shape)
    if knowledge is None:
        knowledge = known_table(problem, config, streams.stream(task, Stream.KNOWLEDGE), member=0)
    table = jnp.asarray(as_float32(finite("knowledge", knowledge)))
    if table.shape != logits.shape:
        raise ValueError(f"knowledge: shape {table.shape}; allowed: {logits.shape}")
    algorithm = algorithm_function(program.algorithm)
    asked = {*what_is_told(algorithm), *what_is_told_at_first(algorithm)}
    strength = jnp.broadcast_to(jnp.asarray(config.feedback_strength, logits.dtype), runs)
    setting = Setting(
        seed=_seed(seed, key),
        config=config,
        oracle=oracle,
        problem=problem,
        knowledge=table,
        tables=problems.tabulate(problem),
        reference=policies.policy(logits, fence),
        levels=teachers.prepare(oracle, strength, table, program.teacher_nodes),
        rollout_key=streams.stream(key, Stream.ROLLOUTS),
        noise_key=streams.stream(key, Stream.NOISE),
        hint_key=streams.stream(key, Stream.HINTS),
        algorithm_key=streams.stream(key, Stream.ALGORITHM),
        judge_key=streams.stream(key, Stream.JUDGE),
        panel=_panel(problem, table, config, task, sizes) if "panel" in asked else None,
        solution=fence(lambda: problems.best_sequence(problem)[0]) if "solution" in asked else None,
    )
    initialise = _over_runs(
        lambda rate, params: _transformation(program.optimizer, rate).init(params), runs
    )
    optimizer = initialise(_learning_rate(setting, runs), logits)
    return setting, State(logits, optimizer, _first_memory(algorithm, program, setting, fence))


@under_own_settings
def step(program: Program, setting: Setting, state: State, index: ArrayLike) -> tuple[State, View]:
    """One step of training: sample, hear, update.

    Args:
        program: what is static.
        setting: from ``init``.
        state: from ``init`` or the step before.
        index: scalar int, the index of the step, 0 or more.

    Returns:
        The next state, and all that metrics may read of this step.

    Raises:
        ValueError: arguments that are none of these, and what a part of one's own returned in
            another shape or type than it should, in one line.
    """
    check_program(program)
    of_type("setting", setting, Setting)
    of_type("state", state, State)
    sizes, config = program.sizes, setting.config
    index = _checked_index(index)
    fence = lanes.Fence(index)
    policy = policies.policy(state.logits, fence)
    rollouts = fence(
        lambda: policies.sample(setting.rollout_key, index, policy.probs, sizes.rollouts)
    )
    tokens = policies.tokens(rollouts, sizes.length, sizes.vocab_size)
    reward = problems.look_up(setting.tables, rollouts, sizes.length, sizes.vocab_size, fence)
    noise = _noise(setting, index, sizes.rollouts, fence)
    if setting.oracle.judge is None:
        seen = oracles.noisy_reward(reward, noise)
    else:
        seen = judges.judge(
            setting.oracle.judge, setting.problem, policy, tokens, reward, noise, fence
        )
    feedback = oracles.feedback(setting.oracle, seen)
    algorithm = algorithm_function(program.algorithm)
    told: dict[str, Any] = {
        "policy": policy,
        "reference": setting.reference,
        "tokens": tokens,
        "signal": _signal(config, reward, feedback),
        "feedback": feedback,
        "knowledge": setting.knowledge,
        "panel": setting.panel,
        "problem": setting.problem,
        "solution": setting.solution,
        "memory": state.memory,
        "key": setting.algorithm_key,
        "step": index,
        "sizes": sizes,
        "config": config,
        "fence": fence,
    }
    names = what_is_told(algorithm)
    if "teacher" in names or _metrics_need_teacher(program):
        told["teacher"] = teachers.teach(
            setting.oracle,
            setting.levels,
            config,
            setting.knowledge,
            policy,
            tokens,
            seen,
            feedback,
            setting.hint_key,
            index,
            fence,
        )
    if "lessons" in names:
        told["lessons"] = lesson_plans.plan(
            setting.oracle,
            setting.levels,
            config,
            setting.knowledge,
            tokens,
            seen,
            feedback,
            setting.hint_key,
            index,
            fence,
        )
    function = algorithm.update if isinstance(algorithm, Stateful) else algorithm
    outcome = function(**{name: told[name] for name in names})
    update = as_update(algorithm, outcome, state.logits, state.memory)
    pull = config.kl_weight * (policy.probs - setting.reference.probs)
    gradient = fence(lambda: config.sign * update.gradient + pull)
    view = View(
        seed=setting.seed,
        step=index,
        config=config,
        problem=setting.problem,
        oracle=setting.oracle,
        knowledge=setting.knowledge,
        reference=setting.reference,
        policy=policy,
        tokens=tokens,
        reward=reward,
        feedback=feedback,
        teacher=told.get("teacher"),
        update=update,
        direction=-gradient,
    )
    return _apply(program, setting, state, gradient, update.memory), view


def algorithm_function(algorithm: str | Algorithm) -> Algorithm:
    """An algorithm given by name or as itself.

    Raises:
        ValueError: an unknown name, or a parameter that the engine has nothing for.
    """
    if isinstance(algorithm, str):
        if algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm: {shown(algorithm)}; allowed: {', '.join(ALGORITHMS)}")
        algorithm = ALGORITHMS[algorithm]
    check_algorithm(algorithm)
    return algorithm


def needs_teacher(program: Program) -> bool:
    """Whether a program computes the teachers at all; if not, its oracle's kind is irrelevant."""
    told = what_is_told(algorithm_function(program.algorithm))
    return "teacher" in told or "lessons" in told or _metrics_need_teacher(program)


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
    algorithm_function(program.algorithm)
    chosen = chosen_metrics(program)
    if not isinstance(program.record, tuple):
        raise ValueError(f"record: {shown(program.record)}; allowed: a tuple of metrics' names")
    for name in program.record:
        if not isinstance(name, str) or name not in chosen:
            raise ValueError(f"record: {shown(name)}; allowed: the metrics {', '.join(chosen)}")
    if len(set(program.record)) < len(program.record):
        raise ValueError(f"record: {shown(program.record)}; allowed: each metric once")
    integer("record_every", program.record_every, 1)
    _check_optimizer(program.optimizer)
    teachers.check_nodes(program.teacher_nodes)


def check_outcomes(program: Program, oracle: Oracle) -> None:
    """Check what a program's algorithms, metrics and optimisers return, where they are not ours.

    Nothing is computed: they are traced, on as many runs as no axis of their own is long.

    Raises:
        ValueError: whose it is, its shape or type and those that are allowed, in one line.
    """
    named = set(map(id, (*ALGORITHMS.values(), *METRICS.values())))
    parts = (algorithm_function(program.algorithm), *chosen_metrics(program).values())
    _trace_optimizer(program.optimizer)
    if all(id(part) in named for part in parts):
        return
    _trace(program, jax.tree.structure(oracle), tuple(map(np.shape, jax.tree.leaves(oracle))))


@lru_cache(maxsize=256)
def _trace_optimizer(optimizer: Optimizer) -> None:
    def update(rate: Array, logits: Array) -> Array:
        state = _transformation(optimizer, rate).init(logits)
        return _updated(optimizer, rate, logits, state, logits)[0]

    number = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    try:
        jax.eval_shape(update, number(()), number((3, 4)))
    # Whatever a function of the user's raises: it is shown, and is the cause.
    except Exception as error:
        if str(error).startswith("optimizer: "):
            raise
        raise ValueError(
            f"optimizer: {name_of(optimizer)} takes no step ({shown(error)}); allowed: a function "
            "from a traced learning rate to an optax transformation that needs gradients only"
        ) from error


@lru_cache(maxsize=256)
def _trace(program: Program, structure: Any, shapes: tuple[tuple[int, ...], ...]) -> None:
    sizes = program.sizes
    runs = next(n for n in range(2, 6) if n not in (sizes.length, sizes.vocab_size, sizes.rollouts))

    def outcome(seed: Array, leaves: list[Array]) -> Result:
        return train(seed, program, Config(), jax.tree.unflatten(structure, leaves))

    leaves = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    jax.eval_shape(outcome, jax.ShapeDtypeStruct((runs,), jnp.int32), leaves)


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
    return name, metric


def _metrics_need_teacher(program: Program) -> bool:
    return any(metric.needs_teacher for metric in chosen_metrics(program).values())


def _signal(config: Config, reward: Array, feedback: Array) -> Array:
    """The reward, the feedback instead, or a blend, ``[N, *runs]``.

    Exactly the one or the other at 0 and 1: in ``R + w (f - R)`` a rounding error that goes with R
    is left at 1, and among equal levels of feedback it would say which reward was larger.
    """
    share = config.learn_from_feedback
    return (1 - share) * reward + share * feedback


def _checked_config(config: Config, runs: tuple[int, ...]) -> Config:
    """The numbers as float32, each one or one a run."""
    of_type("config", config, Config)
    check_config(config)
    for name in CONFIG_FIELDS:
        over_runs(name, getattr(config, name), runs)
    return Config(**{name: as_float32(getattr(config, name)) for name in CONFIG_FIELDS})


def _seed(given: ArrayLike, key: Key) -> Array:
    """The seed as metrics see it: a key as it was given, or an integer's bits as int32.

    Two uint32 would be the words of a raw key to whoever draws from them.
    """
    typed = isinstance(given, Array) and jnp.issubdtype(given.dtype, jax.dtypes.prng_key)
    if typed:
        return cast(Array, given)
    return jax.lax.bitcast_convert_type(key.low, jnp.int32)


def _task_key(problem_seed: ArrayLike, runs: tuple[int, ...]) -> Key:
    key = streams.root(problem_seed, "problem_seed")
    over_runs("problem_seed", key.high, runs)
    return Key(*(jnp.broadcast_to(word, runs) for word in key))


def _checked_index(index: Any) -> Array:
    allowed = "one integer, 0 or more"
    index = numbers("index", index, allowed, WHOLE)
    if index.shape != () or (not isinstance(index, Tracer) and not 0 <= index <= MAX_INTEGER):
        raise ValueError(f"index: {shown(index)}; allowed: {allowed}")
    return jnp.asarray(index, jnp.int32)


def _noise(setting: Setting, index: Array, rollouts: int, fence: lanes.Fence) -> Array:
    """``sigma eps + bias``, ``[N, *runs]``."""
    judge = setting.oracle.judge
    sigma, used = lanes.is_used(jnp.asarray(setting.config.noise))

    def draw() -> Array:
        noise = sigma * streams.normals(setting.noise_key, index, (rollouts,), fence)
        if judge is None:
            return noise
        return noise * judges.tails(judge, setting.judge_key, index, rollouts)

    # Where no run has noise, none is drawn; the numbers are the same.
    return lanes.or_zeros(used, draw) + setting.config.bias


def _learning_rate(setting: Setting, runs: tuple[int, ...]) -> Array:
    return jnp.broadcast_to(jnp.asarray(setting.config.learning_rate, jnp.float32), runs)


def _panel(problem: Problem, first: Array, config: Config, task: Key, sizes: Sizes) -> Array:
    """``Sizes.teachers`` tables of one fidelity and independent errors, ``[M, T, V, *runs]``."""
    key = streams.stream(task, Stream.KNOWLEDGE)
    others = [known_table(problem, config, key, member) for member in range(1, sizes.teachers)]
    return jnp.stack([first, *others])


def known_table(problem: Problem, config: Config, key: Key, member: int) -> Array:
    """``rho q + sqrt(1 - rho^2) noise``, ``[T, V, *runs]``: a table of fidelity rho.

    Args:
        problem: the true reward landscape.
        config: ``knowledge`` is rho; the errors have q's scale.
        key: the stream of the errors.
        member: which table; each has errors of its own.
    """
    quality = problem.quality
    error = streams.normals(key, member, quality.shape[:2])
    rho = jnp.asarray(config.knowledge, quality.dtype)
    return rho * quality + _share_of_error(rho) * config.quality_scale * error


@jax.custom_jvp
def _share_of_error(rho: Array) -> Array:
    """``sqrt(1 - rho^2)``, whose derivative at 1 is infinite: refused where 1 is seen."""
    return jnp.sqrt(1 - rho * rho)


@_share_of_error.defjvp
def _slope_of_share(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (rho,), (tangent,) = primals, tangents
    if not isinstance(rho, Tracer) and (on_host(rho) >= 1).any():
        raise ValueError(
            "knowledge: 1.0, where its derivative is infinite; allowed: below 1, or a number that "
            "is not differentiated (jax.lax.stop_gradient)"
        )
    share = _share_of_error(rho)
    # As large as a float32 is, and not infinite, of which nothing at all would be left as NaN:
    # what does not move with rho keeps its own derivative.
    slope = -rho / jnp.maximum(share, jnp.finfo(share.dtype).tiny)
    return share, slope * tangent


def _first_memory(
    algorithm: Algorithm, program: Program, setting: Setting, fence: lanes.Fence
) -> Any:
    if not isinstance(algorithm, Stateful):
        return ()
    told = {
        "policy": setting.reference,
        "reference": setting.reference,
        "knowledge": setting.knowledge,
        "panel": setting.panel,
        "problem": setting.problem,
        "solution": setting.solution,
        "sizes": program.sizes,
        "config": setting.config,
        "fence": fence,
    }
    memory = algorithm.init(**{name: told[name] for name in what_is_told_at_first(algorithm)})
    for leaf in jax.tree.leaves(memory):
        numbers(
            f"algorithm: {algorithm.name} remembers at first", leaf, "arrays of numbers", "biufc"
        )
    return jax.tree.map(jnp.asarray, memory)


def _check_optimizer(optimizer: Any) -> None:
    allowed = "a function from a learning rate to a transformation, as optax.adam is"
    if not callable(optimizer):
        raise ValueError(f"optimizer: {shown(optimizer)}; allowed: {allowed}")
    try:
        hash(optimizer)
    except TypeError as error:
        raise ValueError(
            f"optimizer: {shown(optimizer)} has no hash; allowed: {allowed}"
        ) from error


def _transformation(optimizer: Optimizer, rate: Array) -> optax.GradientTransformation:
    try:
        made = optimizer(rate)
    # Whatever a function of the user's raises: it is shown, and is the cause.
    except Exception as error:
        raise ValueError(
            f"optimizer: {name_of(optimizer)} makes nothing of a traced learning rate "
            f"({shown(error)}); allowed: a function that makes a transformation, as optax.adam does"
        ) from error
    if not callable(getattr(made, "init", None)) or not callable(getattr(made, "update", None)):
        raise ValueError(
            f"optimizer: {name_of(optimizer)} makes {shown(made)}; allowed: a transformation, "
            "with init and update, as optax.adam makes"
        )
    return made


def _updated(
    optimizer: Optimizer, rate: Array, gradient: Array, state: Any, logits: Array
) -> tuple[Array, Any]:
    """The logits of one run and its optimiser's state after an update."""
    what = f"optimizer: {name_of(optimizer)}"
    try:
        updates, new = _transformation(optimizer, rate).update(gradient, state, logits)
    except TypeError as error:
        if "required keyword-only argument" not in str(error):
            raise
        needed = str(error).partition(": ")[2]
        raise ValueError(
            f"{what} needs {needed}, which a step has not; allowed: transformations of a "
            "gradient alone"
        ) from error
    updates = returned(f"{what} makes updates", updates, (logits.shape,))
    check_kept(f"{what} keeps a state", new, state)
    return jnp.asarray(optax.apply_updates(logits, updates)), new


def _apply(program: Program, setting: Setting, state: State, gradient: Array, memory: Any) -> State:
    runs = state.logits.shape[2:]
    update = _over_runs(partial(_updated, program.optimizer), runs)
    rate = _learning_rate(setting, runs)
    logits, optimizer = update(rate, gradient, state.optimizer, state.logits)
    return State(logits, optimizer, memory)


def _over_runs(function: Callable, runs: tuple[int, ...]) -> Callable:
    """Map a function of one run over the trailing axes of the runs."""
    for _ in runs:
        function = jax.vmap(function, in_axes=-1, out_axes=-1)
    return function


class _Record:
    """Reductions inside the scan, so that memory does not grow with the number of steps."""

    def __init__(
        self,
        program: Program,
        metrics: Mapping[str, Metric],
        runs: tuple[int, ...],
        dtype: Any,
    ):
        self.sizes = program.sizes
        self.metrics = metrics
        self.names = program.record
        self.every = program.record_every
        self.points = -(-program.sizes.steps // program.record_every)
        self.runs = runs
        self.dtype = dtype

    def empty(self) -> dict[str, Any]:
        zeros = jnp.zeros(self.runs, self.dtype)
        return {
            "finite_steps": jnp.zeros(self.runs, jnp.int32),
            "final": dict.fromkeys(self.metrics, zeros),
            "sum": dict.fromkeys(self.metrics, zeros),
            "curves": {
                name: jnp.zeros((self.points, *self.runs), self.dtype) for name in self.names
            },
        }

    def add(self, kept: dict[str, Any], view: View, logits: Array, index: Array) -> dict[str, Any]:
        steps, window = self.sizes.steps, self.sizes.final_window
        on_record = index % self.every == 0
        last = index == steps - 1
        final, sums, curves = dict(kept["final"]), dict(kept["sum"]), dict(kept["curves"])
        for name, metric in self.metrics.items():
            in_window = index >= steps - window if metric.windowed else last
            if metric.costly:
                value = lanes.or_zeros(
                    on_record | in_window, partial(self._measured, name, metric, view)
                )
                sums[name] += jnp.where(on_record, value, 0)
            else:
                value = self._measured(name, metric, view)
                sums[name] += value
            if metric.windowed:
                final[name] += jnp.where(in_window, value, 0)
            else:
                final[name] = jnp.where(in_window, value, final[name])
            if name in curves:
                point = index // self.every
                curve = curves[name]
                before = jax.lax.dynamic_index_in_dim(curve, point, 0, keepdims=False)
                curves[name] = jax.lax.dynamic_update_index_in_dim(
                    curve, jnp.where(on_record, value, before), point, 0
                )
        # Logits that are not finite stay so: what counts the finite ones finds the first.
        finite = jnp.isfinite(lanes.largest(lanes.largest(jnp.abs(logits), 1), 0))
        finite_steps = kept["finite_steps"] + finite.astype(jnp.int32)
        return {"finite_steps": finite_steps, "final": final, "sum": sums, "curves": curves}

    def _measured(self, name: str, metric: Metric, view: View) -> Array:
        return returned(f"metrics: {name} returns a value", metric.measure(view), (self.runs,))

    def result(self, kept: dict[str, Any], logits: Array) -> Result:
        final, mean = {}, {}
        # A run that broke down has no value, however plausible its last ones were: 0 / 0 there. (A
        # constant NaN would stop whoever debugs for NaNs, also where no run broke down.)
        whole = (kept["finite_steps"] == self.sizes.steps).astype(self.dtype)
        known = whole / whole
        for name, metric in self.metrics.items():
            window = self.sizes.final_window if metric.windowed else 1
            count = self.points if metric.costly else self.sizes.steps
            final[name] = known * (kept["final"][name] / window)
            mean[name] = known * (kept["sum"][name] / count)
        return Result(final, mean, kept["curves"], logits, kept["finite_steps"])
