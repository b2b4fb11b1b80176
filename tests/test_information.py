"""What algorithms are told follows from their parameters."""

from __future__ import annotations

import pytest

import sdpo_jax
from sdpo_jax import ALGORITHMS
from sdpo_jax.information import Information, information, most

ONLY_SIGNAL = [
    *("reinforce", "rloo", "grpo", "dr_grpo", "ppo", "dpo", "dpo_best_worst", "rlhf"),
    *("process_reward_learned", "sdft"),
]


@pytest.mark.parametrize("algorithm", ONLY_SIGNAL)
def test_algorithms_of_a_signal_know_the_feedback_or_the_reward(algorithm):
    assert information(ALGORITHMS[algorithm], learn_from_feedback=1.0) == (Information.FEEDBACK,)
    assert information(ALGORITHMS[algorithm], learn_from_feedback=0.0) == (Information.REWARD,)
    assert information(ALGORITHMS[algorithm], learn_from_feedback=0.5) == (
        Information.FEEDBACK,
        Information.REWARD,
    )


@pytest.mark.parametrize("algorithm", ["scar", "scar_sampled", "process_reward", "dense_reward"])
def test_exact_dense_credit_asks_for_the_reward_of_any_sequence(algorithm):
    assert most(ALGORITHMS[algorithm]) == "reward of any sequence"


@pytest.mark.parametrize(
    "algorithm",
    [name for name in ALGORITHMS if name.startswith("sdpo")] + ["hybrid", "advantage_weighted"],
)
def test_every_teacher_has_a_table(algorithm):
    assert most(ALGORITHMS[algorithm]) == "knowledge table"
    hints = information(ALGORITHMS[algorithm], sdpo_jax.critique())
    assert (Information.HINTS in hints) == (algorithm != "advantage_weighted")


def test_the_rest():
    assert information(ALGORITHMS["opsd"]) == (Information.SOLUTION,)
    assert information(ALGORITHMS["distillation"]) == (Information.KNOWLEDGE,)
    assert information(ALGORITHMS["hybrid"], learn_from_feedback=0.0) == (
        Information.FEEDBACK,
        Information.REWARD,
        Information.KNOWLEDGE,
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_is_told_something(algorithm):
    assert information(ALGORITHMS[algorithm])
