"""One training run: ``init``, ``step`` and ``train``, the only scan over steps.

    l <- l - lr (sign g + lambda (pi - pi_ref))

Runs ride behind every array's own axes (``*runs``), so the same functions train one run, a block
of runs, or, under the caller's own ``vmap``, whatever he maps over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax import judge as judges
from sdpo_jax import lanes, streams
from sdpo_jax import lessons as lesson_plans
from sdpo_jax import oracle as oracles
from sdpo_jax import policy as policies
from sdpo_jax import problem as problems
from sdpo_jax import teacher as teachers
from sdpo_jax.config import Config, Sizes, check_config, check_sizes
from sdpo_jax.methods import METHODS, Method, Stateful
from sdpo_jax.methods.base import (
    TOLD,
    TOLD_AT_FIRST,
    Update,
    what_is_told,
    what_is_told_at_first,
)
from sdpo_jax.metrics import METRICS, Metric, View
from sdpo_jax.oracle import Oracle
from sdpo_jax.policy import Policy
from sdpo_jax.problem import Problem, ScoreTables
from sdpo_jax.streams import Key, Stream

Optimizer = Callable[[Any], optax.GradientTransformation]


@dataclass(frozen=True)
class Program:
    """What is static: everything that makes one compiled program differ from another.

    Attributes:
        method: a name of ``METHODS``, or a function like those there (see ``methods.base``).
        sizes: the integers that shape the arrays.
        metrics: names of ``METRICS``, or pairs of a name and a ``Metric`` of one's own.
        record: those of the metrics whose curves are kept.
        record_every: steps between two points of a curve; 1 or more. The first is step 0.
        optimizer: from a learning rate to an optax transformation. It sees one run at a time.
        teacher_nodes: interpolate the teachers of an oracle with a gain from so many nodes;
            0 for a softmax for each rollout (see ``sdpo_jax.teacher``).
    """

    method: str | Method = "sdpo"
    sizes: Sizes = field(default_factory=Sizes)
    metrics: tuple[str | tuple[str, Metric], ...] = ("reward", "credit", "entropy")
    record: tuple[str, ...] = ()
    record_every: int = 1
    optimizer: Optimizer = optax.sgd
    teacher_nodes: int = 0


class Setting(NamedTuple):
    """What stays the same during a run."""

    seed: ArrayLike
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
    method_key: Key
    judge_key: Key
    panel: Array | None = None
    solution: Array | None = None


class State(NamedTuple):
    """What a step changes.

    Attributes:
        logits: ``[T, V, *runs]``.
        optimizer: the optimiser's state, runs behind every array.
        memory: what a ``Stateful`` method keeps; of any other there is none.
    """

    logits: Array
    optimizer: Any
    memory: Any = ()


class Result(NamedTuple):
    """What a run yields.

    Attributes:
        final: by metric ``[*runs]``: mean over the last ``final_window`` steps, or the last
            step's value where the metric says so.
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
        seed: ``[*runs]`` integers or typed threefry keys; names every random draw of a run.
            Method, oracle and numbers do not enter, so runs of one seed are paired.
        program: what is static; SDPO at the paper's sizes by default.
        config: the numbers, each a float or ``[*runs]``; the paper's by default.
        oracle: the feedback type; ``continuous()`` by default.
        problem_seed: ``[*runs]``, draws the problem and the teacher's errors; ``seed`` by
            default. Hold it to see the luck of training alone.
        problem: a problem of one's own, instead of a drawn one.
        knowledge: ``[T, V, *runs]``, the teacher's table, instead of ``config.knowledge``'s.

    Returns:
        A ``Result``.

    Raises:
        ValueError: a bad size, name, number or shape, in one line.
    """
    program = Program() if program is None else program
    chosen = chosen_metrics(program)
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
    record = _Record(program, chosen, runs, state.logits.dtype)

    def body(carry: tuple[State, dict], index: Array) -> tuple[tuple[State, dict], None]:
        state, kept = carry
        state, view = step(program, setting, state, index)
        return (state, record.add(kept, view, state.logits, index)), None

    (state, kept), _ = jax.lax.scan(body, (state, record.empty()), jnp.arange(steps))
    return record.result(kept, state.logits)


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
    check_config(config)
    oracles.check_oracle(oracle)
    sizes = program.sizes
    task_seed = seed if problem_seed is None else problem_seed
    fence = lanes.Fence(config.init_scale)
    if problem is None:
        problem = fence(
            lambda: problems.sample_problem(
                task_seed,
                sizes.length,
                sizes.vocab_size,
                config.quality_scale,
                config.bigram_scale,
                config.pattern_weight,
            )
        )
    init_key = streams.stream(seed, Stream.INIT)
    shape = (sizes.length, sizes.vocab_size)
    logits = fence(lambda: config.init_scale * streams.normals(init_key, 0, shape))
    problems.check_problem(problem, logits.shape)
    if knowledge is None:
        knowledge = known_table(
            problem, config, streams.stream(task_seed, Stream.KNOWLEDGE), member=0
        )
    table = jnp.asarray(knowledge, logits.dtype)
    if table.shape != logits.shape:
        raise ValueError(f"knowledge: shape {table.shape}; allowed: {logits.shape}")
    runs = logits.shape[2:]
    method = method_function(program.method)
    asked = {*what_is_told(method), *what_is_told_at_first(method)}
    strength = jnp.broadcast_to(jnp.asarray(config.feedback_strength, logits.dtype), runs)
    setting = Setting(
        seed=seed,
        config=config,
        oracle=oracle,
        problem=problem,
        knowledge=table,
        tables=problems.tabulate(problem),
        reference=policies.policy(logits, fence),
        levels=teachers.prepare(oracle, strength, table, program.teacher_nodes),
        rollout_key=streams.stream(seed, Stream.ROLLOUTS),
        noise_key=streams.stream(seed, Stream.NOISE),
        hint_key=streams.stream(seed, Stream.HINTS),
        method_key=streams.stream(seed, Stream.METHOD),
        judge_key=streams.stream(seed, Stream.JUDGE),
        panel=_panel(problem, table, config, task_seed, sizes) if "panel" in asked else None,
        solution=fence(lambda: problems.best_sequence(problem)[0]) if "solution" in asked else None,
    )
    initialise = _over_runs(lambda rate, params: program.optimizer(rate).init(params), len(runs))
    optimizer = initialise(_learning_rate(setting, runs), logits)
    return setting, State(logits, optimizer, _first_memory(method, program, setting, fence))


def step(program: Program, setting: Setting, state: State, index: ArrayLike) -> tuple[State, View]:
    """One step of training: sample, hear, update.

    Args:
        program: what is static.
        setting: from ``init``.
        state: from ``init`` or the step before.
        index: scalar int, the index of the step, 0 or more.

    Returns:
        The next state, and all that metrics may read of this step.
    """
    sizes, config = program.sizes, setting.config
    index = jnp.asarray(index)
    fence = lanes.Fence(index)
    policy = policies.policy(state.logits, fence)
    rollouts = fence(
        lambda: policies.sample(setting.rollout_key, index, policy.probs, sizes.rollouts)
    )
    tokens = policies.tokens(rollouts, sizes.length, sizes.vocab_size)
    reward = problems.look_up(setting.tables, rollouts, sizes.length, sizes.vocab_size, fence)
    noise = _noise(setting, index, reward, fence)
    if setting.oracle.judge is None:
        seen = oracles.noisy_reward(reward, noise)
    else:
        seen = judges.judge(
            setting.oracle.judge, setting.problem, policy, tokens, reward, noise, fence
        )
    feedback = oracles.feedback(setting.oracle, seen)
    method = method_function(program.method)
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
        "key": setting.method_key,
        "step": index,
        "sizes": sizes,
        "config": config,
        "fence": fence,
    }
    names = what_is_told(method)
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
    function = method.update if isinstance(method, Stateful) else method
    update: Update = function(**{name: told[name] for name in names})
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


def method_function(method: str | Method) -> Method:
    """A method given by name or as itself.

    Raises:
        ValueError: an unknown name, or a parameter that the engine has nothing for.
    """
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(f"method: {method!r}; allowed: {', '.join(METHODS)}")
        method = METHODS[method]
    for names, allowed in (
        (what_is_told(method), tuple(TOLD)),
        (what_is_told_at_first(method), TOLD_AT_FIRST),
    ):
        unknown = [name for name in names if name not in allowed]
        if unknown:
            raise ValueError(
                f"method: {method.__name__} asks for {unknown[0]!r}; allowed: {', '.join(allowed)}"
            )
    if "memory" in what_is_told(method) and not isinstance(method, Stateful):
        raise ValueError(
            f"method: {method.__name__} asks for 'memory'; allowed: in a Stateful method only"
        )
    return method


def needs_teacher(program: Program) -> bool:
    """Whether a program computes the teachers at all; if not, its oracle's kind is irrelevant."""
    told = what_is_told(method_function(program.method))
    return "teacher" in told or "lessons" in told or _metrics_need_teacher(program)


