"""What a page says, as data: all that is needed to make it again without the results."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeps.store.datasets import MissingResults, read_manifest
from sweeps.system.reading import read_json
from sweeps.system.writing import write_json

PAGE_NAME = "page.json"


def write_page_content(out_dir: str | os.PathLike[str], content: Mapping[str, Any]) -> Path:
    """Write ``OUT/page.json``, all that a page says and no other file holds; return the path.

    With it are the digests of the tables, figures and verdicts beside it and what made them, so
    that a page put together from files of two runs can be told.
    """
    out, manifest = Path(out_dir), read_manifest(out_dir)
    made = {key: manifest.get(key) for key in ("command", "commit", "source")}
    return write_json(out / PAGE_NAME, {**content, "made": made, "files": file_digests(out)})


def read_page_content(out_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Read ``OUT/page.json``.

    Raises:
        MissingResults: there is none.
    """
    path = Path(out_dir) / PAGE_NAME
    if not path.is_file():
        again = shlex.quote(str(out_dir))
        raise MissingResults(f"{path}: missing; `python -m sweeps render {again}` writes it")
    return read_json(path)


def file_digests(out_dir: str | os.PathLike[str]) -> dict[str, str]:
    """SHA-256 of each file of tables, figures and verdicts below a folder of results."""
    out = Path(out_dir)
    found = [*out.glob("*.md"), *out.glob("tables/*.csv"), *out.glob("figures/*.svg")]
    found += [path for path in out.glob("*.json") if path.name in ("claims.json", "verdicts.json")]
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(found)
    }
