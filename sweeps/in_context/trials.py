"""Runs of training in blocks of one width, and tuning on other seeds than those of judgement."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from sdpo_jax import compiler_options
from sdpo_jax.in_context import (
    CURVES,
    METHODS,
    NUMBERS,
    Lab,
    Setting,
    Transformer,
    World,
    kinds,
    train,
)
from sweeps.in_context.plan import CONTENDERS, Contender, Plan
from sweeps.store.blocks import Layout
from sweeps.study.trainer import Trainer, Wanted


@dataclass(frozen=True)
class Trial:
    """One training run.

    Attributes:
        seed: of the problem and all that is random.
        kind: of feedback.
        learning_rate: of Adam.
        checkpoint: of the network that it starts from; -1 is the last.
        numbers: of the method, by name.
    """

    seed: int
    kind: str
    learning_rate: float
    checkpoint: int = -1
    numbers: tuple[tuple[str, float], ...] = ()


def network_of(plan: Plan, length: int, vocab_size: int, attempts: int = 1) -> Transformer:
    """The network of a world of these sizes."""
    world = World(length, vocab_size, attempts)
    return Transformer(
        world.ids, world.vocab_size, world.places, width=plan.width, layers=plan.layers
    )


def lab_of(plan: Plan, method: str, attempts: int = 1, watch: bool = False) -> Lab:
    """The laboratory of a method in the plan's world."""
    return Lab(
        plan.world(attempts),
        network_of(plan, plan.length, plan.vocab_size, attempts),
        METHODS[method],
        steps=plan.steps,
        rollouts=plan.rollouts,
        every=plan.every,
        watch=watch,
    )


def trained(
    plan: Plan,
    name: str,
    params: Any,
    trials: Sequence[Trial],
    trainer: Trainer,
    attempts: int | None = None,
    watch: bool = False,
) -> dict[str, np.ndarray]:
    """The curves of trials, ``[trials, steps]`` by name, in blocks of one width.

    The width decides a run's last bits; a last block that is not full is filled up.

    Args:
        plan: of the study.
        name: of the method.
        params: of the checkpoints, ``[K, ...]``.
        trials: any number.
        trainer: keeps each block as it is done.
        attempts: k; the plan's first, if not given.
        watch: whether the teacher's answers are measured, too.

    Raises:
        Stopped: there was a wish to stop before the end.
    """
    attempts = plan.attempts[0] if attempts is None else attempts
    lab = lab_of(plan, name, attempts, watch)
    layout: Layout = {each: ((lab.steps,), "<f4") for each in CURVES}
    params = jax.tree.map(np.asarray, params)
    given = {
        # The method's loss, which is not in it, is known by the name and the library's code.
        "lab": repr(lab),
        "params": _digest(params),
        "noise": plan.noise,
    }
    wanted = []
    for begin in range(0, len(trials), plan.block):
        chunk = list(trials[begin : begin + plan.block])
        chunk += chunk[-1:] * (plan.block - len(chunk))
        asked = {**given, "trials": [astuple(trial) for trial in chunk]}
        wanted.append(Wanted(asked, (plan, name, attempts, watch, params, chunk)))
    found = trainer.kept(wanted, lab.method.name, layout, plan.block, curves)
    return {
        each: np.concatenate([block[each] for block in found])[: len(trials)] for each in CURVES
    }


def curves(
    plan: Plan, name: str, attempts: int, watch: bool, params: Any, trials: Sequence[Trial]
) -> dict[str, np.ndarray]:
    """The curves of one block, ``[trials, steps]`` by name. Arguments as for ``trained``."""
    lab = lab_of(plan, name, attempts, watch)
    numbers = {
        each: jnp.asarray([dict(t.numbers).get(each, NUMBERS[each]) for t in trials])
        for each in lab.method.numbers
    }
    found = _program(lab)(
        params,
        plan.noise,
        jnp.asarray([t.seed for t in trials], jnp.int32),
        kinds([t.kind for t in trials]),
        jnp.asarray([t.learning_rate for t in trials]),
        jnp.asarray([t.checkpoint for t in trials], jnp.int32),
        numbers,
    )
    return {each: np.asarray(found[each]) for each in CURVES}


