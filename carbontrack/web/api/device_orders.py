"""What devices are told to be, and to do."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aiohttp import web
from pydantic import Field

from carbontrack.device_settings import (
    CommandState,
    ConfigState,
    DeviceCommand,
    DeviceConfig,
    DeviceSettings,
    Why,
    chosen_settings,
    differences,
)
from carbontrack.model import Scope, Site
from carbontrack.web.access import EVERYBODY, REGISTRY_ROLES, USER, origin, scope
from carbontrack.web.contract import Tag, operation
from carbontrack.web.device_orders import (
    COMMANDERS,
    CommandInput,
    SettingsInput,
    change_settings,
    device_site,
    tell_device,
)
from carbontrack.web.rest import Id, Input, Output, Page, Paged, id_before, write_cursor
from carbontrack.web.services import SERVICES, Services

DEVICE = "/api/mcu-devices/{id:\\d{1,9}}/"


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    router = app.router
    router.add_get(f"{DEVICE}settings/", settings)
    router.add_put(f"{DEVICE}settings/", put_settings)
    router.add_get(f"{DEVICE}settings/history/", history)
    router.add_post(f"{DEVICE}settings/send-again/", send_again)
    router.add_get(f"{DEVICE}commands/", commands)
    router.add_post(f"{DEVICE}commands/", add_command)


# --- settings


class LimitOut(Output):
    code: str
    """Such as `rate_high`."""
    limit: float | None
    """kg/s CO2, degC or m/s, as the code says; null: it has none."""
    hysteresis: float
    """How far back over the limit it is over."""
    for_s: int
    """It has to last for so long."""
    level: str
    """`info`, `warning` or `critical`."""


class ErrorOut(Output):
    path: str
    """Where in the document; empty: the whole of it."""
    code: str
    """One of the protocol's: `range`, `missing`, `reverted`, ..."""


class SettingsOut(Output):
    """The settings of a device, and how far it is with them."""

    sample_s: int
    readings: int
    """Measurements for one record."""
    warm_up_s: int
    stuck_s: int
    limits: list[LimitOut]
    buzzer: bool
    """Whether it may sound."""
    led: bool
    """Whether its lamp may shine."""
    rev: int
    """The newest revision; 0: there is none yet."""
    state: ConfigState | None
    """What became of that revision; null: there is none yet."""
    errors: list[ErrorOut]
    """Why the device refused it or went back."""
    made_at: datetime | None
    made_by: str
    """An e-mail address, `command line`, or `carbontrack`: the platform itself."""
    sent_at: datetime | None
    answered_at: datetime | None
    takes_settings: bool | None
    """Whether its firmware takes any; null: it has not connected since the platform started."""

    @classmethod
    def of(cls, config: DeviceConfig | None, takes_settings: bool | None) -> SettingsOut:
        found = chosen_settings(config.document if config else None) or DeviceSettings()
        values: dict[str, Any] = {name: getattr(found, name) for name in DeviceSettings.__slots__}
        return cls(
            **values | {"limits": [LimitOut.model_validate(it) for it in found.limits]},
            rev=config.rev if config else 0,
            state=config.state if config else None,
            errors=[ErrorOut.model_validate(it) for it in config.errors] if config else [],
            made_at=config.made_at if config else None,
            made_by=config.made_by if config else "",
            sent_at=config.sent_at if config else None,
            answered_at=config.answered_at if config else None,
            takes_settings=takes_settings,
        )


class ChangeOut(Output):
    path: str
    """Such as `sample_s`, `plan.diameter_m` or `limits.rate_high`."""
    before: str | float | bool | None
    """Null: the document did not say."""
    after: str | float | bool | None
    """Null: the document does not say any more."""


class RevisionOut(Output):
    rev: int
    """Counts from 1 for each device."""
    state: ConfigState
    why: Why
    """`first` (heard for the first time), `settings`, `plan` (or the site's pressure), `ahead` (the device was)."""
    made_at: datetime
    made_by: str
    """An e-mail address, `command line`, or `carbontrack`: the platform itself."""
    sent_at: datetime | None
    answered_at: datetime | None
    errors: list[ErrorOut]
    changes: list[ChangeOut]
    """What is not as in the revision before."""


class SendAgain(Input):
    rev: Id
    """The newest one, as it was read."""


async def newest(services: Services, site: Site) -> DeviceConfig | None:
    """The revision that counts."""
    found = await services.store.configs(site.device.id, limit=1)
    return found[0] if found else None


