"""Problems and oracles that are functions, and training that goes on."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdpo_jax
from sdpo_jax import Config, Function, Metric, Program, Sizes, problem_of, run_grid, train

SIZES = Sizes(length=3, vocab_size=3, rollouts=5, steps=8, final_window=2, teachers=2)
SEQUENCES = np.array(list(itertools.product(range(3), repeat=3)))
RUNS = np.arange(4)


def sample(key, length, vocab_size):
    quality, bigram, target = jax.random.split(key, 3)
    return {
        "quality": jax.random.normal(quality, (length, vocab_size)),
        "bigram": 0.3 * jax.random.normal(bigram, (vocab_size, vocab_size)),
        "target": jax.random.randint(target, (length,), 0, vocab_size),
    }


def reward(tokens, data, *, weight=0.3):
    length = len(tokens)
    score = data["quality"][jnp.arange(length), tokens].sum()
    score += data["bigram"][tokens[:-1], tokens[1:]].sum()
    return jax.nn.sigmoid((score + weight * (tokens == data["target"]).sum()) / length)


def quality(data):
    return data["quality"]


MINE = Function(reward, sample, quality, "equation one again")


def equations(problem):
    """The same problems as records of the library's own."""
    data = problem.data
    weight = jnp.full(RUNS.shape, 0.3)
    return sdpo_jax.Problem(data["quality"], data["bigram"], data["target"], weight)


@pytest.mark.parametrize("algorithm", ["sdpo", "rloo", "scar", "process_reward", "sdpo_jsd_ema"])
def test_equation_one_written_as_a_function_trains_as_it_does(algorithm):
    metrics = ("reward", "credit", "expected_reward", "exact_credit", "optimality")
    config = Config(learning_rate=2.0)
    ours = Program(algorithm, SIZES, metrics)
    own = Program(algorithm, SIZES, metrics, problem=MINE)
    drawn = problem_of(RUNS, own)
    found = jax.jit(lambda: train(RUNS, own, config))()
    expected = jax.jit(lambda: train(RUNS, ours, config, problem=equations(drawn)))()
    np.testing.assert_allclose(found.params, expected.params, atol=3e-5)
    for name in metrics:
        np.testing.assert_allclose(found.final[name], expected.final[name], atol=3e-4)


def test_what_is_exact_is_a_sum_over_sequences():
    drawn = problem_of(RUNS, Program(problem=MINE, sizes=SIZES))
    draw = np.random.default_rng(0)
    probs = np.float32(draw.dirichlet(np.ones(3), (3, 4)).transpose(0, 2, 1))
    rewards = np.array([
        [float(reward(jnp.asarray(s), jax.tree.map(lambda leaf, r=run: leaf[..., r], drawn.data)))
         for run in RUNS]
        for s in SEQUENCES
    ])  # fmt: skip
    chance = np.prod([probs[t][SEQUENCES[:, t]] for t in range(3)], axis=0)
    mean = (chance * rewards).sum(0)
    np.testing.assert_allclose(sdpo_jax.expected_reward(drawn, probs), mean, rtol=1e-5)
    advantage = np.asarray(sdpo_jax.token_advantage(drawn, probs))
    for t, v in itertools.product(range(3), range(3)):
        given = SEQUENCES[:, t] == v
        expected = (chance * rewards)[given].sum(0) / chance[given].sum(0) - mean
        np.testing.assert_allclose(advantage[t, v], expected, atol=1e-5)
    best, value = sdpo_jax.best_sequence(drawn)
    np.testing.assert_array_equal(np.asarray(best).T, SEQUENCES[rewards.argmax(0)])
    np.testing.assert_allclose(value, rewards.max(0), rtol=1e-6)
    found = sdpo_jax.optimality(drawn, mean)
    np.testing.assert_allclose(
        found, (mean - rewards.mean(0)) / (rewards.max(0) - rewards.mean(0)), rtol=1e-3
    )


def palindrome(tokens, data=None):
    return (tokens == tokens[::-1]).mean()


