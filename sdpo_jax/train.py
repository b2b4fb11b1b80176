"""One training run: ``init``, ``step`` and ``train``, the only scan over steps.

    l <- l - lr (sign g + lambda (pi - pi_ref))

Runs ride behind every array's own axes (``*runs``), so the same functions train one run, a block
of runs, or, under the caller's own ``vmap``, whatever he maps over. Of a policy that is no table of
logits the same gradient, of the logits at the contexts that the rollouts visit, is pulled back to
its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from sdpo_jax import optimizers, oracles, policies, problems, teachers
from sdpo_jax.algorithm import (
    Algorithm,
    as_update,
    check_kept,
    chosen,
    what_is_told,
    what_is_told_at_first,
)
from sdpo_jax.algorithms import ALGORITHMS
from sdpo_jax.config import CONFIG_FIELDS, Config, check_config
from sdpo_jax.engine import lanes, meshes, streams
from sdpo_jax.engine.checks import (
    MAX_INTEGER,
    WHOLE,
    as_float32,
    finite,
    integer,
    is_traced,
    numbers,
    of_type,
    on_host,
    over_runs,
    shown,
    under_own_settings,
)
from sdpo_jax.engine.materialise import boundaries, materialise, where_any
from sdpo_jax.engine.streams import Key, Stream
from sdpo_jax.metrics import METRICS, View
from sdpo_jax.oracles import Oracle, judges
from sdpo_jax.policies import Factored, Policy, PolicyKind
from sdpo_jax.problems import AnyProblem, Function, FunctionProblem, ScoreTables
from sdpo_jax.program import (
    Program,
    algorithm_of,
    check_oracle_fits,
    check_program,
    checked_numbers,
    chosen_metrics,
    metrics_need_teacher,
    numbers_of_program,
    parts_of,
)
from sdpo_jax.record import Recorder
from sdpo_jax.teachers.lessons import lessons_of

# Compiled programs of ``train`` and ``init`` that are kept; each takes a few megabytes.
_MOST_PROGRAMS = 64


class Setting(NamedTuple):
    """What stays the same during a run; numbers are float32, seeds int32 or keys.

    Attributes:
        seed: of the runs.
        config: the hyperparameters.
        oracle: the feedback type.
        problem: the reward landscape.
        first: the parameters of step 0.
        numbers: by name the own numbers of the parts, each one or ``[*runs]``.
        knowledge: ``[T, V, *runs]``, the teacher's table; ``None`` where the problem
            knows no quality.
        tables: of Eq. 1's score; ``None`` of another problem.
        reference: the policy of step 0, of a factored policy; ``None`` of any other.
        levels: of the teachers, where they are interpolated.
        panel: several tables, where they are asked for.
        solution: the best sequence, where it is asked for.
    """

    seed: Array
    config: Config
    oracle: Oracle
    problem: AnyProblem
    first: Any
    numbers: Mapping[str, Any]
    knowledge: Array | None
    tables: ScoreTables | None
    reference: Policy | None
    levels: teachers.Levels | None
    rollout_key: Key
    noise_key: Key
    hint_key: Key
    algorithm_key: Key
    judge_key: Key
    oracle_key: Key
    panel: Array | None = None
    solution: Array | None = None


class State(NamedTuple):
    """What a step changes.

    Attributes:
        params: the policy's parameters, runs behind every array; of a factored policy its logits
            ``[T, V, *runs]``.
        optimizer: the optimiser's state, runs behind every array.
        memory: what an ``Algorithm`` keeps; of one without an ``init`` there is none.
    """

    params: Any
    optimizer: Any
    memory: Any = ()


class Result(NamedTuple):
    """What a run yields.

    Attributes:
        final: by metric ``[*runs]``: mean over the last ``final_window`` steps, or the last
            step's value where the metric says so. NaN, as ``mean``, where a run broke down.
        mean: by metric ``[*runs]``: mean over all steps (costly metrics: over recorded steps).
        curves: by recorded metric ``[points, *runs]``, at the steps that are multiples of
            ``record_every``.
        state: after the last update; ``train`` goes on from it.
        finite_steps: ``[*runs]`` int32, the steps that left all parameters finite: all of them, or
            where a run broke down, the steps before a number that is not finite appeared.
    """

    final: dict[str, Array]
    mean: dict[str, Array]
    curves: dict[str, Array]
    state: State
    finite_steps: Array

    @property
    def params(self) -> Any:
        """The policy's parameters after the last update."""
        return self.state.params

    @property
    def logits(self) -> Array:
        """The same of a factored policy, ``[T, V, *runs]``."""
        return self.state.params


