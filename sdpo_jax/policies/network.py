"""Any causal network as a policy: functions of one sequence, vectorised here.

    Network(init, apply)

    init(key) -> params                        a pytree, from a typed key
    apply(params, tokens [T]) -> logits [T, V]

The logits at position t may depend on the tokens before t and on nothing behind them. Both may be
of any library (``lambda key: model.init(key, tokens)`` and ``model.apply`` of Flax's linen); a
parameter of either that has a number as its default is a number of the policy's own
(``sdpo_jax.engine.own_numbers``). Sampling asks for the whole sequence at each position.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sdpo_jax.engine import lanes, streams
from sdpo_jax.engine.checks import numbers, shown
from sdpo_jax.engine.own_numbers import OwnNumber, among, joined, of_function

_TOLD = frozenset(("length", "vocab_size"))


@dataclass(frozen=True)
class Network:
    """A causal network.

    Attributes:
        init: the parameters of one run, from a typed key; told ``length`` and ``vocab_size``
            where it has parameters of these names.
        apply: the logits ``[T, V]`` of one sequence ``[T]``, from parameters and tokens.
        name: what it is called in labels.
        values: of its own numbers, filled in by the engine.
    """

    init: Callable[..., Any]
    apply: Callable[..., Array]
    name: str = "network"
    values: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def numbers(self) -> Mapping[str, OwnNumber]:
        """Its own numbers by name.

        Raises:
            ValueError: ``init`` or ``apply`` is no function.
        """
        owner = self._functions_checked()
        return joined(
            number
            for function in (self.init, self.apply)
            for number in of_function(function, owner, _TOLD)
        )

    def bound(self, values: Mapping[str, Any]) -> Network:
        """The network with its numbers, each one or ``[*runs]``, filled in."""
        return replace(self, values=dict(values))

    def first(self, key: streams.Key, length: int, vocab_size: int) -> Any:
        """The parameters before step 0, runs behind every array."""
        sizes = {"length": length, "vocab_size": vocab_size}
        names = inspect.signature(self.init).parameters
        more = {name: size for name, size in sizes.items() if name in names}
        first = lanes.over_runs(lambda key, own: self.init(key, **more, **own), key.high.ndim)
        params = first(streams.typed(key), self._own(self.init, key.high.shape))
        return jax.tree.map(jnp.asarray, params)

    def read(self, params: Any, tokens: Array) -> Array:
        """The logits at the contexts of sequences ``[T, N, *runs]``: ``[T, V, N, *runs]``."""

        def one_run(params: Any, tokens: Array, own: Mapping[str, Any]) -> Array:
            apply = partial(self.apply, **own)
            return jax.vmap(apply, in_axes=(None, 1), out_axes=2)(params, tokens)

        runs = tokens.shape[2:]
        read = lanes.over_runs(one_run, len(runs))
        return read(params, tokens, self._own(self.apply, runs)).astype(jnp.float32)

    def after(self, params: Any, tokens: Array, place: Array) -> Array:
        """The logits at one position of sequences, ``[V, N, *runs]``."""
        return self.read(params, tokens)[place]

    def conditionals(
        self, params: Any, length: int, vocab_size: int, runs: tuple[int, ...]
    ) -> list[Array]:
        """The logits after every prefix: for each position ``[V ** t, V, *runs]``."""
        found = []
        for t in range(length):
            prefixes = all_sequences(t, vocab_size)
            tokens = np.zeros((length, prefixes.shape[1]), np.int32)
            tokens[:t] = prefixes
            shared = tokens.reshape(tokens.shape + (1,) * len(runs))
            logits = self.read(params, jnp.broadcast_to(shared, (*tokens.shape, *runs)))
            found.append(jnp.moveaxis(logits[t], 0, 1))
        return found

    def check(self, length: int, vocab_size: int) -> None:
        """Check what the functions return, and that no position looks at itself or ahead.

        Raises:
            ValueError: what is wrong and what is allowed, in one line.
        """
        self._functions_checked()
        _check(self, length, vocab_size)

    def _functions_checked(self) -> str:
        owner = f"policy: {self.name}"
        for what, function in (("init", self.init), ("apply", self.apply)):
            if not callable(function):
                raise ValueError(f"{owner} has an {what} {shown(function)}; allowed: a function")
        return owner

    def _own(self, function: Callable[..., Any], runs: tuple[int, ...]) -> dict[str, Array]:
        return {
            name: jnp.broadcast_to(jnp.asarray(value, jnp.float32), runs)
            for name, value in among(function, _TOLD, self.values).items()
        }


@lru_cache(64)
def _check(network: Network, length: int, vocab_size: int) -> None:
    owner = f"policy: {network.name}"
    try:
        params = network.first(streams.root(np.zeros((), np.int32)), length, vocab_size)
    # Whatever a function of the user's raises: it is shown, and is the cause.
    except Exception as error:
        raise ValueError(
            f"{owner}: init makes no parameters ({shown(error)}); allowed: a function of a typed "
            "key (jax.random.key)"
        ) from error
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        where = jax.tree_util.keystr(path)
        numbers(
            f"{owner}: init returns a parameter{where and ' '}{where}", leaf, "real numbers", "f"
        )
    first = np.random.default_rng(0).integers(vocab_size, size=(length, 1), dtype=np.int32)
    try:
        logits = jax.eval_shape(lambda: network.apply(params, jnp.asarray(first[:, 0])))
    except Exception as error:
        raise ValueError(
            f"{owner}: apply fails on one sequence of shape ({length},) ({shown(error)}); allowed: "
            "a function of parameters and tokens"
        ) from error
    shape = getattr(logits, "shape", shown(logits))
    if shape != (length, vocab_size):
        raise ValueError(
            f"{owner}: apply returns logits of shape {shape}; allowed: {(length, vocab_size)}"
        )
    # Sequences that part at t may differ in their logits behind t only.
    behind = np.arange(length)[:, None] >= np.arange(length)
    parted = np.where(behind, (first + 1) % vocab_size, first)
    # Also where the caller is being traced.
    with jax.ensure_compile_time_eval():
        params = network.first(streams.root(np.zeros((), np.int32)), length, vocab_size)
        # Somewhere beside the first parameters: those may be all zeros, and tell nothing.
        moves = np.random.default_rng(0)
        params = jax.tree.map(
            lambda leaf: leaf + 0.3 * moves.normal(size=leaf.shape).astype(leaf.dtype), params
        )
        read = np.asarray(network.read(params, jnp.concatenate([first, parted], axis=1)))
    rounding = 1e-4 * (1 + abs(read).max())
    for t in range(length):
        ahead = (abs(read[: t + 1, :, 0] - read[: t + 1, :, t + 1]) > rounding).any(1)
        if ahead.any():
            place = int(np.flatnonzero(ahead)[0])
            raise ValueError(
                f"{owner}: apply is not causal, the logits at position {place} change with the "
                f"token at position {t}; allowed: logits that depend on the tokens before only"
            )


def all_sequences(length: int, vocab_size: int) -> np.ndarray:
    """Every sequence, ``[T, V ** T]`` int32, the first token slowest."""
    index = np.arange(vocab_size**length)
    places = [index // vocab_size ** (length - 1 - t) % vocab_size for t in range(length)]
    return np.asarray(places, np.int32).reshape(length, len(index))
