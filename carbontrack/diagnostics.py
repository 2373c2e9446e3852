"""One file for whoever helps: versions, configuration, what doctor says, metrics, the newest lines of the log.

Nothing secret is in it, and nobody's name, address of mail or telephone (:mod:`carbontrack.redact`). What cannot be
gathered is told in its place: a bundle is wanted most when something does not work.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import platform
import sys
import zipfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client import generate_latest

from carbontrack.app import Core
from carbontrack.config import Config
from carbontrack.config.fields import MASK
from carbontrack.doctor import examine, own_address
from carbontrack.hookspecs import PluginStatus
from carbontrack.model import Site
from carbontrack.redact import Redactor, redactor_of
from carbontrack.store import Store, newest_migration, schema_of

ANSWER_S = 10.0
README = """\
Diagnostics of Carbon Track {version}, made {at} UTC.

versions.json       Carbon Track, its schema and the database's, Python and its packages, the system
configuration.json  every setting, with its default where nothing is set
doctor.json         what `carbontrack doctor` says
problems.json       what the network page says of the platform itself
plugins.json        each plugin's state
devices.json        each device's state, what it was heard last and its stream's watermark
tables.json         how large each table is
metrics.txt         every metric, as Prometheus reads it
log.jsonl           the newest lines of the log{log}

Passwords, tokens, keys, people's names, addresses of mail and telephone numbers are taken out ({mask}).
{people}Look at it yourself before you give it to anybody.
"""


@dataclass(frozen=True, slots=True)
class Source:
    """Where diagnostics are gathered: in a running ``core``, or beside it (None), by the command line.

    ``store`` None: there is no database, so nobody's name is known. ``folder`` is that of the configuration file.
    """

    config: Config
    folder: Path | None
    store: Store | None
    core: Core | None
    log: Sequence[str]


async def of_core(folder: Path | None, log: Callable[[], Sequence[str]], core: Core) -> bytes:
    """The diagnostics of a running core; ``log`` gives the newest lines of its log."""
    return await bundle(Source(core.config, folder, core.store, core, log()), datetime.now(UTC))


async def bundle(source: Source, now: datetime) -> bytes:
    """A zip archive with everything, redacted."""
    users = await source.store.users() if source.store else []
    sites = await source.store.sites() if source.store else []
    redactor = redactor_of(source.config, users, sites)

    async def part(gathering: Awaitable[Any]) -> Any:
        try:
            return await gathering
        except Exception as error:  # noqa: BLE001  # the rest is wanted all the same
            return {"not gathered": f"{type(error).__name__}: {error}"}

    tables = {
        "versions": await part(versions(source)),
        "configuration": settings(source.config),
        "doctor": await part(_doctor(source)),
        "problems": source.core.problems() if source.core else "known to the running core alone",
        "plugins": await part(_plugins(source)),
        "devices": await part(_devices(source, sites)),
        "tables": await part(_tables(source)),
    }
    metrics = await part(_metrics(source))
    where = (
        "nothing was written yet" if source.core else "they are where standard error went (--log FILE takes them in)"
    )
    log = "" if source.log else f": none, {where}"
    people = "" if source.store else "The database was not there: names of people may have stayed in the log.\n"
    head = README.format(
        version=version("carbontrack"), at=f"{now:%Y-%m-%d %H:%M:%S}", mask=MASK, log=log, people=people
    )

    def write() -> bytes:
        files = {f"{name}.json": json.dumps(redactor.value(it), indent=2) for name, it in tables.items()}
        files["metrics.txt"] = redactor.text(metrics if isinstance(metrics, str) else json.dumps(metrics))
        files["log.jsonl"] = "".join(f"{_line(redactor, line)}\n" for line in source.log)
        return _zipped({"README.txt": head, **files}, now)

    return await asyncio.to_thread(write)


def settings(config: Config) -> dict[str, Any]:
    """The configuration without its secrets, and without what is written there by hand and may be anybody's."""
    shown: dict[str, Any] = config.model_dump(mode="json", fallback=str)
    shown["mail"]["sender"] = _covered(shown["mail"]["sender"])
    shown["plugins"]["options"] = _covered(shown["plugins"]["options"])
    for entry in shown["notifications"]:
        entry["options"] = _covered(entry["options"])
    for schedule in shown["reports"]["schedules"]:
        schedule["to"] = _covered(schedule["to"])
    return shown