@under_own_settings
def train(
    seed: ArrayLike,
    program: Program | None = None,
    config: Config | None = None,
    oracle: Oracle | Callable[..., Any] | None = None,
    *,
    problem_seed: ArrayLike | None = None,
    problem: AnyProblem | None = None,
    knowledge: ArrayLike | None = None,
    numbers: Mapping[str, Any] | None = None,
    params: Any = None,
    state: State | None = None,
    start: int = 0,
    stop: int | None = None,
) -> Result:
    """Train for ``sizes.steps`` steps, from scratch or from a state.

    Under ``jit``, ``vmap`` and the like it is part of what is traced. Called by itself it compiles
    one program, which is kept for the next call of the same program and shapes.

    Args:
        seed: ``[*runs]`` integers from 0 to ``2**32 - 1`` or typed threefry keys
            (``jax.random.key``); names every random draw of a run. Algorithm, oracle and numbers do
            not enter, so runs of one seed are paired.
        program: what is static; SDPO at the paper's sizes by default.
        config: the numbers, each a float or ``[*runs]``; the paper's by default.
        oracle: the feedback type, or a function that is one; ``continuous()`` by default.
        problem_seed: ``[*runs]`` or one for all, draws the problem and the teacher's errors;
            ``seed`` by default. Hold it to see the luck of training alone.
        problem: a problem of one's own, instead of a drawn one.
        knowledge: ``[T, V, *runs]``, the teacher's table, instead of ``config.knowledge``'s.
        numbers: by name the own numbers of the algorithm, policy, problem and oracle, each a float
            or ``[*runs]``; their defaults where none is given.
        params: the parameters of step 0, instead of drawn ones; of a factored policy logits
            ``[T, V, *runs]``. They are the reference that ``kl_weight`` draws to.
        state: goes on from ``Result.state`` of the same arguments; from step 0's by default.
        start: the first step; the steps before are those that ``state`` has behind it.
        stop: the step before which training ends; ``sizes.steps`` by default.

    Returns:
        A ``Result`` of the steps from ``start`` on. Trained in two parts, a run is the same to the
        bit, given the same compiled code.

    Raises:
        ValueError: a bad size, name, number or shape, in one line.
    """
    program = Program() if program is None else program
    given = _given(program, seed, config, oracle, problem_seed, problem, knowledge, numbers, params)
    steps = program.sizes.steps
    stop = steps if stop is None else integer("stop", stop, 1, steps)
    start = integer("start", start, 0, stop - 1)
    if state is not None:
        of_type("state", state, State)
    return _at_once(_trained, program, given, state, start=start, stop=stop)


def _trained(
    program: Program, given: _Given, state: State | None, *, start: int, stop: int
) -> Result:
    """``train`` of what is checked."""
    setting, first = _begin(program, given)
    if state is not None:
        check_kept("state: given", state, first, "as that of step 0")
        first = State(*jax.tree.map(jnp.asarray, tuple(state)))
    recorder = Recorder(program, setting.rollout_key.high.shape, start, stop)
    begin = meshes.shared((first, recorder.empty()), setting)

    def body(carry: tuple[State, Any], index: Array) -> tuple[tuple[State, Any], None]:
        state, kept = carry
        state, view = step(program, setting, state, index)
        return (state, recorder.add(kept, view, state.params, index)), None

    (last, kept), _ = jax.lax.scan(body, begin, jnp.arange(start, stop, dtype=jnp.int32))
    final, mean, curves, finite_steps = recorder.result(kept)
    return Result(final, mean, curves, last, finite_steps)


