"""Runs a report format in a process of its own, with limits: what it does there harms nobody but its own report."""

from __future__ import annotations

import asyncio
import pickle
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carbontrack.compliance import ComplianceReport
from carbontrack.config.settings import Plugins
from carbontrack.model import Report
from carbontrack.plugins.finding import Found
from carbontrack.tasks import python_process

FAILED = 3
"""The worker's exit code when the format failed, and its answer is the reason."""


class RenderError(Exception):
    """A report format failed; the text says how."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one report may take."""

    timeout_s: float
    memory_mb: int

    @classmethod
    def of(cls, settings: Plugins) -> Limits:
        """Those of the configuration."""
        return cls(settings.report_timeout_s, settings.report_memory_mb)


@dataclass(frozen=True, slots=True)
class Job:
    """What the worker is given. Its plugin is loaded there anew, as the core's own cannot be handed over."""

    sys_path: list[str]
    found: Found
    options: Mapping[str, Any]
    format_name: str
    report: Report | ComplianceReport
    memory_mb: int


async def render(
    found: Found, options: Mapping[str, Any], format_name: str, report: Report | ComplianceReport, limits: Limits
) -> bytes:
    """A report as a file. Raises :class:`RenderError`; when it is cancelled, the process is ended."""
    job = Job(list(sys.path), found, dict(options), format_name, report, limits.memory_mb)
    with tempfile.TemporaryDirectory(prefix="carbontrack-report-") as folder:
        asked, answered = Path(folder, "job"), Path(folder, "answer")
        await asyncio.to_thread(_write, asked, job)
        code, told = await _run(asked, answered, limits.timeout_s)
        answer = await asyncio.to_thread(_read, answered)
    if code == 0:
        return answer
    if code == FAILED:
        raise RenderError(answer.decode(errors="replace"))
    if code == -signal.SIGKILL:
        raise RenderError("its process was killed: perhaps the machine is out of memory")
    raise RenderError(f"its process ended with {code}: {told[-500:].decode(errors='replace').strip()}")


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _write(path: Path, job: Job) -> None:
    with path.open("wb") as file:
        pickle.dump(job, file, protocol=pickle.HIGHEST_PROTOCOL)


async def _run(asked: Path, answered: Path, timeout_s: float) -> tuple[int, bytes]:
    """Run the worker; its exit code and what it said on stderr."""
    arguments = ("-m", "carbontrack.plugins.worker", str(asked), str(answered))
    try:
        async with asyncio.timeout(timeout_s), python_process(*arguments) as worker:
            _, told = await worker.communicate()
    except TimeoutError:
        raise RenderError(f"it took longer than {timeout_s:g} s (plugins.report_timeout_s)") from None
    assert worker.returncode is not None
    return worker.returncode, told
