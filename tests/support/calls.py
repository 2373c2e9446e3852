"""A request for every route, with what it needs: for tests that go over all of them.

A new route needs a line in :data:`CALLS` if it changes something, and its collection one in :data:`MAKERS` if its
address has a variable. PYTEST_DONT_REWRITE, as in ``tests.support.world``.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from aiohttp import BytesPayload, ClientSession, FormData

from tests.support import estate as make
from tests.support.estate import CODE, DAY, Caller, Estate, Maker, Side, at, png
from tests.support.routes import Route
from tests.support.web import PASSWORD
from tests.support.world import NOON, SID


@dataclass(frozen=True)
class It:
    """What a request is about: a factory's side, what was made for it, and a number that is new each time."""

    side: Side
    made: str
    number: int


Values = Mapping[str, Any] | Callable[[It], Any]


@dataclass(frozen=True)
class Call:
    """What a request brings; what depends on whose factory it is about is a function.

    ``made`` makes what the body speaks of. ``ends``: it ends the caller's session or password. ``actor``: who the
    audit log says it was, where that is not the caller. ``unaudited``: why the log has nothing of it.
    """

    json: Values | None = None
    form: Values | None = None
    query: Values = field(default_factory=dict)
    made: Maker | None = None
    ends: bool = False
    actor: Callable[[It], str] | None = None
    unaudited: str = ""

    @property
    def depends_on_the_factory(self) -> bool:
        return any(callable(part) for part in (self.json, self.form, self.query)) and self.actor is None


def table(content: str | bytes, *, file: str = "file", **fields: str) -> FormData:
    """A form with a file in it, as a browser sends it."""
    form = FormData(fields)
    form.add_field(file, io.BytesIO(content.encode() if isinstance(content, str) else content), filename="table.csv")
    return form


def firmware(version: str) -> FormData:
    """A form with an image and its manifest."""
    form = FormData()
    for name, content in zip(("image", "manifest"), make.signed(version), strict=True):
        form.add_field(name, io.BytesIO(content), filename=name)
    return form


ROLLOUT = {"version": make.VERSION, "hardware": make.HARDWARE}
ROLLOUT_FORM = {
    "image": f"{make.VERSION} {make.HARDWARE}", "kind": "devices", "stages": "100%", "soak_minutes": "60",
    "failure_limit": "1", "step": "start",
}  # fmt: skip


MAKERS: Mapping[str, Maker] = {
    "DELETE /api/factories/{id}/": make.empty_factory,
    "DELETE /api/users/{id}/": make.pending_user,
    "POST /api/users/{id}/sign-out/": make.signed_in_user,
    "POST /hq/people/{id}/approve": make.pending_user,
    "POST /hq/people/{id}/refuse": make.pending_user,
    "POST /hq/people/{id}/enable": make.disabled_user,
    "POST /hq/people/{id}/sign-out": make.signed_in_user,
    "/api/factories/{id}/": make.factory,
    "/api/stacks/{id}/": make.stack,
    "/api/mcu-devices/{id}/settings/": make.configured_device,
    "/api/mcu-devices/{id}/": make.device,
    "/devices/{id}/": make.configured_device,
    "POST /api/firmware/rollouts/{id}/resume/": make.paused_rollout,
    "POST /hq/firmware/rollouts/{id}/resume": make.paused_rollout,
    "/api/firmware/rollouts/{id}/": make.rollout,
    "/hq/firmware/rollouts/{id}/": make.rollout,
    "/api/energy-entries/{id}/photos/": make.photographed_entry,
    "/api/energy-entries/{id}/": make.energy_entry,
    "/api/production-entries/{id}/": make.production_entry,
    "/api/targets/{id}/": make.target,
    "/api/compliance/{id}/": make.statement,
    "POST /reports/{id}/review": make.prepared_report,
    "POST /reports/{id}/approve": make.reviewed_report,
    "POST /reports/{id}/return": make.prepared_report,
    "POST /reports/{id}/correct": make.final_report,
    "POST /reports/{id}/links": make.final_report,
    "/reports/links/{id}/": make.report_link,
    "/reports/jobs/{job}/": make.report_job,
    "/api/reports/jobs/{job}/": make.report_job,
    "/reports/{id}/": make.report,
    "/api/reports/{id}/": make.report,
    "/shared/{token}": make.shared_report,
    "/api/users/{id}/": make.user,
    "/api/me/sessions/{id}/": make.session,
    "/api/me/tokens/{id}/": make.api_token,
    "/api/quarantine/{id}/": make.quarantined,
    "/api/notifications/{id}/": make.message,
    "/alerts/messages/{id}/": make.message,
    "POST /alerts/{id}/unshelve": make.shelved_alert,
    "DELETE /api/alerts/{id}/shelve/": make.shelved_alert,
    "/alerts/{id}/": make.alert,
    "/api/alerts/{id}/": make.alert,
    "/account/sessions/{id}/": make.session,
    "/account/tokens/{id}/": make.api_token,
    "/hq/people/{id}/": make.user,
    "/factory/{slug}/": make.slug,
    "/hq/factories/{slug}/": make.slug,
}
"""What the variable of an address stands for: the first that an address, or method and address, begins with."""
CONSTANTS = {
    "name": "ct_v1",
    "path": "app.css",
    "version": make.VERSION,
    "hardware": make.HARDWARE,
    "rule": "co2-rate-high",
    "option": "raise_above",
    "photo": "1",
}
"""Variables that stand for nothing of a factory's."""
NEW_PASSWORD = "another horse with a battery"
WOOD = {"energy_type": "firewood", "amount": 1250, "unit": "kg", "moisture": 0.25}
NO_SUCH_PERSON = "Nobody has this address; a code that is made is noted."