def _at_once(function: Callable[..., Any], program: Program, *given: Any, **static: Any) -> Any:
    """``function(program, *given, **static)``: where nothing is traced yet, as one program that is
    compiled once and kept for the next call.

    Left to itself, JAX would compile each operation before the first step by itself, and the loop
    over the steps anew at every call.
    """
    if is_traced(given):
        return function(program, *given, **static)
    return _compiled(function, program, parts_of(program), **static)(*given)


@lru_cache(_MOST_PROGRAMS)
def _compiled(
    function: Callable[..., Any], program: Program, parts: Any, **static: Any
) -> Callable[..., Any]:
    return jax.jit(partial(function, program, **static))


@under_own_settings
def problem_of(
    seed: ArrayLike,
    program: Program | None = None,
    numbers: Mapping[str, Any] | None = None,
) -> AnyProblem:
    """The problem that a run of this seed, or problem seed, is trained on.

    Args:
        seed: ``[*runs]``.
        program: its problem and sizes; the paper's by default.
        numbers: by name the problem's own, each a float or ``[*runs]``; the scales of Eq. 1's
            parts, where it is that.
    """
    program = Program() if program is None else program
    # Who trains on it, and what is measured, are of no account.
    check_program(replace(program, algorithm="reinforce", metrics=("reward",), record=()))
    key = streams.root(seed)
    return _at_once(_drawn, program, key, _own_numbers(program, None, numbers, key.high.shape))


def _drawn(program: Program, key: Key, own: Mapping[str, Any]) -> AnyProblem:
    kind, sizes = problems.problem_kind(program.problem), program.sizes
    values = {name: own[name] for name in kind.numbers}
    return problems.draw(kind, key, sizes.length, sizes.vocab_size, values)


@under_own_settings
def init(
    seed: ArrayLike,
    program: Program,
    config: Config | None = None,
    oracle: Oracle | Callable[..., Any] | None = None,
    *,
    problem_seed: ArrayLike | None = None,
    problem: AnyProblem | None = None,
    knowledge: ArrayLike | None = None,
    numbers: Mapping[str, Any] | None = None,
    params: Any = None,
) -> tuple[Setting, State]:
    """Everything before step 0. Arguments and errors as for ``train``."""
    given = _given(program, seed, config, oracle, problem_seed, problem, knowledge, numbers, params)
    return _at_once(_begin, program, given)


class _Given(NamedTuple):
    """What is given of some runs, checked.

    Attributes:
        seed: as metrics see it.
        key: of the runs.
        task: of their problems, and of the teacher's errors.
        config: float32, each number one or ``[*runs]``.
        oracle: the feedback type.
        numbers: by name the own numbers of the parts, float32.
        problem: one of the user's own, if any.
        knowledge: a table of the user's own, if any.
        params: those of step 0, if they are the user's own.
    """

    seed: Array
    key: Key
    task: Key
    config: Config
    oracle: Oracle
    numbers: dict[str, Any]
    problem: AnyProblem | None
    knowledge: Any
    params: Any


