"""What methods are told follows from their parameters."""

from __future__ import annotations

import pytest

import sdpo_jax
from sdpo_jax import METHODS
from sdpo_jax.information import Information, information, most

ONLY_SIGNAL = [
    *("reinforce", "rloo", "grpo", "dr_grpo", "ppo", "dpo", "dpo_best_worst", "rlhf"),
    *("process_reward_learned", "sdft"),
]


@pytest.mark.parametrize("method", ONLY_SIGNAL)
def test_methods_of_a_signal_know_the_feedback_or_the_reward(method):
    assert information(METHODS[method], learn_from_feedback=1.0) == (Information.FEEDBACK,)
    assert information(METHODS[method], learn_from_feedback=0.0) == (Information.REWARD,)
    assert information(METHODS[method], learn_from_feedback=0.5) == (
        Information.FEEDBACK,
        Information.REWARD,
    )


@pytest.mark.parametrize("method", ["scar", "scar_sampled", "process_reward", "dense_reward"])
def test_exact_dense_credit_asks_for_the_reward_of_any_sequence(method):
    assert most(METHODS[method]) == "reward of any sequence"


@pytest.mark.parametrize(
    "method",
    [name for name in METHODS if name.startswith("sdpo")] + ["hybrid", "advantage_weighted"],
)
def test_every_teacher_has_a_table(method):
    assert most(METHODS[method]) == "knowledge table"
    hints = information(METHODS[method], sdpo_jax.critique())
    assert (Information.HINTS in hints) == (method != "advantage_weighted")


def test_the_rest():
    assert information(METHODS["opsd"]) == (Information.SOLUTION,)
    assert information(METHODS["distillation"]) == (Information.KNOWLEDGE,)
    assert information(METHODS["hybrid"], learn_from_feedback=0.0) == (
        Information.FEEDBACK,
        Information.REWARD,
        Information.KNOWLEDGE,
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_told_something(method):
    assert information(METHODS[method])
