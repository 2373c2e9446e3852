"""Looks at everything that Carbon Track needs on a machine, one thing after the other, and says what to do.

Nothing is changed, and nothing is raised: what cannot be looked at is itself a finding.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import aiohttp
from cryptography import x509

from carbontrack.app import bridge_settings, broker_settings
from carbontrack.config import Config, Http
from carbontrack.configured import problems_of
from carbontrack.ingest import BrokerSettings, sign_in
from carbontrack.metrics import Metrics
from carbontrack.relay_desk import look_at_bridge
from carbontrack.store import (
    SchemaMismatch,
    StoreUnavailable,
    is_missing,
    newest_migration,
    open_store,
    schema_of,
)

ENDS_SOON = timedelta(days=30)
CLOCKS_AGREE_S = 2.0
"""Two machines with NTP differ by less. Nodes take the time from receipts where they have no other."""
LITTLE_ROOM = 0.1
ANSWER_S = 10.0
LINK_S = 2.0
"""What a broker keeps it tells at once."""


class Verdict(StrEnum):
    """How a thing is."""

    FINE = "fine"
    LOOK = "look"
    """It works, and somebody should look after it."""
    WRONG = "wrong"
    """It does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do where it is not fine."""

    subject: str
    verdict: Verdict
    text: str
    to_do: str = ""


def fine(subject: str, text: str) -> Finding:
    return Finding(subject, Verdict.FINE, text)


def look(subject: str, text: str, to_do: str) -> Finding:
    return Finding(subject, Verdict.LOOK, text, to_do)


def wrong(subject: str, text: str, to_do: str) -> Finding:
    return Finding(subject, Verdict.WRONG, text, to_do)


async def examine(
    config: Config, folder: Path | None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> AsyncIterator[Finding]:
    """Everything, in the order in which it is mended best. ``folder`` is that of the configuration file."""
    for finding in [*configuration(config), *secrets_of(config, folder)]:
        yield finding
    async for finding in database(config, clock):
        yield finding
    async for finding in broker(config, clock()):
        yield finding
    if config.relay.enabled:
        yield await bridge(config)
    for finding in rooms(config):
        yield finding
    yield await core(config)


# --- the configuration and its secrets


def configuration(config: Config) -> list[Finding]:
    """The configuration, the plugins and the alerts that it names, and the portal's certificate."""
    problems = problems_of(config)
    if not problems:
        return [fine("configuration", "All of it can be used, plugins and alerts included.")]
    return [wrong("configuration", problem, "Mend it; carbontrack check-config says it again.") for problem in problems]


def secrets_of(config: Config, folder: Path | None) -> Iterable[Finding]:
    """Files that only their owner should read, and values that were never filled in."""
    files = [folder / "secrets.yaml"] if folder is not None else []
    for file in [*files, config.reports.signing_key_file]:
        if not file.is_file():
            continue
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            yield wrong("secrets", f"{file} can be read by others (mode {mode:04o}).", f"Run: chmod 600 {file}")
        elif "CHANGE-ME" in file.read_text("utf-8", "replace"):
            yield wrong("secrets", f"{file} still says CHANGE-ME.", "Fill it in: openssl rand -hex 32 makes a secret.")
        else:
            yield fine("secrets", f"{file} is for its owner alone.")


# --- the database


async def database(config: Config, clock: Callable[[], datetime]) -> AsyncIterator[Finding]:
    """Whether it is there, has our schema, and has the same time as we have."""
    url = config.database.url
    if is_missing(url):
        yield wrong(
            "database", f"There is no {url.removeprefix('sqlite://')} yet.", "Run: carbontrack migrate --config FILE"
        )
        return
    try:
        async with open_store(url, Metrics()) as store:
            began = time.perf_counter()
            theirs, ours = await store.server_time(), clock()
            took_ms = 1000 * (time.perf_counter() - began)
            schema = f"its schema is that of this version, {newest_migration()}"
            yield fine("database", f"It answers in {took_ms:.1f} ms, and {schema}.")
            apart_s = abs((theirs - ours).total_seconds())
            if apart_s > CLOCKS_AGREE_S:
                text = f"This machine's clock and the database's are {apart_s:.0f} s apart."
                yield wrong("clock", text, "Have both keep time by NTP: timedatectl set-ntp true")
            else:
                yield fine("clock", "This machine and the database have the same time.")
    except SchemaMismatch as error:
        has, knows = await schema_of(url) or "none", newest_migration()
        text = f"{error} (Its newest is {has}, this version's {knows}.)"
        yield wrong("database", text, "Make a backup first where there are data: docs/deploy/upgrading.md")
    except (StoreUnavailable, OSError, ValueError) as error:
        yield wrong("database", f"It cannot be used: {error}", "Is it running, and are name and password right?")


# --- the broker


