"""The page of one device: how it is doing, what it is told to be, and what it can be told to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from carbontrack.device_settings import (
    COMMANDS,
    MOST_REV,
    ConfigState,
    DeviceConfig,
    DeviceSettings,
    Limit,
    LimitCode,
    chosen_settings,
)
from carbontrack.model import Site
from carbontrack.web import device_words as words
from carbontrack.web.access import EVERYBODY, REGISTRY_ROLES, USER, allow, origin, scope
from carbontrack.web.api.devices import health_of_site
from carbontrack.web.device_orders import (
    COMMANDERS,
    ELSEWHERE,
    CommandInput,
    SettingsInput,
    change_settings,
    commands_of,
    device_site,
    tell_device,
)
from carbontrack.web.errors import REFUSALS, Problem, refusal
from carbontrack.web.firmware_pages import firmware_of
from carbontrack.web.forms import Form, number_in, refused, typed
from carbontrack.web.notices import Notice, sent_on
from carbontrack.web.present import ASPECT_TITLES, HEALTH_TITLES
from carbontrack.web.services import SERVICES
from carbontrack.web.templating import render
from carbontrack.words import N_, gettext

DEVICE = "/devices/{id:\\d{1,9}}/"
REVISIONS, COMMANDS_SHOWN = 10, 10
CONFIRMED = frozenset({"zero_cal", "span_cal", "reboot"})
"""What changes what is measured, or costs readings: whoever asks says that it is meant."""
STANDINGS: Mapping[ConfigState, tuple[str, str]] = {
    ConfigState.WAITING: (
        N_("Revision %(rev)s waits: it is sent when the device connects."),
        N_("It goes on with what it has until then."),
    ),
    ConfigState.SENT: (
        N_("Revision %(rev)s is sent, and the device has not answered yet."),
        N_("Until it has, it is sent again each time the device connects."),
    ),
    ConfigState.APPLIED: (
        N_("The device works with revision %(rev)s."),
        N_("It has its monitoring plan and the pressure of the site from here."),
    ),
    ConfigState.REFUSED: (
        N_("The device has refused revision %(rev)s, and works with the one before."),
        N_("Change what it names and save, or send it again if that was mended at the device."),
    ),
    ConfigState.REVERTED: (
        N_("The device had trouble with revision %(rev)s, and went back to the one before."),
        N_("Check the settings, and its link: without a receipt for 10 minutes it goes back as well."),
    ),
}
"""How far a device is with its settings, and what follows."""
LIMIT_FIELDS = ("limit", "hysteresis", "for_s", "level")


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    router = app.router
    router.add_get(DEVICE, device_page)
    router.add_post(f"{DEVICE}settings", save)
    router.add_post(f"{DEVICE}settings/send-again", send_again)
    router.add_post(f"{DEVICE}commands", command)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a device is with its settings, in words."""

    title: str
    tone: str
    text: str
    advice: str = ""
    errors: tuple[str, ...] = ()
    can_send_again: bool = False
    is_under_way: bool = False


@allow(EVERYBODY)
async def device_page(request: web.Request) -> web.StreamResponse:
    """One device."""
    return await _page(request, await device_site(request))


async def _page(request: web.Request, site: Site, wrong: Form | None = None) -> web.Response:
    services, user = request.app[SERVICES], request[USER]
    own, pk, name = scope(user), site.device.id, site.device.device_id
    configs = await services.store.configs(pk, factory_id=own, limit=REVISIONS + 1)
    newest = next(iter(await services.store.configs(pk, limit=1)), None)
    given = [words.given(it) for it in await services.store.commands(pk, factory_id=own, limit=COMMANDS_SHOWN)]
    is_elsewhere = site.factory.slug in services.bridged
    standing = (
        Standing(gettext("None"), "unknown", gettext(ELSEWHERE), "")
        if is_elsewhere
        else _standing(newest, services.device_desk.takes_settings(name))
    )
    settings = chosen_settings(newest.document if newest is not None else None)
    values = {
        "site": site,
        "factory": site.factory,
        "section": "devices",
        "base": DEVICE.replace("{id:\\d{1,9}}", str(pk)),
        "health": health_of_site(site, services),
        "health_titles": HEALTH_TITLES,
        "aspect_titles": ASPECT_TITLES,
        "online": services.fleet.is_online(name),
        "standing": standing,
        "rev": newest.rev if newest is not None else 0,
        "settings": settings or DeviceSettings(),
        "is_default": settings is None,
        "revisions": words.revisions(configs, REVISIONS),
        "commands": given,
        "firmware": await firmware_of(request, site, user),
        "is_under_way": standing.is_under_way or any(it.command.is_open for it in given),
        "may_set": user.role in REGISTRY_ROLES and not is_elsewhere,
        "may_tell": commands_of(user) if not is_elsewhere else frozenset(),
        "forms_of": {
            "settings": _settings_form(settings or DeviceSettings()),
            **{cmd: Form(cmd, {it.name: _number(it.default)} if it else {}) for cmd, it in COMMANDS.items()},
        }
        | ({wrong.name: wrong} if wrong else {}),
        "wrong": wrong.name if wrong else "",
        "arguments": COMMANDS,
        "limits": [(code.value, gettext(words.LIMIT_TITLES[code]), words.LIMIT_UNITS[code]) for code in LimitCode],
        "limit_titles": {code: gettext(title) for code, title in words.LIMIT_TITLES.items()},
        "limit_units": words.LIMIT_UNITS,
        "levels": [(level, gettext(title)) for level, title in words.LEVEL_TITLES.items()],
        "command_titles": {cmd: gettext(title) for cmd, title in words.COMMAND_TITLES.items()},
    }
    page = render(request, "device.html", values)
    return wrong.answer(page) if wrong else page


