"""What code ran: the commit, and digests of the library, of a study, and of parts of one's own."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import pickle
import secrets
import subprocess
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sdpo_jax import ALGORITHMS, METRICS, OPTIMIZERS, POLICIES, PROBLEMS, Algorithm, Metric
from sweeps.provenance.machine import PACKAGES

_ROOT = Path(__file__).resolve().parents[2]


def commit() -> str | None:
    """The commit of the checkout, with ``-dirty`` where files differ; ``None`` outside git."""
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "sdpo_jax", "sweeps")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}-dirty" if changed else head


def source_digest(*files: str) -> str:
    """SHA-256 of the code that decides a study's numbers, so that stale data are never reused.

    Comments, docstrings and assertions decide nothing, and do not count.

    Args:
        files: of ``sweeps``, beside the library; without their suffix, or a folder for all in it.
    """
    own = [_ROOT / "sweeps" / name for name in files]
    found = [
        path
        for each in own
        for path in (sorted(each.rglob("*.py")) if each.is_dir() else [each.with_suffix(".py")])
    ]
    return _digest([*_library(), *found])


@functools.cache
def library_digest() -> str:
    """SHA-256 of the library's code, which decides what a run of a sweep yields.

    Comments, docstrings and assertions decide nothing, and do not count.
    """
    return _digest(_library())


# Code below these names is told by versions and by the digest of the library.
_VERSIONED = {*PACKAGES, "sdpo_jax", "builtins"}
# Parts of an object that a description goes into, before it is given up.
_MOST_PARTS = 20_000
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), Path)


class _Unknown(Exception):
    """What an object does can't be told."""


def source_of(value: Any) -> str:
    """A digest of code that somebody registered: of all that it does, as far as it can be told.

    Of a function: the whole file that it stands in but for comments and docstrings, so that what it
    calls there counts too, its name there, defaults and closure; files that it imports do not
    count. Of a ``partial``, a ``Algorithm`` or another object: its class and its parts.

    Returns:
        SHA-256 in hexadecimal; or ``"unknown"``, what can't be told, and random letters, so that
        it is never taken for the same again.
    """
    digest = hashlib.sha256()
    try:
        for part in _described(value, set(), iter(range(_MOST_PARTS))):
            # Their lengths keep parts apart.
            digest.update(f"{len(part)} ".encode() + part)
    except (_Unknown, RecursionError) as error:
        what = str(error) if isinstance(error, _Unknown) else "nested too deep"
        return f"unknown ({what}) {secrets.token_hex(8)}"
    return digest.hexdigest()


def _described(value: Any, above: set[int], budget: Iterator[int]) -> Iterator[bytes]:
    """What decides what a value does, piece by piece; the same in every process."""
    if next(budget, None) is None:
        raise _Unknown(f"more than {_MOST_PARTS} parts")
    kind = type(value)
    yield f"{kind.__module__}.{kind.__qualname__}".encode()
    if isinstance(value, _PLAIN) and kind.__module__.split(".")[0] in ("builtins", "pathlib"):
        yield repr(value).encode()
        return
    if id(value) in above:
        yield b"a part of itself"
        return
    above = above | {id(value)}
    if isinstance(value, set | frozenset):
        members = (b"\0".join(_described(each, above, budget)) for each in value)
        yield from sorted(members)
        return
    for part in _parts(value):
        if isinstance(part, _Bytes):
            yield part.value
        else:
            yield from _described(part, above, budget)


@dataclass(frozen=True)
class _Bytes:
    """A part that is described already."""

    value: bytes