def _given(
    program: Program,
    seed: ArrayLike,
    config: Config | None,
    oracle: Oracle | Callable[..., Any] | None,
    problem_seed: ArrayLike | None,
    problem: AnyProblem | None,
    knowledge: ArrayLike | None,
    numbers: Mapping[str, Any] | None,
    params: Any,
) -> _Given:
    """The arguments of ``init``, checked."""
    config = Config() if config is None else config
    oracle = oracles.continuous() if oracle is None else oracles.as_oracle(oracle)
    check_program(program)
    key = streams.root(seed)
    runs = key.high.shape
    config = _checked_config(config, runs)
    oracle = oracles.checked(oracle, runs)
    check_oracle_fits(program, oracle)
    own = _own_numbers(program, oracle, numbers, runs)
    task = key if problem_seed is None else _task_key(problem_seed, runs)
    table = (program.sizes.length, program.sizes.vocab_size, *runs)
    if problem is not None:
        problem = _checked_problem(program, problem, table)
    if params is not None:
        params = _checked_params(_bound(program, own), params, key, *table[:2])
    if knowledge is not None:
        own_table = as_float32(finite("knowledge", knowledge))
        if own_table.shape != table:
            raise ValueError(f"knowledge: shape {own_table.shape}; allowed: {table}")
        knowledge = own_table
    return _Given(_seed(seed, key), key, task, config, oracle, own, problem, knowledge, params)


def _begin(program: Program, given: _Given) -> tuple[Setting, State]:
    """``init`` of what is checked."""
    with boundaries(given.config.learning_rate):
        return _first(program, given)


def _first(program: Program, given: _Given) -> tuple[Setting, State]:
    seed, key, task, config, oracle, own, problem, knowledge, params = given
    runs = key.high.shape
    sizes = program.sizes
    length, vocab_size = sizes.length, sizes.vocab_size
    if problem is None:
        problem = materialise(lambda: _drawn(program, task, own))
    kind = _bound(program, own)
    if params is None:
        # Of a function of the user's not even the shapes are computed twice.
        first = partial(kind.first, streams.stream(key, Stream.INIT), length, vocab_size)
        params = materialise(first) if isinstance(kind, Factored) else first()
    errors = streams.stream(task, Stream.KNOWLEDGE)
    # Of a table of one's own for a problem without q there may be a panel; its errors have scale 1.
    known = partial(known_table, problem, config.knowledge, own.get("quality_scale", 1.0), errors)
    table = None
    if knowledge is not None:
        table = jnp.asarray(knowledge)
    elif problems.problem_kind(program.problem).knows_quality:
        table = jnp.asarray(as_float32(known(0)))
    algorithm = algorithm_of(program.algorithm)
    asked = {*what_is_told(algorithm), *what_is_told_at_first(algorithm)}
    strength = jnp.broadcast_to(jnp.asarray(config.feedback_strength, jnp.float32), runs)
    factored = isinstance(kind, Factored)
    levels = None
    if factored and table is not None:
        each = "lessons" in asked
        levels = teachers.prepare(oracle, strength, table, program.teacher_nodes, each)
    panel = None
    if "panel" in asked and table is not None:
        panel = jnp.stack([table, *(known(member) for member in range(1, sizes.teachers))])
    solution = None
    if "solution" in asked:
        solution = materialise(lambda: problems.best_sequence(problem)[0])
    equation_one = not isinstance(problem, FunctionProblem)
    setting = Setting(
        seed=seed,
        config=config,
        oracle=oracle,
        problem=problem,
        first=params,
        numbers=own,
        knowledge=table,
        tables=problems.tabulate(problem) if equation_one else None,
        reference=policies.policy(params) if factored else None,
        levels=levels,
        rollout_key=streams.stream(key, Stream.ROLLOUTS),
        noise_key=streams.stream(key, Stream.NOISE),
        hint_key=streams.stream(key, Stream.HINTS),
        algorithm_key=streams.stream(key, Stream.ALGORITHM),
        judge_key=streams.stream(key, Stream.JUDGE),
        oracle_key=streams.stream(key, Stream.ORACLE),
        panel=panel,
        solution=solution,
    )
    initialise = lanes.over_runs(
        lambda rate, params: optimizers.transformation(program.optimizer, rate).init(params),
        len(runs),
    )
    optimizer = initialise(_learning_rate(setting, runs), params)
    return setting, State(params, optimizer, _first_memory(algorithm, program, setting))