async def broker(config: Config, now: datetime) -> AsyncIterator[Finding]:
    """Whether we may sign in there, and how long its certificate holds."""
    where, plain = f"{config.mqtt.host}:{config.mqtt.port}", config.mqtt.tls is None
    if plain and config.mqtt.host not in ("127.0.0.1", "localhost", "::1"):
        yield wrong("broker", f"{where} is spoken to without TLS.", "Set mqtt.tls; docs/brokers.md says how.")
    try:
        settings = broker_settings(config)
    except (OSError, ssl.SSLError) as error:
        yield wrong("broker", f"The files of mqtt.tls cannot be used: {error}", "Put them there, or name others.")
        return
    if settings.tls is not None:
        yield await asyncio.to_thread(_certificate, settings, settings.tls, now)
    try:
        await asyncio.wait_for(sign_in(settings), ANSWER_S)
    except (OSError, TimeoutError) as error:
        to_do = "Is it running, and are mqtt.username and mqtt.password right there? docs/brokers.md"
        yield wrong("broker", f"{where} does not let us in: {_said(error)}", to_do)
    else:
        yield fine("broker", f"{where} lets us in, and we may listen to the devices.")


async def bridge(config: Config) -> Finding:
    """Whether what devices measure goes on to headquarters."""
    settings, subject = bridge_settings(config), "bridge"
    where = f"{settings.host}:{settings.port}"
    if settings.host not in ("127.0.0.1", "localhost", "::1"):
        return wrong(subject, f"{where} is spoken to without TLS.", "Run the bridge's broker on this machine.")
    try:
        is_linked = await asyncio.wait_for(look_at_bridge(settings, LINK_S), ANSWER_S)
    except (OSError, TimeoutError) as error:
        to_do = "Is carbontrack-bridge running, and is relay.password its own? docs/deploy/resilient-site.md"
        return wrong(subject, f"{where} does not let us in: {_said(error)}", to_do)
    if not is_linked:
        to_do = "Nothing is lost. Is the link there? journalctl -u carbontrack-bridge says more."
        return look(subject, "It has no connection to headquarters now.", to_do)
    return fine(subject, "It is connected to headquarters.")


def _said(error: Exception) -> str:
    return str(error) or "no answer"


def _certificate(settings: BrokerSettings, tls: ssl.SSLContext, now: datetime) -> Finding:
    try:
        with (
            socket.create_connection((settings.host, settings.port), ANSWER_S) as plain,
            tls.wrap_socket(plain, server_hostname=settings.host) as link,
        ):
            der = link.getpeercert(binary_form=True) or b""
    except ssl.SSLCertVerificationError as error:
        to_do = "Is mqtt.tls.ca_file the authority that signed it, and mqtt.host the name in it?"
        return wrong("broker's certificate", f"It is not to be trusted: {error.verify_message}.", to_do)
    except (OSError, ssl.SSLError) as error:
        return wrong("broker's certificate", f"It cannot be seen: {error}", "Is the broker running, with TLS there?")
    return ending("broker's certificate", x509.load_der_x509_certificate(der).not_valid_after_utc, now)


def ending(subject: str, ends: datetime, now: datetime) -> Finding:
    """How long a certificate still holds."""
    left = ends - now
    if left < ENDS_SOON:
        to_do = "Renew it: deploy/mosquitto/README.md. Without it no device gets in any more."
        verdict = Verdict.WRONG if left < timedelta() else Verdict.LOOK
        return Finding(subject, verdict, f"It ends on {ends:%d %b %Y}.", to_do)
    return fine(subject, f"It holds until {ends:%d %b %Y}.")


# --- the machine


def rooms(config: Config) -> Iterable[Finding]:
    """How much room there is where we write, as far as the configuration says where that is."""
    url, kept = config.database.url, config.retention
    written = {
        "the database": Path(url.removeprefix("sqlite://")).absolute().parent if url.startswith("sqlite://") else None,
        "the disk of the database": kept.watch_disk,
        "the archive": kept.archive_folder,
    }
    for what, folder in written.items():
        if folder is None:
            continue
        there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())  # it may yet be made
        usage = shutil.disk_usage(there)
        text = f"{usage.free / 1e9:.1f} GB are free in {folder}, for {what}."
        if usage.free < kept.reserve_mb * 1_000_000:
            yield wrong("disk", text, f"Make room: below {kept.reserve_mb} MB only readings are written.")
        elif usage.free < LITTLE_ROOM * usage.total:
            yield look("disk", text, "Make room, or keep single readings for a shorter time: docs/retention.md")
        else:
            yield fine("disk", text)


def own_address(http: Http) -> str:
    """Where a core of this machine listens."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(http.host, http.host)  # noqa: S104  # compared, not listened on
    return f"{'https' if http.tls else 'http'}://{host}:{http.port}"


async def core(config: Config) -> Finding:
    """What the core itself says, if it is running here."""
    http, url = config.http, f"{own_address(config.http)}/readyz"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(ANSWER_S)) as session,
            session.get(url, ssl=not http.tls) as answer,  # its own address is not in its certificate
        ):
            body = await answer.json()
            reasons = " ".join(str(reason) for reason in body["reasons"])
    except aiohttp.ClientConnectorError:
        return look("core", f"Nothing listens at {url}.", "Start it: carbontrack serve")
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
        text = f"{url} does not answer as a core does: {_said(error)}"
        return wrong("core", text, "Does another program have http.port?")
    if reasons:
        return wrong(
            "core", f"It runs, and is not ready: {reasons}", "Its log says more; docs/metrics.md says what to watch."
        )
    return fine("core", f"It runs and is ready: {url}")
