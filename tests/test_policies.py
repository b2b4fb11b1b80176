"""Policies that are no table of logits, against sums over every batch, and against each other."""

from __future__ import annotations

import itertools
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdpo_jax
from sdpo_jax import ALGORITHMS, Config, Network, Program, Sizes, policies
from sdpo_jax.program import algorithm_of
from tests.all_in_one import all_in_one
from tests.quickly import QUICKLY
from tests.reference import softmax

LENGTH, VOCAB_SIZE, ROLLOUTS = 3, 3, 2
SIZES = Sizes(
    length=LENGTH, vocab_size=VOCAB_SIZE, rollouts=ROLLOUTS, steps=4, final_window=1, teachers=2
)
SEQUENCES = np.array(list(itertools.product(range(VOCAB_SIZE), repeat=LENGTH)))
PAIRS = np.array(list(itertools.product(range(len(SEQUENCES)), repeat=ROLLOUTS)))
BETA, TAU = 1.3, 0.08


class Exact:
    """A bigram policy on an asymmetric problem, in float64, by loops."""

    def __init__(self, seed=0):
        draw = np.random.default_rng(seed)
        self.logits = draw.normal(0, 0.8, (LENGTH, VOCAB_SIZE, VOCAB_SIZE))
        self.problem = sdpo_jax.problem_of(seed, Program(sizes=SIZES))
        quality, bigram = (np.asarray(each, float) for each in
                           (self.problem.quality, self.problem.bigram))  # fmt: skip
        target = np.asarray(self.problem.target)
        self.quality = quality
        self.rewards = np.array([
            1 / (1 + np.exp(-(
                sum(quality[t, s[t]] + 0.3 * (s[t] == target[t]) for t in range(LENGTH))
                + sum(bigram[s[t], s[t + 1]] for t in range(LENGTH - 1))
            ) / LENGTH))
            for s in SEQUENCES
        ])  # fmt: skip

    def row(self, logits, sequence, t):
        return logits[t, sequence[t - 1] if t else 0]

    def probability(self, logits, sequence):
        rows = [softmax(self.row(logits, sequence, t)) for t in range(LENGTH)]
        return np.prod([row[token] for row, token in zip(rows, sequence, strict=True)])

    def expected_reward(self, logits):
        return sum(
            self.probability(logits, sequence) * reward
            for sequence, reward in zip(SEQUENCES, self.rewards, strict=True)
        )

    def slope(self, of, width=1e-5):
        """By central differences, ``[T, V, V]``."""
        found = np.zeros_like(self.logits)
        for place in np.ndindex(found.shape):
            step = np.zeros_like(self.logits)
            step[place] = width
            found[place] = (of(self.logits + step) - of(self.logits - step)) / (2 * width)
        return found

    def scores(self, sequence):
        """``grad log pi(s)`` at each position, in the rows that it visits, ``[T, V, V]``."""
        found = np.zeros_like(self.logits)
        for t in range(LENGTH):
            before = sequence[t - 1] if t else 0
            found[t, before] -= softmax(self.logits[t, before])
            found[t, before, sequence[t]] += 1
        return found

    def towards_teacher(self, sequence, reward):
        """``pi - teacher`` in the rows that a sequence visits, and the mean divergence."""
        found, divergence = np.zeros_like(self.logits), 0.0
        for t in range(LENGTH):
            before = sequence[t - 1] if t else 0
            row = self.logits[t, before]
            student, taught = softmax(row), softmax(row + BETA * reward * self.quality[t])
            found[t, before] += student - taught
            divergence += (taught * np.log(taught / student)).sum() / LENGTH
        return found, divergence

    def expected(self, gradient):
        """The mean over every pair of rollouts of a gradient of the pair."""
        found = np.zeros_like(self.logits)
        for one, other in PAIRS:
            chance = np.prod([self.probability(self.logits, SEQUENCES[i]) for i in (one, other)])
            found += chance * gradient([one, other])
        return found

    def weighted(self, advantages):
        def gradient(pair):
            worth = advantages(self.rewards[pair])
            parts = zip(pair, worth, strict=True)
            return -sum(a * self.scores(SEQUENCES[i]) for i, a in parts) / len(pair)

        return self.expected(gradient)

    def sdpo(self, pair):
        each = [self.towards_teacher(SEQUENCES[i], self.rewards[i]) for i in pair]
        return sum(g for g, _ in each) / len(pair), sum(d for _, d in each) / len(pair)

    def hybrid(self, pair):
        distilled, divergence = self.sdpo(pair)
        worth = self.rewards[pair] - self.rewards[pair].mean()
        reinforced = -sum(
            a * self.scores(SEQUENCES[i]) for i, a in zip(pair, worth, strict=True)
        ) / len(pair)  # fmt: skip
        weight = 1 / (1 + np.exp(-(divergence - TAU) / (TAU / 3)))
        return weight * distilled + (1 - weight) * reinforced