SETTINGS = {"sample_s": "5", "readings": "5", "warm_up_s": "180", "stuck_s": "600", "buzzer": "true"}
TRIAL = "It reads what is kept, and changes nothing."

CALLS: Mapping[str, Call] = {
    # --- pages
    "POST /login": Call(
        form=lambda it: {"email": it.side.clerk.email, "password": PASSWORD}, actor=lambda it: it.side.clerk.email
    ),
    "POST /logout": Call(form={}, ends=True),
    "POST /preferences": Call(form={"rate_unit": "kg/h"}, unaudited="it is a cookie"),
    "POST /reports/": Call(
        form=lambda it: {"period": "2026-02", "whose": "some", "factory": it.side.factory.slug},
        unaudited="it is noted when the report is made",
    ),
    "POST /reports/jobs/{job}/cancel": Call(form={}, unaudited="nothing of it is kept"),
    "POST /reports/check": Call(form={}, unaudited="nothing is kept"),
    "POST /reports/{id}/prepare": Call(form={}),
    "POST /reports/{id}/review": Call(form={}),
    "POST /reports/{id}/approve": Call(form={}),
    "POST /reports/{id}/return": Call(form={"comment": "look at May again"}),
    "POST /reports/{id}/withdraw": Call(form={}),
    "POST /reports/{id}/compare": Call(form={}, unaudited="nothing is kept"),
    "POST /reports/{id}/anew": Call(form={}, unaudited="it is noted when the report is made"),
    "POST /reports/{id}/correct": Call(form={"reason": "a meter was read wrong"}, unaudited="as above"),
    "POST /reports/{id}/links": Call(form={"format": "json", "days": "7", "note": "the buyer's auditor"}),
    "POST /reports/links/{id}/revoke": Call(form={}),
    "POST /hq/unpark/": Call(form=lambda it: {"device_id": it.side.device.device_id}),
    "POST /hq/plugins/reload": Call(form={}),
    "POST /hq/diagnostics": Call(form={}),
    "GET /hq/compare.csv": Call(query={"factory": ["kangaita", "mungania"]}),
    "POST /register": Call(
        form=lambda it: {
            "email": f"page-{it.number}@example.org", "password": PASSWORD, "first_name": "Wanjiru",
            "last_name": "Kamau", "requested_role": "factory_clerk", "factory_id": str(it.side.factory.id),
        },
        actor=lambda it: f"page-{it.number}@example.org",
    ),
    "POST /forgot-password": Call(form={"email": "nobody@example.org"}, unaudited=NO_SUCH_PERSON),
    "POST /reset-password": Call(
        form=lambda it: {"email": it.made, "code": CODE, "new_password": NEW_PASSWORD},
        made=make.one_time_code,
        actor=lambda it: it.made,
    ),
    "POST /account": Call(form={"phone_number": "+254 711 000 001"}),
    "POST /account/password": Call(form={"current_password": PASSWORD, "new_password": NEW_PASSWORD}, ends=True),
    "POST /account/sessions/{id}/end": Call(form={}),
    "POST /account/tokens": Call(form={"name": "Monthly export", "scopes": "read", "days": "90"}),
    "POST /account/tokens/{id}/revoke": Call(form={}),
    "POST /hq/factories/new": Call(form=lambda it: {"name": f"Set up {it.number}", "altitude_m": "1900"}),
    "POST /hq/factories/{slug}/": Call(
        form=lambda it: {"name": it.side.factory.name, "altitude_m": str(1800 + it.number % 900)}
    ),
    "POST /hq/factories/{slug}/stacks": Call(
        form=lambda it: {"name": f"Chimney {it.number}", "shape": "circular", "diameter_m": "0.8"}
    ),
    "POST /hq/factories/{slug}/devices": Call(
        form=lambda it: {"stack_id": str(it.side.stack.id), "device_id": f"set-up-{it.number}", "sensor": "ct_v1"}
    ),
    "POST /hq/firmware/images": Call(form=lambda it: firmware(f"2.0.{it.number}")),
    "POST /hq/firmware/rollouts": Call(form=lambda it: ROLLOUT_FORM | {"devices": it.made}, made=make.updatable_device),
    "POST /hq/firmware/rollouts/{id}/pause": Call(form={}),
    "POST /hq/firmware/rollouts/{id}/resume": Call(form={}),
    "POST /hq/firmware/rollouts/{id}/stop": Call(form={"confirmed": "true"}),
    "POST /api/firmware/images/": Call(form=lambda it: firmware(f"3.0.{it.number}")),
    "POST /api/firmware/rollouts/": Call(
        json=lambda it: ROLLOUT | {"kind": "devices", "names": [it.made]}, made=make.updatable_device
    ),
    "POST /api/firmware/rollouts/outlook/": Call(json=ROLLOUT, unaudited="It only says what would be."),
    "POST /api/firmware/rollouts/{id}/pause/": Call(),
    "POST /api/firmware/rollouts/{id}/resume/": Call(),
    "POST /api/firmware/rollouts/{id}/stop/": Call(),
    "POST /hq/devices/import": Call(form=lambda _: table("factory\nKangaita\n"), unaudited="It only shows a table."),
    "POST /hq/devices/import/keep": Call(
        form=lambda it: {
            "table": f'{{"head":["factory","altitude_m"],"rows":[[2,["Table {it.number}","1900"]]],"separator":","}}'
        }
    ),
    "POST /hq/devices/handouts": Call(form=lambda it: {"as": "zip", "ids": it.made}, made=make.device),
    "POST /devices/{id}/handout": Call(form={"as": "file"}),
    "POST /devices/{id}/credentials": Call(form={"what": "revoke", "confirmed": "true"}),
    "POST /devices/{id}/replace": Call(
        form=lambda it: {"device_id": f"put-{it.number}", "sensor": "ct_v1", "confirmed": "true"}
    ),
    "POST /devices/{id}/settings": Call(form=lambda it: SETTINGS | {"sample_s": str(6 + it.number % 3000)}),
    "POST /devices/{id}/settings/send-again": Call(form={"rev": "1"}),
    "POST /devices/{id}/commands": Call(form={"cmd": "identify", "seconds": "30"}),
    "POST /hq/people/new": Call(
        form=lambda it: {
            "email": f"hq-added-{it.number}@example.org", "role": "factory_clerk",
            "factory_id": str(it.side.factory.id),
        }
    ),
    "POST /hq/people/{id}/": Call(form=lambda it: {"role": "factory_manager", "factory_id": str(it.side.factory.id)}),
    "POST /hq/people/{id}/approve": Call(
        form=lambda it: {"role": "factory_clerk", "factory_id": str(it.side.factory.id)}
    ),
    "POST /hq/people/{id}/refuse": Call(form={}),
    "POST /hq/people/{id}/disable": Call(form={}),
    "POST /hq/people/{id}/enable": Call(form={}),
    "POST /hq/people/{id}/code": Call(form={}),
    "POST /hq/people/{id}/sign-out": Call(form={}),
    "POST /hq/alert-rules/{rule}/try": Call(form={"days": "1"}, unaudited=TRIAL),
    "POST /hq/alert-rules/{rule}/{option}": Call(form=lambda it: {"low": "0.1", "high": str(9 + it.number)}),
    "POST /hq/alert-rules/{rule}/{option}/remove": Call(form={}, made=make.alert_bound),
    "POST /factory/{slug}/alert-rules/{rule}/try": Call(form={"days": "1"}, unaudited=TRIAL),
    "POST /factory/{slug}/alert-rules/{rule}/{option}": Call(
        form=lambda it: {"value": f"{1 + it.number / 1000}"}, made=make.alert_bound
    ),
    "POST /factory/{slug}/alert-rules/{rule}/{option}/remove": Call(form={}, made=make.alert_adjustment),
    "POST /hq/audit/verify": Call(form={}, unaudited="It reads the log."),
    "POST /factory/{slug}/account": Call(form={"reason": "corrected"}, query={"month": "2026-02"}),
    "POST /factory/{slug}/entries/energy": Call(
        form={"energy_type": "firewood", "amount": "1,250", "unit": "kg", "moisture": "25", "first_day": "2026-03-01",
              "confirmed": "true"}
    ),
    "POST /factory/{slug}/entries/production": Call(
        form={"made_tea_kg": "900", "first_day": "2026-03-01", "confirmed": "true"}
    ),
    "POST /factory/{slug}/entries/withdraw": Call(
        form=lambda it: {"kind": "energy", "id": it.made, "reason": "typed twice"}, made=make.energy_entry
    ),
    "POST /factory/{slug}/entries/photo": Call(
        form=lambda it: table(png(it.number), file="photo", id=it.made), made=make.energy_entry
    ),
    "POST /factory/{slug}/combustion/price": Call(
        form=lambda it: {"kes": str(3000 + it.number), "unit": "t", "valid_from": "2026-02-01"}
    ),
    "POST /factory/{slug}/combustion/price/withdraw": Call(form=lambda it: {"id": it.made}, made=make.wood_price),
    "POST /factory/{slug}/combustion/price/restore": Call(form=lambda it: {"id": it.made}, made=make.old_wood_price),
    "POST /factory/{slug}/targets": Call(
        form=lambda it: {"metric": "stack_co2_kg", "value": str(1000 + it.number), "valid_from": "2026-02-01"}
    ),
    "POST /factory/{slug}/targets/withdraw": Call(form=lambda it: {"id": it.made}, made=make.target),
    "POST /factory/{slug}/targets/restore": Call(form=lambda it: {"id": it.made}, made=make.old_target),
    "POST /factory/{slug}/entries/upload": Call(
        form=lambda it: table(f"made_tea_kg,timestamp\n{it.number},2026-02-27\n", kind="tea"),
        unaudited="Nothing is kept yet.",
    ),
    "POST /factory/{slug}/entries/upload/keep": Call(
        form=lambda it: {"kind": "tea", "duplicates": "0", "confirmed": "true",
                         "rows": f'[[2,{{"made_tea_kg":{it.number},"timestamp":"{at(NOON)}"}}]]'}
    ),
    # --- the account
    "POST /api/register/": Call(
        json=lambda it: {
            "email": f"new-{it.number}@example.org", "password": PASSWORD, "first_name": "Wanjiru",
            "last_name": "Kamau", "requested_role": "factory_clerk", "factory_id": it.side.factory.id,
        },
        actor=lambda it: f"new-{it.number}@example.org",
    ),
    "POST /api/login/": Call(
        json=lambda it: {"email": it.side.clerk.email, "password": PASSWORD}, actor=lambda it: it.side.clerk.email
    ),
    "POST /api/logout/": Call(ends=True),
    "POST /api/forgot-password/": Call(
        json={"email": "nobody@example.org"}, unaudited=NO_SUCH_PERSON
    ),
    "POST /api/reset-password/": Call(
        json=lambda it: {"email": it.made, "code": CODE, "new_password": NEW_PASSWORD},
        made=make.one_time_code,
        actor=lambda it: it.made,
    ),
    "PATCH /api/me/": Call(json={"phone_number": "+254 711 000 000"}),
    "POST /api/me/password/": Call(json={"current_password": PASSWORD, "new_password": NEW_PASSWORD}, ends=True),
    "DELETE /api/me/sessions/{id}/": Call(),
    "POST /api/me/tokens/": Call(json={"name": "Monthly export", "scopes": ["read"]}),
    "DELETE /api/me/tokens/{id}/": Call(),
    # --- people
    "POST /api/users/": Call(
        json=lambda it: {
            "email": f"added-{it.number}@example.org", "role": "factory_clerk", "factory_id": it.side.factory.id
        }
    ),
    "PATCH /api/users/{id}/": Call(json={"role": "factory_manager"}),
    "DELETE /api/users/{id}/": Call(),
    "POST /api/users/{id}/code/": Call(),
    "POST /api/users/{id}/sign-out/": Call(),
    # --- the registry
    "POST /api/factories/": Call(json=lambda it: {"name": f"Factory {it.number}", "altitude_m": 2000}),
    "PATCH /api/factories/{id}/": Call(json=lambda it: {"altitude_m": 2000 + it.number / 1000}),
    "DELETE /api/factories/{id}/": Call(),
    "POST /api/stacks/": Call(
        json=lambda it: {"factory_id": it.side.factory.id, "name": f"{it.side.word} added {it.number}"}
    ),
    "PATCH /api/stacks/{id}/": Call(json=lambda it: {"name": f"{it.side.word} renamed {it.number}"}),
    "DELETE /api/stacks/{id}/": Call(),
    "POST /api/stacks/{id}/plans/": Call(json=lambda it: {"valid_from": at(NOON + timedelta(seconds=it.number))}),
    "POST /api/mcu-devices/": Call(
        json=lambda it: {"device_id": f"{it.side.word}-added-{it.number}", "stack_id": it.side.stack.id}
    ),
    "PATCH /api/mcu-devices/{id}/": Call(json={"status": "disabled"}),
    "DELETE /api/mcu-devices/{id}/": Call(),
    "POST /api/mcu-devices/{id}/credentials/": Call(),
    "DELETE /api/mcu-devices/{id}/credentials/": Call(),
    "POST /api/mcu-devices/{id}/handout/": Call(json={}),
    "POST /api/mcu-devices/{id}/replace/": Call(json=lambda it: {"device_id": f"{it.side.word}-put-{it.number}"}),
    "PUT /api/mcu-devices/{id}/settings/": Call(json=lambda it: {"sample_s": 6 + it.number % 3000}),
    "POST /api/mcu-devices/{id}/settings/send-again/": Call(json={"rev": 1}),
    "POST /api/mcu-devices/{id}/commands/": Call(json={"cmd": "identify", "args": {"seconds": 30}}),
    # --- what is measured and entered
    "POST /api/emissions/": Call(
        json=lambda it: {
            "v": 1, "sid": SID, "boot": 4, "cfg": 1, "seq": 720 + it.number, "n": 1, "t": 0,
            "s": {"cols": ["co2"], "rows": [[1]]},
        },
        query=lambda it: {"device_id": it.side.device.device_id},
        unaudited="Readings have an account of their own, by stream and number.",
    ),
    "POST /api/energy-entries/": Call(
        json=lambda it: WOOD | {"factory_id": it.side.factory.id, "timestamp": at(NOON), "confirmed": True}
    ),
    "PATCH /api/energy-entries/{id}/": Call(
        json=lambda it: {"note": f"read again {it.number}", "reason": "read again", "confirmed": True}
    ),
    "DELETE /api/energy-entries/{id}/": Call(query={"reason": "typed twice"}),
    "POST /api/energy-entries/{id}/photos/": Call(
        form=lambda it: BytesPayload(png(it.number), content_type="image/png")
    ),
    "POST /api/energy-entries/bulk/": Call(
        form=lambda it: table(f"energy_type,amount,unit,timestamp\nfirewood,{it.number},kg,2026-02-26\n"),
        query=lambda it: {"factory_id": str(it.side.factory.id), "confirmed": "true"},
    ),
    "POST /api/production-entries/bulk/": Call(
        form=lambda it: table(f"made_tea_kg,timestamp\n{it.number},2026-02-26\n"),
        query=lambda it: {"factory_id": str(it.side.factory.id), "confirmed": "true"},
    ),
    "POST /api/production-entries/": Call(
        json=lambda it: {"made_tea_kg": 900, "factory_id": it.side.factory.id, "timestamp": at(NOON), "confirmed": True}
    ),
    "PATCH /api/production-entries/{id}/": Call(
        json=lambda it: {"note": f"weighed again {it.number}", "reason": "weighed again", "confirmed": True}
    ),
    "DELETE /api/production-entries/{id}/": Call(query={"reason": "typed twice"}),
    # --- accounts
    "POST /api/targets/": Call(
        json=lambda it: {
            "factory_id": it.side.factory.id, "metric": "stack_co2_kg", "value": 1,
            "valid_from": f"{date(2025, 1, 1) + timedelta(days=it.number)}",
        }
    ),
    "DELETE /api/targets/{id}/": Call(),
    "POST /api/reports/": Call(
        json=lambda it: {
            "factory_ids": [it.side.factory.id], "period_start": at(NOON - DAY), "period_end": at(NOON),
        },
        unaudited="it is noted when the report is made",
    ),
    "DELETE /api/reports/jobs/{job}/": Call(unaudited="nothing of it is kept"),
    "POST /api/reports/{id}/steps/": Call(json={"step": "prepare"}),
    "POST /api/reports/{id}/changes/": Call(unaudited="nothing is kept"),
    "GET /api/reports/{id}/file/": Call(query={"format": "json"}),
    "GET /reports/{id}/file": Call(query={"format": "json"}),
    "POST /api/compliance/": Call(
        json=lambda it: {
            "factory_id": it.side.factory.id, "period_start": at(NOON - 2000 * DAY + timedelta(hours=it.number)),
            "period_end": at(NOON - 2000 * DAY + timedelta(hours=it.number + 1)), "reason": "corrected",
        }
    ),
    # --- alert rules
    "POST /api/alert-rules/{rule}/try/": Call(
        json=lambda it: {"days": 1, "factory_id": it.side.factory.id}, unaudited=TRIAL
    ),
    "PUT /api/alert-rules/{rule}/bounds/{option}/": Call(json=lambda it: {"low": 0.1, "high": 9 + it.number}),
    "DELETE /api/alert-rules/{rule}/bounds/{option}/": Call(made=make.alert_bound),
    "PUT /api/alert-rules/{rule}/adjustments/{option}/": Call(
        json=lambda it: {"value": 1 + it.number / 1000},
        query=lambda it: {"factory_id": str(it.side.factory.id)},
        made=make.alert_bound,
    ),
    "DELETE /api/alert-rules/{rule}/adjustments/{option}/": Call(
        query=lambda it: {"factory_id": str(it.side.factory.id)}, made=make.alert_adjustment
    ),
    # --- the platform
    "GET /factory/{slug}/trends.json": Call(query={"from": at(NOON - DAY), "to": at(NOON)}),
    "POST /alerts/{id}/acknowledge": Call(form={"comment": "on my way"}),
    "POST /alerts/{id}/shelve": Call(form={"hours": "4", "comment": "it is cleaned"}),
    "POST /alerts/{id}/unshelve": Call(form={}),
    "POST /api/alerts/{id}/ack/": Call(json={"comment": "on my way"}),
    "POST /api/alerts/{id}/shelve/": Call(json={"until": at(NOON + DAY), "comment": "it is cleaned"}),
    "DELETE /api/alerts/{id}/shelve/": Call(),
    "POST /alerts/duty": Call(
        query=lambda it: {"factory_id": str(it.side.factory.id)},
        form=lambda it: {f"place-{it.side.clerk.id}": str(1 + it.number % 9)},
        unaudited="It is another list only where the places are others.",
    ),
    "POST /alerts/messages/{id}/retry": Call(form={}, unaudited="It changes nothing but when a message is sent."),
    "PUT /api/duty/": Call(
        json=lambda it: {"user_ids": [int(it.made)]},
        query=lambda it: {"factory_id": it.side.factory.id},
        made=make.user,
    ),
    "POST /api/notifications/{id}/retry/": Call(unaudited="It changes nothing but when a message is sent."),
    "POST /api/quarantine/{id}/replay/": Call(),
    "POST /api/quarantine/{id}/dismiss/": Call(json={"reason": "of a test"}),
    "POST /api/plugins/reload/": Call(),
}  # fmt: skip
"""What each changing route is sent; a route that only reads needs no line."""