def _standing(config: DeviceConfig | None, takes_settings: bool | None) -> Standing:  # None: not known
    """How far a device is with its settings."""
    if takes_settings is False:
        advice = gettext("Settings that are saved here are kept until it has a newer firmware.")
        return Standing(gettext("None"), "unknown", gettext("The firmware of this device takes no settings."), advice)
    if config is None:
        text = gettext("It was given none yet, and works as its firmware does by itself.")
        advice = gettext("When it connects it is sent its monitoring plan, and what you save here.")
        return Standing(gettext("None"), "unknown", text, advice)
    text, advice = (gettext(each, rev=config.rev) for each in STANDINGS[config.state])
    return Standing(
        gettext(words.CONFIG_TITLES[config.state]),
        words.TONES.get(config.state, "unknown"),
        text,
        advice,
        tuple(words.error_of(fault) for fault in config.errors),
        can_send_again=config.state not in {ConfigState.WAITING, ConfigState.APPLIED},
        is_under_way=config.state in {ConfigState.WAITING, ConfigState.SENT},
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


# --- settings


def _settings_form(settings: DeviceSettings) -> Form:
    values: dict[str, Any] = {
        name: str(getattr(settings, name)) for name in ("sample_s", "readings", "warm_up_s", "stuck_s")
    }
    values |= {name: "true" if getattr(settings, name) else "" for name in ("buzzer", "led")}
    chosen = {limit.code: limit for limit in settings.limits}
    for code in LimitCode:
        limit = chosen.get(code, Limit(code))
        values |= {
            f"on-{code}": "true" if code in chosen else "",
            f"limit-{code}": _number(limit.limit),
            f"hysteresis-{code}": _number(limit.hysteresis),
            f"for_s-{code}": str(limit.for_s),
            f"level-{code}": limit.level,
        }
    return Form("settings", values)


def _settings_of(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What a form says as the API has it, and the codes of its limits in their order."""
    found: dict[str, Any] = {name: values.get(name, "") for name in ("sample_s", "readings", "warm_up_s", "stuck_s")}
    found |= {name: bool(values.get(name)) for name in ("buzzer", "led")}
    codes = [code.value for code in LimitCode if values.get(f"limit-{code}") or values.get(f"on-{code}")]
    found["limits"] = [
        {"code": code} | {name: it for name in LIMIT_FIELDS if (it := values.get(f"{name}-{code}"))} for code in codes
    ]
    return found, codes


@allow(REGISTRY_ROLES)
async def save(request: web.Request) -> web.StreamResponse:
    """Save settings; they go out at once, or when the device connects."""
    site, values = await device_site(request), await typed(request)
    given, codes = _settings_of(values)
    try:
        made = await change_settings(request, site, SettingsInput.model_validate(given))
    except REFUSALS as error:
        return await _page(request, site, refused("settings", values, _at_fields(error, codes)))
    text = (
        gettext("The settings are saved as revision %(rev)s.", rev=made.rev)
        if made
        else gettext("Nothing was changed: these are the settings that it has.")
    )
    raise sent_on(request, request.path.removesuffix("settings"), Notice(text))


def _at_fields(error: Exception, codes: list[str]) -> Exception:
    """Errors of limits at the fields of their names: a form has no lists."""
    problem = refusal(error)

    def place(path: str) -> str:
        group, _, rest = path.partition(".")
        number, _, name = rest.partition(".")
        at = number_in(number)
        if group != "limits" or at is None or at >= len(codes):
            return path
        return f"{name or 'limit'}-{codes[at]}"

    return Problem(problem.status, problem.detail, tuple((place(at), text) for at, text in problem.errors))


@allow(REGISTRY_ROLES)
async def send_again(request: web.Request) -> web.StreamResponse:
    """Send the newest revision once more."""
    services, site, values = request.app[SERVICES], await device_site(request), await typed(request)
    rev = number_in(values.get("rev", "")) or MOST_REV
    url = request.path.removesuffix("settings/send-again")
    try:
        await services.device_desk.send_again(site, rev, by=origin(request))
    except REFUSALS as error:
        raise sent_on(request, url, Notice(refused("", {}, error).errors[""], is_bad=True)) from None
    raise sent_on(request, url, Notice(gettext("Revision %(rev)s is sent again.", rev=rev)))


# --- commands


@allow(COMMANDERS)
async def command(request: web.Request) -> web.StreamResponse:
    """Tell the device to do something."""
    site, values = await device_site(request), await typed(request)
    cmd = values.get("cmd", "")
    argument = COMMANDS.get(cmd)
    try:
        if cmd in CONFIRMED and not values.get("confirmed"):
            raise Problem(422, "", (("confirmed", gettext("Say that you mean it.")),))
        args = {argument.name: values[argument.name]} if argument and values.get(argument.name) else {}
        made = await tell_device(request, site, CommandInput.model_validate({"cmd": cmd, "args": args}))
    except REFUSALS as error:
        if refusal(error).status == 403 or cmd not in COMMANDS:
            raise
        return await _page(request, site, refused(cmd, values, _at_argument(error)))
    title = words.given(made).title
    online = request.app[SERVICES].fleet.is_online(site.device.device_id)
    text = gettext("%(command)s: the device is told.", command=title)
    later = gettext("%(command)s: the device is told if it connects within 10 minutes.", command=title)
    raise sent_on(request, request.path.removesuffix("commands"), Notice(text if online else later))


def _at_argument(error: Exception) -> Exception:
    """Errors of the command's number at its field."""
    problem = refusal(error)
    places = tuple((at.removeprefix("args."), text) for at, text in problem.errors)
    return Problem(problem.status, problem.detail, places)