@cache
def exact():
    return Exact()


def engines(algorithm, monkeypatch, policy="bigram", logits=None, numbers=None):
    """The engine's expected gradient: one step of length 1 on every pair, each a run."""
    case = exact()
    tokens = jnp.asarray(SEQUENCES[PAIRS].transpose(2, 1, 0).astype(np.int32))
    runs = tokens.shape[-1]
    monkeypatch.setattr(policies, "sample_in_order", lambda *_: tokens)
    program = Program(algorithm, SIZES, ("reward",), policy=policy)
    config = Config(learning_rate=1.0, kl_weight=0.0, feedback_strength=BETA)
    params = jnp.asarray(case.logits if logits is None else logits, jnp.float32)
    params = jnp.broadcast_to(params[..., None], (*params.shape, runs))

    @jax.jit
    def stepped():
        seeds = jnp.zeros(runs, jnp.int32)
        setting, state = sdpo_jax.init(seeds, program, config, params=params, numbers=numbers)
        after, _ = sdpo_jax.step(program, setting, state, 0)
        return state.params - after.params

    chance = [
        np.prod([case.probability(case.logits, SEQUENCES[i]) for i in pair]) for pair in PAIRS
    ]
    return np.asarray(stepped(), np.float64) @ np.array(chance)


def grpos(rewards):
    spread = rewards.std(ddof=1)
    return np.zeros(2) if spread == 0 else (rewards - rewards.mean()) / (spread + 1e-6) / LENGTH


EXPECTED = {
    # The mean of two has the rollout itself in it: half of the slope is left.
    "reinforce": lambda case: -case.slope(case.expected_reward) / 2,
    "ppo": lambda case: -case.slope(case.expected_reward) / 2,
    "rloo": lambda case: -case.slope(case.expected_reward),
    # Of no objective: divided by the pair's spread.
    "grpo": lambda case: case.weighted(grpos),
    "sdpo": lambda case: case.expected(lambda pair: case.sdpo(pair)[0]),
    "hybrid": lambda case: case.expected(case.hybrid),
}


@pytest.mark.parametrize("algorithm", EXPECTED)
def test_expected_gradients_are_sums_over_every_batch(algorithm, monkeypatch):
    numbers = {"hybrid_threshold": TAU} if algorithm == "hybrid" else None
    found = engines(algorithm, monkeypatch, numbers=numbers)
    expected = EXPECTED[algorithm](exact())
    assert abs(expected).max() > 1e-3
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_the_bias_of_grpo_is_not_that_of_a_scale():
    case = exact()
    slope = case.slope(case.expected_reward)
    used = abs(slope) > 1e-3
    ratio = -case.weighted(grpos)[used] / slope[used]
    assert ratio.max() > 1.05 * ratio.min()


def tabular_init(key, length, vocab_size):
    return jnp.zeros((length, vocab_size, vocab_size))


def tabular_apply(params, tokens):
    before = jnp.concatenate((jnp.zeros(1, tokens.dtype), tokens[:-1]))
    return params[jnp.arange(len(tokens)), before]


TABULAR = Network(tabular_init, tabular_apply, name="tabular")


@pytest.mark.parametrize("algorithm", ["reinforce", "hybrid"])
def test_a_tabular_network_is_the_bigram_policy(algorithm, monkeypatch):
    found = engines(algorithm, monkeypatch, policy=TABULAR)
    np.testing.assert_allclose(found, engines(algorithm, monkeypatch), atol=1e-6)