def call_of(route: Route) -> Call:
    """What to send to a route. Raises LookupError with what to add."""
    known = CALLS.get(route.name)
    if known is None and route.changes:
        raise LookupError(f"say in tests/support/calls.py, CALLS, what to send for {route.name}")
    return known or Call()


def maker_of(route: Route) -> Maker | None:
    """What makes what the variable of a route's address stands for; None where it has none. Raises LookupError."""
    variables = set(re.findall(r"\{(\w+)\}", route.path)) - CONSTANTS.keys()
    if not variables:
        return None
    for begin, found in MAKERS.items():
        if route.path.startswith(begin) or route.name == begin:
            return found
    raise LookupError(f"say in tests/support/calls.py, MAKERS, what {route.path} stands for")


def address(route: Route, made: str) -> str:
    """The address of one thing."""
    return re.sub(r"\{(\w+)\}", lambda found: CONSTANTS.get(found[1], made), route.path)


@dataclass(frozen=True)
class Request:
    """A request, ready to be sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    json: Any = None
    form: Any = None
    query: Mapping[str, str] = field(default_factory=dict)
    it: It | None = None

    @property
    def said(self) -> str:
        """All that it brings, as one text."""
        return f"{self.path} {self.query} {self.json} {self.form}"


async def prepare(
    estate: Estate, route: Route, caller: Caller, side: Side, kept: dict[tuple[Maker, str], str] | None = None
) -> Request:
    """Make what a request needs, and the request. ``kept`` is what was made already, for those that change nothing."""
    call = call_of(route)
    made = ["" if it is None else await _made(it, estate, side, caller, kept) for it in (maker_of(route), call.made)]
    it = It(side, made[1] or made[0], estate.number())

    def values(given: Values | None) -> Any:
        return given(it) if callable(given) else given

    return Request(
        route.method,
        address(route, made[0]),
        caller.headers,
        values(call.json),
        values(call.form),
        values(call.query) or {},
        it,
    )


async def _made(
    maker: Maker, estate: Estate, side: Side, caller: Caller, kept: dict[tuple[Maker, str], str] | None
) -> str:
    if kept is None:
        return await maker(estate, side, caller)
    key = maker, side.word
    if key not in kept:
        kept[key] = await maker(estate, side, caller)
    return kept[key]


async def send(client: ClientSession, request: Request) -> tuple[int, bytes]:
    """The status of an answer, and all of it; of a stream its beginning."""
    async with client.request(
        request.method,
        request.path,
        headers=request.headers,
        json=request.json,
        data=request.form,
        params=request.query,
        allow_redirects=False,
    ) as answer:
        if answer.content_type == "text/event-stream":
            return answer.status, b"".join([await answer.content.readuntil(b"\n\n") for _ in range(2)])
        return answer.status, await answer.read() + str(answer.headers).encode()
