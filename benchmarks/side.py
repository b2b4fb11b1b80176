"""One version of the library, in a process of its own.

    python benchmarks/side.py '{"algorithm": ..., "oracle": ..., "sizes": {...}}'

The library is the one that ``PYTHONPATH`` names, this one or an older one. It prints a line of JSON
with the seconds of a first call, of one block, and of what JAX did in it; then it waits, and for
each number of runs that it reads it trains as many and prints the seconds.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main(case: dict[str, Any]) -> None:
    """Serve one case until the input ends."""
    import jax

    import sdpo_jax

    compiled = 0.0

    def hear(event: str, duration_secs: float, **_: str | int) -> None:
        nonlocal compiled
        if event == "/jax/core/compile/backend_compile_duration":
            compiled += duration_secs

    jax.monitoring.register_event_duration_secs_listener(hear)
    # What they were called in the first edition.
    renamed = not hasattr(sdpo_jax, "ALGORITHMS")
    algorithm, oracle = ("method", "feedback") if renamed else ("algorithm", "oracle")
    axes = {algorithm: [case["algorithm"]], oracle: [case["oracle"]]}
    sizes = sdpo_jax.Sizes(**case["sizes"])

    def train(runs: int) -> tuple[float, float]:
        begun = time.perf_counter()
        data = sdpo_jax.run_grid({**axes, "seed": range(runs)}, sizes=sizes)
        return time.perf_counter() - begun, float(data.reward.values.mean())

    first, _ = train(1)
    print(json.dumps({"first": first, "compile": compiled}), flush=True)
    for line in sys.stdin:
        seconds, reward = train(int(line))
        print(json.dumps({"seconds": seconds, "reward": reward}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
