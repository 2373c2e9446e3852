"""The targets of one factory: what is in force, and for headquarters to set one, withdraw it, and take that back."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from pydantic import ValidationError

from carbontrack.emissions.targets import METRIC_UNITS
from carbontrack.ledger import Metric, Target
from carbontrack.model import Factory
from carbontrack.web.access import EVERYBODY, HQ_ONLY, USER, allow, origin
from carbontrack.web.api.accounting import NewTarget
from carbontrack.web.errors import REFUSALS
from carbontrack.web.forms import Form, posted_id, refused, typed, without_blanks
from carbontrack.web.ledger_pages import METRIC_TITLES, page_factory
from carbontrack.web.notices import Notice, sent_on
from carbontrack.web.present import subscript
from carbontrack.web.rest import Id, Input
from carbontrack.web.services import SERVICES
from carbontrack.web.templating import render
from carbontrack.words import gettext as _

PAGE = "/factory/{slug}/targets"


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    router = app.router
    router.add_get(PAGE, targets_page)
    router.add_post(PAGE, set_target)
    router.add_post(f"{PAGE}/withdraw", withdraw_target)
    router.add_post(f"{PAGE}/restore", restore_target)


class TargetsQuery(Input):
    withdrawn: Id | None = None
    """A target that was just withdrawn: the page offers to take that back."""


@allow(EVERYBODY)
async def targets_page(request: web.Request) -> web.StreamResponse:
    """All targets of a factory, those to come as well."""
    return await _page(request, await page_factory(request), Form("target"))


async def _page(request: web.Request, factory: Factory, form: Form) -> web.Response:
    services = request.app[SERVICES]
    try:
        query = TargetsQuery.model_validate(dict(request.query))
    except ValidationError:
        raise web.HTTPBadRequest(text=_("withdrawn must be the number of a target.")) from None
    today = services.clock().astimezone(services.time_zone).date()
    in_force: dict[Metric, int] = {}
    found = await services.store.targets(factory.id)
    for target in found:  # the newest first
        if target.valid_from <= today:
            in_force.setdefault(target.metric, target.id)
    values: dict[str, Any] = {
        "factory": factory,
        "section": "account",
        "targets": found,
        "in_force": set(in_force.values()),
        "to_come": {target.id for target in found if target.valid_from > today},
        "titles": METRIC_TITLES,
        "metric_units": METRIC_UNITS,
        "metrics": [(it.value, subscript(f"{_(METRIC_TITLES[it])} ({_(METRIC_UNITS[it])})")) for it in Metric],
        "may_set": request[USER].role in HQ_ONLY,
        "withdrawn": query.withdrawn,
        "form": form if form.values else Form("target", {"valid_from": today.replace(day=1).isoformat()}),
    }
    return form.answer(render(request, "targets.html", values))


@allow(HQ_ONLY)
async def set_target(request: web.Request) -> web.StreamResponse:
    """Set a target; what was typed stays in the form where it does not fit."""
    services, factory = request.app[SERVICES], await page_factory(request)
    given = await typed(request)
    given["value"] = given.get("value", "").replace(",", "").replace(" ", "")
    try:
        made = NewTarget.model_validate(
            without_blanks(given, "baseline_year", "baseline_value") | {"factory_id": factory.id}
        )
        await services.store.add_target(Target(id=0, **made.model_dump()), origin(request), services.clock())
    except REFUSALS as error:
        return await _page(request, factory, refused("target", given, error))
    raise sent_on(request, f"/factory/{factory.slug}/targets", Notice(_("The target is set.")))


@allow(HQ_ONLY)
async def withdraw_target(request: web.Request) -> web.StreamResponse:
    """Take a target out of use; the page then offers to take that back."""
    services, factory, target_id = request.app[SERVICES], await page_factory(request), await posted_id(request)
    if not await services.store.withdraw_target(target_id, factory.id, by=origin(request)):
        raise web.HTTPNotFound(text=_("There is no such target for you."))
    raise web.HTTPSeeOther(f"/factory/{factory.slug}/targets?withdrawn={target_id}#withdrawn")


@allow(HQ_ONLY)
async def restore_target(request: web.Request) -> web.StreamResponse:
    """Take a target that was withdrawn back into use."""
    services, factory = request.app[SERVICES], await page_factory(request)
    if not await services.store.restore_target(await posted_id(request), factory.id, by=origin(request)):
        raise web.HTTPNotFound(text=_("There is no such target for you."))
    raise sent_on(request, f"/factory/{factory.slug}/targets", Notice(_("The target counts again.")))
