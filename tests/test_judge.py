"""Judges: what they look at and how they err, against plain Python; free of error, plain ones."""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import sdpo_jax
from sdpo_jax import ORACLES, Config, Judge, Program, Sizes, oracles, policies
from sdpo_jax.engine import streams
from sdpo_jax.oracles import judges
from sdpo_jax.oracles.judges import BIASES, LOOKS, STRENGTHS
from tests.quickly import QUICKLY

LENGTH, VOCAB_SIZE, ROLLOUTS, RUNS = 5, 4, 7, 3
SIZES = Sizes(length=3, vocab_size=4, rollouts=6, steps=5, final_window=2)


@pytest.fixture(scope="module")
def scene():
    """A problem, a policy, rollouts, rewards and noise of three runs."""
    draw = np.random.default_rng(0)
    problem = sdpo_jax.sample_problem(np.arange(RUNS), LENGTH, VOCAB_SIZE)
    tokens = draw.integers(0, VOCAB_SIZE, (LENGTH, ROLLOUTS, RUNS))
    logits = draw.normal(size=(LENGTH, VOCAB_SIZE, RUNS)).astype(np.float32)
    noise = draw.normal(0, 0.6, (ROLLOUTS, RUNS)).astype(np.float32)
    reward = sdpo_jax.reward(problem, tokens)
    return problem, policies.policy(jnp.asarray(logits)), jnp.asarray(tokens), reward, noise


def seen_by(scene, noise=None, **strengths):
    problem, policy, tokens, reward, drawn = scene
    judge = oracles.judged(**strengths).judge
    noise = drawn if noise is None else noise
    return np.asarray(jax.jit(judges.judge)(judge, problem, policy, tokens, reward, noise))


# What a judge looks at, one sequence at a time


def longest_common(sequence, target):
    """By trying every set of positions of the sequence, longest first."""

    def inside(chosen):
        places = iter(target)
        return all(token in places for token in chosen)

    for size in range(len(sequence), 0, -1):
        if any(inside(chosen) for chosen in itertools.combinations(sequence, size)):
            return size
    return 0


def views_of(problem, policy, sequence, run):
    """What each look finds in one sequence."""
    quality, bigram = (np.asarray(a)[..., run] for a in (problem.quality, problem.bigram))
    target, probs = np.asarray(problem.target)[:, run], np.asarray(policy.probs)[..., run]
    own = np.mean([quality[t, v] for t, v in enumerate(sequence)])
    steps = [bigram[a, b] for a, b in itertools.pairwise(sequence)]
    matches = np.mean(np.array(sequence) == target)
    criteria = (own >= 0.1, np.mean(steps) >= -0.1, matches >= 0.4)
    return {
        "overlap": longest_common(list(sequence), list(target)) / len(sequence),
        "style": np.mean([step > 0 for step in steps]),
        "rubric": (3 * criteria[0] + 2 * criteria[1] + criteria[2]) / 6,
        "likelihood": np.exp(np.mean([np.log(probs[t, v]) for t, v in enumerate(sequence)])),
        "halo": 1 / (1 + np.exp(-own)),
    }


RUBRIC = {"bars": (0.1, -0.1, 0.4), "weights": (3.0, 2.0, 1.0)}


@pytest.mark.parametrize("share", [0.4, 1.0])
@pytest.mark.parametrize("look", LOOKS)
def test_a_look_takes_so_much_of_the_rewards_place(scene, look, share):
    problem, policy, tokens, reward, _ = scene
    found = seen_by(scene, np.zeros((ROLLOUTS, RUNS), np.float32), **{look: share}, **RUBRIC)
    expected = np.empty((ROLLOUTS, RUNS))
    for i, run in np.ndindex(ROLLOUTS, RUNS):
        view = views_of(problem, policy, np.asarray(tokens)[:, i, run], run)[look]
        expected[i, run] = (1 - share) * reward[i, run] + share * view
    assert np.ptp(expected) > 0.02
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_several_looks_share(scene):
    problem, policy, tokens, reward, _ = scene
    found = seen_by(scene, np.zeros((ROLLOUTS, RUNS), np.float32), overlap=0.5, style=0.3)
    for i, run in np.ndindex(ROLLOUTS, RUNS):
        views = views_of(problem, policy, np.asarray(tokens)[:, i, run], run)
        expected = 0.5 * views["overlap"] + 0.3 * views["style"] + 0.2 * float(reward[i, run])
        assert found[i, run] == pytest.approx(expected, abs=1e-6)


