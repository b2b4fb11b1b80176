"""A batch over two devices against the whole on one; prints the largest errors as JSON.

Run by a test with ``JAX_NUM_CPU_DEVICES=2``.
"""

from __future__ import annotations

import json

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sdpo_jax import losses

BATCH, LENGTH, VOCAB_SIZE, WIDTH = 4, 6, 11, 3


def main() -> None:
    """Compare, and print."""
    assert len(jax.devices()) == 2
    draw = np.random.RandomState(0)
    weights = draw.normal(size=(WIDTH, VOCAB_SIZE)).astype(np.float32)
    batch = {
        "states": draw.normal(size=(BATCH, LENGTH, WIDTH)).astype(np.float32),
        "teacher": draw.normal(size=(BATCH, LENGTH, VOCAB_SIZE)).astype(np.float32),
        "tokens": draw.randint(0, VOCAB_SIZE, (BATCH, LENGTH)),
        "advantages": draw.normal(size=BATCH).astype(np.float32),
        # Devices have unequally many tokens, and one of the sequences none.
        "mask": np.arange(LENGTH) < np.array([[6], [5], [1], [0]]),
    }

    def loss(given, part, tokens, sequences):
        weights, temperature = given
        logits = part["states"] @ weights
        where = part["mask"]
        teach = losses.distillation(
            logits, part["teacher"], divergence="jsd", temperature=temperature, where=where, chunk=4
        )
        now = losses.token_log_probs(logits, part["tokens"], where=where)
        policy = losses.clipped_ratio(now, now - 0.1, part["advantages"], where=where)
        return losses.token_mean(teach, where, count=tokens) + losses.sequence_mean(
            policy, where, count=sequences
        )

    gradient = jax.value_and_grad(loss)
    given = weights, np.float32(1.5)
    expected = jax.jit(gradient)(given, batch, None, None)

    mesh = Mesh(np.array(jax.devices()), ("batch",))
    rows = PartitionSpec("batch")
    placed = jax.device_put(batch, NamedSharding(mesh, rows))
    with_jit = jax.jit(gradient)(given, placed, None, None)

    def on_each(given, part):
        axis = "batch"
        totals = [
            jax.lax.psum(count(part["mask"]), axis)
            for count in (losses.token_count, losses.sequence_count)
        ]
        # Its own copy of the weights: the gradient is then that of this device's part.
        own = jax.tree.map(lambda leaf: jax.lax.pcast(leaf, axis, to="varying"), given)
        return jax.lax.psum(gradient(own, part, *totals), axis)

    def summed_by_jax(given, part):
        axis = "batch"
        totals = [
            jax.lax.psum(count(part["mask"]), axis)
            for count in (losses.token_count, losses.sequence_count)
        ]
        # Of what all devices share, JAX sums the gradient; of the loss it does not.
        value, summed = gradient(given, part, *totals)
        return jax.lax.psum(value, axis), summed

    def over_both(function):
        mapped = jax.shard_map(
            function, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=PartitionSpec()
        )
        return jax.jit(mapped)(given, batch)

    def error(found):
        pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
        return max(float(abs(one - other).max()) for one, other in pairs)

    found = {
        "jit": with_jit,
        "shard_map": over_both(on_each),
        "shard_map, shared": over_both(summed_by_jax),
    }
    print(json.dumps({name: error(each) for name, each in found.items()}))


if __name__ == "__main__":
    main()