def _covered(value: Any) -> Any:
    """The shape of a value, with every text in it covered."""
    if isinstance(value, Mapping):
        return {key: _covered(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_covered(inner) for inner in value]
    return MASK if isinstance(value, str) and value else value


# --- the parts


async def versions(source: Source) -> dict[str, Any]:
    """Of everything that takes part."""
    names = {str(it.metadata["Name"]): it.version for it in distributions()}
    try:
        system = platform.freedesktop_os_release()
    except OSError:  # not every system has the file
        system = {}
    return {
        "carbontrack": version("carbontrack"),
        "schema of this version": newest_migration(),
        "schema of the database": await schema_of(source.config.database.url),
        "database": await source.store.server_version() if source.store else "not there",
        "python": sys.version,
        "system": f"{system.get('PRETTY_NAME', '')} {platform.platform()}".strip(),
        "processors": os.cpu_count(),
        "packages": dict(sorted(names.items(), key=lambda item: item[0].lower())),
    }


async def _doctor(source: Source) -> list[dict[str, Any]]:
    return [asdict(finding) async for finding in examine(source.config, source.folder)]


async def _plugins(source: Source) -> list[dict[str, Any]]:
    if source.core is not None:
        statuses: Sequence[PluginStatus] = source.core.plugins.statuses()
    else:
        from carbontrack.plugins import load_plugins  # noqa: PLC0415  # it imports every plugin

        statuses = load_plugins(source.config).statuses
    return [
        {
            "name": it.name,
            "version": it.manifest.version if it.manifest else None,
            "origin": it.origin,
            "state": it.state.value,
            "brings": list(it.brings),
            "error": it.error,
            "errors": it.errors,
            "notes": list(it.notes),
        }
        for it in statuses
    ]


async def _devices(source: Source, sites: Sequence[Site]) -> list[dict[str, Any]]:
    if source.store is None:
        raise ConnectionError("the database is not there")
    heard, streams = await source.store.last_heard(), await source.store.streams()
    states = source.core.fleet.states() if source.core else {}
    errors = source.core.fleet.errors() if source.core else {}
    found = []
    for site in sites:
        name = site.device.device_id
        found.append(
            {
                "device": name,
                "factory": site.factory.slug,
                "stack": site.stack.id,
                "sensor": site.device.sensor,
                "status": site.device.status.value,
                "actor": states.get(name, ""),
                "error": errors.get(name, ""),
                "last heard": heard[name].isoformat() if name in heard else None,
                "watermarks": [stream.watermark for stream in streams.get(name, ())],
            }
        )
    return found


async def _tables(source: Source) -> list[dict[str, Any]]:
    if source.store is None:
        raise ConnectionError("the database is not there")
    return [table._asdict() for table in await source.store.table_sizes()]


async def _metrics(source: Source) -> str:
    if source.core is not None:
        source.core.fleet.measure()
        source.core.plugins.measure()
        return generate_latest(source.core.metrics.registry).decode()
    http = source.config.http
    headers = {"Authorization": f"Bearer {http.metrics_token.get_secret_value()}"} if http.metrics_token else {}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(ANSWER_S), headers=headers) as session,
        session.get(f"{own_address(http)}/metrics", ssl=not http.tls, raise_for_status=True) as answer,
    ):
        return await answer.text()


def _line(redactor: Redactor, line: str) -> str:
    """A line of the log, whether it is JSON or for people."""
    try:
        record = json.loads(line)
    except ValueError:
        return redactor.text(line)
    return json.dumps(redactor.value(record))


def _zipped(files: Mapping[str, str], now: datetime) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, now.timetuple()[:6]), content, zipfile.ZIP_DEFLATED)
    return target.getvalue()