def check_program(program: Program) -> None:
    """Check what is static.

    Raises:
        ValueError: the field, the value and what is allowed, in one line.
    """
    check_sizes(program.sizes)
    method_function(program.method)
    chosen = chosen_metrics(program)
    for name in program.record:
        if name not in chosen:
            raise ValueError(f"record: {name!r}; allowed: the metrics {', '.join(chosen)}")
    if program.record_every < 1:
        raise ValueError(f"record_every: {program.record_every!r}; allowed: 1 or more")
    teachers.check_nodes(program.teacher_nodes)


def chosen_metrics(program: Program) -> dict[str, Metric]:
    """The metrics of a program by name.

    Raises:
        ValueError: an unknown name.
    """
    chosen: dict[str, Metric] = {}
    for entry in program.metrics:
        if isinstance(entry, str):
            if entry not in METRICS:
                raise ValueError(f"metrics: {entry!r}; allowed: {', '.join(METRICS)}")
            chosen[entry] = METRICS[entry]
        else:
            chosen[entry[0]] = entry[1]
    return chosen


def _metrics_need_teacher(program: Program) -> bool:
    return any(metric.needs_teacher for metric in chosen_metrics(program).values())


def _signal(config: Config, reward: Array, feedback: Array) -> Array:
    """The reward, the feedback instead, or a blend, ``[N, *runs]``.

    Exactly the one or the other at 0 and 1: in ``R + w (f - R)`` a rounding error that goes with R
    is left at 1, and among equal levels of feedback it would say which reward was larger.
    """
    share = config.learn_from_feedback
    return (1 - share) * reward + share * feedback


