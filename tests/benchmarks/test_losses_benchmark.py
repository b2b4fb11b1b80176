"""The contenders of the losses' benchmark compute the same, and its page says what was measured."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from benchmarks import contender
from benchmarks import losses as benchmark
from benchmarks.__main__ import main
from tests.quickly import QUICKLY

SIZES = (2, 3, 128)


def test_the_contenders_compute_the_same():
    def all_of_them(*given):
        return {
            loss: [
                jax.value_and_grad(lambda *given, f=values: f(*given).mean())(*given)
                for values in (contender.obvious(loss), contender.ours(loss, 2))
            ]
            # Every run of the benchmark compares them all.
            for loss in ("reverse_kl", "top_k", "entropy")
        }

    program = jax.jit(all_of_them, compiler_options=QUICKLY)
    for loss, (one, other) in program(*contender.logits(*SIZES)).items():
        for obvious, ours in zip(one, other, strict=True):
            np.testing.assert_allclose(ours, obvious, rtol=1e-3, atol=1e-5, err_msg=loss)


def test_its_page_holds_what_was_measured():
    def measured(beyond, seconds):
        spread = {"median": seconds, "least": seconds, "largest": seconds}
        return {"beyond": beyond, "seconds": spread}

    unit = 4 * 2 * 3 * 128
    found = {
        "obvious": measured(4 * unit, 2.0),
        "chunks": measured(unit, 1.0),
        "trl": {"missing": "No module named 'trl'"},
    }
    page = benchmark._page(SIZES, 2, {"jsd": found})
    # Of one line 4 arrays, in chunks the gradient alone; 2 are given.
    assert (
        "| jsd | sdpo_jax.losses, in chunks | 0 | 0 | 25% | 50% | 1.00 (1.00-1.00) | 0.50 |" in page
    )
    assert "| jsd | 25% | 25% | 50% | 50% |" in page
    assert "| jsd | TRL (PyTorch) | No module named 'trl' |" in page


@pytest.mark.parametrize(
    "arguments", [["--only", "kl"], ["--chunk", "0"], ["--sizes", "4", "0", "8"]]
)
def test_bad_input_is_said_in_one_line(arguments, capsys):
    assert main(["losses", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "allowed" in error
