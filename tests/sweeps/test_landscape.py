"""The ends of the scale that rewards are read on."""

from __future__ import annotations

import numpy as np
import pytest

from sdpo_jax import Sizes, problems
from sweeps.study import landscape


@pytest.mark.parametrize("length, vocab_size", [(1, 3), (3, 4)])
def test_the_range_is_that_of_all_sequences(length, vocab_size):
    sizes = Sizes(length=length, vocab_size=vocab_size)
    seeds = [5, 7, 2**31]
    uniform, best = landscape.reward_range(seeds, sizes)
    rewards = problems.all_rewards(landscape.sample(np.asarray(seeds, np.uint32), sizes))
    np.testing.assert_allclose(uniform, rewards.mean(0), rtol=2e-6)
    np.testing.assert_allclose(best, rewards.max(0), rtol=2e-6)


def test_the_range_of_large_problems_is_that_of_small_ones(monkeypatch):
    sizes = Sizes(length=3, vocab_size=4)
    uniform, best = landscape.reward_range(range(4), sizes)
    monkeypatch.setattr(problems, "MAX_SEQUENCES", 1)
    sampled, same = landscape.reward_range(range(4), sizes)
    np.testing.assert_array_equal(best, same)
    # The standard error of 4096 rewards of spread 0.13 is 0.002.
    np.testing.assert_allclose(sampled, uniform, atol=0.008)
