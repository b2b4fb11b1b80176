"""Optimisers: functions from a learning rate to an optax transformation, which sees one run."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from sdpo_jax.algorithm import check_kept, returned
from sdpo_jax.engine.checks import can_be_key, name_of, shown

Optimizer = Callable[[Any], optax.GradientTransformation]

# Those of optax that need a learning rate and nothing else, and draw no random numbers.
OPTIMIZERS: dict[str, Optimizer] = {
    name: getattr(optax, name)
    for name in (
        "sgd",
        "adabelief",
        "adadelta",
        "adafactor",
        "adagrad",
        "adam",
        "adamax",
        "adamw",
        "adan",
        "amsgrad",
        "lamb",
        "lars",
        "lion",
        "novograd",
        "optimistic_adam_v2",
        "optimistic_gradient_descent",
        "radam",
        "rmsprop",
        "rprop",
        "sign_sgd",
        "signum",
        "sm3",
        "yogi",
    )
}


def optimizer_by_name(name: Any) -> Optimizer:
    """An optimiser of optax, from a learning rate to a transformation.

    Raises:
        ValueError: an unknown name.
    """
    if not isinstance(name, str) or name not in OPTIMIZERS:
        raise ValueError(
            f"optimizer: {shown(name)}; allowed: {', '.join(OPTIMIZERS)}, or a function from a "
            "learning rate to an optax transformation"
        )
    return OPTIMIZERS[name]


def check_optimizer(optimizer: Any) -> None:
    """Check that it is a function that can be a key.

    Raises:
        ValueError: in one line.
    """
    allowed = "a function from a learning rate to a transformation, as optax.adam is"
    if not callable(optimizer):
        raise ValueError(f"optimizer: {shown(optimizer)}; allowed: {allowed}")
    can_be_key(f"optimizer: {shown(optimizer)}", optimizer, allowed)


@lru_cache(maxsize=256)
def check_step(optimizer: Optimizer) -> None:
    """Check that it takes a step, by tracing it.

    Raises:
        ValueError: what it needs or returns and what is allowed, in one line.
    """

    def update(rate: Array, logits: Array) -> Array:
        state = transformation(optimizer, rate).init(logits)
        return updated(optimizer, rate, logits, state, logits)[0]

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


def transformation(optimizer: Optimizer, rate: Array) -> optax.GradientTransformation:
    """The transformation of one run.

    Raises:
        ValueError: it makes none, in one line.
    """
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


def updated(
    optimizer: Optimizer, rate: Array, gradient: Any, state: Any, params: Any
) -> tuple[Any, Any]:
    """The parameters of one run and its optimiser's state after an update."""
    what = f"optimizer: {name_of(optimizer)}"
    try:
        updates, new = transformation(optimizer, rate).update(gradient, state, params)
    except TypeError as error:
        if "required keyword-only argument" not in str(error):
            raise
        needed = str(error).partition(": ")[2]
        raise ValueError(
            f"{what} needs {needed}, which a step has not; allowed: transformations of a "
            "gradient alone"
        ) from error
    leaves, structure = jax.tree.flatten(params)
    made = jax.tree.leaves(updates)
    if len(made) != len(leaves):
        raise ValueError(f"{what} makes {len(made)} updates; allowed: {len(leaves)}, as parameters")
    whose = f"{what} makes updates"
    checked = [returned(whose, new, (old.shape,)) for new, old in zip(made, leaves, strict=True)]
    updates = jax.tree.unflatten(structure, checked)
    check_kept(f"{what} keeps a state", new, state)
    return jax.tree.map(jnp.asarray, optax.apply_updates(params, updates)), new