@pytest.mark.parametrize("policy", ["bigram", TABULAR], ids=["bigram", "network"])
def test_what_is_exact_is_a_sum_over_all_sequences(policy):
    case = exact()
    names = ("expected_reward", "exact_entropy", "optimality", "exact_credit")
    program = Program("reinforce", SIZES, names, policy=policy)
    config = Config(learning_rate=0.0)

    @jax.jit
    def measured():
        params = jnp.asarray(case.logits, jnp.float32)
        setting, state = sdpo_jax.init(0, program, config, params=params)
        _, view = sdpo_jax.step(program, setting, state, 0)
        return {name: sdpo_jax.METRICS[name].measure(view) for name in names}, view

    found, view = measured()
    chance = np.array([case.probability(case.logits, each) for each in SEQUENCES])
    np.testing.assert_allclose(found["expected_reward"], chance @ case.rewards, rtol=1e-5)
    entropy = -(chance * np.log(chance)).sum() / LENGTH
    np.testing.assert_allclose(found["exact_entropy"], entropy, rtol=1e-5)
    scale = case.rewards.max() - case.rewards.mean()
    optimality = (chance @ case.rewards - case.rewards.mean()) / scale
    np.testing.assert_allclose(found["optimality"], optimality, rtol=1e-4)

    def worth(prefix):
        begins = (SEQUENCES[:, : len(prefix)] == prefix).all(1)
        return (chance * case.rewards)[begins].sum() / chance[begins].sum()

    direction = np.asarray(view.direction)
    correlations = []
    for i, t in np.ndindex(ROLLOUTS, LENGTH):
        prefix = np.asarray(view.tokens)[:t, i]
        values = [worth([*prefix, v]) for v in range(VOCAB_SIZE)]
        rows = direction[t, :, i], values
        flat = np.ptp(rows[0]) == 0
        correlations.append(0.0 if flat else np.corrcoef(*rows)[0, 1])
    np.testing.assert_allclose(found["exact_credit"], np.mean(correlations), atol=2e-4)


# Equal rows

SHARED = [name for name in ALGORITHMS if name not in ("scar", "scar_sampled", "process_reward")]


@pytest.fixture(scope="module")
def both():
    """A step of all algorithms on a factored policy, and on the bigram policy that equals it."""
    sizes = Sizes(
        length=3, vocab_size=4, rollouts=6, steps=4, final_window=1, epochs=2, teachers=2, top_k=2
    )
    config = Config(learning_rate=0.5, kl_weight=0.2, noise=0.3, knowledge=0.6)

    def of(policy):
        contexts = (sizes.rollouts,) if policy == "bigram" else ()
        every = all_in_one({name: algorithm_of(name) for name in SHARED}, contexts)
        program = Program(every, sizes, ("reward",), policy=policy)
        setting, state = sdpo_jax.init(np.arange(3), program, config)
        after, view = sdpo_jax.step(program, setting, state, 0)
        moved = after.params - state.params
        entropies = {n: sdpo_jax.METRICS[n].measure(view) for n in ("entropy", "credit", "drift")}
        return moved, view.tokens, entropies, after.memory[1]

    return [jax.jit(of, static_argnums=0, compiler_options=QUICKLY)(each)
            for each in ("factored", "bigram")]  # fmt: skip


def test_a_bigram_policy_of_equal_rows_moves_as_the_factored_one(both):
    (factored, tokens, known, _), (bigram, same_tokens, same_known, _) = both
    np.testing.assert_array_equal(tokens, same_tokens)
    # A factored position's gradient is that of all the rows in its place.
    np.testing.assert_allclose(bigram.sum(1), factored, atol=2e-4)
    assert abs(factored).max() > 1e-2
    for name in ("entropy", "drift"):
        np.testing.assert_allclose(known[name], same_known[name], atol=1e-5)


@pytest.mark.parametrize("algorithm", SHARED)
def test_the_gradient_of_a_position_is_the_mean_over_its_contexts(both, algorithm):
    factored, bigram = (gradients[algorithm] for *_, gradients in both)
    np.testing.assert_allclose(bigram.mean(2), factored, atol=2e-5)
    assert abs(factored).max() > 1e-4


@pytest.mark.parametrize("algorithm", ["scar", "scar_sampled", "process_reward"])
def test_what_needs_one_context_says_so(algorithm):
    with pytest.raises(ValueError) as error:
        sdpo_jax.plan_grid({"policy": ["factored", "bigram"]}, algorithm=algorithm, width=16)
    assert str(error.value).startswith(f"algorithm: {algorithm} needs a ")
    assert "one context a position; allowed: policy factored" in str(error.value)


# Networks

HIDDEN = 5