async def _settings_out(request: web.Request, site: Site) -> SettingsOut:
    services = request.app[SERVICES]
    takes = services.device_desk.takes_settings(site.device.device_id)
    return SettingsOut.of(await newest(services, site), takes)


@operation(Tag.DEVICES, EVERYBODY)
async def settings(request: web.Request) -> SettingsOut:
    """What a device is told to be, and whether it is so by now."""
    return await _settings_out(request, await device_site(request))


@operation(Tag.DEVICES, REGISTRY_ROLES, scope=Scope.REGISTRY)
async def put_settings(request: web.Request, body: SettingsInput) -> SettingsOut:
    """Give a device other settings: they are sent at once, or when it connects. The same ones again change nothing."""
    site = await device_site(request)
    await change_settings(request, site, body)
    return await _settings_out(request, site)


@operation(Tag.DEVICES, EVERYBODY)
async def history(request: web.Request, query: Paged) -> Page[RevisionOut]:
    """The revisions of a device's settings, newest first, with what changed from one to the next."""
    services, site = request.app[SERVICES], await device_site(request)
    found = await services.store.configs(
        site.device.id, factory_id=scope(request[USER]), before_rev=id_before(query.cursor), limit=query.limit + 1
    )
    rows = [
        RevisionOut(
            **{name: getattr(config, name) for name in ("rev", "state", "why", "made_at", "made_by", "sent_at")},
            answered_at=config.answered_at,
            errors=[ErrorOut.model_validate(it) for it in config.errors],
            changes=[
                ChangeOut(path=path, before=was, after=now)
                for path, was, now in differences(before.document if before else None, config.document)
            ],
        )
        for config, before in zip(found, [*found[1:], None], strict=True)
    ][: query.limit]
    return Page(rows, write_cursor([rows[-1].rev]) if len(found) > query.limit else None)


@operation(Tag.DEVICES, REGISTRY_ROLES, scope=Scope.REGISTRY, problems=(409,))
async def send_again(request: web.Request, body: SendAgain) -> SettingsOut:
    """Send a device its settings once more, also where it had refused them. 409: there is a newer revision."""
    services, site = request.app[SERVICES], await device_site(request)
    await services.device_desk.send_again(site, body.rev, by=origin(request))
    return await _settings_out(request, site)


# --- commands


class CommandOut(Output):
    command_id: str = Field(examples=["7c1e09aa"])
    """Its id on the wire."""
    cmd: str
    """What it is to do."""
    args: dict[str, float]
    """Its number, by name."""
    state: CommandState
    """`queued`, `sent` and `accepted` are under way; `unknown`: the device does not know this command."""
    asked_by: str
    """Who gave it."""
    asked_at: datetime
    expires_at: datetime
    """If it has not reached the device by then it is not done."""
    sent_at: datetime | None
    answered_at: datetime | None
    result: dict[str, str | float | bool | None]
    """What the device gave, such as its state after `diag`."""
    error: str
    """Why the device did not do it: `unsupported`, `bad_args`, `busy`, ..."""

    @classmethod
    def of(cls, command: DeviceCommand) -> CommandOut:
        names = ("command_id", "cmd", "args", "state", "asked_by", "asked_at", "expires_at", "sent_at", "answered_at")
        answer = command.answer or {}
        return cls(
            **{name: getattr(command, name) for name in names},
            result=answer.get("res", {}),
            error=answer.get("err", ""),
        )


class CommandQuery(Paged):
    command_id: str | None = Field(None, max_length=16)
    """Only this one, to see what became of it."""


@operation(Tag.DEVICES, EVERYBODY)
async def commands(request: web.Request, query: CommandQuery) -> Page[CommandOut]:
    """What a device was told to do, newest first, of the last year."""
    services, site = request.app[SERVICES], await device_site(request)
    found = await services.store.commands(
        site.device.id,
        command_id=query.command_id,
        factory_id=scope(request[USER]),
        before_id=id_before(query.cursor),
        limit=query.limit + 1,
    )
    rows = [CommandOut.of(it) for it in found[: query.limit]]
    return Page(rows, write_cursor([found[query.limit - 1].id]) if len(found) > query.limit else None)


@operation(Tag.DEVICES, COMMANDERS, scope=Scope.REGISTRY, status=201, problems=(409,))
async def add_command(request: web.Request, body: CommandInput) -> CommandOut:
    """Tell a device to do something, at once or when it connects within 10 minutes.

    Managers of factories may `identify`, `silence` and give `maintenance`. 409: 10 commands wait for it already.
    """
    return CommandOut.of(await tell_device(request, await device_site(request), body))
