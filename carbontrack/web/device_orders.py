"""Settings of devices and commands to them, as the API and pages share them: what may be asked, and by whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from carbontrack.device_desk import give_command, save_settings
from carbontrack.device_settings import (
    FOR_S,
    MOST_LIMITS,
    RANGES,
    CommandError,
    DeviceCommand,
    DeviceConfig,
    DeviceSettings,
    Limit,
    SettingsError,
    fault_text,
)
from carbontrack.model import Role, Site, User
from carbontrack.web.access import REGISTRY_ROLES, USER, origin, scope
from carbontrack.web.errors import Problem
from carbontrack.web.rest import WRONG, Input, path_id
from carbontrack.web.services import SERVICES
from carbontrack.words import N_, gettext

COMMANDERS = frozenset({*REGISTRY_ROLES, Role.FACTORY_MANAGER})
"""Who may tell devices to do something; what, depends on the role."""
OF_MANAGERS = frozenset({"identify", "silence", "maintenance"})
"""What a factory's manager may tell its devices: nothing of it changes what is measured for longer than a day."""
CommandName = Literal["ping", "identify", "silence", "maintenance", "zero_cal", "span_cal", "diag", "reboot"]


def _whole(name: str) -> Any:
    least, most = RANGES[name]
    return Field(getattr(DeviceSettings(), name), ge=least, le=most)


class LimitInput(Input):
    """From where on the device itself sounds its buzzer, whether or not the platform is there."""

    code: Literal["rate_high", "temperature_high", "temperature_low", "velocity_high", "velocity_low", "sensor_fault"]
    limit: float | None = None
    """kg/s CO2, degC or m/s, as the code says; `sensor_fault` has none."""
    hysteresis: float = Field(0, ge=0, le=1000)
    """How far back over the limit it is over, in the same unit."""
    for_s: int = Field(60, ge=FOR_S[0], le=FOR_S[1])
    """It has to last for so long."""
    level: Literal["info", "warning", "critical"] = "warning"


class SettingsInput(Input):
    """All settings of a device; what is left out is as the firmware has it by default."""

    sample_s: int = _whole("sample_s")
    """Seconds between two records."""
    readings: int = _whole("readings")
    """How often the sensors are read for one record; each takes 100 ms at least."""
    warm_up_s: int = _whole("warm_up_s")
    """For so long after switching on, the CO2 sensor counts as warming up: no rate."""
    stuck_s: int = _whole("stuck_s")
    """A CO2 value that stands still for so long while the boiler fires is flagged; 0: never."""
    limits: list[LimitInput] = Field(default_factory=list, max_length=MOST_LIMITS)
    """At most one of each code."""
    buzzer: bool = True
    """Whether it may sound."""
    led: bool = True
    """Whether its lamp may shine."""

    def settings(self) -> DeviceSettings:
        """The same as the platform has it."""
        given = self.model_dump()
        return DeviceSettings(**given | {"limits": tuple(Limit(**limit) for limit in given["limits"])})


class CommandInput(Input):
    cmd: CommandName
    args: dict[str, float] = Field(default_factory=dict, max_length=4)
    """`seconds` of `identify`, `minutes` of `silence` and `maintenance`, `ppm` of `span_cal`; the others have none."""


async def device_site(request: web.Request) -> Site:
    """The device that an address names. Raises :class:`Problem` where it is not there for whoever asks."""
    wanted = path_id(request)
    for site in await request.app[SERVICES].store.sites(scope(request[USER])):
        if site.device.id == wanted:
            return site
    raise Problem(404, gettext("There is no such device for you."))


ELSEWHERE = N_(
    "This device is governed by its factory's own platform: settings and commands are given there. "
    "What it measures comes from there as well."
)


def check_governs(request: web.Request, site: Site) -> None:
    """Raise :class:`Problem` for a device that its factory's own platform governs: nothing from here reaches it."""
    if site.factory.slug in request.app[SERVICES].bridged:
        raise Problem(422, gettext(ELSEWHERE))


async def change_settings(request: web.Request, site: Site, given: SettingsInput) -> DeviceConfig | None:
    """Save settings and have them sent; None where they are those that the device has already.

    Raises :class:`Problem` for what no device takes.
    """
    check_governs(request, site)
    services = request.app[SERVICES]
    try:
        made = await save_settings(services.store, site, given.settings(), by=origin(request), now=services.clock())
    except SettingsError as error:
        faults = tuple((it.path, fault_text(it, settings=True)) for it in error.faults)
        raise Problem(422, WRONG, faults) from None
    services.device_desk.look_soon()
    return made


async def tell_device(request: web.Request, site: Site, given: CommandInput) -> DeviceCommand:
    """Let a command go to a device. Raises :class:`Problem` for what the asker may not, or the device does not take."""
    services, cmd = request.app[SERVICES], given.cmd
    if cmd not in commands_of(request[USER]):
        raise Problem(403, gettext("Your role does not allow this."))
    check_governs(request, site)
    try:
        made = await give_command(
            services.store,
            site.device.device_id,
            cmd,
            _whole_ones(given.args),
            by=origin(request),
            now=services.clock(),
        )
    except CommandError as error:
        raise Problem(422, WRONG, ((f"args.{error.name}" if error.name != "cmd" else "cmd", str(error)),)) from None
    services.device_desk.look_soon()
    return made


def _whole_ones(args: Mapping[str, float]) -> dict[str, float | int]:
    """A number of a request without a fraction is a whole number, however it was written."""
    return {name: int(value) if float(value).is_integer() else value for name, value in args.items()}


def commands_of(user: User) -> frozenset[str]:
    """What a person may tell devices."""
    if user.role in REGISTRY_ROLES:
        return frozenset({*OF_MANAGERS, "ping", "zero_cal", "span_cal", "diag", "reboot"})
    return OF_MANAGERS if user.role in COMMANDERS else frozenset()
