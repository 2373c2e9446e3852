"""Traces by OpenTelemetry, where ``tracing.endpoint`` says so: a span for each request, and one for each commit.

Its packages are an extra (``pip install 'carbontrack[tracing]'``) and are loaded only then; without an endpoint nothing
of this stands in the way of a request or a commit. Spans are sent from a thread of their own. They have routes, and no
addresses, bodies or names.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from typing import Any, Protocol

from carbontrack.config import Config
from carbontrack.store import Backend, Batch

PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
TRACES = "/v1/traces"


class Span(Protocol):
    """One piece of work with a beginning and an end."""

    def set_attribute(self, key: str, value: Any) -> None: ...

    def get_span_context(self) -> Any: ...


class Tracer(Protocol):
    """Begins spans."""

    def start_as_current_span(self, name: str) -> AbstractContextManager[Span]: ...


def tracing_problems(config: Config) -> list[str]:
    """Why nothing can be traced, where it is to be."""
    if config.tracing.endpoint is None or all(map(_is_there, PACKAGES)):
        return []
    to_do = "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
    return [f"tracing.endpoint is set, but its packages are not installed, so nothing is traced: {to_do}"]


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # not even what it is a part of
        return False


@contextmanager
def traced(config: Config) -> Iterator[Tracer | None]:
    """What begins spans, until the block ends and the last of them are sent; None where nothing is traced."""
    if config.tracing.endpoint is None or tracing_problems(config):
        yield None
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  # an extra
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  # as above
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  # as above
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415  # as above
    from opentelemetry.sdk.trace.sampling import TraceIdRatioBased  # noqa: PLC0415  # as above

    # A collector that is away is no error of ours, and says so with each attempt.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    about = Resource({"service.name": "carbontrack", "service.version": version("carbontrack")})
    provider = TracerProvider(resource=about, sampler=TraceIdRatioBased(config.tracing.share), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=config.tracing.endpoint + TRACES)))
    try:
        yield provider.get_tracer("carbontrack")
    finally:
        provider.shutdown()


class TracedBackend:
    """The writer's way to the database with a span around each commit."""

    def __init__(self, backend: Backend, tracer: Tracer) -> None:
        self._backend = backend
        self._tracer = tracer

    async def write(self, batch: Batch, *, trial: bool = False) -> Sequence[int]:
        with self._tracer.start_as_current_span("commit") as span:
            span.set_attribute("carbontrack.readings", len(batch.readings))
            span.set_attribute("carbontrack.works", batch.works)
            return await self._backend.write(batch, trial=trial)

    async def close(self) -> None:
        await self._backend.close()
