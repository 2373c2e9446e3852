"""What plugins bring, checked and behind their fence, indexed by name."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any

import pluggy
from pydantic import BaseModel

from carbontrack.fence import Fence
from carbontrack.hookspecs import (
    AlertRule,
    ComplianceFormat,
    DecodeError,
    FactoryRule,
    Frame,
    FrameDecoder,
    FrameError,
    Kind,
    Manifest,
    Notification,
    Notifier,
    Page,
    Plugin,
    PortalRequest,
    PortalView,
    ReportFormat,
    SensorDriver,
    Undeliverable,
    Verdict,
)
from carbontrack.intake import check_message
from carbontrack.model import Role, Unavailable

Item = SensorDriver | FrameDecoder | AlertRule | FactoryRule | Notifier | ReportFormat | ComplianceFormat | PortalView

SEND_TIMEOUT_S = 30.0
SHOW_TIMEOUT_S = 10.0
LONGEST_PART = 60
"""Characters of a part of an address that are remembered and shown when its page fails."""
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")


@dataclass(frozen=True, slots=True)
class FencedView(PortalView):
    """A portal view whose ``show`` is behind its plugin's fence; whoever draws its template does that behind it too."""

    fence: Fence = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Hook:
    """A ``register_`` hook: where its items are kept, what they are, and what they are called in a list."""

    field: str
    type: type[Any]
    kind: Kind
    noun: str


HOOKS: Mapping[str, tuple[Hook, ...]] = {
    "register_sensors": (Hook("sensors", SensorDriver, Kind.SENSOR, "sensor"),),
    "register_frame_decoders": (Hook("frame_decoders", FrameDecoder, Kind.SENSOR, "frame"),),
    "register_alert_rules": (Hook("alert_rules", AlertRule, Kind.ALERT, "alert rule"),),
    "register_factory_rules": (Hook("factory_rules", FactoryRule, Kind.ALERT, "factory rule"),),
    "register_notifiers": (Hook("notifiers", Notifier, Kind.NOTIFIER, "notifier"),),
    "register_report_formats": (
        Hook("report_formats", ReportFormat, Kind.REPORT, "report format"),
        Hook("compliance_formats", ComplianceFormat, Kind.REPORT, "compliance format"),
    ),
    "register_portals": (Hook("portals", PortalView, Kind.PORTAL, "page"),),
}
"""What each hook may give; the one of several that an item is of decides where it is kept."""
ALL_HOOKS = tuple(chain.from_iterable(HOOKS.values()))


@dataclass(frozen=True, slots=True)
class Contributions:
    """What one plugin brings, or all of them, by name."""

    sensors: Mapping[str, SensorDriver] = field(default_factory=dict)
    frame_decoders: Mapping[str, FrameDecoder] = field(default_factory=dict)
    alert_rules: Mapping[str, AlertRule] = field(default_factory=dict)
    factory_rules: Mapping[str, FactoryRule] = field(default_factory=dict)
    notifiers: Mapping[str, Notifier] = field(default_factory=dict)
    report_formats: Mapping[str, ReportFormat] = field(default_factory=dict)
    compliance_formats: Mapping[str, ComplianceFormat] = field(default_factory=dict)
    portals: Mapping[str, FencedView] = field(default_factory=dict)

    def named(self) -> tuple[str, ...]:
        """``sensor ct_v1``, ``page hq``: what there is, in the order of the hooks."""
        return tuple(f"{hook.noun} {name}" for hook in ALL_HOOKS for name in getattr(self, hook.field))

    def names(self) -> tuple[str, ...]:
        """The same without what each is."""
        return tuple(name for hook in ALL_HOOKS for name in getattr(self, hook.field))

    def clash(self, other: Contributions) -> str:
        """The first name that both have, as :meth:`named` says it; empty without one."""
        taken = set(other.named())
        # A device's rule and a factory's are asked for by the same key of the configuration.
        rules = {*other.alert_rules, *other.factory_rules}
        for text in self.named():
            if text in taken or (text.split(" ")[1] == "rule" and text.rsplit(" ", 1)[1] in rules):
                return text
        return ""


def joined(parts: Iterable[Contributions]) -> Contributions:
    """All of them together."""
    parts = list(parts)
    return Contributions(
        **{
            item.name: {k: v for part in parts for k, v in getattr(part, item.name).items()}
            for item in fields(Contributions)
        }
    )


def collect(manager: pluggy.PluginManager, manifest: Manifest, plugin: Plugin, fence: Fence) -> Contributions:
    """Ask one plugin's hooks for what it brings. Raises what they raise, and TypeError or ValueError for nonsense."""
    found: dict[str, dict[str, Any]] = {}
    for name, hooks in HOOKS.items():
        ask = fence.guard(partial(getattr(manager.hook, name), plugin=plugin), partial(str, name))
        items = [item for answer in ask() for item in _several(name, answer)]
        for item in items:
            hook = _hook_of(name, hooks, item)
            if hook.kind not in manifest.kinds:
                told = f"it brings a {hook.noun}, but its manifest does not name the kind {hook.kind.value!r}"
                raise ValueError(told)
            _check_item(name, item)
            if item.name in found.setdefault(hook.field, {}):
                raise ValueError(f"{name}: it brings the name {item.name!r} twice")
            found[hook.field][item.name] = _fenced(item, fence)
    return Contributions(**found)


