"""Losses for language models: memory and time of value and gradient, beside the obvious and TRL's.

Every contender is a process of its own. Its memory is how far it grew over what it held with the
logits and the compiled program ready, in the first call: the gradient is a part of it. Times are
taken in turns.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.write import Output, shown, spread, table

LOSSES = ("forward_kl", "reverse_kl", "jsd", "top_k", "token_log_probs", "entropy")
CONTENDERS = {
    "obvious": "one line of JAX",
    "whole": "sdpo_jax.losses",
    "chunks": "sdpo_jax.losses, in chunks",
    "trl": "TRL (PyTorch)",
}
SCRIPT = Path(__file__).with_name("contender.py")
CLOSE = 1e-3


def run(
    sizes: tuple[int, int, int],
    chunk: int,
    repeats: int,
    trl_python: Path | None,
    only: tuple[str, ...],
    output: Output,
) -> None:
    """Measure, print and save.

    Raises:
        ValueError: a loss that there is none of, or a size below 1.
        RuntimeError: a contender failed, or two disagree about the value or the gradient.
    """
    for name in only:
        if name not in LOSSES:
            raise ValueError(f"--only: {name!r}; allowed: {', '.join(LOSSES)}")
    if min(*sizes, chunk) < 1:
        raise ValueError(f"--sizes, --chunk: {(*sizes, chunk)}; allowed: 1 or more")
    results = {}
    for loss in only or LOSSES:
        results[loss] = _measure(loss, sizes, chunk, repeats, trl_python)
    page = _page(sizes, chunk, results) + "\n" + _busy(output.load)
    output.save(page, {"sizes": sizes, "chunk": chunk, "losses": results})


def _measure(
    loss: str, sizes: tuple[int, int, int], chunk: int, repeats: int, trl_python: Path | None
) -> dict[str, dict[str, Any]]:
    """By contender; ``{"missing": why}`` for one that is not installed."""
    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        running = {}
        for whose in CONTENDERS:
            python = trl_python if whose == "trl" and trl_python else Path(sys.executable)
            if whose == "trl" and (missing := _missing(python)):
                found[whose] = {"missing": missing}
                continue
            process = subprocess.Popen(
                [str(python), str(SCRIPT), whose, loss, *map(str, (*sizes, chunk))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "TRL_EXPERIMENTAL_SILENCE": "1"},
                text=True,
            )
            stack.callback(_end, process)
            running[whose] = process
            found[whose] = {**_heard(process), "seconds": []}
        for _ in range(repeats):
            for whose, process in running.items():
                assert process.stdin is not None
                print(file=process.stdin, flush=True)
                found[whose]["seconds"].append(_heard(process))
    for whose in running:
        found[whose]["seconds"] = spread(found[whose]["seconds"])
        for one, other in zip(found[whose]["check"], found["obvious"]["check"], strict=True):
            if not math.isclose(one, other, rel_tol=CLOSE):
                raise RuntimeError(f"{loss}: {whose} has {one}, the obvious version {other}")
    return found


def _heard(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a contender failed; what it printed stands above")
    return json.loads(line)


def _end(process: subprocess.Popen[str]) -> None:
    """Nothing more to ask: the contender ends by itself."""
    process.communicate()


def _missing(python: Path) -> str:
    """Why TRL's losses can not be imported; empty where they can."""
    line = "import torch, trl.experimental.sdpo.loss_utils"
    done = subprocess.run([python, "-W", "ignore", "-c", line], capture_output=True, text=True)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def _page(
    sizes: tuple[int, int, int], chunk: int, results: dict[str, dict[str, dict[str, Any]]]
) -> str:
    unit = 4 * math.prod(sizes)
    rows, floors = [], []
    for loss, found in results.items():
        baseline = found["obvious"]
        for whose, each in found.items():
            if "missing" in each:
                rows.append([loss, CONTENDERS[whose], each["missing"], *[""] * 5])
                continue
            alone, whole = _shares(loss, unit, each["beyond"], baseline["beyond"])
            speed = each["seconds"]["median"] / baseline["seconds"]["median"]
            rows.append(
                [
                    loss,
                    CONTENDERS[whose],
                    f"{each['beyond'] / 2**20:,.0f}",
                    f"{max(each['beyond'] - unit, 0) / 2**20:,.0f}",
                    f"{100 * alone:.0f}%",
                    f"{100 * whole:.0f}%",
                    shown(each["seconds"], 2),
                    f"{speed:.2f}",
                ]
            )
        if "chunks" in found:
            shares = _shares(loss, unit, found["chunks"]["beyond"], baseline["beyond"])
            least = _shares(loss, unit, unit, baseline["beyond"])
            pairs = (each for both in zip(shares, least, strict=True) for each in both)
            floors.append([loss, *(f"{100 * each:.0f}%" for each in pairs)])
    size = " x ".join(f"{each:,}" for each in sizes)
    header = ["loss", "by", "MiB", "temporary", "of one line", "with logits", "seconds"]
    page = (
        f"Value and gradient of the mean over tokens, by the student's logits, float32 "
        f"[{size}]; an array of this size has {unit / 2**20:,.0f} MiB. Chunks are of {chunk} "
        f"positions. `top_k` is a JSD of the student's 100 likeliest tokens and a tail. All "
        f"contenders' values and gradients were found to be the same.\n\n"
        f"What is counted: by how much a process grew at its peak in the first call, over what it "
        f"held with the logits and the compiled program ready.\n\n"
        f"- MiB: that number. The gradient that is returned is in it, the logits are not.\n"
        f"- temporary: the same less the gradient; what is gone after the call.\n"
        f"- of one line: MiB as a share of one line's.\n"
        f"- with logits: that share with the logits that are given added to both: the student's, "
        f"and the teacher's where there is one.\n\n" + table([*header, "of one line"], rows) + "\n"
    )
    if floors:
        page += (
            "No implementation that is given the logits and returns the gradient can do without "
            "these. The least share is that of one that needs nothing else:\n\n"
            + table(["loss, in chunks", "of one line", "least", "with logits", "least"], floors)
        )
    return page


def _busy(load: float) -> str:
    return (
        f"{load:.1f} processes wanted a core before it began. Memory does not depend on that; "
        f"times do, and compare contenders, which took turns, and nothing else.\n"
    )


def _shares(loss: str, unit: int, beyond: float, baseline: float) -> tuple[float, float]:
    """Of one line's memory, without and with the logits that are given."""
    given = (1 if loss in ("token_log_probs", "entropy") else 2) * unit
    return beyond / baseline, (given + beyond) / (given + baseline)