class _Visited(NamedTuple):
    """The contexts that sequences visit: what the policies say there, and the way back.

    Attributes:
        policy: the student.
        reference: the policy of step 0.
        pull: from a gradient of the logits, a mean over contexts, to that of the parameters.
    """

    policy: Policy
    reference: Policy
    pull: Callable[[Array], Any]


def _visit(kind: PolicyKind, setting: Setting, params: Any, tokens: Array) -> _Visited:
    """The contexts of sequences ``[T, N, *runs]`` of a policy that has some."""
    logits, back = jax.vjp(lambda each: kind.read(each, tokens), params)
    reference = policies.policy(kind.read(setting.first, tokens))

    def pull(gradient: Array) -> Any:
        return back(gradient / tokens.shape[1])[0]

    return _Visited(policies.policy(logits), reference, pull)


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
    index = _checked_index(index)
    for name in numbers_of_program(program, setting.oracle):
        if name not in setting.numbers:
            raise ValueError(
                f"setting: has no number {name!r}; allowed: what init made for this program"
            )
    with boundaries(index):
        return _step(program, setting, state, index)


def _step(program: Program, setting: Setting, state: State, index: Array) -> tuple[State, View]:
    """``step`` of what is checked."""
    sizes, config = program.sizes, setting.config
    length, vocab_size = sizes.length, sizes.vocab_size
    kind = _bound(program, setting.numbers)
    runs = setting.rollout_key.high.shape
    if isinstance(kind, Factored):
        policy = policies.policy(state.params)
        rollouts = materialise(
            lambda: policies.sample(setting.rollout_key, index, policy.probs, sizes.rollouts)
        )
        tokens = policies.tokens(rollouts, length, vocab_size)
        assert setting.reference is not None
        visited = _Visited(policy, setting.reference, lambda gradient: gradient)
    else:
        key, count = setting.rollout_key, sizes.rollouts
        uniforms = materialise(lambda: streams.token_uniforms(key, index, length, count))
        tokens = materialise(lambda: policies.sample_in_order(kind, state.params, uniforms))
        rollouts = policies.pack(tokens, vocab_size)
        visited = _visit(kind, setting, state.params, tokens)
        policy = visited.policy
    if setting.tables is None:
        reward = materialise(lambda: cast(FunctionProblem, setting.problem).reward(tokens))
    else:
        reward = problems.look_up(setting.tables, rollouts, length, vocab_size)
    noise = _noise(setting, index, sizes.rollouts)
    if setting.oracle.judge is None:
        seen = oracles.noisy_reward(reward, noise)
    else:
        seen = judges.judge(setting.oracle.judge, setting.problem, policy, tokens, reward, noise)
    feedback = _feedback(setting, index, reward, seen, tokens)
    algorithm = algorithm_of(program.algorithm)

    def read(params: Any, at: Array | None = None) -> Array:
        return kind.read(params, tokens if at is None else at)

    told: dict[str, Any] = {
        "policy": policy,
        "reference": visited.reference,
        "params": state.params,
        "read": read,
        "tokens": tokens,
        "signal": _signal(config, reward, feedback),
        "feedback": feedback,
        **_tables_told(setting, policy),
        "problem": setting.problem,
        "memory": state.memory,
        "key": setting.algorithm_key,
        "step": index,
        "runs": runs,
        "contexts": 1 if isinstance(kind, Factored) else sizes.rollouts,
        "sizes": sizes,
        "config": config,
    }
    names = what_is_told(algorithm)
    shown_to = (
        setting.oracle,
        setting.levels,
        config,
        cast(Array, setting.knowledge),
    )
    if "teacher" in names or metrics_need_teacher(program):
        told["teacher"] = teachers.teach(
            *shown_to, policy, tokens, seen, feedback, setting.hint_key, index
        )
    if "lessons" in names:
        told["lessons"] = lessons_of(*shown_to, tokens, seen, feedback, setting.hint_key, index)
    outcome = algorithm.update(
        **{name: told[name] for name in names}, **chosen(algorithm.update, setting.numbers)
    )
    update = as_update(algorithm, outcome, policy.logits, tokens, state.memory)
    at = visited
    if update.tokens is not None and not isinstance(kind, Factored):
        at = _visit(kind, setting, state.params, update.tokens)
    drift = config.kl_weight * (at.policy.probs - at.reference.probs)
    gradient = materialise(lambda: config.sign * update.gradient + drift)
    view = View(
        seed=setting.seed,
        step=index,
        config=config,
        problem=setting.problem,
        oracle=setting.oracle,
        knowledge=setting.knowledge,
        reference=visited.reference,
        policy=policy,
        tokens=tokens,
        reward=reward,
        feedback=feedback,
        teacher=told.get("teacher"),
        update=update,
        direction=-gradient,
        params=state.params,
        numbers=setting.numbers,
        kind=policies.policy_kind(program.policy),
        sizes=sizes,
    )
    advance = lanes.over_runs(partial(optimizers.updated, program.optimizer), len(runs))
    rate = _learning_rate(setting, runs)
    params, optimizer = advance(rate, at.pull(gradient), state.optimizer, state.params)
    return State(params, optimizer, update.memory), view