def test_a_function_is_a_problem_and_an_axis():
    data = run_grid(
        {"problem": ["bigram", palindrome, MINE], "weight": [0.0, 3.0], "seed": range(4)},
        algorithm="rloo",
        sizes=SIZES,
    )
    assert data.problem.values.tolist() == ["bigram", "palindrome", "equation one again"]
    # What is measured by default is what all of them know.
    assert "credit" not in data
    weights = data.reward.sel(weight=0.0) == data.reward.sel(weight=3.0)
    assert weights.sel(problem=["bigram", "palindrome"]).all()
    assert not weights.sel(problem="equation one again").any()
    alone = run_grid({"seed": range(4)}, algorithm="rloo", sizes=SIZES, problem=palindrome)
    np.testing.assert_array_equal(alone.reward, data.reward.sel(problem="palindrome", weight=0.0))


NO_QUALITY = "quality, which problem palindrome does not know"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"algorithm": "sdpo"}, ["algorithm: sdpo asks for 'teacher'", NO_QUALITY]),
        ({"algorithm": "advantage_weighted"}, ["asks for 'knowledge'", NO_QUALITY]),
        ({"metrics": ["credit"]}, ["metrics: credit needs", NO_QUALITY]),
        ({"metrics": ["divergence"]}, ["metrics: divergence needs", NO_QUALITY]),
        ({"algorithm": "dense_reward"}, ["needs the parts of Eq. 1", "not palindrome"]),
        ({"oracle": "references"}, ["oracle: its judge looks at overlap", "palindrome"]),
        ({"problem": lambda tokens: tokens}, ["problem: <lambda>", "shape (3,)", "one number"]),
        ({"problem": lambda: 0.0}, ["problem: <lambda> fails on one sequence"]),
        ({"problem": lambda tokens: "good"}, ["problem: <lambda>", "one number"]),
        ({"problem": "palindrome"}, ["problem: 'palindrome'", "bigram"]),
        ({"problem": Function(palindrome, quality=lambda data: jnp.ones(3))}, ["shape (3,)"]),
        ({"problem": Function(palindrome, sample=3)}, ["has a sample 3; allowed: a function"]),
        (
            {"algorithm": "opsd", "sizes": Sizes(length=30, vocab_size=8)},
            ["length: 30", "8 ** length sequences"],
        ),
    ],
)
def test_what_a_problem_does_not_know_is_refused_when_it_is_planned(options, words):
    given = {"algorithm": "rloo", "problem": palindrome, "sizes": SIZES, **options}
    with pytest.raises(ValueError) as error:
        run_grid({"seed": range(2)}, **given)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert all(word in message for word in words), message


# Oracles


def hasty(reward, key, *, attention=0.5):
    seen = jax.random.uniform(key, reward.shape) < attention
    return jnp.where(seen, reward, 0.25)


def test_a_function_is_an_oracle_of_one_run():
    program = Program("sdpo", SIZES, ("mean_feedback",))
    setting, state = sdpo_jax.init(RUNS, program, oracle=hasty, numbers={"attention": 0.6})
    _, view = sdpo_jax.step(program, setting, state, 2)
    _, later = sdpo_jax.step(program, setting, state, 3)
    heard = np.asarray(view.feedback)
    seen = heard == np.asarray(view.reward)
    assert (seen | (heard == 0.25)).all()
    assert 0 < seen.mean() < 1
    assert (seen != (np.asarray(later.feedback) == np.asarray(later.reward))).any()
    # Runs draw apart, and the same whatever they are beside.
    setting, state = sdpo_jax.init(2, program, oracle=hasty, numbers={"attention": 0.6})
    _, alone = sdpo_jax.step(program, setting, state, 2)
    np.testing.assert_array_equal(alone.feedback, heard[:, 2])


