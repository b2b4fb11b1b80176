"""What a run's bits depend on besides its own numbers: code, versions, device, compilation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from sdpo_jax import Plan
from sweeps.file import parts
from sweeps.file.sweep import Sweep
from sweeps.provenance import machine, sources

# Parts of every fingerprint.
ALWAYS = {"versions", "device", "block_width", "source"}
# The part of a fingerprint that names what is in a registry and is not the library's.
REGISTERED = "registered"
KNOWN = "known"


class OtherFingerprint(ValueError):
    """The folder was computed by other code, versions, device or block width."""


def fingerprint(
    width: int, plans: Iterable[Plan] = (), named: Iterable[str] = ()
) -> dict[str, Any]:
    """What a run's bits depend on besides its own numbers.

    Args:
        width: of a block.
        plans: whose algorithms, metrics and optimisers count too, as far as they are not the
            library's, which the digest of its code holds.
        named: ``Sweep.named``; they count too.
    """
    device = machine.device()
    found = {
        "versions": machine.versions(),
        "device": {name: device[name] for name in ("platform", "kind", "processor")},
        **machine.compilation(),
        "block_width": width,
        "source": sources.library_digest(),
    }
    own = parts.of_plans(plans, named)
    if not own:
        return found
    known = parts.known_of(own)
    return found | {
        REGISTERED: {name: sources.source_of(each) for name, each in own.items()},
        **({KNOWN: known} if known else {}),
    }


def fingerprint_of(sweep: Sweep) -> dict[str, Any]:
    """What this process would compute a sweep with."""
    plans = sweep.plans.values()
    # The largest; each program's own is in the names of its blocks.
    widths = {width for plan in plans for width in plan.widths}
    return fingerprint(max(widths), plans, sweep.named)


def digest(found: Mapping[str, Any]) -> str:
    """A fingerprint in 16 letters."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


def alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two fingerprints differ in no more than the name of the processor.

    The same versions, code and settings compile the same program for the same instruction set, so
    processors of several kinds may work on one sweep. That they round alike is their makers' word:
    which runs came from which is kept.
    """

    def nameless(found: Mapping[str, Any]) -> Any:
        device = found.get("device")
        rest = {k: v for k, v in device.items() if k != "processor"} if device else device
        return {**found, "device": rest}

    return nameless(one) == nameless(other)


def processor_of(found: Mapping[str, Any]) -> str:
    """The processor that a fingerprint names."""
    device = found.get("device")
    return str(device.get("processor", _UNKNOWN)) if isinstance(device, dict) else _UNKNOWN


# What parts of a fingerprint are called, where the name alone does not say it.
_CALLED = {
    "source": "code of sdpo_jax",
    "flags": "XLA_FLAGS",
    "compiler": "compiler option",
    "settings": "setting",
    "instructions": "instruction set",
    "runtime": "version of the platform",
    "block_width": "block width",
}
_UNKNOWN = "not recorded"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs between two fingerprints, in words; also what the old one does not say."""
    found = []
    for name in [*new, *(each for each in old if each not in new)]:
        before, now = old.get(name), new.get(name)
        if before == now:
            continue
        called = _CALLED.get(name, name)
        if name not in old and name not in (REGISTERED, KNOWN):
            found.append(f"{called} ({_UNKNOWN}, now {_brief(now)})")
        elif isinstance(before or {}, dict) and isinstance(now or {}, dict):
            before, now = before or {}, now or {}
            word = f"{called} " if name in ("flags", "compiler", "settings") else ""
            changed = [key for key in [*now, *(k for k in before if k not in now)]
                       if before.get(key) != now.get(key)]  # fmt: skip
            found += [
                f"{word}{key} ({_brief(before.get(key))}, now {_brief(now.get(key))})"
                for key in changed
            ]
        elif name == "source":
            found.append(called)
        elif name == "instructions":
            found.append(f"{called} ({_sets(before, now)})")
        else:
            found.append(f"{called} ({_brief(before)}, now {_brief(now)})")
    return ", ".join(found)


def _sets(before: Any, now: Any) -> str:
    """Two instruction sets by what only one of them has."""
    old, new = (set(str(each or "").split()) for each in (before, now))
    gone, more = " ".join(sorted(old - new)), " ".join(sorted(new - old))
    return "; ".join(
        f"{word} {names}" for word, names in (("now without", gone), ("now with", more)) if names
    )


def _brief(value: Any) -> str:
    """A value in a line."""
    if isinstance(value, dict):
        value = " ".join(f"{key}={each}" for key, each in value.items())
    text = "none" if value is None or value == "" else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
