"""The Prometheus of the system, which runs by the very files of deploy/prometheus; and what PromQL names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from aiohttp import ClientSession
from prometheus_client.metrics import MetricWrapperBase

from carbontrack.metrics import Metrics
from tests.support.system import Server, free_port, needs

ROOT = Path(__file__).parent.parent.parent
FILES = ROOT / "deploy" / "prometheus"
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def known_metrics() -> dict[str, set[str]]:
    """The labels of every time series that the core gives, by its name."""
    found: dict[str, set[str]] = {}
    for collector in Metrics().registry._collector_to_names:
        assert isinstance(collector, MetricWrapperBase)
        (family,) = collector.describe()
        labels = set(collector._labelnames)
        for suffix in SUFFIXES[family.type]:
            found[family.name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """Every metric of ours that PromQL names, with the labels that it is chosen by."""
    found = re.findall(r"\b(carbontrack[_:][\w:]*)(?:\{([^}]*)\})?", expression)
    return [(name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", chosen))) for name, chosen in found]


@dataclass(frozen=True)
class Prometheus:
    """A running one."""

    url: str

    async def ask(self, path: str, **values: str) -> Any:
        """What its API answers: the part ``data``."""
        async with ClientSession() as client, client.get(f"{self.url}/api/v1/{path}", params=values) as answer:
            said = await answer.json()
        assert said["status"] == "success", said
        return said["data"]

    async def query(self, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
        """The values of an expression now, by their labels."""
        found = (await self.ask("query", query=expression))["result"]
        return {tuple(sorted(row["metric"].items())): float(row["value"][1]) for row in found}


@contextmanager
def prometheus(folder: Path, *, target: str, token: str) -> Iterator[Prometheus]:
    """Run it by the shipped files. Only the target and the times differ: it asks every second."""
    program = needs("prometheus", package="prometheus")
    text = (FILES / "prometheus.yml").read_text()
    for shipped, own in {
        "localhost:8080": target,
        "scrape_interval: 15s": "scrape_interval: 1s",
        "scrape_timeout: 10s": "scrape_timeout: 1s",
        "evaluation_interval: 15s": "evaluation_interval: 1s",
    }.items():
        assert text.count(shipped) == 1
        text = text.replace(shipped, own)
    (folder / "prometheus.yml").write_text(text)
    (folder / "carbontrack.rules.yml").write_text((FILES / "carbontrack.rules.yml").read_text())
    (folder / "metrics-token").write_text(f"{token}\n")
    port = free_port()
    server = Server(
        [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        log=folder / "prometheus.log",
        is_ready=lambda: _answers(port),
    )
    server.start()
    try:
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        server.stop()


def _answers(port: int) -> bool:
    """Whether it has read what it had kept; before that it answers 503."""
    with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as answer:
        return bool(answer.status == HTTPStatus.OK)
    return False