def _own_numbers(
    program: Program,
    oracle: Oracle | None,
    given: Mapping[str, Any] | None,
    runs: tuple[int, ...],
) -> dict[str, Any]:
    """The own numbers of a program's parts, checked, as float32."""
    own = checked_numbers(program, oracle, given)
    for name, value in own.items():
        over_runs(name, value, runs)
    return {name: as_float32(value) for name, value in own.items()}


def _bound(program: Program, own: Mapping[str, Any]) -> PolicyKind:
    """The policy with its own numbers filled in."""
    kind = policies.policy_kind(program.policy)
    return kind.bound({name: own[name] for name in kind.numbers})


def _tables_told(setting: Setting, policy: Policy) -> dict[str, Any]:
    """What is known of tokens, beside a policy that may have contexts."""
    found: dict[str, Any] = {}
    for name, axis in (("knowledge", 2), ("panel", 3), ("solution", 1)):
        table = getattr(setting, name)
        found[name] = None if table is None else policies.at_contexts(table, policy, axis)
    return found


def _feedback(setting: Setting, index: Array, reward: Array, seen: Array, tokens: Array) -> Array:
    function = setting.oracle.function
    if function is None:
        return oracles.feedback_of(setting.oracle, seen)
    key = streams.at_step(setting.oracle_key, index)
    return materialise(lambda: oracles.spoken(function, reward, seen, tokens, key, setting.numbers))


def check_outcomes(program: Program, oracle: Oracle) -> None:
    """Check what a program's algorithms, metrics and optimisers return, where they are not ours.

    Nothing is computed: they are traced, on as many runs as no axis of their own is long.

    Raises:
        ValueError: whose it is, its shape or type and those that are allowed, in one line.
    """
    check_oracle_fits(program, oracle)
    named = set(map(id, (*METRICS.values(), *map(algorithm_of, ALGORITHMS))))
    parts = (algorithm_of(program.algorithm), *chosen_metrics(program).values())
    optimizers.check_step(program.optimizer)
    ours = isinstance(program.policy, str) and isinstance(program.problem, str)
    if ours and oracle.function is None and all(id(part) in named for part in parts):
        return
    shapes = tuple(map(jnp.shape, jax.tree.leaves(oracle)))
    _trace(program, jax.tree.structure(oracle), shapes)


@lru_cache(maxsize=256)
def _trace(program: Program, structure: Any, shapes: tuple[tuple[int, ...], ...]) -> None:
    sizes = program.sizes
    runs = next(n for n in range(2, 6) if n not in (sizes.length, sizes.vocab_size, sizes.rollouts))

    def outcome(seed: Array, leaves: list[Array]) -> Result:
        return train(seed, program, Config(), jax.tree.unflatten(structure, leaves))

    leaves = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    jax.eval_shape(outcome, jax.ShapeDtypeStruct((runs,), jnp.int32), leaves)


