"""Whose a folder is: made a sweep's, gone on with, or refused."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeps.file import parts
from sweeps.file.sweep import Sweep
from sweeps.store import blocks, makers
from sweeps.store.fingerprints import (
    OtherFingerprint,
    alike,
    differences,
    fingerprint_of,
)
from sweeps.store.folder import Folder
from sweeps.store.manifest import Manifest, NoSweep, holds_blocks, is_sweep, parsed
from sweeps.store.places import DATA, MANIFEST
from sweeps.system.writing import Busy, locked


def claim(path: Path, sweep: Sweep, on_change: str, now: dict[str, Any] | None = None) -> Folder:
    """Make a folder this sweep's, or go on with what is there. The caller holds the lock.

    Args:
        path: the folder.
        sweep: what it is to hold.
        on_change: what to do where another fingerprint computed what is there: ``"refuse"``,
            ``"keep"`` (its blocks count) or ``"redo"`` (they are computed again). Another processor
            with the same instruction set is told, and goes on.
        now: the fingerprint of what will compute; this process's by default.

    Raises:
        ValueError: a folder of something else, or of another sweep: one of another name, none of
            whose runs are there.
        OtherFingerprint: as said, with what differs. Where nothing is computed yet, nothing can.
    """
    data = path / DATA
    if data.exists() and not data.is_dir():
        raise ValueError(f"--out: {data} is not a folder; allowed: a folder, or none")
    now = fingerprint_of(sweep) if now is None else now
    found = None
    try:
        found = manifest = Manifest.read(path)
    except NoSweep as error:
        strangers = [each.name for each in path.iterdir() if not each.name.startswith(".")]
        if strangers and not is_sweep(path):
            if MANIFEST in strangers:
                raise ValueError(f"--out: {error}") from None
            raise ValueError(
                f"--out: {path} is not empty ({strangers[0]}) and holds no sweep; "
                "allowed: an empty or new folder, or an earlier sweep's"
            ) from None
        manifest = Manifest(sweep.name, (now,), (sweep.text,))
    if found is not None:
        _check_same(path, found, sweep)
    kept = manifest.fingerprints
    if on_change == "redo" or not holds_blocks(path):
        kept = (now,)
        makers.forget(path)
    elif kept[-1] != now:
        if alike(kept[-1], now):
            makers.tell(path, kept[-1], now)
        elif on_change == "refuse":
            raise OtherFingerprint(
                f"{path}: computed with other {differences(kept[-1], now)}; allowed: "
                "--on-change keep (go on; old and new runs differ in their last bits), or "
                "--on-change redo (compute all again)"
            )
        # The last one computes what is missing.
        kept = (*(each for each in kept if each != now), now)
    texts = manifest.texts
    if sweep.text not in texts:
        texts = (*texts, sweep.text)
    wanted = Manifest(manifest.name, kept, texts, texts.index(sweep.text))
    try:
        folder = Folder(path, wanted)
    except NoSweep as error:
        print(f"{error}; left out", file=sys.stderr)
        wanted = Manifest(manifest.name, kept, (sweep.text,))
        folder = Folder(path, wanted)
    if wanted != found or manifest.damage or not (data / MANIFEST).is_file():
        if manifest.damage:
            print(f"{manifest.damage}; made again from the other", file=sys.stderr)
        wanted.write(path)
    return folder


def _check_same(path: Path, manifest: Manifest, sweep: Sweep) -> None:
    """See that a sweep is the one in a folder, or has grown out of it.

    Raises:
        ValueError: it is another one.
    """
    if sweep.text in manifest.texts or sweep.name == manifest.name:
        return
    try:
        there = Folder(path, manifest).blocks.index
    except NoSweep:
        return  # Its file can't be run here; that is told where it is left out.
    for plan in sweep.plans.values():
        for group in plan.groups:
            if (there.find(blocks.run_keys(plan, group)) >= 0).any():
                return
    raise ValueError(
        f"--out: {path} holds the sweep {manifest.name!r}, which shares no run with "
        f"{sweep.name!r}; allowed: another folder, or a file named {manifest.name}.toml, which "
        "adds to what is there"
    )


def adopt(path: Path) -> None:
    """Let a folder in which nothing is computed yet be computed by what this process has.

    It may have been prepared on another machine, or with other code. Where somebody is at work,
    it stays as it is.

    Raises:
        NoSweep: there is no sweep in the folder.
    """
    if _adopted(path) is None:
        return
    with contextlib.suppress(Busy), locked(path):
        wanted = _adopted(path)
        if wanted is not None:
            makers.forget(path)
            wanted.write(path)


def _adopted(path: Path) -> Manifest | None:
    """The manifest as this process would write it; ``None`` where it is to stay."""
    if holds_blocks(path):
        return None
    manifest = Manifest.read(path)
    with parts.stand_ins(manifest.registered):
        sweep = parsed(path, manifest, manifest.text)
    now = fingerprint_of(sweep)
    if any(alike(now, each) for each in manifest.fingerprints):
        return None
    return replace(manifest, fingerprints=(now,))