def test_an_oracle_that_repeats_the_reward_is_the_continuous_one():
    data = run_grid(
        {"oracle": {"mine": lambda seen: seen, "theirs": "continuous"}, "seed": range(3)},
        algorithm="sdpo", sizes=SIZES, config=Config(noise=0.3, learning_rate=1.0),
        metrics=["reward", "mean_feedback"], teacher_nodes=0,
    )  # fmt: skip
    for name in ("reward", "mean_feedback"):
        mine, theirs = data[name].sel(oracle="mine"), data[name].sel(oracle="theirs")
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("oracle", "words"),
    [
        (lambda reward: reward[0], ["oracle: <lambda> returns feedback of shape ()", "(5,)"]),
        (lambda reward: "good", ["oracle: <lambda> returns feedback"]),
        (
            lambda gossip: gossip,
            ["asks for 'gossip'", "reward, seen, tokens, key"],
        ),
        (lambda *all: 0, ["asks for 'all'"]),
        (dict, ["oracle: "]),
    ],
)
def test_what_is_no_oracle_is_refused(oracle, words):
    with pytest.raises(ValueError) as error:
        run_grid({"seed": range(2)}, algorithm="rloo", oracle=oracle, sizes=SIZES)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert all(word in message for word in words), message


# Going on


@pytest.mark.parametrize(
    "algorithm", ["ppo", "sdpo_annealed", pytest.param("sdpo_jsd_ema", marks=pytest.mark.slow)]
)
def test_a_run_in_two_parts_is_the_run(algorithm):
    sizes = Sizes(length=3, vocab_size=3, rollouts=5, steps=10, final_window=3, epochs=2)
    program = Program(
        algorithm, sizes, ("reward", "optimality"), record=("reward", "optimality"), record_every=2
    )
    config = Config(learning_rate=1.0)

    def part(state, start, stop):
        return jax.jit(
            lambda state: train(RUNS, program, config, state=state, start=start, stop=stop)
        )(state)

    whole = part(None, 0, 10)
    first = part(None, 0, 5)
    second = part(first.state, 5, 10)
    np.testing.assert_allclose(second.params, whole.params, atol=1e-6)
    for name in ("reward", "optimality"):
        np.testing.assert_allclose(second.final[name], whole.final[name], atol=1e-6)
        curve = np.concatenate((first.curves[name], second.curves[name]))
        np.testing.assert_allclose(curve, whole.curves[name], atol=1e-6)
    np.testing.assert_array_equal(first.finite_steps + second.finite_steps, 10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start": 8}, ["start: 8"]),
        ({"stop": 0}, ["stop: 0"]),
        ({"stop": 9}, ["stop: 9"]),
        ({"start": 1.5}, ["start: 1.5"]),
        ({"state": 3}, ["state: 3", "State"]),
        ({"params": np.zeros((3, 4))}, ["params: given", "float32[3,3]"]),
        ({"params": "logits"}, ["params: 'logits'"]),
    ],
)
def test_where_training_can_not_go_on_from(options, words):
    with pytest.raises(ValueError) as error:
        train(3, Program("rloo", SIZES), **options)
    assert all(word in str(error.value) for word in words), error.value


def test_metrics_may_read_what_an_algorithm_says_of_its_step():
    def says(*, policy, signal):
        return sdpo_jax.Update(0 * policy.probs, {"best": signal.max(0)})

    best = Metric(lambda view: view.update.info["best"], "best reward")
    data = run_grid({"seed": range(2)}, algorithm=says, metrics=[("best", best)], sizes=SIZES)
    assert (data.best > 0).all()


@pytest.mark.parametrize("kind", ["bigram", Function(lambda tokens: (tokens * 7 % 40).mean() / 40)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int64])
def test_tokens_of_any_integer_type_are_worth_the_same(kind, dtype):
    sizes = Sizes(length=4, vocab_size=40)
    problem = problem_of(np.arange(3), Program(problem=kind, sizes=sizes))
    tokens = np.random.default_rng(0).integers(0, 40, (4, 6, 3))
    expected = sdpo_jax.reward(problem, tokens.astype(np.int32))
    np.testing.assert_array_equal(sdpo_jax.reward(problem, tokens.astype(dtype)), expected)
    with pytest.raises(ValueError, match=r"tokens: 40; allowed: integers from 0 to 39"):
        sdpo_jax.reward(problem, np.full((4, 6, 3), 40, dtype))
    with pytest.raises(ValueError, match=r"tokens: shape \(4, 6\)"):
        sdpo_jax.reward(problem, tokens[..., 0].astype(dtype))
