"""What every page is made of: one style sheet, and drawings that stand in the page itself."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

NAME = "report.html"


def style() -> Markup:
    """The style sheet of every page."""
    return Markup(resources.files("sweeps.report").joinpath("page.css").read_text(encoding="utf-8"))


def page(package: str, template: str, /, **values: Any) -> str:
    """A page of a template, with the style sheet as ``style``.

    Args:
        package: that has the template.
        template: its name; it is strict: what it names and is not given is an error.
        values: what it asks for.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files(package).joinpath(template).read_text(encoding="utf-8")
    return labelled(environment.from_string(source).render(style=style(), **values))


def labelled(page: str) -> str:
    """A page whose cells say what column they are of, as ``data-label``.

    On a phone each row of a table is a card, which has no room for the columns' heads.
    """
    return re.sub(r"<table\b.*?</table>", _with_labels, page, flags=re.DOTALL)


def _with_labels(table: re.Match[str]) -> str:
    heads = [
        Markup(head).striptags()
        for head in re.findall(r"<th\b[^>]*>(.*?)</th>", table[0], re.DOTALL)
    ]

    def row(found: re.Match[str]) -> str:
        columns = iter(heads)

        def cell(found: re.Match[str]) -> str:
            head = next(columns, "")
            label = Markup(' data-label="{}"').format(head if found[2].strip() else "")
            return f"<td{label}{found[1]}>{found[2]}</td>"

        return re.sub(r"<td\b([^>]*)>(.*?)</td>", cell, found[0], flags=re.DOTALL)

    return re.sub(r"<tr\b.*?</tr>", row, table[0], flags=re.DOTALL)


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
