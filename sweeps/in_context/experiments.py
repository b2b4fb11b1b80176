"""The parts of the study: what each computes, and what it needs of the others.

A part is a name of saved data and a function of the plan, the results so far and a trainer, which
keeps the blocks that are done. Parts whose needs are met can be computed side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree

from sdpo_jax import compiler_options, problems
from sdpo_jax.in_context import KINDS, METHODS, Lab, Setting, World, kinds, pretrain, train
from sdpo_jax.in_context.exact import credit
from sweeps.in_context.plan import MAIN, PLAIN, PRETRAINING_SEED, REFERENCE, Plan
from sweeps.in_context.trials import Trial, chosen, fair, heard, network_of, trained
from sweeps.study.trainer import Trainer
from sweeps.system.interrupts import Stopped

Results = Mapping[str, xr.Dataset]
Compute = Callable[[Plan, Results, Trainer], xr.Dataset]

POLICIES = ("first network", f"after {REFERENCE.upper()}")


@dataclass(frozen=True)
class Part:
    """One piece of the study.

    Attributes:
        compute: see the module.
        needs: names of other parts.
    """

    compute: Compute
    needs: tuple[str, ...] = ()


def network_name(attempts: int) -> str:
    """The data set of a network whose contexts hold so many attempts."""
    return f"network_{attempts}"


def league_name(contender: str) -> str:
    """The data set of a contender."""
    return f"league_{contender}"


def small_name(plan: Plan) -> str:
    """The data set of the network of the small world, which may be the first of all."""
    same = plan.small == (plan.length, plan.vocab_size)
    if same and plan.small_pretraining == plan.pretraining:
        return network_name(1)
    return "network_small"


def _pretrained(plan: Plan, results: Results, trainer: Trainer, *, attempts: int) -> xr.Dataset:
    world = plan.world(attempts)
    return _as_data(plan, world, attempts, plan.pretraining)


def _small(plan: Plan, results: Results, trainer: Trainer) -> xr.Dataset:
    return _as_data(plan, World(*plan.small), 1, plan.small_pretraining)


def _as_data(plan: Plan, world: World, attempts: int, how: Any) -> xr.Dataset:
    network = network_of(plan, world.length, world.vocab_size, attempts)
    program = jax.jit(
        lambda seed: pretrain(network, world, how, seed), compiler_options=compiler_options()
    )
    found = program(PRETRAINING_SEED)
    flat = np.stack(
        [
            np.asarray(ravel_pytree(jax.tree.map(lambda each, k=k: each[k], found.params))[0])
            for k in range(len(how.checkpoints))
        ]
    )
    return xr.Dataset(
        {
            "params": (("checkpoint", "parameter"), flat),
            "skill": (("checkpoint", "kind"), np.asarray(found.skill)),
            "without": (("checkpoint",), np.asarray(found.without)),
            "loss": (("checkpoint",), np.asarray(found.loss)),
        },
        coords={"checkpoint": list(how.checkpoints), "kind": list(KINDS)},
    )


def params_of(plan: Plan, data: xr.Dataset, world: World) -> Any:
    """The parameters ``[K, ...]`` that a data set of a network holds."""
    network = network_of(plan, world.length, world.vocab_size, world.attempts)
    _, back = ravel_pytree(network.init(jax.random.key(0)))
    return jax.vmap(back)(jnp.asarray(data.params.values))


def _first(plan: Plan, results: Results, attempts: int | None = None) -> Any:
    count = plan.attempts[0] if attempts is None else attempts
    return params_of(plan, results[network_name(count)], plan.world(count))


def _range(plan: Plan, results: Results, trainer: Trainer) -> xr.Dataset:
    """The reward of a uniform policy and of the best answer, for each evaluation seed."""
    found = {"uniform": [], "best": []}

    @jax.jit
    def of(seed: Any) -> Any:
        problem = problems.sample_problem(seed, plan.length, plan.vocab_size)
        uniform = problems.expected_reward(problem, problems.uniform_probs(problem))
        return uniform, problems.best_sequence(problem)[1]

    for seed in plan.evaluation:
        for name, value in zip(found, of(seed), strict=True):
            found[name].append(float(value))
    return xr.Dataset(
        {name: (("seed",), np.asarray(values)) for name, values in found.items()},
        coords={"seed": list(plan.evaluation)},
    )


def _league(plan: Plan, results: Results, trainer: Trainer, *, name: str) -> xr.Dataset:
    return fair(plan, name, _first(plan, results), trainer)


class _League(Mapping[str, xr.Dataset]):
    """The league by contender."""

    def __init__(self, plan: Plan, results: Results) -> None:
        self.plan, self.results = plan, results

    def __getitem__(self, name: str) -> xr.Dataset:
        return self.results[league_name(name)]

    def __iter__(self) -> Any:
        return iter(self.plan.contenders)

    def __len__(self) -> int:
        return len(self.plan.contenders)


league_of = _League


def last_kind(plan: Plan) -> str:
    """The kind of feedback of the parts that look at one only: that which says most."""
    return plan.kinds[-1]


def scaled(plan: Plan) -> tuple[str, ...]:
    """Who is trained from every checkpoint."""
    return tuple(name for name in (REFERENCE, PLAIN[0], MAIN) if name in plan.contenders)


def _swept(
    plan: Plan,
    results: Results,
    trainer: Trainer,
    name: str,
    axis: str,
    values: Any,
    trial: Callable[[Any, int, float, Any], Trial],
) -> xr.Dataset:
    """A contender over an axis, with what tuning chose for the rest."""
    kind = heard(plan, name, last_kind(plan))
    rate, numbers = chosen(_League(plan, results), name, kind)
    trials = [trial(value, seed, rate, numbers) for value in values for seed in plan.evaluation]
    curves = trained(plan, name, _first(plan, results), trials, trainer)
    shape = (len(values), plan.seeds, -1)
    return xr.Dataset(
        {each: ((axis, "seed", "step"), found.reshape(shape)) for each, found in curves.items()},
        coords={axis: list(values), "seed": list(plan.evaluation)},
    )


def _skill(plan: Plan, results: Results, trainer: Trainer, *, name: str) -> xr.Dataset:
    kind = heard(plan, name, last_kind(plan))
    places = range(len(plan.pretraining.checkpoints))
    return _swept(
        plan, results, trainer, name, "checkpoint", places,
        lambda place, seed, rate, numbers: Trial(seed, kind, rate, place, numbers),
    )  # fmt: skip


def _strength(plan: Plan, results: Results, trainer: Trainer) -> xr.Dataset:
    kind = last_kind(plan)
    return _swept(
        plan, results, trainer, MAIN, "strength", plan.strengths,
        lambda value, seed, rate, numbers: Trial(
            seed, kind, rate, numbers=(("strength", float(value)),)
        ),
    )  # fmt: skip


def _attempts(plan: Plan, results: Results, trainer: Trainer) -> xr.Dataset:
    kind = last_kind(plan)
    rate, numbers = chosen(_League(plan, results), MAIN, kind)
    found = []
    for count in plan.attempts:
        trials = [Trial(seed, kind, rate, numbers=numbers) for seed in plan.evaluation]
        first = _first(plan, results, count)
        found.append(trained(plan, MAIN, first, trials, trainer, attempts=count))
    return xr.Dataset(
        {
            each: (("attempts", "seed", "step"), np.stack([curves[each] for curves in found]))
            for each in found[0]
        },
        coords={"attempts": list(plan.attempts), "seed": list(plan.evaluation)},
    )


def _watched(plan: Plan, results: Results, trainer: Trainer, *, name: str) -> xr.Dataset:
    """A contender as in the league, its teacher watched."""
    kind = heard(plan, name, last_kind(plan))
    rate, numbers = chosen(_League(plan, results), name, kind)
    trials = [Trial(seed, kind, rate, numbers=numbers) for seed in plan.evaluation]
    curves = trained(plan, name, _first(plan, results), trials, trainer, watch=True)
    return xr.Dataset(
        {each: (("seed", "step"), found) for each, found in curves.items()},
        coords={"seed": list(plan.evaluation), "step": np.arange(plan.steps)},
    )


def _small_world(plan: Plan, results: Results) -> tuple[World, Any, Any]:
    """The small world, its network, and the parameters of its last checkpoint."""
    world = World(*plan.small)
    params = params_of(plan, results[small_name(plan)], world)
    network = network_of(plan, world.length, world.vocab_size)
    return world, network, jax.tree.map(lambda each: each[-1], params)


def _students(plan: Plan, results: Results, trainer: Trainer) -> xr.Dataset:
    """Students of the small world after some steps of the reference method, one a seed."""
    world, network, first = _small_world(plan, results)
    lab = Lab(world, network, METHODS[REFERENCE], plan.credit_steps, plan.rollouts)
    rate = chosen(_League(plan, results), REFERENCE, heard(plan, REFERENCE, last_kind(plan)))[0]

    def learned(seed: Any) -> Any:
        return ravel_pytree(train(lab, first, seed, Setting(rate, noise=plan.noise)).params)[0]

    program = jax.jit(jax.vmap(learned), compiler_options=compiler_options())
    found = program(jnp.asarray(list(plan.evaluation), jnp.int32))
    return xr.Dataset(
        {"params": (("seed", "parameter"), np.asarray(found))},
        coords={"seed": list(plan.evaluation)},
    )


def _credit(plan: Plan, results: Results, trainer: Trainer, *, name: str) -> xr.Dataset:
    """Exact credit and alignment of one method on the small world, at matched policies."""
    world, network, first = _small_world(plan, results)
    flat, back = ravel_pytree(first)
    lab = Lab(world, network, METHODS[name], 1, plan.rollouts)
    seeds = jnp.asarray(list(plan.evaluation), jnp.int32)
    batches = jnp.arange(plan.credit_batches)
    later = jnp.asarray(results["students"].params.values)

    @partial(jax.jit, compiler_options=compiler_options())
    def measured(students: Any, kind: Any) -> Any:
        def one(student: Any, seed: Any) -> Any:
            setting = Setting(0.0, kind, plan.noise)
            each = jax.lax.map(
                lambda index: credit(lab, first, back(student), seed, setting, index), batches
            )
            return jax.tree.map(lambda value: value.mean(), each)

        return jax.vmap(one)(students, seeds)

    values: dict[str, list[Any]] = {"credit": [], "alignment": []}
    for students in (jnp.broadcast_to(flat, later.shape), later):
        if trainer.control.stop():
            raise Stopped
        by_kind = [measured(students, kind) for kind in kinds(plan.kinds)]
        for each, lists in values.items():
            lists.append([np.asarray(found[each]) for found in by_kind])
    return xr.Dataset(
        {each: (("policy", "kind", "seed"), np.asarray(found)) for each, found in values.items()},
        coords={
            "policy": list(POLICIES),
            "kind": list(plan.kinds),
            "seed": list(plan.evaluation),
        },
    )


def parts(plan: Plan) -> dict[str, Part]:
    """Every part of a plan by the name of its data, in an order that meets all needs."""
    networks = {network_name(k): Part(partial(_pretrained, attempts=k)) for k in plan.attempts}
    own = network_name(plan.attempts[0])
    # The longest first: two at a time then end together.
    found = dict(reversed(networks.items())) | {"range": Part(_range)}
    small = small_name(plan)
    found.setdefault(small, Part(_small))
    for name in plan.contenders:
        found[league_name(name)] = Part(partial(_league, name=name), (own,))
    for name in scaled(plan):
        found[f"skill_{name}"] = Part(partial(_skill, name=name), (own, league_name(name)))
    if MAIN in plan.contenders:
        main = league_name(MAIN)
        found["strength"] = Part(_strength, (own, main))
        found["attempts"] = Part(_attempts, (*networks, main))
    for name in plan.watched:
        found[f"watched_{name}"] = Part(partial(_watched, name=name), (own, league_name(name)))
    found["students"] = Part(_students, (small, league_name(REFERENCE)))
    for name in plan.credit:
        found[f"credit_{name}"] = Part(partial(_credit, name=name), (small, "students"))
    return found
