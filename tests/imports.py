"""The picture of a package's imports: which module makes Python run which others."""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path


@cache
def modules(package: str) -> Mapping[str, Path]:
    """By name every module of a package, and itself, with its file."""
    root = Path(importlib.util.find_spec(package).origin).parent
    names = [info.name for info in pkgutil.walk_packages([str(root)], prefix=f"{package}.")]
    return {name: Path(importlib.util.find_spec(name).origin) for name in (package, *names)}


def imported_names(package: str, name: str) -> set[str]:
    """Every module that a module names in an import, wherever in the file it stands."""
    known, path = modules(package), modules(package)[name]
    inside = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, inside)
            # ``from package import module`` names the module, not the package.
            submodules = {f"{base}.{alias.name}" for alias in node.names} & set(known)
            found |= submodules
            if len(submodules) < len(node.names):
                found.add(base)
    return found


def imports(package: str) -> dict[str, set[str]]:
    """By module those that it makes Python run, the ``__init__`` of packages on the way too."""
    found = {}
    for name in modules(package):
        others = set()
        for other in imported_names(package, name) & set(modules(package)):
            parts = other.split(".")
            packages = {".".join(parts[:count]) for count in range(2, len(parts) + 1)}
            others |= {each for each in packages if not f"{name}.".startswith(f"{each}.")}
        found[name] = others & set(modules(package)) - {package}
    return found


def room(name: str) -> str:
    """The package, or module beside packages, that a module stands in."""
    return ".".join(name.split(".")[:2])


def rooms(package: str) -> dict[str, set[str]]:
    """By room the others that it leans on."""
    found: dict[str, set[str]] = {room(name): set() for name in modules(package)}
    for name, others in imports(package).items():
        found[room(name)] |= {room(other) for other in others} - {room(name)}
    return found


def floors(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """By node the length of the longest way down; a circle is named."""
    found = {}

    def floor(node: str, above: tuple[str, ...]) -> int:
        assert node not in above, f"a circle: {' -> '.join((*above, node))}"
        if node not in found:
            found[node] = 1 + max((floor(each, (*above, node)) for each in graph[node]), default=0)
        return found[node]

    for node in graph:
        floor(node, ())
    return found
