"""How the pages of this folder become a site: `make docs`, into build/docs.

The source folder is the repository's root, so that a link between pages, or to a file of the
repository, is the same relative path here, on a code host and in the site.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS / "site")]
# The notebooks' own processes read this checkout, too.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
)

import sdpo_jax  # noqa: E402

project = "sdpo_jax"
release = version = sdpo_jax.__version__
html_title = f"sdpo_jax {release}"

# `site/docstrings.py` and `site/links.py` are ours.
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode",
              "docstrings", "links"]  # fmt: skip
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "docs/*.md",
    "docs/reference/*.md",
    "docs/notebooks/*.py",
    *(f"results/{name}/*.md" for name in ("paper", "audit", "in_context", "benchmarks",
                                          "calibration", "posterior")),
]  # fmt: skip
nitpicky = False
highlight_language = "none"

# A navigation is no part of a page that is read on a code host: it is added here.
navigation = {
    "docs/index": {
        "Start": ["Overview <README>", "docs/installation", "docs/how_long"],
        "Notebooks": [
            "docs/notebooks/grid_in_ten_lines",
            "docs/notebooks/your_own_algorithm",
            "docs/notebooks/the_papers_claims",
        ],
        "Guides": [
            "docs/sweeps",
            "docs/clusters",
            "docs/parts_of_your_own",
            "docs/adding_an_algorithm",
            "docs/losses",
            "docs/in_context",
            "docs/performance",
        ],
        "Reference": [
            "docs/reference/index",
            "docs/results",
            "docs/glossary",
            "CHANGELOG",
        ],
    },
    "docs/reference/index": {
        "": [
            f"docs/reference/{name}"
            for name in ("sdpo_jax", "losses", "parts", "grid", "in_context", "sweeps",
                         "statistics")
        ],
    },
    "docs/results": {
        "": [
            "results/paper/claims",
            "results/audit/verdicts",
            "results/in_context/verdicts",
            "results/calibration/calibration",
            "results/posterior/posterior",
        ],
    },
    "docs/performance": {
        "": [
            f"results/benchmarks/{path.stem}"
            for path in sorted((ROOT / "results/benchmarks").glob("*.md"))
        ],
    },
}  # fmt: skip

# Pages
myst_heading_anchors = 4
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
# `-D nb_execution_mode=off` builds without the notebooks' outputs, in seconds.
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build/docs-notebooks")
nb_execution_timeout = 600
nb_execution_raise_on_error = True

# Docstrings
autodoc_default_options = {"members": True, "undoc-members": True}
# A tuple's or a dataclass's fields are what it is made of.
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_use_rtype = False
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
default_role = "code"

# The look; nothing is loaded from another place.
html_theme = "furo"
html_show_sphinx = False
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_static_path = [str(DOCS / "site" / "style")]
html_css_files = ["site.css"]
