"""Block files: what some runs yielded, in a file that shows by itself whether it is whole.

A file is three parts: a line with the format and the SHA-256 of all that follows, a line of JSON
(the block's id, the runs, and each array's name, type and shape in order), and the arrays' bytes,
little-endian, runs first. A block is named by its runs and what they were given, so the name says
what must be inside, and equal runs have equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sdpo_jax.methods import METHODS, Stateful
from sdpo_jax.metrics import METRICS
from sdpo_jax.plan import OPTIMIZERS, Group, Plan
from sweeps.writing import write_atomically

SUFFIX = ".block"
_FORMAT = b"sdpo_jax block 1 "
_DIGEST = 64


class DamagedBlock(ValueError):
    """A block file that is not what it should be; the message says how."""


@dataclass(frozen=True)
class Block:
    """A block that was read and found whole.

    Attributes:
        fingerprint: what computed it.
        arrays: by variable ``[n, ...]``.
    """

    fingerprint: str
    arrays: dict[str, np.ndarray]


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

    write_atomically(path, into)


def read(path: Path, identity: str) -> Block:
    """Read a block and check all of it.

    Raises:
        FileNotFoundError: there is none.
        DamagedBlock: bytes are missing, changed, or another block's.
    """
    data = path.read_bytes()
    start = len(_FORMAT) + _DIGEST + 1
    if not data.startswith(_FORMAT) or len(data) < start:
        raise DamagedBlock(f"{path}: damaged (not the beginning of a block)")
    body = memoryview(data)[start:]
    if hashlib.sha256(body).hexdigest().encode() != data[len(_FORMAT) : start - 1]:
        raise DamagedBlock(f"{path}: damaged (the checksum of its {len(data)} bytes differs)")
    end = data.index(b"\n", start)
    header = json.loads(data[start:end])
    if header["id"] != identity:
        raise DamagedBlock(f"{path}: damaged (holds block {header['id']})")
    arrays, offset = {}, end + 1
    for name, kind, shape in header["arrays"]:
        dtype = np.dtype(kind)
        size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        flat = np.frombuffer(data, dtype, size // dtype.itemsize, offset)
        arrays[name] = flat.reshape(shape)
        offset += size
    return Block(header["fingerprint"], arrays)


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
    leaves, structure = jax.tree.flatten(group.inputs)
    shapes = [leaf.shape[:-1] for leaf in leaves]
    program = _program(plan, group) | {"inputs": str(structure), "shapes": shapes}
    prefix = hashlib.blake2b(json.dumps(program).encode(), digest_size=16).digest()
    words = [np.asarray(leaf).reshape(-1, leaf.shape[-1]).view(np.uint32) for leaf in leaves]
    rows = np.ascontiguousarray(np.concatenate(words).T).astype("<u4")
    step = rows.shape[1] * 4
    data = rows.tobytes()
    begun = hashlib.blake2b(prefix, digest_size=16)
    keys = bytearray()
    for start in range(0, len(data), step):
        each = begun.copy()
        each.update(data[start : start + step])
        keys += each.digest()
    return np.frombuffer(bytes(keys), "<u8").reshape(-1, 2)


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
    method = program.method
    return {
        "method": method if isinstance(method, str) else _callable(method, METHODS),
        "sizes": asdict(program.sizes),
        "metrics": metrics,
        "record": list(program.record),
        "record_every": program.record_every,
        "optimizer": _callable(program.optimizer, OPTIMIZERS),
        "teacher_nodes": program.teacher_nodes,
        "logits": plan.logits,
        "width": plan.width,
    }


def _callable(function: Callable[..., Any] | Stateful, known: Mapping[str, Any]) -> str:
    for name, each in known.items():
        if each is function:
            return name
    if isinstance(function, Stateful):
        return f"{function.name} {_callable(function.init, {})} {_callable(function.update, {})}"
    module = getattr(function, "__module__", "")
    return f"{module}:{getattr(function, '__qualname__', repr(function))}"
