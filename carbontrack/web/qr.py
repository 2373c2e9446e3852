"""QR codes as pictures within a page."""

from __future__ import annotations

import segno
from markupsafe import Markup

MOST_BYTES = 1500
"""A code with more is too fine for a telephone, printed as wide as a hand."""


def qr_svg(text: str, title: str) -> Markup | None:
    """A text as SVG, with the quiet border that readers need; None where it is too long to be read well."""
    if len(text.encode()) > MOST_BYTES:
        return None
    code = segno.make(text, error="l", micro=False, encoding="utf-8")
    drawn = code.svg_inline(
        border=4, dark="#000", light="#fff", omitsize=True, svgclass="qr", lineclass=None, title=title
    )
    return Markup(drawn.replace("<svg ", '<svg role="img" ', 1))  # noqa: S704  # segno escapes the title
