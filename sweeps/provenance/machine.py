"""What a program is compiled and computed with: versions, device, compiler, settings."""

from __future__ import annotations

import functools
import os
import platform
import re
import shlex
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import sdpo_jax
from sdpo_jax.grid import compiler_options

PACKAGES = ("jax", "jaxlib", "numpy", "optax", "scipy", "xarray")
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
    return found | {name: metadata.version(name) for name in PACKAGES}


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


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