def recurrent_init(key, vocab_size):
    keys = jax.random.split(key, 3)
    scales = ((vocab_size, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, vocab_size))
    names = ("embed", "again", "out")
    return {
        name: 0.5 * jax.random.normal(each, shape)
        for name, each, shape in zip(names, keys, scales, strict=True)
    }


def recurrent_apply(params, tokens, *, gain=1.0):
    def cell(hidden, token):
        after = jnp.tanh(params["embed"][token] + hidden @ params["again"])
        return after, hidden

    _, before = jax.lax.scan(cell, jnp.ones(HIDDEN), tokens)
    return gain * before @ params["out"]


RECURRENT = Network(recurrent_init, recurrent_apply, name="recurrent")


def test_a_networks_gradient_is_that_of_the_loss():
    program = Program("rloo", SIZES, ("reward",), policy=RECURRENT)
    config = Config(learning_rate=1.0, kl_weight=0.0)
    setting, state = sdpo_jax.init(3, program, config)
    after, view = sdpo_jax.step(program, setting, state, 0)
    tokens = view.tokens
    worth = view.reward - view.reward[::-1]

    def loss(params):
        logs = jax.vmap(lambda each: jax.nn.log_softmax(recurrent_apply(params, each)), 1)(tokens)
        chosen = jnp.take_along_axis(logs, tokens.T[..., None], axis=-1)[..., 0]
        return -(worth * chosen.sum(1)).mean()

    expected = jax.grad(loss)(state.params)
    moved = jax.tree.map(lambda old, new: old - new, state.params, after.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), moved, expected)
    assert abs(expected["again"]).max() > 1e-5


def test_ppo_takes_several_steps_on_the_sequences_of_a_batch():
    sizes = Sizes(length=3, vocab_size=3, rollouts=8, steps=4, final_window=1, epochs=3)
    program = Program("ppo", sizes, ("reward",), policy=RECURRENT)
    config, own = Config(learning_rate=20.0, kl_weight=0.0), {"clip": 0.1}
    setting, state = sdpo_jax.init(3, program, config, numbers=own)
    first, view = sdpo_jax.step(program, setting, state, 0)
    second, _ = sdpo_jax.step(program, setting, first, 1)
    tokens, worth = view.tokens, view.reward - view.reward.mean()

    def log_probs(params):
        logs = jax.vmap(lambda each: jax.nn.log_softmax(recurrent_apply(params, each)), 1)(tokens)
        return jnp.take_along_axis(logs, tokens.T[..., None], axis=-1)[..., 0]

    before = log_probs(state.params)

    def loss(params):
        ratio = jnp.exp(log_probs(params) - before)
        clipped = jnp.clip(ratio, 0.9, 1.1)
        return -jnp.minimum(ratio * worth[:, None], clipped * worth[:, None]).sum(1).mean()

    expected = jax.grad(loss)(first.params)
    moved = jax.tree.map(lambda old, new: (old - new) / 20, first.params, second.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), moved, expected)
    ratio = np.exp(np.asarray(log_probs(first.params) - before))
    assert (abs(ratio - 1) > 0.1).any(), "nothing was clipped"


def test_a_network_trains_in_a_grid_and_its_numbers_are_axes():
    sizes = Sizes(length=4, vocab_size=3, rollouts=16, steps=60, final_window=5)
    data = sdpo_jax.run_grid(
        {"policy": ["factored", RECURRENT], "gain": [0.5, 2.0], "seed": range(4)},
        algorithm="rloo",
        sizes=sizes,
        config=Config(learning_rate=1.0, kl_weight=0.0),
        record=["reward"],
    )
    assert data.policy.values.tolist() == ["factored", "recurrent"]
    mine = data.sel(policy="recurrent")
    rise = mine.reward - mine.reward_curve[..., 0]
    assert (rise.mean("seed") > 0.02).all()
    assert (mine.reward.sel(gain=0.5) != mine.reward.sel(gain=2.0)).all()
    factored = data.sel(policy="factored").reward
    np.testing.assert_array_equal(factored.sel(gain=0.5), factored.sel(gain=2.0))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Network(recurrent_init, lambda params, tokens: 3.0), ["apply returns", "(3, 3)"]),
        (
            Network(recurrent_init, lambda params, tokens: jnp.zeros((3, 4))),
            ["logits of shape (3, 4)", "allowed: (3, 3)"],
        ),
        (
            Network(tabular_init, lambda params, tokens: params[jnp.arange(3), tokens]),
            ["not causal", "position 0", "tokens before only"],
        ),
        (
            Network(lambda key, length, vocab_size: jnp.zeros((3, 3, 3), int), tabular_apply),
            ["init returns", "real numbers"],
        ),
        (Network(lambda: 3, tabular_apply), ["init makes no parameters", "typed key"]),
        (Network(tabular_init, None), ["has an apply None", "allowed: a function"]),
        (Network(tabular_init, lambda params, tokens, *, gain=-1.0: params), ["apply"]),
        ("trigram", ["policy: 'trigram'", "factored, bigram, or a Network"]),
        (tabular_apply, ["policy: ", "or a Network"]),
    ],
)  # fmt: skip
def test_what_is_no_policy_is_refused_in_one_line(network, words):
    with pytest.raises(ValueError) as error:
        sdpo_jax.plan_grid({"policy": [network]}, algorithm="rloo", sizes=SIZES, width=16)
    message = str(error.value)
    assert message.startswith("policy: ")
    assert len(message.splitlines()) == 1
    assert all(word in message for word in words), message