def _several(hook: str, answer: Any) -> list[Any]:
    if isinstance(answer, str | bytes | Mapping) or not isinstance(answer, Iterable):
        raise TypeError(f"{hook} must give a sequence, not {type(answer).__name__}")
    return list(answer)


def _hook_of(name: str, hooks: Sequence[Hook], item: Any) -> Hook:
    for hook in hooks:
        if isinstance(item, hook.type):
            return hook
    wanted = " or ".join(hook.type.__name__ for hook in hooks)
    raise TypeError(f"{name} must give {wanted} objects, not {type(item).__name__}")


def _check_item(name: str, item: Any) -> None:
    """Raise TypeError or ValueError, which say what to change, for what cannot be used."""
    if not isinstance(item.name, str) or not NAME.fullmatch(item.name):
        raise ValueError(f"{name}: the name {item.name!r} must be small letters, digits, '_', '.' and '-', 40 at most")
    if not isinstance(item.title, str) or not item.title.strip():
        raise ValueError(f"{name}: {item.name!r} needs a title")
    for part in ("decode", "evaluate", "send", "render", "show"):
        if hasattr(item, part) and not callable(getattr(item, part)):
            raise TypeError(f"{name}: {part} of {item.name!r} must be a function")
    model = getattr(item, "options_model", BaseModel)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"{name}: options_model of {item.name!r} must be a pydantic model")
    if isinstance(item, PortalView):
        if not item.path.startswith("/"):
            raise ValueError(f"{name}: the path {item.path!r} must begin with /")
        if not all(isinstance(role, Role) for role in item.roles):
            raise TypeError(f"{name}: the roles of {item.name!r} must be of carbontrack.Role")


# --- behind the fence


def _fenced(item: Item, fence: Fence) -> Item:
    """The item with its function behind the fence."""
    match item:
        case SensorDriver():
            whose = attrgetter("device_id")
            decode = fence.guard(item.decode, whose, check=check_message, answers=(DecodeError,))
            item = replace(item, decode=decode)
        case FrameDecoder():
            item = replace(item, decode=fence.tally(item.decode, check=_check_frame, answers=(FrameError,)))
        case AlertRule():
            key = f"{item.name} for ".__add__
            watched = fence.guard(item.evaluate, lambda _, seen: key(seen.site.device.device_id), check=_check_verdict)
            item = replace(item, evaluate=watched)
        case FactoryRule():
            key = f"{item.name} for ".__add__
            watched = fence.guard(item.evaluate, lambda _, facts: key(facts.factory.slug), check=_check_verdict)
            item = replace(item, evaluate=watched)
        case Notifier():
            item = replace(item, send=_sending(fence, item))
        case PortalView():
            values = {part.name: getattr(item, part.name) for part in fields(PortalView)}
            item = FencedView(**values | {"show": _showing(fence, item)}, fence=fence)
        case ReportFormat() | ComplianceFormat():
            pass  # it runs in a process of its own
    return item


def _sending(fence: Fence, notifier: Notifier) -> Callable[[Any, Notification], Awaitable[None]]:
    async def call(options: Any, notification: Notification) -> None:
        await notifier.send(options, notification)

    async def send(options: Any, notification: Notification) -> None:
        key = f"notifier {notifier.name}"
        await fence.run(call(options, notification), key, timeout_s=SEND_TIMEOUT_S, answers=(Undeliverable,))

    return send


def _showing(fence: Fence, view: PortalView) -> Callable[[PortalRequest], Awaitable[Page | None]]:
    async def call(asked: PortalRequest) -> Page | None:
        page = await view.show(asked)
        _check_page(page)
        return page

    async def show(asked: PortalRequest) -> Page | None:
        return await fence.run(
            call(asked), _page_key(view, asked.path), timeout_s=SHOW_TIMEOUT_S, answers=(Unavailable,)
        )

    return show


def _page_key(view: PortalView, path: Mapping[str, str]) -> str:
    """What a page is held back by: what fails for one factory goes on for the others."""
    return " ".join(("page", view.name, *(value[:LONGEST_PART] for value in path.values())))


def _check_frame(frame: Any) -> None:
    if type(frame) is not Frame:
        raise TypeError(f"decode gave {type(frame).__name__}, not a Frame")


def _check_verdict(verdict: Any) -> None:
    if type(verdict) is not Verdict or type(verdict.message) is not str:
        raise TypeError(f"evaluate gave {type(verdict).__name__}, not a Verdict")


def _check_page(page: Any) -> None:
    if page is None:
        return
    if type(page) is not Page:
        raise TypeError(f"show gave {type(page).__name__}, not a Page")
    if type(page.template) is not str or not isinstance(page.values, Mapping):
        raise TypeError("a Page takes the name of a template and a mapping of values")
