"""Where results come from: versions, device, commit, and a digest of the code that ran."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import os
import pickle
import platform
import re
import secrets
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import sdpo_jax
from sdpo_jax import ALGORITHMS, METRICS, OPTIMIZERS, POLICIES, PROBLEMS, Algorithm, Metric
from sdpo_jax.grid import compiler_options

_PACKAGES = ("jax", "jaxlib", "numpy", "optax", "scipy", "xarray")
_ROOT = Path(__file__).resolve().parent.parent

# Flags of XLA and settings of JAX that can't change a bit: what is logged, dumped, checked, cached
# or waited for, and which devices there are (a run's bits do not depend on their number, and their
# kind is recorded apart). All others count.
_HARMLESS_FLAGS = re.compile(r"xla_(dump_.*|force_host_platform_device_count|hlo_profile)")
_HARMLESS_SETTINGS = re.compile(
    r"(jax_)?(.*(compilation_cache|persistent_cache|traceback|transfer_guard|cross_host|"
    r"visible_devices|check_|_checks|debug|_log_|logging|dump|timeout|topology|full_tracebacks|"
    r"source_file|source_url|export_|pprint|explain_).*|"
    r"log_compiles|array_garbage_collection_guard|captured_constants_.*|check_vma|"
    r"cpu_collectives_implementation|cpu_enable_async_dispatch|default_device|"
    r"disable_bwd_checks|disable_vmap_shmap_error|disallow_mesh_context_manager|"
    r"enable_preemption_service|enable_recoverability|mock_num_gpu_processes|no_tracing|"
    r"num_cpu_devices|numpy_rank_promotion|legacy_prng_key|pallas_verbose_errors|platform_name|"
    r"platforms|raise_persistent_cache_errors|serialization_version|share_binary_.*|"
    r"sort_devices_by_process_index|thread_guard|jax2tf_default_native_serialization)"
)
# Settings of the libraries below XLA.
_VARIABLES = ("NVIDIA_TF32_OVERRIDE", "LIBTPU_INIT_ARGS", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")

# Of x86's extensions those that hold arithmetic on floating point numbers, or how wide it is.
_ARITHMETIC = re.compile(r"(sse|ssse|avx|amx|fma|f16c|xop|prefer-|evex|3dnow).*")
_FEATURES = re.compile(rb"[+-][a-z0-9][\w.-]*(?:,[+-][a-z0-9][\w.-]*){4,}")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version(), "sdpo_jax": sdpo_jax.__version__}
    return found | {name: metadata.version(name) for name in _PACKAGES}


def device() -> dict[str, Any]:
    """What computed: the backend, the kind of device, how many, and the processor's name."""
    devices = jax.local_devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "devices": len(devices),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def compilation() -> dict[str, Any]:
    """What decides the machine code of a program, and so a run's last bits.

    Returns:
        ``compiler``: the options that programs are compiled with. ``runtime``: the platform's own
        version. ``instructions``: the instruction set that the compiler uses, which flags can make
        smaller than the processor's. ``flags``: ``XLA_FLAGS``. ``settings``: JAX's own, and those
        of libraries below it. Flags and settings that can't change a bit are left out.
    """
    return {
        "compiler": compiler_options(),
        "runtime": jax.local_devices()[0].client.platform_version,
        "instructions": instructions(),
        "flags": xla_flags(os.environ.get("XLA_FLAGS", "")),
        "settings": settings(),
    }


@functools.cache
def instructions() -> str:
    """The extensions for arithmetic that the compiler uses on a processor, by name.

    Read from a compiled program. Empty on other devices, whose kind says it, and ``"unknown"``
    where programs do not tell.
    """
    if jax.local_devices()[0].platform != "cpu":
        return ""
    lowered = jax.jit(lambda x: x + 1).lower(jax.ShapeDtypeStruct((), "float32"))
    executable = lowered.compile(compiler_options()).runtime_executable()
    found = _FEATURES.search(bytes(executable.serialize()))  # pyright: ignore[reportOptionalMemberAccess]
    if found is None:
        return "unknown"
    used = [each[1:] for each in found[0].decode("ascii").split(",") if each.startswith("+")]
    x86 = platform.machine().lower() in ("x86_64", "amd64", "i686")
    return " ".join(sorted(each for each in used if not x86 or _ARITHMETIC.fullmatch(each)))


def xla_flags(text: str) -> dict[str, str]:
    """The flags of ``XLA_FLAGS`` that can change bits, by name; of a repeated one the last."""
    if text.strip() and not text.lstrip().startswith("-"):
        # XLA takes it for the name of a file.
        try:
            text = Path(text.strip()).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return {"file": text.strip()}
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    flags = {}
    for word in words:
        name, given, value = word.lstrip("-").partition("=")
        flags[name] = {"1": "true", "0": "false"}.get(value.lower(), value) if given else "true"
    return {name: flags[name] for name in sorted(flags) if not _HARMLESS_FLAGS.fullmatch(name)}


def settings() -> dict[str, Any]:
    """JAX's settings that can change bits, and the environment's for libraries below it.

    Those that are off, zero or empty are left out.
    """
    # JAX defines its settings at run time.
    values: dict[str, Any] = jax.config.values  # pyright: ignore[reportAttributeAccessIssue]
    plain = {name: getattr(value, "value", value) for name, value in sorted(values.items())}
    found = {
        name: value if isinstance(value, str | int | float) else str(value)
        for name, value in plain.items()
        if value and not _HARMLESS_SETTINGS.fullmatch(name)
    }
    return found | {name: os.environ[name] for name in _VARIABLES if name in os.environ}


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
        files: of ``sweeps``, beside the library; without their suffix.
    """
    return _digest([*_library(), *(_ROOT / "sweeps" / f"{name}.py" for name in files)])


@functools.cache
def library_digest() -> str:
    """SHA-256 of the library's code, which decides what a run of a sweep yields.

    Comments, docstrings and assertions decide nothing, and do not count.
    """
    return _digest(_library())


# Code below these names is told by versions and by the digest of the library.
_VERSIONED = {*_PACKAGES, "sdpo_jax", "builtins"}
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


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
