"""Small causal networks in plain JAX, and what the laboratory asks of any network.

A network is a static, hashable object of four functions:

    init(key) -> params                                      any pytree of arrays
    read(params, ids, places, last) -> logits                of the last positions
    begin(params, ids, places, room) -> cache                after a context, which may be empty
    extend(params, cache, id, place) -> logits, cache        one more token

``ids`` and ``places`` are ``[S, N]`` and ``[S]``: the N sequences lie in the last axis, where SIMD
lanes are, and all have the same places. Logits are ``[N, S, V]``, as ``sdpo_jax.losses`` takes
them; they are of the V tokens that an answer can have, not of all ids. ``Own`` makes such an object
of a user's two functions of one sequence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array, lax

from sdpo_jax.engine.checks import integer

Params = Any

_EPSILON = 1e-6


class Causal(Protocol):
    """What the laboratory asks of a network; see the module."""

    def init(self, key: Array) -> Params:
        """The first parameters, from a typed key."""
        ...

    def read(self, params: Params, ids: Array, places: Array, last: int) -> Array:
        """Logits ``[N, last, V]`` at the last positions of ids ``[S, N]``."""
        ...

    def begin(self, params: Params, ids: Array, places: Array, room: int) -> Any:
        """What is kept of a context ``[C, N]``, with room for so many more tokens."""
        ...

    def extend(self, params: Params, cache: Any, ids: Array, place: Array) -> tuple[Array, Any]:
        """Logits ``[N, V]`` after one more token ``[N]``, and what is kept then."""
        ...


class Cache(NamedTuple):
    """Keys and values of all layers.

    Attributes:
        keys: ``[L, H, D, S, N]``.
        values: ``[L, H, D, S, N]``.
        length: how many of the S positions are filled.
    """

    keys: Array
    values: Array
    length: Array


@dataclass(frozen=True)
class Transformer:
    """A causal transformer: root-mean-square norms in front, ReLU, no biases.

    Attributes:
        ids: how many ids there are.
        answers: V, how many of them an answer can have.
        places: how many places there are embeddings for.
        width: of the residual stream.
        layers: of attention and perceptron.
        heads: of attention; they divide the width.
        hidden: width of the perceptrons, in widths.
    """

    ids: int
    answers: int
    places: int
    width: int = 32
    layers: int = 2
    heads: int = 4
    hidden: int = 4

    def __post_init__(self) -> None:
        for name in ("ids", "answers", "places", "width", "layers", "heads", "hidden"):
            integer(name, getattr(self, name), 1)
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads}; allowed: a divisor of the width, {self.width}")

    def init(self, key: Array) -> Params:
        """Normal weights of variance 1 / fan-in; what ends a block is smaller by sqrt(2 L)."""
        embed, place, out, *rest = jax.random.split(key, 3 + 4 * self.layers)
        width, inner = self.width, self.hidden * self.width
        ending = 1 / math.sqrt(2 * self.layers)
        layers = [
            {
                "attention_in": _matrix(rest[4 * i], 3 * width, width),
                "attention_out": ending * _matrix(rest[4 * i + 1], width, width),
                "hidden_in": _matrix(rest[4 * i + 2], inner, width),
                "hidden_out": ending * _matrix(rest[4 * i + 3], width, inner),
            }
            for i in range(self.layers)
        ]
        return {
            "embed": jax.random.normal(embed, (self.ids, width)),
            "place": jax.random.normal(place, (self.places, width)),
            "out": _matrix(out, self.answers, width),
            "layers": jax.tree.map(lambda *each: jnp.stack(each), *layers),
        }

    def read(self, params: Params, ids: Array, places: Array, last: int) -> Array:
        """Logits ``[N, last, V]`` at the last positions of ids ``[S, N]``.

        Args:
            params: of ``init``.
            ids: ``[S, N]``.
            places: ``[S]``.
            last: at how many positions; the last layer computes no others.
        """
        length = ids.shape[0]
        x = _embedded(params, ids, places)
        for i in range(self.layers):
            layer = jax.tree.map(itemgetter(i), params["layers"])
            query, key, value = self._heads(layer, x)
            first = length - last if i == self.layers - 1 else 0
            query, x = query[:, :, first:], x[:, first:]
            visible = jnp.arange(length) <= jnp.arange(first, length)[:, None]
            x = self._block(layer, x, _attend(query, key, value, visible))
        return _answers(params, x)

    def begin(self, params: Params, ids: Array, places: Array, room: int) -> Cache:
        """Keys and values of a context ``[C, N]``, C 0 or more, and room for more."""
        length, count = ids.shape
        shape = (self.layers, self.heads, self.width // self.heads, length + room, count)
        keys, values = jnp.zeros(shape), jnp.zeros(shape)
        if length:
            x = _embedded(params, ids, places)
            visible = jnp.tri(length, dtype=bool)
            for i in range(self.layers):
                layer = jax.tree.map(itemgetter(i), params["layers"])
                query, key, value = self._heads(layer, x)
                keys = keys.at[i, :, :, :length].set(key)
                values = values.at[i, :, :, :length].set(value)
                # Nothing reads what the last layer says of a context.
                if i < self.layers - 1:
                    x = self._block(layer, x, _attend(query, key, value, visible))
        return Cache(keys, values, jnp.int32(length))

    def extend(self, params: Params, cache: Cache, ids: Array, place: Array) -> tuple[Array, Cache]:
        """Logits ``[N, V]`` after one more token ``[N]``, and the cache with it."""
        keys, values, length = cache
        visible = jnp.arange(keys.shape[3])[None] <= length

        # A loop and not a row of layers: quicker to compile, and as fast.
        def through(x: Array, layer: Any) -> tuple[Array, tuple[Array, Array]]:
            weights, keys, values = layer
            query, key, value = self._heads(weights, x)
            keys = lax.dynamic_update_slice(keys, key, (0, 0, length, 0))
            values = lax.dynamic_update_slice(values, value, (0, 0, length, 0))
            return self._block(weights, x, _attend(query, keys, values, visible)), (keys, values)

        x = _embedded(params, ids[None], place[None])
        x, (keys, values) = lax.scan(through, x, (params["layers"], keys, values))
        return _answers(params, x)[:, 0], Cache(keys, values, length + 1)

    def _heads(self, layer: Params, x: Array) -> tuple[Array, Array, Array]:
        """Queries, keys and values, each ``[H, D, S, N]``."""
        all_three = _times(layer["attention_in"], _normed(x))
        shape = (3, self.heads, self.width // self.heads, *x.shape[1:])
        query, key, value = all_three.reshape(shape)
        return query, key, value

    def _block(self, layer: Params, x: Array, mixed: Array) -> Array:
        x = x + _times(layer["attention_out"], mixed.reshape(x.shape))
        hidden = jax.nn.relu(_times(layer["hidden_in"], _normed(x)))
        return x + _times(layer["hidden_out"], hidden)


@dataclass(frozen=True)
class GRU:
    """A recurrent network of gated units (Cho et al. 2014), layers on top of each other.

    Attributes:
        ids: how many ids there are.
        answers: V, how many of them an answer can have.
        places: how many places there are embeddings for.
        width: of each layer.
        layers: how many.
    """

    ids: int
    answers: int
    places: int
    width: int = 32
    layers: int = 2

    def __post_init__(self) -> None:
        for name in ("ids", "answers", "places", "width", "layers"):
            integer(name, getattr(self, name), 1)

    def init(self, key: Array) -> Params:
        """Normal weights of variance 1 / fan-in."""
        embed, place, out, *rest = jax.random.split(key, 3 + 2 * self.layers)
        width = self.width
        return {
            "embed": jax.random.normal(embed, (self.ids, width)),
            "place": jax.random.normal(place, (self.places, width)),
            "out": _matrix(out, self.answers, width),
            "layers": [
                {
                    "input": _matrix(rest[2 * i], 3 * width, width),
                    "state": _matrix(rest[2 * i + 1], 3 * width, width),
                }
                for i in range(self.layers)
            ],
        }

    def read(self, params: Params, ids: Array, places: Array, last: int) -> Array:
        """Logits ``[N, last, V]`` at the last positions of ids ``[S, N]``."""
        _, outputs = self._run(params, self._nothing(ids.shape[1]), ids, places)
        return _answers(params, jnp.moveaxis(outputs[ids.shape[0] - last :], 0, 1))

    def begin(self, params: Params, ids: Array, places: Array, room: int) -> Array:
        """The states ``[L, W, N]`` after a context ``[C, N]``, C 0 or more."""
        nothing = self._nothing(ids.shape[1])
        return self._run(params, nothing, ids, places)[0] if ids.shape[0] else nothing

    def extend(self, params: Params, cache: Array, ids: Array, place: Array) -> tuple[Array, Array]:
        """Logits ``[N, V]`` after one more token ``[N]``, and the states then."""
        states, outputs = self._run(params, cache, ids[None], place[None])
        return _answers(params, outputs[0][:, None])[:, 0], states

    def _nothing(self, count: int) -> Array:
        return jnp.zeros((self.layers, self.width, count))

    def _run(self, params: Params, states: Array, ids: Array, places: Array) -> tuple[Array, Array]:
        def step(states: Array, x: Array) -> tuple[Array, Array]:
            after = []
            for state, layer in zip(states, params["layers"], strict=True):
                given = jnp.split(_times(layer["input"], _normed(x)), 3)
                kept = jnp.split(_times(layer["state"], state), 3)
                update, reset = (jax.nn.sigmoid(given[i] + kept[i]) for i in range(2))
                state = (1 - update) * jnp.tanh(given[2] + reset * kept[2]) + update * state
                after.append(state)
                x = x + state
            return jnp.stack(after), x

        inputs = jnp.moveaxis(_embedded(params, ids, places), 1, 0)
        return lax.scan(step, states, inputs)


@dataclass(frozen=True)
class Own:
    """A user's network, of any library, as the laboratory takes it.

    Attributes:
        initialise: ``initialise(key) -> params``, a pytree, from a typed key.
        apply: ``apply(params, ids [S], places [S]) -> logits [S, V]`` of one sequence; the logits
            at a position depend on the ids and places up to there.

    Sampling asks for the whole sequence at each position. With ids under the mask of a sequence
    that is not yet full, ``apply`` meets id 0.
    """

    initialise: Callable[[Array], Params]
    apply: Callable[[Params, Array, Array], Array]

    def init(self, key: Array) -> Params:
        """The user's first parameters."""
        return self.initialise(key)

    def read(self, params: Params, ids: Array, places: Array, last: int) -> Array:
        """Logits ``[N, last, V]`` at the last positions of ids ``[S, N]``."""
        logits = jax.vmap(self.apply, in_axes=(None, 1, None))(params, ids, places)
        return logits[:, ids.shape[0] - last :]

    def begin(
        self, params: Params, ids: Array, places: Array, room: int
    ) -> tuple[Array, Array, Array]:
        """The ids ``[C + room, N]`` and places so far, and how many they are."""
        more = jnp.zeros((room, ids.shape[1]), ids.dtype)
        full = jnp.concatenate((places, jnp.zeros(room, places.dtype)))
        return jnp.concatenate((ids, more)), full, jnp.int32(len(ids))

    def extend(
        self, params: Params, cache: Any, ids: Array, place: Array
    ) -> tuple[Array, tuple[Array, Array, Array]]:
        """Logits ``[N, V]`` after one more token ``[N]``, and all ids with it."""
        before, places, length = cache
        before, places = before.at[length].set(ids), places.at[length].set(place)
        logits = self.read(params, before, places, len(before))
        return logits[:, length], (before, places, length + 1)


