"""Pages as a browser gets them, and what a screen reader makes of their forms.

PYTEST_DONT_REWRITE, as in ``tests.support.world``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from aiohttp.test_utils import TestClient

from tests.support.web import SAME_ORIGIN

Browser = TestClient[Any, Any]


async def page(browser: Browser, path: str, status: int = 200) -> str:
    """A page, and every label of it is bound."""
    answer = await browser.get(path, allow_redirects=False)
    text = await answer.text()
    assert answer.status == status, text
    assert_labelled(text)
    return text


async def send(browser: Browser, path: str, form: Mapping[str, Any] | None = None) -> tuple[int, str]:
    """Send a form: the status of the answer itself, and the page that the browser shows in the end."""
    answer = await browser.post(path, data=dict(form or {}), headers=SAME_ORIGIN, allow_redirects=False)
    if answer.status != 303:
        text = await answer.text()
        assert_labelled(text)
        return answer.status, text
    return 303, await page(browser, answer.headers["Location"].partition("#")[0])


@dataclass
class _Elements(HTMLParser):
    """What a page's forms are made of."""

    ids: Counter[str] = field(default_factory=Counter)
    labels: set[str] = field(default_factory=set)
    fields: list[dict[str, str | None]] = field(default_factory=list)
    refers: list[str] = field(default_factory=list)
    depth: int = 0
    """Within how many labels the parser is."""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if name := given.get("id"):
            self.ids[name] += 1
        for reference in ("aria-describedby", "aria-labelledby", "for"):
            self.refers += (given.get(reference) or "").split()
        if tag == "label":
            self.depth += 1
            self.labels.add(given.get("for") or "")
        if tag in {"input", "select", "textarea"} and given.get("type") != "hidden":
            self.fields.append(given | ({"labelled": "within"} if self.depth else {}))

    def handle_endtag(self, tag: str) -> None:
        if tag == "label":
            self.depth -= 1


def assert_labelled(text: str) -> None:
    """Every field has a label, and whatever refers to something on the page refers to one thing that is there."""
    found = _Elements()
    found.feed(text)
    assert not [name for name, times in found.ids.items() if times > 1]
    assert not [name for name in found.refers if name not in found.ids]
    for given in found.fields:
        assert "labelled" in given or "aria-label" in given or given.get("id") in found.labels, given
