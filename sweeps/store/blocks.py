"""Block files: what some runs yielded, in a file that shows by itself whether it is whole.

A file is three parts: a line with the format and the SHA-256 of all that follows, a line of JSON
(the block's id, the runs, and each array's name, type and shape in order), and the arrays' bytes,
little-endian, runs first. A block is named by its runs and what they were given, so the name says
what must be inside, and equal runs have equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sdpo_jax.algorithm import Algorithm
from sdpo_jax.algorithms import ALGORITHMS
from sdpo_jax.grid import Group, Plan, describe
from sdpo_jax.metrics import METRICS
from sdpo_jax.optimizers import OPTIMIZERS
from sdpo_jax.program import FINITE_STEPS
from sweeps.file import parts
from sweeps.system.reading import read_bytes
from sweeps.system.writing import make_room, write_atomically

SUFFIX = ".block"
_FORMAT = b"sdpo_jax block 1 "
_DIGEST = 64
# Of the line of JSON: many times what any block's has.
_MOST_HEADER = 2**20
_LONGEST = 2**32
# Where a block's line of JSON names its fingerprint.
_MAKER = re.compile(rb'"fingerprint": "([0-9a-f]*)"')
_MOST_BEFORE = 1024
# Runs whose inputs are put side by side at a time.
_AT_A_TIME = 65_536
_NUMBERS = re.compile(r"<f[248]|<[iu][248]|\|[iub]1")

# By variable the shape behind the runs, and the type, as ``numpy`` writes it.
Layout = dict[str, tuple[tuple[int, ...], str]]


class DamagedBlock(ValueError):
    """A block file that is not what it should be; the message says how."""


@dataclass(frozen=True)
class Block:
    """A block that was read and found whole.

    Attributes:
        fingerprint: what computed it.
        arrays: by variable ``[n, ...]``.
        size: of the file, in bytes.
    """

    fingerprint: str
    arrays: dict[str, np.ndarray]
    size: int


def write(
    path: Path, identity: str, fingerprint: str, label: str, arrays: Mapping[str, np.ndarray]
) -> None:
    """Write a block, atomically and to the disk.

    Args:
        path: where.
        identity: the block's id.
        fingerprint: what computed it.
        label: the program, for readers.
        arrays: by variable ``[n, ...]``.

    Raises:
        OSError: it can't be written; nothing of it is left.
    """
    body = _body(identity, fingerprint, label, arrays)
    digest = hashlib.sha256(body).hexdigest().encode()

    def into(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            file.write(_FORMAT + digest + b"\n")
            file.write(body)

    make_room(path)
    # The folder is there, or it was taken away.
    write_atomically(path, into, parents=False)


def layout_of(plan: Plan) -> Layout:
    """What each block of a plan's runs holds."""
    sizes = plan.base.sizes
    lengths = {
        "step": -(-sizes.steps // plan.base.record_every),
        "position": sizes.length,
        "token": sizes.vocab_size,
    }
    return {
        name: (tuple(lengths[dim] for dim in dims), "<i4" if name == FINITE_STEPS else "<f4")
        for name, (dims, _) in describe(plan).items()
    }


def read(path: Path, identity: str, layout: Layout | None = None, runs: int = 0) -> Block:
    """Read a block and check all of it.

    Args:
        path: where.
        identity: the block's id.
        layout: what it must hold; ``None`` where that is not known.
        runs: and of how many runs.

    Raises:
        FileNotFoundError: there is none.
        DamagedBlock: bytes are missing, changed, or another block's, or it is whole and holds
            something else. A file of another size is not read at all.
    """
    described = None if layout is None else _described(layout, runs)
    least, most = 0, _LONGEST
    if described is not None:
        least = sum(_bytes(kind, shape) for _, kind, shape in described)
        most = least + _MOST_HEADER
    try:
        data = read_bytes(path, most, least)
    except FileNotFoundError:
        raise
    except ValueError as error:
        raise DamagedBlock(f"{path}: damaged ({str(error).removeprefix(f'{path}: ')})") from None
    start = len(_FORMAT) + _DIGEST + 1
    if not data.startswith(_FORMAT) or len(data) < start:
        raise DamagedBlock(f"{path}: damaged (not the beginning of a block)")
    body = memoryview(data)[start:]
    if hashlib.sha256(body).hexdigest().encode() != data[len(_FORMAT) : start - 1]:
        raise DamagedBlock(f"{path}: damaged (the checksum of its {len(data)} bytes differs)")
    # Whole; but a file from elsewhere may hold anything.
    end = data.find(b"\n", start, start + _MOST_HEADER)
    try:
        header = json.loads(data[start : max(end, start)])
        found, fingerprint, arrays = header["id"], header["fingerprint"], header["arrays"]
        if not isinstance(found, str) or not isinstance(fingerprint, str):
            raise ValueError("not text")
        shapes = [(str(n), str(kind), [*map(int, shape)]) for n, kind, shape in arrays]
        sizes = [_bytes(kind, shape) for _, kind, shape in shapes]
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        raise DamagedBlock(f"{path}: damaged (not a block's description)") from None
    if found != identity:
        raise DamagedBlock(f"{path}: damaged (holds block {found[:40]!r})")
    if described is not None and shapes != described:
        raise DamagedBlock(f"{path}: damaged ({_unlike(shapes, described)})")
    if end + 1 + sum(sizes) != len(data):
        raise DamagedBlock(f"{path}: damaged (other bytes than it describes)")
    kept, offset = {}, end + 1
    for (name, kind, shape), size in zip(shapes, sizes, strict=True):
        dtype = np.dtype(kind)
        kept[name] = np.frombuffer(data, dtype, size // dtype.itemsize, offset).reshape(shape)
        offset += size
    return Block(fingerprint, kept, len(data))


def maker(path: Path) -> str | None:
    """The fingerprint that a block names, without a look at the rest; ``None`` where it can't."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as f:
            found = _MAKER.search(f.read(_MOST_BEFORE))
    except OSError:
        return None
    return None if found is None else found[1].decode("ascii")


_Described = list[tuple[str, str, list[int]]]


def _described(layout: Layout, runs: int) -> _Described:
    return [(name, kind, [runs, *extra]) for name, (extra, kind) in sorted(layout.items())]


def _bytes(kind: str, shape: list[int]) -> int:
    if not _NUMBERS.fullmatch(kind) or any(size < 0 for size in shape):
        raise ValueError(f"{kind}: not a type of numbers")
    return np.dtype(kind).itemsize * math.prod(shape)


def _unlike(found: _Described, wanted: _Described) -> str:
    """The first thing in which two descriptions differ."""
    names, asked = [each[0] for each in found], [each[0] for each in wanted]
    if names != asked:
        return f"holds {', '.join(names)[:200]!r}; allowed: {', '.join(asked)}"
    at = next(i for i, each in enumerate(found) if each != wanted[i])
    (name, kind, shape), (_, right, size) = found[at], wanted[at]
    shown = f"{name} of type {kind} and shape {shape}"
    return f"{shown[:200]}; allowed: {right} and {size}"


def _body(identity: str, fingerprint: str, label: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    parts, described = [], []
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        parts.append(little.tobytes())
        described.append([name, little.dtype.str, list(little.shape)])
    header = {
        "id": identity,
        "fingerprint": fingerprint,
        "program": label,
        "arrays": described,
    }
    return json.dumps(header).encode() + b"\n" + b"".join(parts)


def run_keys(plan: Plan, group: Group) -> np.ndarray:
    """What names each run of a group by all that it is given, ``[n, 2]`` uint64."""
    given = group.inputs
    # A function is named by ``_program``, and not by where it lies in the memory.
    given["oracle"] = replace(given["oracle"], function=None)
    leaves, structure = jax.tree.flatten(given)
    shapes = [leaf.shape[:-1] for leaf in leaves]
    program = _program(plan, group) | {"inputs": str(structure), "shapes": shapes}
    prefix = hashlib.blake2b(json.dumps(program).encode(), digest_size=16).digest()
    words = [np.asarray(leaf).reshape(-1, leaf.shape[-1]).view(np.uint32) for leaf in leaves]
    begun = hashlib.blake2b(prefix, digest_size=16)
    keys = bytearray()
    # Part by part: all inputs side by side would be many times as large as the keys.
    for first in range(0, words[0].shape[1], _AT_A_TIME):
        part = np.concatenate([each[:, first : first + _AT_A_TIME] for each in words])
        rows = np.ascontiguousarray(part.T).astype("<u4")
        step = rows.shape[1] * 4
        data = rows.tobytes()
        for start in range(0, len(data), step):
            each = begun.copy()
            each.update(data[start : start + step])
            keys += each.digest()
    return np.frombuffer(keys, "<u8").reshape(-1, 2)


class Keys:
    """Places of runs by their keys: in arrays, for a dict would take ten times their memory."""

    def __init__(self, keys: np.ndarray):
        """
        Args:
            keys: ``[n, 2]``, all different.
        """
        self._order = np.lexsort((keys[:, 1], keys[:, 0]))
        self._first = keys[self._order, 0]
        self._second = keys[self._order, 1]

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The places of keys ``[m, 2]`` among those given, ``[m]``; -1 where there is none."""
        found = np.full(len(keys), -1, np.int64)
        asked = np.arange(len(keys))
        at = np.searchsorted(self._first, keys[:, 0])
        # Of several that begin alike, which is next to impossible, each is looked at.
        while len(asked):
            inside = at < len(self._first)
            asked, at = asked[inside], at[inside]
            alike = self._first[at] == keys[asked, 0]
            asked, at = asked[alike], at[alike]
            same = self._second[at] == keys[asked, 1]
            found[asked[same]] = self._order[at[same]]
            asked, at = asked[~same], at[~same] + 1
        return found


class Known:
    """Keys that were seen."""

    def __init__(self) -> None:
        self._seen: list[Keys] = []

    def add(self, keys: np.ndarray) -> np.ndarray:
        """See keys ``[n, 2]``; the places of those that are new, in their order."""
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        follows = (keys[order[1:]] == keys[order[:-1]]).all(axis=1)
        new = np.ones(len(keys), bool)
        new[order[1:][follows]] = False
        for seen in self._seen:
            new &= seen.find(keys) < 0
        places = np.flatnonzero(new)
        if len(places):
            self._seen.append(Keys(keys[places]))
        return places


def block_id(keys: np.ndarray) -> str:
    """The name of a block of runs with these keys."""
    return hashlib.blake2b(np.ascontiguousarray(keys).tobytes(), digest_size=16).hexdigest()


def _program(plan: Plan, group: Group) -> dict[str, Any]:
    """Everything static that can change a run's bits or what is kept of it."""
    program = group.program
    metrics = []
    for entry in program.metrics:
        name, metric = (entry, METRICS[entry]) if isinstance(entry, str) else entry
        own = METRICS.get(name) is not metric
        metrics.append([name, _callable(metric.measure, {}) if own else ""])
    algorithm, function = program.algorithm, group.oracle.function
    return {
        "algorithm": algorithm if isinstance(algorithm, str) else _callable(algorithm, ALGORITHMS),
        "oracle": parts.name_of_oracle(function) or (function and _callable(function, {})),
        "policy": _part(program.policy),
        "problem": _part(program.problem),
        "sizes": asdict(program.sizes),
        "metrics": metrics,
        "record": list(program.record),
        "record_every": program.record_every,
        "optimizer": _callable(program.optimizer, OPTIMIZERS),
        "teacher_nodes": program.teacher_nodes,
        "logits": plan.logits,
        "width": group.width,
    }


def _part(part: Any) -> str:
    """A policy or problem: its name in the registry, or the functions that it is made of."""
    if isinstance(part, str):
        return part
    functions = [each for each in vars(part).values() if callable(each)]
    return " ".join([part.name, *(_callable(each, {}) for each in functions)])


def _callable(function: Callable[..., Any] | Algorithm, known: Mapping[str, Any]) -> str:
    for name, each in known.items():
        if each is function:
            return name
    if isinstance(function, Algorithm):
        return f"{function.name} {_callable(function.init, {})} {_callable(function.update, {})}"
    module = getattr(function, "__module__", "")
    return f"{module}:{getattr(function, '__qualname__', repr(function))}"
