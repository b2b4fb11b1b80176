"""One contender of ``python -m benchmarks losses``, in a process of its own.

    python benchmarks/contender.py WHOSE LOSS B T V CHUNK

It prints a line of JSON once it is ready, with the memory that value and gradient took beyond the
logits; then it waits, and for each line that it reads it computes once and prints the seconds.
TRL's contender needs neither JAX nor anything of this repository, so that it may run in another
environment.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TOP_K = 100
MIX = 0.5

Call = Callable[[], Any]


def logits(batch: int, length: int, vocab_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The student's and the teacher's, ``[B, T, V]``, and tokens ``[B, T]``."""
    draw = np.random.default_rng(0)
    shape = batch, length, vocab_size
    student, teacher = (3 * draw.standard_normal(shape, np.float32) for _ in range(2))
    return student, teacher, draw.integers(0, vocab_size, shape[:2])


def ours(loss: str, chunk: int | None) -> Callable[[Any, Any, Any], Any]:
    """From logits and tokens to values per token."""
    from sdpo_jax import losses

    if loss == "token_log_probs":
        return lambda s, t, tokens: losses.token_log_probs(s, tokens, chunk=chunk)
    if loss == "entropy":
        return lambda s, t, tokens: losses.entropy(s, chunk=chunk)
    divergence, top_k = ("jsd", TOP_K) if loss == "top_k" else (loss, None)
    return lambda s, t, tokens: losses.distillation(
        s, t, divergence=divergence, mix=MIX, top_k=top_k, chunk=chunk
    )


def obvious(loss: str) -> Callable[[Any, Any, Any], Any]:
    """The formula as anybody would write it in JAX."""
    import jax
    import jax.numpy as jnp
    from jax.nn import log_softmax, logsumexp

    def kl(p: Any, q: Any) -> Any:
        return (jnp.exp(p) * (p - q)).sum(-1)

    def jsd(p: Any, q: Any) -> Any:
        m = jnp.logaddexp(p + jnp.log(1 - MIX), q + jnp.log(MIX))
        return (1 - MIX) * kl(p, m) + MIX * kl(q, m)

    def top_k(s: Any, t: Any, tokens: Any) -> Any:
        _, places = jax.lax.top_k(s, TOP_K)
        kept = [jnp.take_along_axis(log_softmax(each), places, -1) for each in (s, t)]
        tails = [jnp.log(-jnp.expm1(logsumexp(each, -1, keepdims=True))) for each in kept]
        return jsd(*(jnp.concatenate(both, -1) for both in zip(kept, tails, strict=True)))

    return {
        "forward_kl": lambda s, t, tokens: kl(log_softmax(t), log_softmax(s)),
        "reverse_kl": lambda s, t, tokens: kl(log_softmax(s), log_softmax(t)),
        "jsd": lambda s, t, tokens: jsd(log_softmax(s), log_softmax(t)),
        "top_k": top_k,
        "token_log_probs": lambda s, t, tokens: jnp.take_along_axis(
            log_softmax(s), tokens[..., None], -1
        )[..., 0],
        "entropy": lambda s, t, tokens: -(jnp.exp(log_softmax(s)) * log_softmax(s)).sum(-1),
    }[loss]


def in_jax(
    values: Callable[[Any, Any, Any], Any], given: tuple[np.ndarray, ...]
) -> tuple[Call, int | None]:
    """A call that computes value and gradient, and the memory that XLA plans beyond the logits."""
    import jax

    arrays = jax.block_until_ready([jax.device_put(each) for each in given])
    gradient = jax.value_and_grad(lambda *arrays: values(*arrays).mean())
    program = jax.jit(gradient).lower(*arrays).compile()
    plan = program.memory_analysis()
    assert plan is not None
    planned = plan.temp_size_in_bytes + plan.output_size_in_bytes
    return lambda: jax.block_until_ready(program(*arrays)), planned


def in_trl(loss: str, given: tuple[np.ndarray, ...]) -> tuple[Call, int | None]:
    """A call that computes value and gradient by TRL's functions."""
    import torch  # pyright: ignore[reportMissingImports]
    from trl.experimental.sdpo import loss_utils  # pyright: ignore[reportMissingImports]
    from trl.trainer.utils import entropy_from_logits, selective_log_softmax  # pyright: ignore[reportMissingImports]

    student, teacher, tokens = (torch.from_numpy(each) for each in given)
    mixes = {"forward_kl": 0.0, "reverse_kl": 1.0, "jsd": MIX}

    def values(leaf: Any) -> Any:
        if loss == "token_log_probs":
            return selective_log_softmax(leaf, tokens)
        if loss == "entropy":
            return entropy_from_logits(leaf)
        if loss == "top_k":
            return loss_utils.compute_topk_self_distillation_loss(
                leaf,
                teacher,
                distillation_topk=TOP_K,
                distillation_alpha=MIX,
                distillation_add_tail=True,
            )
        return loss_utils.compute_full_logit_self_distillation_loss(
            leaf, teacher, distillation_alpha=mixes[loss]
        )

    def call() -> Any:
        leaf = student.detach().requires_grad_()
        value = values(leaf).mean()
        value.backward()
        return value.detach(), leaf.grad

    return call, None


def contender(
    whose: str, loss: str, chunk: int, given: tuple[np.ndarray, ...]
) -> tuple[Call, int | None]:
    """By name: ``obvious``, ``whole``, ``chunks`` or ``trl``."""
    if whose == "trl":
        return in_trl(loss, given)
    if whose == "obvious":
        return in_jax(obvious(loss), given)
    return in_jax(ours(loss, chunk if whose == "chunks" else None), given)


def memory(name: str) -> int:
    """Bytes of this process: resident now (VmRSS), or at most so far (VmHWM)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {name}")


def main(whose: str, loss: str, *sizes: str) -> None:
    """Measure memory, then time as often as asked."""
    batch, length, vocab_size, chunk = map(int, sizes)
    # Imports, and what a first call makes ready, are not counted.
    small, _ = contender(whose, loss, 1, logits(1, 2, vocab_size))
    small()
    call, planned = contender(whose, loss, chunk, logits(batch, length, vocab_size))
    # The arrays that the logits were made from are gone by then.
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = memory("VmRSS")
    value, gradient = call()
    beyond = memory("VmHWM") - before
    # So that both can be compared: the same numbers from everybody.
    gradient = np.asarray(gradient)
    if beyond < gradient.nbytes:
        raise RuntimeError(f"{beyond} bytes were measured; the gradient has {gradient.nbytes}")
    check = float(value), float(np.abs(gradient).sum(dtype=np.float64))
    del value, gradient
    print(json.dumps({"beyond": beyond, "planned": planned, "check": check}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        outcome = call()
        print(json.dumps(time.perf_counter() - start), flush=True)
        del outcome


if __name__ == "__main__":
    if Path(__file__).resolve().parent.parent.as_posix() not in sys.path:
        sys.path.insert(0, Path(__file__).resolve().parent.parent.as_posix())
    main(*sys.argv[1:])
