"""Each peer does the same work as the engine, and the check would notice if one did not."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import compare
from benchmarks.peers import PEERS
from benchmarks.peers.common import CONSTANTS
from sdpo_jax import Config, Sizes

CASES = [("sdpo", "binary"), ("reinforce", "continuous")]


@pytest.fixture(scope="module")
def ours():
    return {case: compare.prepare_ours(*case, 256)(0) for case in CASES}


def test_the_peers_have_the_engines_constants():
    for name in ("length", "vocab_size", "rollouts", "steps", "final_window"):
        assert getattr(CONSTANTS, name) == getattr(Sizes(), name), name
    config = Config()
    for name in vars(CONSTANTS).keys() & vars(config).keys():
        assert getattr(CONSTANTS, name) == getattr(config, name), name


# PyTorch imports what it deprecates.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("case", CASES)
def test_a_peer_has_our_statistics(ours, name: str, case: tuple[str, str]):
    if not PEERS[name].available:
        pytest.skip(f"{PEERS[name].extra} is not installed")
    runs = 24 if name in ("numpy_loop", "jax_vmapped") else 96
    theirs = PEERS[name].prepare(*case, runs)(1000)
    assert {metric: values.shape for metric, values in theirs.items()} == dict.fromkeys(
        compare.METRICS, (runs,)
    )
    compare.check_agreement(name, ours[case], theirs)


def test_other_work_is_refused(ours):
    first, other = ours["sdpo", "binary"], ours["reinforce", "continuous"]
    with pytest.raises(ValueError, match=r"mine: .* standard errors from ours; allowed: 4"):
        compare.check_agreement("mine", first, other)


def test_standard_errors_of_two_samples():
    # Means 1 apart, variances 4 / 3 of 4 values each: the error is sqrt(2 / 3).
    sample = np.array([-1.0, -1.0, 1.0, 1.0])
    assert compare.standard_errors(sample, sample + 1) == pytest.approx(1.5**0.5)


def test_a_peer_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="oracle: 'critique'; allowed: continuous, binary"):
        PEERS["numpy_loop"].prepare("sdpo", "critique", 1)


def test_runs_fill_the_wanted_time(monkeypatch):
    clock = iter([0.0, 0.25])
    monkeypatch.setattr(compare.time, "perf_counter", lambda: next(clock))
    prepared = []

    def prepare(runs):
        prepared.append(runs)
        return lambda first: {}

    # 100 runs in a quarter of a second: 800 in 2 seconds, to the next power of two 1024 or 512.
    _, runs, _ = compare._sized(prepare, 100, 2.0)
    assert prepared == [100, runs] == [100, 1024]