def test_every_algorithm_says_what_it_needs_of_a_policy():
    marked = {
        name
        for name in ALGORITHMS
        if sdpo_jax.program.wants(algorithm_of(name), policies.ONE_CONTEXT)
    }
    assert marked == {"scar", "scar_sampled", "process_reward"}


# Other people's networks


def flaxs():
    """A GRU of Flax NNX, as functions of its state."""
    nnx = pytest.importorskip("flax.nnx")

    class Reader(nnx.Module):
        def __init__(self, vocab_size, rngs):
            self.embed = nnx.Embed(vocab_size, HIDDEN, rngs=rngs)
            self.cell = nnx.GRUCell(HIDDEN, HIDDEN, rngs=rngs)
            self.out = nnx.Linear(HIDDEN, vocab_size, rngs=rngs)

        def __call__(self, tokens):
            embedded, hidden = self.embed(tokens), jnp.zeros(HIDDEN)
            before = []
            for token in embedded:
                before.append(hidden)
                hidden, _ = self.cell(hidden, token)
            return self.out(jnp.stack(before))

    graph, _ = nnx.split(Reader(VOCAB_SIZE, nnx.Rngs(0)))

    def init(key, vocab_size):
        return nnx.to_pure_dict(nnx.state(Reader(vocab_size, nnx.Rngs(key))))

    def apply(params, tokens):
        state = nnx.state(Reader(VOCAB_SIZE, nnx.Rngs(0)))
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state)(tokens)

    return Network(init, apply, "Flax GRU")


def equinoxs():
    """A GRU of Equinox, as functions of its arrays."""
    eqx = pytest.importorskip("equinox")

    class Reader(eqx.Module):
        embed: eqx.nn.Embedding
        cell: eqx.nn.GRUCell
        out: eqx.nn.Linear

        def __init__(self, vocab_size, key):
            keys = jax.random.split(key, 3)
            self.embed = eqx.nn.Embedding(vocab_size, HIDDEN, key=keys[0])
            self.cell = eqx.nn.GRUCell(HIDDEN, HIDDEN, key=keys[1])
            self.out = eqx.nn.Linear(HIDDEN, vocab_size, key=keys[2])

        def __call__(self, tokens):
            def step(hidden, token):
                return self.cell(self.embed(token), hidden), hidden

            _, before = jax.lax.scan(step, jnp.zeros(HIDDEN), tokens)
            return jax.vmap(self.out)(before)

    _, static = eqx.partition(Reader(VOCAB_SIZE, jax.random.key(0)), eqx.is_array)

    def init(key, vocab_size):
        return eqx.filter(Reader(vocab_size, key), eqx.is_array)

    def apply(params, tokens):
        return eqx.combine(params, static)(tokens)

    return Network(init, apply, "Equinox GRU")


@pytest.mark.parametrize("make", [flaxs, equinoxs], ids=["flax", "equinox"])
def test_a_network_of_another_library_learns(make):
    sizes = Sizes(length=4, vocab_size=VOCAB_SIZE, rollouts=16, steps=60, final_window=5)
    data = sdpo_jax.run_grid(
        {"seed": range(4)},
        algorithm="rloo",
        policy=make(),
        sizes=sizes,
        config=Config(learning_rate=2.0, kl_weight=0.0),
        record=["reward"],
    )
    assert (data.reward - data.reward_curve[:, 0]).mean() > 0.03