def _noise(setting: Setting, index: Array, like: Array, fence: lanes.Fence) -> Array:
    """``sigma eps + bias``, ``[N, *runs]``."""
    sigma = setting.config.noise

    judge = setting.oracle.judge

    def draw() -> Array:
        noise = sigma * streams.normals(setting.noise_key, index, like.shape[:1], fence)
        if judge is None:
            return noise
        return noise * judges.tails(judge, setting.judge_key, index, like.shape[0])

    # Where no run has noise, none is drawn; the numbers are the same.
    noise = jax.lax.cond(jnp.any(jnp.asarray(sigma) > 0), draw, lambda: jnp.zeros_like(like))
    return noise + setting.config.bias


def _learning_rate(setting: Setting, runs: tuple[int, ...]) -> Array:
    return jnp.broadcast_to(jnp.asarray(setting.config.learning_rate, jnp.float32), runs)


def _panel(
    problem: Problem, first: Array, config: Config, task_seed: ArrayLike, sizes: Sizes
) -> Array:
    """``Sizes.teachers`` tables of one fidelity and independent errors, ``[M, T, V, *runs]``."""
    key = streams.stream(task_seed, Stream.KNOWLEDGE)
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
    return rho * quality + jnp.sqrt(1 - rho * rho) * config.quality_scale * error


def _first_memory(method: Method, program: Program, setting: Setting, fence: lanes.Fence) -> Any:
    if not isinstance(method, Stateful):
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
    return method.init(**{name: told[name] for name in what_is_told_at_first(method)})


def _apply(program: Program, setting: Setting, state: State, gradient: Array, memory: Any) -> State:
    runs = state.logits.shape[2:]

    def update(rate: Array, gradient: Array, optimizer: Any, logits: Array) -> tuple[Array, Any]:
        updates, optimizer = program.optimizer(rate).update(gradient, optimizer, logits)
        return jnp.asarray(optax.apply_updates(logits, updates)), optimizer

    rate = _learning_rate(setting, runs)
    logits, optimizer = _over_runs(update, len(runs))(rate, gradient, state.optimizer, state.logits)
    return State(logits, optimizer, memory)


def _over_runs(function: Callable, axes: int) -> Callable:
    """Map a function of one run over so many trailing axes."""
    for _ in range(axes):
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
                value = jax.lax.cond(
                    on_record | in_window,
                    lambda metric=metric: metric.measure(view).astype(self.dtype),
                    lambda: jnp.zeros(self.runs, self.dtype),
                )
                sums[name] += jnp.where(on_record, value, 0)
            else:
                value = metric.measure(view)
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

    def result(self, kept: dict[str, Any], logits: Array) -> Result:
        final, mean = {}, {}
        for name, metric in self.metrics.items():
            window = self.sizes.final_window if metric.windowed else 1
            count = self.points if metric.costly else self.sizes.steps
            final[name] = kept["final"][name] / window
            mean[name] = kept["sum"][name] / count
        return Result(final, mean, kept["curves"], logits, kept["finite_steps"])
