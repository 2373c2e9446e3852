#!/usr/bin/env python3
"""Draw the icons of the installed portal out of favicon.svg, with the system's Chromium (as the tests use it)."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

STATIC = Path(__file__).resolve().parent.parent / "carbontrack" / "web" / "static"
GROUND = "#14603f"
ICONS = {"icon-192": (192, 1.0), "icon-512": (512, 1.0), "maskable-512": (512, 0.72)}
"""Side in pixels, and how much of it the drawing takes: a maskable one is cut to any shape within its inner 80 %."""


def page_of(drawing: str, side: int, share: float) -> str:
    """A page with the drawing alone, in the middle of its ground where it does not take all of it."""
    ground = "transparent" if share == 1.0 else GROUND
    inner = side * share
    return (
        f"<body style='margin:0;width:{side}px;height:{side}px;display:grid;place-items:center;background:{ground}'>"
        f"<div style='width:{inner}px;height:{inner}px;display:grid'>{drawing}</div></body>"
    )


def main() -> None:
    """Write the icons."""
    drawing = (STATIC / "favicon.svg").read_text(encoding="utf-8")
    square = re.sub(r' rx="\d+"', "", drawing)
    (STATIC / "icons").mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for name, (side, share) in ICONS.items():
            page = browser.new_page(viewport={"width": side, "height": side})
            page.set_content(page_of(drawing if share == 1.0 else square, side, share))
            page.screenshot(path=STATIC / "icons" / f"{name}.png", omit_background=True)
        browser.close()


if __name__ == "__main__":
    main()