# How it errs


def plainly(reward, noise, judge):
    """The formulas of the module, for one run and one rollout at a time."""
    seen = []
    for i in range(len(reward)):
        score = reward[i]
        score = score + judge.get("leniency", 0) * (1 - score)
        score = score - judge.get("severity", 0) * score
        score = score + judge.get("central_tendency", 0) * (0.5 - score)
        score = score + noise[i] + judge.get("position", 0) * (0.5 - i / (len(reward) - 1))
        seen.append(min(max(score, 0), 1))
    a = judge.get("anchoring", 0)
    for i in range(1, len(seen)):
        seen[i] = (1 - a) * seen[i] + a * seen[i - 1]
    p, half = judge.get("preference", 0), len(seen) // 2
    verdicts = []
    for i in range(len(seen)):
        other = seen[(i + half) % len(seen)]
        verdicts.append(1.0 if seen[i] > other else 0.0 if seen[i] < other else 0.5)
    return [(1 - p) * s + p * v for s, v in zip(seen, verdicts, strict=True)]


ERRORS = [
    *({name: 0.3} for name in STRENGTHS if name not in (*LOOKS, "heavy_tails")),
    {"preference": 1.0},
    {"leniency": 0.2, "severity": 0.1, "central_tendency": 0.4, "position": 0.5, "anchoring": 0.6},
]


@pytest.mark.parametrize("errors", ERRORS, ids=lambda errors: "+".join(errors))
def test_an_error_is_as_defined(scene, errors):
    _, _, _, reward, noise = scene
    found = seen_by(scene, **errors)
    for run in range(RUNS):
        expected = plainly(np.asarray(reward)[:, run], noise[:, run], errors)
        np.testing.assert_allclose(found[:, run], expected, rtol=1e-5, atol=1e-6)


def test_two_that_are_as_good_draw(scene):
    problem, policy, tokens, _, _ = scene
    level = jnp.full((ROLLOUTS, RUNS), 0.4)
    judge = oracles.judged(preference=1.0).judge
    found = judges.judge(judge, problem, policy, tokens, level, jnp.zeros_like(level))
    np.testing.assert_array_equal(found, 0.5)


def test_heavy_tails_make_normal_noise_students():
    runs = 400
    key = streams.stream(np.arange(runs), streams.Stream.JUDGE)
    factor = judges.tails(oracles.judged(heavy_tails=1.0).judge, key, 3, 10)
    assert factor.shape == (10, runs)
    normal = np.random.default_rng(1).normal(size=factor.shape)
    sample = (normal * factor).ravel()
    assert stats.kstest(sample, stats.t(2).cdf).pvalue > 1e-3
    assert stats.kstest(sample, stats.norm.cdf).pvalue < 1e-6
    none = judges.tails(oracles.judged(heavy_tails=0.0).judge, key, 3, 10)
    np.testing.assert_array_equal(none, 1.0)


# Strength 0


def test_a_judge_without_any_error_sees_what_the_plain_oracle_sees_to_the_bit(scene):
    _, _, _, reward, noise = scene
    plain = oracles.noisy_reward(reward, noise)
    np.testing.assert_array_equal(seen_by(scene), plain)
    assert ((plain == 0) | (plain == 1)).any()


@pytest.mark.parametrize(
    "strengths",
    [
        *({name: 1.0} for name in LOOKS if name != "reward"),
        {"overlap": 0.75, "style": 0.25},
        {"leniency": 1.0},
        {"severity": 1.0},
        {"central_tendency": 1.0},
    ],
    ids=lambda strengths: " ".join(strengths),
)
def test_where_the_reward_has_no_weight_nothing_of_it_is_left(scene, strengths):
    # Not even a rounding error, by which equal scores could be told apart.
    problem, policy, tokens, reward, noise = scene
    silent = np.zeros_like(noise)
    first, *others = (
        seen_by((problem, policy, tokens, each, silent), **strengths)
        for each in (reward, *np.random.default_rng(1).uniform(0, 1, (20, *noise.shape)))
    )
    for other in others:
        np.testing.assert_array_equal(first, other)


