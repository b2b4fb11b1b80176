"""What a grid may take: programs, memory, enumerated sequences; checked before any is compiled."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from sdpo_jax import policies, problems
from sdpo_jax.algorithm import what_is_told
from sdpo_jax.algorithms import ALGORITHMS
from sdpo_jax.grid.axes import MOST_VALUES, PROGRAM_AXES, Axis
from sdpo_jax.metrics import METRICS
from sdpo_jax.policies import Factored, Network
from sdpo_jax.program import MOST_READ, Program, algorithm_of, check_enumerated, chosen_metrics

# More are refused when they are planned: each one is compiled, which takes about a second.
MAX_PROGRAMS = 1000

# Blocks are this many runs wide, or a multiple: the float32 of the widest vectors that a processor
# has. Of another width, the runs that are left over get other instructions than those that fill
# vectors, and so a run's bits would depend on its place in the block.
LANES = 16

# Tokens that the runs of a block sample in one step: a few gigabytes for all arrays of them, in
# each of the blocks that are computed at a time.
MAX_TOKENS = 2**25

# Bytes of a run's place in the grid, and of what is needed to find it.
_BYTES_A_RUN = 12

# What enumerates sequences, and of how many tokens each position of one then is: those of the
# vocabulary, and for SCAR also none.
_ENUMERATED = {"scar": 1, "process_reward": 0}
_ENUMERATED_METRICS = ("expected_reward", "exact_credit", "exact_entropy", "optimality")


def block_bytes(program: Program, hints: bool, width: int) -> int:
    """Bytes that computing a block takes, by the arrays that a step can't do without.

    Args:
        program: whose step.
        hints: whether its oracle gives hints, so that each rollout has a teacher of its own.
        width: runs of the block.
    """
    sizes = program.sizes
    length, vocab_size, rollouts = sizes.length, sizes.vocab_size, sizes.rollouts
    # The numbers of copies are those that the compiler reports of the programs here.
    numbers = 2 * length * rollouts + 40 * length * vocab_size + 2 * vocab_size**2
    if hints:
        numbers += 2 * length * vocab_size * rollouts
    if "panel" in what_is_told(algorithm_of(program.algorithm)):
        numbers += 2 * sizes.teachers * length * vocab_size
    extra = _enumerated(program)
    if extra:
        numbers += 2 * max(extra.values()) ** length
    numbers += len(program.record) * -(-sizes.steps // program.record_every)
    return 4 * width * numbers


def machine_memory() -> int | None:
    """Bytes of this machine's memory; ``None`` where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def check_fits(program: Program, hints: bool, width: int, label: str) -> None:
    """Refuse blocks that do not fit into this machine; ``label`` is the program for readers."""
    sizes = program.sizes
    tokens = sizes.length * sizes.rollouts * width
    if tokens > MAX_TOKENS:
        raise ValueError(
            f"block_width: {tokens:,} tokens in a step of a block (length {sizes.length} x "
            f"rollouts {sizes.rollouts} x block_width {width}); allowed: up to {MAX_TOKENS:,} (a "
            "narrower block is hardly slower)"
        )
    there = machine_memory()
    needed = block_bytes(program, hints, width)
    if there is not None and needed > there:
        raise ValueError(
            f"block_width: a block of {width} runs of {label} at length {sizes.length}, "
            f"vocab_size {sizes.vocab_size} and rollouts {sizes.rollouts} takes "
            f"{needed / 2**30:,.1f} GiB; allowed: what this machine has, {there / 2**30:.1f} GiB"
        )


def check_total(axes: Sequence[Axis]) -> None:
    """Refuse more runs than a plan can hold."""
    total = math.prod(len(axis) for axis in axes)
    there = machine_memory()
    if there is not None and _BYTES_A_RUN * total > there:
        raise ValueError(
            f"axes: {total:,} runs; allowed: up to {there // _BYTES_A_RUN:,} on this machine"
        )


def check_count(programs: int) -> None:
    """Refuse more programs than anybody would wait for."""
    if programs > MAX_PROGRAMS:
        raise ValueError(
            f"axes: {programs:,} programs or more; allowed: up to {MAX_PROGRAMS:,} (each is "
            "compiled; values of Sizes, and most algorithms and optimizers, have one of their own)"
        )


def check_cells(cells: int) -> None:
    """Refuse more combinations than can be told apart in a moment."""
    if cells > MOST_VALUES:
        raise ValueError(
            f"axes: {cells:,} combinations of what may need a program of its own ("
            f"{', '.join(sorted(PROGRAM_AXES))}); allowed: up to {MOST_VALUES:,}"
        )


def _enumerated(program: Program) -> dict[str, int]:
    """What of a program enumerates sequences, and of how many tokens at each position."""
    vocab_size = program.sizes.vocab_size
    metrics = chosen_metrics(program)
    # The positions of a factored policy are independent: its entropy needs no sequences.
    factored = isinstance(policies.policy_kind(program.policy), Factored)
    found = {
        name: vocab_size
        for name in _ENUMERATED_METRICS
        if any(METRICS[name] is metric for metric in metrics.values())
        and not (factored and name == "exact_entropy")
    }
    algorithm = algorithm_of(program.algorithm)
    for name, more in _ENUMERATED.items():
        if algorithm is algorithm_of(ALGORITHMS[name]):
            found[name] = vocab_size + more
    return found


def check_enumerated_parts(program: Program) -> None:
    """Refuse what enumerates more sequences than it can."""
    network = isinstance(policies.policy_kind(program.policy), Network)
    most = MOST_READ if network else problems.MAX_SEQUENCES
    for name, tokens in _enumerated(program).items():
        who = f"vocab_size {program.sizes.vocab_size} and {name}"
        check_enumerated(
            who + (" of a network" if network else ""), program.sizes.length, tokens, most
        )