def _digest(params: Any) -> str:
    """SHA-256 of parameters."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        array = np.asarray(leaf)
        digest.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()


@lru_cache(8)
def _program(lab: Lab) -> Any:
    """The compiled training of a laboratory, kept: several parts use the same."""

    def one(params: Any, noise: Any, seed: Any, kind: Any, rate: Any, checkpoint: Any, own: Any):
        first = jax.tree.map(lambda each: each[checkpoint], params)
        return train(lab, first, seed, Setting(rate, kind, noise, numbers=own)).curves

    mapped = jax.vmap(one, in_axes=(None, None, 0, 0, 0, 0, 0))
    return jax.jit(mapped, compiler_options=compiler_options())


def settings_of(contender: Contender) -> list[tuple[float, tuple[tuple[str, float], ...]]]:
    """Learning rates and numbers of every setting that a contender tries."""
    names = list(contender.knobs)
    return [
        (rate, tuple(zip(names, values, strict=True)))
        for values in itertools.product(*contender.knobs.values())
        for rate in contender.rates
    ]


def kinds_of(plan: Plan, name: str) -> tuple[str, ...]:
    """The kinds of feedback that make a difference to a contender.

    A critique's marks are for those who read; the others hear the score of continuous feedback.
    """
    method = METHODS[name]
    # Whoever is shown the solution hears no feedback at all.
    if method.context == "solution":
        return ("continuous",) if "continuous" in plan.kinds else plan.kinds[:1]
    if method.teacher is None or method.context != "feedback":
        return tuple(dict.fromkeys("continuous" if k == "critique" else k for k in plan.kinds))
    return plan.kinds


def heard(plan: Plan, name: str, kind: str) -> str:
    """Which of ``kinds_of`` stands for a kind of feedback."""
    own = kinds_of(plan, name)
    return kind if kind in own else "continuous" if "continuous" in own else own[0]


def fair(plan: Plan, name: str, params: Any, trainer: Trainer) -> xr.Dataset:
    """A contender tuned on the tuning seeds and judged on the evaluation seeds, for each kind.

    What is tuned for is the mean reward of the last steps.
    """
    contender = CONTENDERS[name]
    own, settings = kinds_of(plan, name), settings_of(contender)
    tried = [
        Trial(seed, kind, rate, numbers=numbers)
        for kind in own
        for rate, numbers in settings
        for seed in plan.tuning
    ]
    tuning = trained(plan, name, params, tried, trainer)
    reward = (
        tuning["reward"][:, -plan.window :]
        .mean(1)
        .reshape(len(own), len(settings), plan.tuning_seeds)
    )
    # A setting that breaks down is not the best.
    mean = np.nan_to_num(reward.mean(-1), nan=-np.inf)
    best = mean.argmax(1)
    judged = [
        Trial(seed, kind, settings[place][0], numbers=settings[place][1])
        for kind, place in zip(own, best, strict=True)
        for seed in plan.evaluation
    ]
    judgement = trained(plan, name, params, judged, trainer)
    shape = (len(own), plan.seeds, -1)
    data = {
        each: (("kind", "seed", "step"), values.reshape(shape))
        for each, values in judgement.items()
    }
    data |= {
        "tuned_reward": (("kind",), mean.max(1)),
        "best_setting": (("kind",), best.astype(np.int32)),
        "tried_reward": (("kind", "setting", "tuning_seed"), reward),
    }
    return xr.Dataset(
        data,
        coords={
            "kind": list(own),
            "seed": list(plan.evaluation),
            "step": np.arange(plan.steps),
            "setting": [setting_text(rate, numbers) for rate, numbers in settings],
            "learning_rate": ("setting", [rate for rate, _ in settings]),
        },
    )


def setting_text(rate: float, numbers: Sequence[tuple[str, float]]) -> str:
    """A setting for readers."""
    return ", ".join([f"lr {rate:g}", *(f"{name} {value:g}" for name, value in numbers)])


def chosen(league: Mapping[str, xr.Dataset], name: str, kind: str) -> tuple[float, Any]:
    """The setting that tuning chose for a contender."""
    data = league[name].sel({"kind": kind})
    return settings_of(CONTENDERS[name])[int(data.best_setting)]
