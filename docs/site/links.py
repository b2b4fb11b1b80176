"""Links of the pages that lead to files of the repository, and the site's navigation.

A link to a page is Sphinx's own. One to any other file leads to a copy at the same place in the
site, one to a module of Python to its page with the code, and one to a folder to a list of it.
"""

from __future__ import annotations

import html
import os
import posixpath
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

# What is large and not in the repository.
_LEFT_OUT = ("data", "settings", "__pycache__")
_LIST = "index.html"


def setup(app: Any) -> dict[str, Any]:
    """Add the navigation, and what becomes of the links."""
    app.add_config_value("navigation", {}, "env")
    app.connect("source-read", _with_navigation)
    app.connect("env-updated", _remembered)
    app.connect("build-finished", _copied)
    app.add_transform(FileLinks)
    # What is to be copied is collected in this process.
    return {"parallel_read_safe": False}


def _with_navigation(app: Any, name: str, source: list[str]) -> None:
    for caption, pages in app.config.navigation.get(name, {}).items():
        lines = ["```{toctree}", ":hidden:", *([f":caption: {caption}"] if caption else []), ""]
        lines += [page.replace("<", "</") if "<" in page else f"/{page}" for page in pages]
        source[0] += "\n\n" + "\n".join([*lines, "```"]) + "\n"


class FileLinks(SphinxTransform):
    """Links to files that are no pages."""

    default_priority = 4

    def apply(self, **kwargs: Any) -> None:
        """Make each a plain link, and remember what is to be copied."""
        for node in list(self.document.findall(_leads_to_a_file)):
            target, _, anchor = node["reftarget"].partition("#")
            here = posixpath.dirname(self.env.docname)
            if node.get("refdomain") == "doc":
                # Notebooks are pages of Python, so any module is taken for a page.
                path = f"{target}.py"
                if target in self.env.found_docs:
                    continue
            else:
                path = posixpath.normpath(posixpath.join(here, target))
            if path.startswith("..") or not (Path(self.env.srcdir) / path).exists():
                continue
            link = nodes.reference("", "", *node.children, internal=True)
            link["refuri"] = _relative(here, self._place_of(path)) + (anchor and f"#{anchor}")
            node.replace_self(link)

    def _place_of(self, path: str) -> str:
        whole = Path(self.env.srcdir) / path
        module = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        if path.endswith(".py") and module.split(".")[0] in ("sdpo_jax", "sweeps"):
            _wanted(self.env).setdefault("modules", set()).add(module)
            return f"_modules/{module.replace('.', '/')}.html"
        _wanted(self.env).setdefault("files", set()).add(path)
        return f"{path}/{_LIST}" if whole.is_dir() else path


def _leads_to_a_file(node: nodes.Node) -> bool:
    if isinstance(node, addnodes.download_reference):
        return True
    return (
        isinstance(node, addnodes.pending_xref)
        and node.get("refdomain") != "std"
        and (node.get("reftype") == "myst")
    )


def _relative(here: str, target: str) -> str:
    return posixpath.relpath(target, here or ".")


def _wanted(env: Any) -> dict[str, set[str]]:
    if not hasattr(env, "wanted_files"):
        env.wanted_files = {}
    return env.wanted_files


def _remembered(app: Any, env: Any) -> None:
    """Have the code of modules that a page leads to on a page of its own."""
    for module in _wanted(env).get("modules", ()):
        env._viewcode_modules = getattr(env, "_viewcode_modules", {})
        if env._viewcode_modules.get(module) is None:
            raise ValueError(f"{module}: a page leads to its code, and none documents it")


def _copied(app: Any, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    source, out = Path(app.srcdir), Path(app.outdir)
    for path in sorted(_wanted(app.env).get("files", ())):
        if (source / path).is_dir():
            _list(source, out, path)
        else:
            _copy(source / path, out / path)
    start = f"{app.config.root_doc}.html"
    (out / "index.html").write_text(
        f'<!doctype html><meta charset="utf-8"><title>{html.escape(app.config.project)}</title>'
        f'<meta http-equiv="refresh" content="0; url={start}"><a href="{start}">Start</a>\n',
        encoding="utf-8",
    )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _list(source: Path, out: Path, folder: str) -> None:
    """Copy a folder, with a list of what is in it."""
    names = []
    for path, folders, files in os.walk(source / folder):
        folders[:] = sorted(each for each in folders if each not in _LEFT_OUT)
        for file in sorted(files):
            whole = Path(path) / file
            if file != _LIST and not file.startswith("."):
                _copy(whole, out / whole.relative_to(source))
                names.append(whole.relative_to(source / folder).as_posix())
    items = "\n".join(f'<li><a href="{html.escape(n)}">{html.escape(n)}</a></li>' for n in names)
    title = html.escape(folder)
    (out / folder / _LIST).write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>body{{font-family:sans-serif;margin:2rem;line-height:1.6}}"
        f"</style><h1>{title}</h1>\n<ul>\n{items}\n</ul>\n",
        encoding="utf-8",
    )