def _checked_params(kind: PolicyKind, params: Any, key: Key, length: int, vocab_size: int) -> Any:
    """Parameters of the structure, shapes and types that the policy's own have."""
    own = jax.eval_shape(lambda: kind.first(streams.stream(key, Stream.INIT), length, vocab_size))
    if isinstance(kind, Factored):
        params = as_float32(numbers("params", params, "an array of real numbers"))
    check_kept("params: given", params, own, "as the policy's own")
    return jax.tree.map(jnp.asarray, params)


def _checked_problem(program: Program, problem: Any, shape: tuple[int, ...]) -> AnyProblem:
    """A problem of the program's kind, for logits ``[T, V, *runs]``."""
    kind = problems.problem_kind(program.problem)
    if not isinstance(kind, Function):
        return problems.check_problem(problem, shape)
    given = (shown(problem),) if not isinstance(problem, FunctionProblem) else (
        problem.kind, problem.length, problem.vocab_size, *problem.ones.shape
    )  # fmt: skip
    if given != (kind, *shape):
        raise ValueError(f"problem: {given}; allowed: one of {kind.name} (problem_of) for {shape}")
    return problem


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


def _noise(setting: Setting, index: Array, rollouts: int) -> Array:
    """``sigma eps + bias``, ``[N, *runs]``."""
    judge = setting.oracle.judge
    sigma, used = lanes.is_used(jnp.asarray(setting.config.noise))

    def draw() -> Array:
        noise = sigma * streams.normals(setting.noise_key, index, (rollouts,))
        if judge is None:
            return noise
        return noise * judges.tails(judge, setting.judge_key, index, rollouts)

    # Where no run has noise, none is drawn; the numbers are the same.
    runs = setting.rollout_key.high.shape
    none = jnp.zeros((rollouts, *runs), jnp.float32)
    return where_any(used, draw, none) + setting.config.bias


def _learning_rate(setting: Setting, runs: tuple[int, ...]) -> Array:
    return jnp.broadcast_to(jnp.asarray(setting.config.learning_rate, jnp.float32), runs)


def known_table(
    problem: AnyProblem, rho: ArrayLike, scale: ArrayLike, key: Key, member: int
) -> Array:
    """``rho q + sqrt(1 - rho^2) noise``, ``[T, V, *runs]``: a table of fidelity rho.

    Args:
        problem: the true reward landscape.
        rho: one or ``[*runs]``.
        scale: standard deviation of the errors, which is q's; one or ``[*runs]``.
        key: the stream of the errors.
        member: which table; each has errors of its own.
    """
    quality = problem.quality
    error = streams.normals(key, member, quality.shape[:2])
    rho = jnp.asarray(rho, quality.dtype)
    return rho * quality + _share_of_error(rho) * scale * error


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


def _first_memory(algorithm: Algorithm, program: Program, setting: Setting) -> Any:
    factored = setting.reference is not None
    told = {
        "policy": setting.reference,
        "reference": setting.reference,
        "params": setting.first,
        "knowledge": setting.knowledge,
        "panel": setting.panel,
        "problem": setting.problem,
        "solution": setting.solution,
        "runs": setting.rollout_key.high.shape,
        "contexts": 1 if factored else program.sizes.rollouts,
        "sizes": program.sizes,
        "config": setting.config,
    }
    names = what_is_told_at_first(algorithm)
    memory = algorithm.init(
        **{name: told[name] for name in names}, **chosen(algorithm.init, setting.numbers)
    )
    for leaf in jax.tree.leaves(memory):
        numbers(
            f"algorithm: {algorithm.name} remembers at first", leaf, "arrays of numbers", "biufc"
        )
    return jax.tree.map(jnp.asarray, memory)