def without_cache(network: Causal) -> Own:
    """The same network, which reads the whole sequence for each token that it samples."""

    def apply(params: Params, ids: Array, places: Array) -> Array:
        return network.read(params, ids[:, None], places, len(ids))[0]

    return Own(network.init, apply)


def parameter_count(params: Params) -> int:
    """How many numbers the parameters are."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _matrix(key: Array, rows: int, columns: int) -> Array:
    return jax.random.normal(key, (rows, columns)) / math.sqrt(columns)


def _times(weights: Array, x: Array) -> Array:
    """``[K, W]`` times ``[W, ...]``, one product of matrices."""
    return (weights @ x.reshape(x.shape[0], -1)).reshape(-1, *x.shape[1:])


def _normed(x: Array) -> Array:
    return x * lax.rsqrt((x * x).mean(0, keepdims=True) + _EPSILON)


def _embedded(params: Params, ids: Array, places: Array) -> Array:
    """``[W, S, N]``."""
    # Gathered by columns, the gradient is a product of matrices and not a scatter.
    found = _times(params["embed"].T, jax.nn.one_hot(ids, len(params["embed"]), axis=0))
    return found + params["place"][places].T[:, :, None]


def _attend(query: Array, key: Array, value: Array, visible: Array) -> Array:
    """``[H, D, Q, N]`` and twice ``[H, D, K, N]`` to ``[H, D, Q, N]``, mask ``[Q, K]``.

    Elementwise along the sequences: a product of matrices for each of them and each head would be
    of matrices too small for a library.
    """
    scores = (query[:, :, :, None] * key[:, :, None]).sum(1) / math.sqrt(query.shape[1])
    weights = jax.nn.softmax(jnp.where(visible[:, :, None], scores, -jnp.inf), axis=2)
    return (weights[:, None] * value[:, :, None]).sum(3)


def _answers(params: Params, x: Array) -> Array:
    """Logits ``[N, S, V]`` from ``[W, S, N]``."""
    return jnp.transpose(_times(params["out"], _normed(x)), (2, 1, 0))