# Heavy tails multiply the noise before a judge sees it.
@pytest.mark.parametrize("name", sorted({*BIASES, *LOOKS, "preference"} - {"heavy_tails"}))
def test_each_strength_changes_what_is_seen(scene, name):
    changed = seen_by(scene, **{name: 0.4})
    assert abs(changed - seen_by(scene)).max() > 0.01


@pytest.mark.as_shipped
@pytest.mark.parametrize(
    ("algorithm", "oracle"),
    [("sdpo", "binary"), ("sdpo", "ordinal"), ("sdpo", "continuous"), ("dpo", "ordinal")],
)
def test_training_under_a_judge_without_any_error_is_training_under_the_plain_oracle(
    algorithm, oracle
):
    plain = ORACLES[oracle]()
    data = sdpo_jax.run_grid(
        {
            "algorithm": [algorithm],
            "oracle": {"plain": plain, "judged": sdpo_jax.judged(plain)},
            "seed": range(4),
        },
        config=Config(learning_rate=1.0, noise=0.3, learn_from_feedback=1.0),
        sizes=SIZES,
        logits=True,
        block_width=4,
    )
    first, second = (data.logits.sel(oracle=name).values for name in ("plain", "judged"))
    np.testing.assert_array_equal(first, second)


# From end to end; every algorithm's gradient under every judge is in ``test_every_algorithm``.


@partial(jax.jit, static_argnames="program", compiler_options=QUICKLY)
def train(program, config, given):
    return sdpo_jax.train(np.arange(2), program, config, given)


@pytest.mark.parametrize("algorithm", ["sdpo", "ppo", "dpo", "rlhf", "scar"])
def test_an_algorithm_learns_under_a_judge(algorithm):
    everything = dict.fromkeys((*BIASES, "overlap", "style", "rubric", "likelihood"), 0.15)
    program = Program(algorithm, SIZES, metrics=("mean_feedback", "drift"))
    config = Config(learning_rate=1.0, noise=0.2, learn_from_feedback=1.0)
    result = train(program, config, sdpo_jax.judged(**everything))
    assert np.isfinite(result.logits).all()
    assert (result.final["drift"] > 0).all()
    assert ((result.mean["mean_feedback"] > 0) & (result.mean["mean_feedback"] < 1)).all()


# Refusals


@pytest.mark.parametrize(
    ("strengths", "words"),
    [
        ({"leniency": 1.1}, ["judge.leniency", "1.1", "0 to 1"]),
        ({"position": -0.1}, ["judge.position", "-0.1", "0 to 1"]),
        ({"anchoring": np.nan}, ["judge.anchoring", "nan"]),
        ({"overlap": 0.7, "halo": 0.7}, ["1.4", "1 in all"]),
        ({"lenience": 0.1}, ["'lenience'", "leniency"]),
        ({"bars": (0.1, 0.2)}, ["(2,)", "three criteria"]),
        ({"weights": (0.0, 0.0, 0.0)}, ["not all 0"]),
        ({"weights": (1.0, -1.0, 1.0)}, ["-1.0", "0 or more"]),
    ],
)
def test_a_refused_judge_is_told_in_one_line(strengths, words):
    with pytest.raises(ValueError) as error:
        oracles.judged(**strengths)
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_a_judge_made_by_hand_is_checked_where_it_is_used():
    mine = Judge(leniency=np.float32(2.0))
    with pytest.raises(ValueError, match=r"judge\.leniency 2.0; allowed: 0 to 1"):
        oracles.check_oracle(oracles.Oracle(None, 0.0, np.zeros(0), np.zeros(0), judge=mine))


def test_traced_strengths_are_not_checked():
    @jax.jit
    def checked(value):
        judges.check_judge(Judge(leniency=value))
        return value

    assert checked(7.0) == 7.0
