"""The compiled programs of a grid: blocks of one fixed width.

The last block is padded, so the compiled code, and with it every bit of a run, is independent of
what else the grid holds.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sdpo_jax.engine import lanes
from sdpo_jax.grid.groups import Group
from sdpo_jax.grid.plan import Plan
from sdpo_jax.program import FINITE_STEPS, Program, parts_of
from sdpo_jax.train import Result, train

# Blocks that one call computes, one after the other, so that what a call costs does not count.
_BLOCKS_A_CALL = {"cpu": 16}

# In one kernel, LLVM unrolls shorter loops before it makes vectors of them, and then not every lane
# gets the same instructions, and so not the same bits.
_KERNEL_WIDTH = 32

# Compiled programs that are kept for the next call; each takes a few megabytes.
_MOST_PROGRAMS = 128


def output_bytes(plan: Plan, group: Group) -> int:
    """Bytes that a run of a group yields; nothing is compiled."""
    inputs = padded_inputs(group, np.zeros(1, int), 1)
    block = partial(_train_block, group.program, plan.logits)
    shapes = jax.eval_shape(block, inputs)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def compiler_options(device: Any = None) -> dict[str, Any]:
    """What ``run_grid`` tells the compiler for a device, the default one if ``None``.

    For whoever compiles ``train`` himself: ``jax.jit(f, compiler_options=compiler_options())``.
    It is part of what decides a run's bits. On a CPU it also leaves out a rewriting pass of XLA
    that is wrong in jaxlib 0.10.2 and later ones: what is summed up of a small matrix product, such
    as ``(matrix @ view.reward).sum(0)`` in a metric of one's own, is then another number in the
    last of a little more than 32,768 runs that are mapped over at once.

    Returns:
        By option its value; empty where nothing has to be said.
    """
    if (jax.local_devices()[0] if device is None else device).platform != "cpu":
        return {}
    return {
        # Blocks keep the cores busy; threads inside a kernel of a few microseconds only wait.
        "xla_cpu_multi_thread_eigen": False,
        # LLVM's own choice is half of what the processor has.
        "xla_cpu_prefer_vector_width": 512,
        # Calls of a library, for sums, are not for arrays this small; and not part of one kernel.
        "xla_cpu_experimental_ynn_fusion_type": "",
    }


def _train_block(program: Program, logits: bool, inputs: dict[str, Any]) -> dict[str, Array]:
    """By variable, runs last."""
    # The words of a raw key are uint32, as two seeds of a grid would be.
    seed, problem_seed = (
        jax.lax.bitcast_convert_type(inputs[name], jnp.int32) for name in ("seed", "problem_seed")
    )
    result: Result = train(
        seed,
        program,
        inputs["config"],
        inputs["oracle"],
        problem_seed=problem_seed,
        numbers=inputs["numbers"],
    )
    outcome = {**result.final, FINITE_STEPS: result.finite_steps}
    outcome |= {f"{name}_mean": value for name, value in result.mean.items()}
    outcome |= {f"{name}_curve": value for name, value in result.curves.items()}
    return outcome | ({"logits": result.logits} if logits else {})


def _train_blocks(
    program: Program, logits: bool, width: int, inputs: dict[str, Any], count: Array
) -> dict[str, Array]:
    """The first ``count`` blocks of ``[..., blocks * width]`` runs; what is behind them is 0."""
    block = jax.jit(partial(_train_block, program, logits))

    def at(index: Any) -> dict[str, Any]:
        return jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, index * width, width, leaf.ndim - 1),
            inputs,
        )

    def add(index: Array, outcome: dict[str, Array]) -> dict[str, Array]:
        return jax.tree.map(
            lambda whole, part: jax.lax.dynamic_update_slice_in_dim(
                whole, part, index * width, whole.ndim - 1
            ),
            outcome,
            block(at(index)),
        )

    runs = inputs["seed"].shape[-1]
    empty = jax.tree.map(
        lambda leaf: jnp.zeros((*leaf.shape[:-1], runs), leaf.dtype), jax.eval_shape(block, at(0))
    )
    return jax.lax.fori_loop(0, count, add, empty)


class _Programs:
    """Compiled programs: those that were used last are kept.

    One that is dropped lives on for as long as somebody holds it.
    """

    def __init__(self, most: int = _MOST_PROGRAMS) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[Any, Future] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(
        self, program: Program, logits: bool, width: int, inputs: dict[str, Any], device: Any
    ) -> Any:
        """The program for blocks of this width and inputs of this shape on this device.

        Who asks while another thread compiles it waits for that.
        """
        leaves, structure = jax.tree.flatten(inputs)
        key = (
            program,
            parts_of(program),
            logits,
            width,
            structure,
            tuple((leaf.shape, leaf.dtype) for leaf in leaves),
            device,
        )
        own: Future = Future()
        with self._lock:
            found = self._kept.setdefault(key, own)
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        if found is own:
            try:
                own.set_result(self._compile(program, logits, width, inputs, device))
            except BaseException as error:
                with self._lock:
                    if self._kept.get(key) is own:
                        del self._kept[key]
                own.set_exception(error)
        return found.result()

    @staticmethod
    def _compile(
        program: Program, logits: bool, width: int, inputs: dict[str, Any], device: Any
    ) -> Any:
        sharding = jax.sharding.SingleDeviceSharding(device)
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            (inputs, np.int32(0)),
        )
        return _compiled(program, logits, width, shapes, device)


_PROGRAMS = _Programs()


def blocks_a_call(device: Any) -> int:
    """Blocks that one call computes on a device, one after the other."""
    return _BLOCKS_A_CALL.get(device.platform, 1)


def program_of(plan: Plan, group: Group, device: Any, inputs: dict[str, Any] | None = None) -> Any:
    """The compiled program of a group, for inputs of ``padded_inputs``."""
    if inputs is None:
        inputs = padded_inputs(group, np.zeros(1, int), blocks_a_call(device) * group.width)
    return _PROGRAMS.get(group.program, plan.logits, group.width, inputs, device)


def _compiled(program: Program, logits: bool, width: int, shapes: Any, device: Any) -> Any:
    """A program for a device; in one kernel where that is a CPU and all of it can be in one."""
    options, parts = compiler_options(device), parts_of(program)
    if device.platform == "cpu" and width >= _KERNEL_WIDTH:
        whole = _jitted(program, parts, logits, width, one_kernel=True).lower(*shapes)
        if lanes.fits_one_kernel(whole.as_text()):
            return whole.compile(options)
    plain = _jitted(program, parts, logits, width, one_kernel=False)
    return plain.lower(*shapes).compile(options)


# Held only while the devices of one program compile it in turn: it keeps the user's functions.
@lru_cache(16)
def _jitted(program: Program, parts: Any, logits: bool, width: int, one_kernel: bool) -> Any:
    def blocks(inputs: dict[str, Any], count: Array) -> dict[str, Array]:
        return _train_blocks(program, logits, width, inputs, count)

    def kernel(inputs: dict[str, Any], count: Array) -> dict[str, Array]:
        return lanes.one_kernel(blocks, inputs, count)

    return jax.jit(kernel if one_kernel else blocks)


def padded_inputs(group: Group, places: np.ndarray, size: int) -> dict[str, Any]:
    """What the program takes for the runs at ``places``; up to the size, the last is repeated."""
    return group.given(places[np.minimum(np.arange(size), len(places) - 1)])
