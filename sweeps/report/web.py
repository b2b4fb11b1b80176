"""What every page is made of: one style sheet, and drawings that stand in the page itself."""

from __future__ import annotations

import re
from importlib import resources

import jinja2
from markupsafe import Markup

NAME = "report.html"


def style() -> Markup:
    """The style sheet of every page."""
    return Markup(resources.files("sweeps.report").joinpath("page.css").read_text(encoding="utf-8"))


def template(package: str, name: str) -> jinja2.Template:
    """A page's template, strict: what it names and is not given is an error."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files(package).joinpath(name).read_text(encoding="utf-8")
    return environment.from_string(source)


def inline_svg(text: str, prefix: str) -> str:
    """An SVG file as an element of a page.

    Ids and the references to them get ``prefix``, so that several drawings can share a page; the
    prolog, metadata, style sheet and name spaces go, since in a page they are not needed and
    would reach other parts of it.

    Raises:
        ValueError: there is no ``<svg>`` element.
    """
    start = text.find("<svg")
    if start < 0:
        raise ValueError("text: no <svg> element; allowed: an SVG file")
    text = text[start:].strip()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*</defs>\s*", "", text)
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)
    text = text.replace("xlink:href=", "href=")
    text = re.sub(r'\bid="([^"]*)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r'href="#([^"]*)"', rf'href="#{prefix}-\1"', text)
    text = re.sub(r"url\(#([^)]*)\)", rf"url(#{prefix}-\1)", text)
    # The size comes from the style sheet of the page; the view box keeps the proportions.
    return re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r'\1 role="img"', text, count=1)