def _parts(value: Any) -> Iterator[Any]:
    kind = type(value)
    if isinstance(value, types.ModuleType):
        yield value.__name__
    elif isinstance(value, type):
        for each in value.__mro__:
            yield from (f"{each.__module__}.{each.__qualname__}", _Bytes(_file(each)))
    elif isinstance(value, types.FunctionType):
        yield from (f"{value.__module__}.{value.__qualname__}", _Bytes(_file(value)))
        # Its code too: a file may hold several without a name.
        yield from map(_Bytes, _compiled(value.__code__))
        # Names of a closure may be without a value yet.
        cells = [cell for cell in value.__closure__ or () if cell != types.CellType()]
        yield from (cell.cell_contents for cell in cells)
        yield from (value.__defaults__, value.__kwdefaults__)
    elif isinstance(value, types.MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif kind is dict or kind is types.MappingProxyType:
        yield from (part for item in value.items() for part in item)
    elif kind in (list, tuple):
        yield from value
    elif isinstance(value, jax.Array | np.ndarray | np.generic):
        yield from _numbers(value)
    elif _root(kind) in ("jax", "jaxlib", "functools") and hasattr(value, "__wrapped__"):
        # ``jit``, ``custom_vjp``, ``lru_cache`` and such.
        yield value.__wrapped__
        yield from (getattr(value, name, None) for name in ("fwd", "bwd", "jvp"))
    elif isinstance(value, types.BuiltinFunctionType) and not _bound(value):
        yield f"{value.__module__}.{value.__qualname__}"
    else:
        yield from _state(value)


def _bound(value: types.BuiltinFunctionType) -> bool:
    return not isinstance(value.__self__, types.ModuleType | None)


def _root(value: Any) -> str:
    """The package that a class or a function is of."""
    return (getattr(value, "__module__", None) or "").split(".")[0]


def _numbers(value: Any) -> Iterator[Any]:
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        yield str(value.dtype)
        value = jax.random.key_data(value)
    array = np.asarray(value)
    yield from (str(array.dtype), array.shape)
    yield array.tolist() if array.dtype.hasobject else _Bytes(array.tobytes())


def _state(value: Any) -> Iterator[Any]:
    """An object by its class and by what it holds."""
    kind = type(value)
    yield kind
    # Of a class of one's own that is a number, a text, a tuple, a list or a dict too.
    for base in (int, float, complex, str, bytes):
        if isinstance(value, base):
            yield base.__repr__(value)  # pyright: ignore[reportArgumentType]
    if isinstance(value, tuple | list):
        yield from value
    elif isinstance(value, dict):
        yield dict(value)
    python = "__dict__" in dir(kind) or any("__slots__" in vars(each) for each in kind.__mro__)
    if not python and not isinstance(value, tuple | list | dict):
        yield _pickled(value)
        return
    try:
        yield value.__getstate__()
    except Exception:
        raise _Unknown(f"the state of a {kind.__qualname__}") from None


def _pickled(value: Any) -> _Bytes:
    try:
        return _Bytes(pickle.dumps(value, protocol=5))
    except Exception:
        raise _Unknown(f"the state of a {type(value).__qualname__}") from None


def _file(value: Any) -> bytes:
    """A digest of the file that a function or a class stands in; empty of a versioned package.

    Of a class that was typed in: of its methods.
    """
    if _root(value) in _VERSIONED:
        return b""
    try:
        return digest_of_file(Path(inspect.getfile(value)))
    except (OSError, TypeError):
        if isinstance(value, types.FunctionType):
            return b""
    methods = [each for each in vars(value).values() if isinstance(each, types.FunctionType)]
    return b"\0".join(part for each in methods for part in _compiled(each.__code__))


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# Of a code object's flags, from Python 3.13 on.
_HAS_DOCSTRING = 0x4000000


def _has_docstring(code: types.CodeType) -> bool:
    """Whether the first constant of a function's code is its docstring."""
    if sys.version_info >= (3, 13):
        return bool(code.co_flags & _HAS_DOCSTRING)
    # Before, the first constant of a function without one is None.
    first = code.co_consts[0] if code.co_consts else None
    return bool(code.co_flags & inspect.CO_NEWLOCALS) and isinstance(first, str)


def digest_of_file(path: Path) -> bytes:
    """A digest of what the code in a file does: comments, docstrings and asserts do not count."""
    data = path.read_bytes()
    try:
        tree = ast.parse(data)
        for node in ast.walk(tree):
            # The compiler leaves an empty instruction in a docstring's place.
            if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                # A module may be empty; a function or a class may not.
                empty = isinstance(node, ast.Module) or len(node.body) > 1
                node.body[:1] = [] if empty else [ast.copy_location(ast.Pass(), node)]
        code = compile(tree, "", "exec", optimize=2)
    except (SyntaxError, ValueError, RecursionError):
        return hashlib.sha256(data).digest()
    digest = hashlib.sha256()
    for part in _compiled(code):
        digest.update(f"{len(part)} ".encode() + part)
    return digest.digest()


def _compiled(code: types.CodeType) -> Iterator[bytes]:
    yield from (code.co_code, code.co_exceptiontable)
    # Parameters are asked for by name.
    flags = code.co_flags & ~_HAS_DOCSTRING
    shape = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, flags
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    yield repr((shape, names)).encode()
    for each in code.co_consts[_has_docstring(code) :]:
        if isinstance(each, types.CodeType):
            yield from _compiled(each)
        else:
            # The order of a set differs from process to process.
            yield repr(sorted(map(repr, each)) if isinstance(each, frozenset) else each).encode()


def _taken_over(registry: Mapping[str, Any]) -> dict[str, Any]:
    """What of a registry is the library's or optax's own, under its own name."""
    found = {}
    for name, each in registry.items():
        # Something of the library's under a second name belongs to whoever gave it that name.
        twins = sum(other is each for other in registry.values())
        if _shipped(each) and (twins == 1 or name == getattr(each, "__name__", "")):
            found[name] = each
    return found


def _shipped(value: Any) -> bool:
    if isinstance(value, Algorithm):
        return _shipped(value.init) and _shipped(value.update)
    function = value.measure if isinstance(value, Metric) else value
    if isinstance(function, functools.partial):
        return _shipped(function.func)
    return isinstance(function, types.FunctionType) and _root(function) in ("sdpo_jax", "optax")


_OWN = {
    "algorithm": _taken_over(ALGORITHMS),
    "metric": _taken_over(METRICS),
    "optimizer": _taken_over(OPTIMIZERS),
    "policy": dict(POLICIES),
    "problem": dict(PROBLEMS),
    "oracle": dict[str, Any](),
}


def is_own(kind: str, name: str, value: Any) -> bool:
    """Whether a part of a kind (``algorithm``, ``metric`` ...) is what the library has so named."""
    return value is not None and _OWN[kind].get(name) is value


def _library() -> list[Path]:
    return sorted((_ROOT / "sdpo_jax").rglob("*.py"))


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(_ROOT).as_posix().encode())
        digest.update(digest_of_file(path))
    return digest.hexdigest()


def _git(*arguments: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()
