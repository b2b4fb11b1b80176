"""Our losses against TRL's, as ``record.py`` wrote them down: values and gradients."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdpo_jax import losses
from tests.losses import record
from tests.losses.record import BATCH, LENGTH, LENGTHS, MIXES
from tests.quickly import QUICKLY

GIVEN = record.inputs()
FOUND = np.load(record.FILE)
TEACHER, TOKENS, MASK = (jnp.asarray(GIVEN[name]) for name in ("teacher", "tokens", "mask"))
OLD, REFERENCE = (losses.token_log_probs(GIVEN[name], TOKENS) for name in ("old", "reference"))
WEIGHTS = np.linspace(0.5, 1.5, BATCH * LENGTH, dtype=np.float32).reshape(BATCH, LENGTH)
# Chunks that do not divide the length, for good measure.
CHUNK = 2


def log_probs(student, where=None):
    return losses.token_log_probs(student, TOKENS, where=where)


def full(student, mix, **options):
    return losses.distillation(student, TEACHER, divergence="jsd", mix=mix, **options)


def sampled(student, clip=None, where=None):
    old = {} if clip is None else {"old_log_probs": OLD, "clip": clip}
    target = losses.token_log_probs(TEACHER, TOKENS)
    return losses.sampled_token(log_probs(student), target, where=where, **old)


def top_k(student, mix, count, tail, support="student"):
    return full(student, mix, top_k=count, tail=tail, support=support)


def per_token():
    cases = {"log_probs": log_probs, "entropy": losses.entropy, "sampled": sampled}
    cases["in chunks: full/0.3"] = lambda s: full(s, 0.3, chunk=CHUNK)
    for clip in record.CLIPS:
        cases[f"sampled/{clip}"] = lambda s, clip=clip: sampled(s, clip)
    for mix in MIXES:
        cases[f"full/{mix}"] = lambda s, a=mix: full(s, a)
        for temperature in record.TEMPERATURES:
            cases[f"gkd/{mix}/{temperature}"] = lambda s, a=mix, t=temperature: full(
                s, a, temperature=t
            )
        for tail in (True, False):
            for count in record.TOP_K:
                cases[f"top_k/{mix}/{count}/{tail}"] = lambda s, a=mix, k=count, tail=tail: top_k(
                    s, a, k, tail
                )
            cases[f"teachers_top_k/{mix}/4/{tail}"] = lambda s, a=mix, tail=tail: top_k(
                s, a, 4, tail, "teacher"
            )
    for count in record.TOP_K:
        for tail in (True, False):
            cases[f"union/0.3/{count}/{tail}"] = lambda s, k=count, tail=tail: top_k(
                s, 0.3, k, tail, "union"
            )
    for name, mix in (("forward_kl", 0.0), ("reverse_kl", 1.0)):
        cases[f"{name}: full/{mix}"] = lambda s, name=name: losses.distillation(
            s, TEACHER, divergence=name
        )
    return cases


def self_distillation(values):
    # They correct every mode for rollouts of an earlier policy, and count empty sequences.
    def loss(student):
        weights = losses.importance_weights(log_probs(student), OLD, clip=2.0, where=MASK)
        return losses.sequence_mean(weights * values(student), MASK, count=BATCH)

    return loss


REDUCTIONS = {
    "grpo": lambda values: losses.sequence_mean(values, MASK, count=BATCH),
    "bnpo": lambda values: losses.token_mean(values, MASK),
    "dr_grpo": lambda values: losses.fixed_length(values, MASK, length=record.LONGEST, count=BATCH),
    "dapo": lambda values: losses.token_mean(values, MASK, count=sum(LENGTHS)),
}


def clipped(student, low=0.2, high=0.2, **options):
    advantages = GIVEN["advantages"]
    return losses.clipped_ratio(
        log_probs(student), OLD, advantages, clip=low, clip_high=high, where=MASK, **options
    )


def with_kl(student):
    penalty = losses.kl_penalty(log_probs(student), REFERENCE, where=MASK)
    return REDUCTIONS["grpo"](clipped(student) + record.KL_WEIGHT * penalty)


def with_entropy(student):
    bonus = losses.entropy(student, where=MASK)
    return REDUCTIONS["dapo"](clipped(student) - record.ENTROPY_WEIGHT * bonus)


def dpo(student, strength):
    now, before = (each.sum(-1) for each in (log_probs(student, MASK), MASK * REFERENCE))
    half = BATCH // 2
    pairs = losses.dpo(
        now[:half],
        now[half:],
        reference_chosen=before[:half],
        reference_rejected=before[half:],
        strength=strength,
    )
    return pairs.mean()


def whole():
    modes = {
        "full_logits": lambda s: full(s, 0.5, where=MASK),
        "topk_logits": lambda s: full(s, 0.5, top_k=4, where=MASK),
        "sampled_token": lambda s: sampled(s, where=MASK),
    }
    cases = {f"sdpo/{mode}": self_distillation(values) for mode, values in modes.items()}
    for kind in record.REDUCTIONS:
        for low, high in record.BANDS:
            cases[f"grpo/{kind}/{low}/{high}"] = lambda s, kind=kind, low=low, high=high: (
                REDUCTIONS[kind](clipped(s, low, high))
            )
        for level in ("sequence", "sequence_token"):
            cases[f"{level}: grpo/{kind}/sequence"] = lambda s, kind=kind, level=level: REDUCTIONS[
                kind
            ](clipped(s, *record.SEQUENCE_BAND, level=level))
    for dual in record.DUAL_CLIPS:
        cases[f"grpo/dual/{dual}"] = lambda s, dual=dual: REDUCTIONS["dapo"](
            clipped(s, 0.2, 0.28, dual_clip=dual)
        )
    cases |= {"grpo/kl": with_kl, "grpo/entropy": with_entropy}
    for strength in record.STRENGTHS:
        cases[f"dpo/{strength}"] = lambda s, strength=strength: dpo(s, strength)
    return cases


CASES = {
    **{name: (values, True) for name, values in per_token().items()},
    **{name: (loss, False) for name, loss in whole().items()},
}


def recorded_name(case):
    return case.rpartition(": ")[2]


@pytest.fixture(scope="module")
def ours():
    """Every case's value and gradient, from one program."""

    def all_of_them(student):
        found = {}
        for case, (function, is_per_token) in CASES.items():
            value, pull = jax.vjp(function, student)
            (gradient,) = pull(jnp.asarray(WEIGHTS) if is_per_token else jnp.ones_like(value))
            found[case] = {"value": value, "gradient": gradient}
        return found

    return jax.jit(all_of_them, compiler_options=QUICKLY)(jnp.asarray(GIVEN["student"]))


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_theirs(ours, case):
    for kind, found in ours[case].items():
        expected = FOUND[f"{recorded_name(case)}/{kind}"]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_every_recorded_case_is_compared():
    names = {name.rpartition("/")[0] for name in FOUND.files} - {""}
    assert {recorded_name(case) for case in CASES} == names
    assert FOUND["versions"][0].startswith("trl ")


@pytest.mark.filterwarnings("ignore")
def test_the_record_is_what_the_script_writes():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("trl", reason="not installed; pip install -e '.[trl]'")
    again = record.record()
    assert set(again) == set(FOUND.files)
    for name in set(again) - {"versions"}:
        np.testing.assert_allclose(again[name], FOUND[name], rtol=1e-5, atol=1e-6, err_msg=name)
