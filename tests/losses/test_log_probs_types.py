"""Tokens of every integer type that holds them, also of one that does not hold V."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from sdpo_jax import losses


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
@pytest.mark.parametrize("vocab_size", [5, 128, 200, 256, 257, 400, 32768, 65536, 65537])
def test_a_tokens_type_need_not_hold_the_vocabulary(kind, vocab_size):
    last = min(vocab_size - 1, np.iinfo(kind).max)
    logits = np.linspace(-1, 1, vocab_size, dtype=np.float32)
    expected = logits - np.log(np.exp(logits.astype(np.float64)).sum())
    tokens = np.array([0, last // 2, last], kind)
    found = losses.token_log_probs(jnp.tile(jnp.asarray(logits), (3, 1)), tokens)
    np.testing.assert_allclose(found, expected[tokens.astype(int)], rtol=1e-5)


def test_a_negative_token_of_a_small_type_is_outside():
    found = losses.token_log_probs(jnp.zeros((1, 300)), np.array([-1], np.int8))
    assert np.isnan(found).all()
