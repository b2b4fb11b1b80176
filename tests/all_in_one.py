"""Many algorithms as one, which is told all that any of them asks for."""

from __future__ import annotations

import inspect
import itertools
from typing import Annotated

import jax.numpy as jnp

from sdpo_jax import Algorithm, Update
from sdpo_jax.algorithm import chosen, what_is_told, what_is_told_at_first
from tests.every_number import OWN


def named(parameters, function):
    """A function that takes these parameters by name, as algorithms are asked."""
    parameter = inspect.Parameter
    function.__signature__ = inspect.Signature([
        *(parameter(name, parameter.KEYWORD_ONLY) for name in parameters),
        *(
            parameter(name, parameter.KEYWORD_ONLY, default=each.default,
                      annotation=Annotated[float, each.rule])
            for name, each in OWN.items()
        ),
    ])  # fmt: skip
    return function


def all_in_one(algorithms, contexts=()):
    """One algorithm that keeps the gradients of all of these in its memory; its own is their sum.

    A program of all of them takes a few times as long to compile as one of one of them.

    Args:
        algorithms: by name.
        contexts: the shape of the contexts of a position, where there are more than one.
    """

    def of_all(asked):
        return sorted({*itertools.chain(*(asked(each) for each in algorithms.values()))})

    def init(**told):
        memories = {
            name: algorithm.init(
                **{each: told[each] for each in what_is_told_at_first(algorithm)},
                **chosen(algorithm.init, told),
            )
            for name, algorithm in algorithms.items()
        }
        length, vocab_size, *runs = told["knowledge"].shape
        empty = jnp.zeros((length, vocab_size, *contexts, *runs))
        return memories, dict.fromkeys(algorithms, empty)

    def update(**told):
        memories, gradients = dict(told["memory"][0]), {}
        for name, algorithm in algorithms.items():
            own = {each: told[each] for each in what_is_told(algorithm)}
            own |= chosen(algorithm.update, told)
            if "memory" in own:
                own["memory"] = memories[name]
            found = algorithm.update(**own)
            memories[name] = found.memory
            assert isinstance(found, Update)
            gradients[name] = found.gradient
        return Update(sum(gradients.values()), memory=(memories, gradients))

    return Algorithm(
        "all",
        named(sorted({*of_all(what_is_told_at_first), "knowledge"}), init),
        named(sorted({*of_all(what_is_told), "memory"}), update),
    )
