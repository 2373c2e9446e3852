"""The process that renders one report: ``python -m carbontrack.plugins.worker JOB ANSWER``. See ``rendering``."""

from __future__ import annotations

import contextlib
import pickle
import sys
from pathlib import Path

from carbontrack.compliance import ComplianceReport
from carbontrack.config import Config
from carbontrack.config.settings import Plugins
from carbontrack.plugins import collect_alone
from carbontrack.plugins.loading import LoadError, load
from carbontrack.plugins.rendering import FAILED, Job


def main(asked: Path, answered: Path) -> int:
    """Render the job's report; 0 with the file as the answer, or :data:`FAILED` with the reason."""
    with asked.open("rb") as file:
        job: Job = pickle.load(file)  # noqa: S301  # the core wrote it, in a folder of its own
    sys.path[:] = job.sys_path
    _limit_memory(job.memory_mb)
    try:
        answered.write_bytes(_render(job))
    except MemoryError:
        answered.write_text(f"it needs more than {job.memory_mb} MB of memory (plugins.report_memory_mb)", "utf-8")
    except LoadError as error:
        answered.write_text(f"{error} {error.advice}", "utf-8")
    except BaseException as error:  # noqa: BLE001  # whatever a plugin raises is the answer
        answered.write_text(f"{type(error).__name__}: {error}", "utf-8")
    else:
        return 0
    return FAILED


def _render(job: Job) -> bytes:
    config = Config(plugins=Plugins(options={job.found.name: dict(job.options)}))
    brought = collect_alone(load(job.found, config))
    if isinstance(job.report, ComplianceReport):
        body = brought.compliance_formats[job.format_name].render(job.report)
    else:
        body = brought.report_formats[job.format_name].render(job.report)
    if not isinstance(body, bytes):
        raise TypeError(f"render gave {type(body).__name__}, not bytes")
    return body


def _limit_memory(megabytes: int) -> None:
    with contextlib.suppress(ImportError, ValueError):  # Windows has no such limit; a lower one may be set already
        import resource  # noqa: PLC0415  # as above

        resource.setrlimit(resource.RLIMIT_AS, (megabytes * 1_000_000,) * 2)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
