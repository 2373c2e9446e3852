"""schemathesis over the whole description: nothing that it can think of makes a server error or an undeclared answer.

A short run by default; ``make explore`` asks for many more examples, for both roles on both engines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    missing_required_header,
    negative_data_rejection,
    not_a_server_error,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from schemathesis.config import GenerationConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok

from carbontrack.model import Role
from carbontrack.web import openapi
from tests.support.calls import maker_of
from tests.support.estate import Caller, Estate, running_estate
from tests.support.exploring import EXAMPLES, IS_LONG
from tests.support.routes import Route, routes

LEFT_OUT = {"GET /api/live/"}
"""It never ends."""
TOO_LONG = b"Got more than 8190 bytes when reading"
"""An address or a header like that is no request to the HTTP library, which answers by itself."""
REFUSED_THOUGH_VALID = ["2xx", "3xx", "401", "403", "404", "409", "422"]
"""A schema does not say all that must hold, such as that a period ends after its beginning."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    missing_required_header,
    unsupported_method,
]
WORLDS = [("postgres", Role.HQ_MANAGER), ("sqlite", Role.FACTORY_CLERK)]
MORE_WORLDS = [("sqlite", Role.HQ_MANAGER), ("postgres", Role.FACTORY_CLERK)]

pytest_plugins = ["tests.support.world"]
AnyCase = Case[Any]
AnyOperation = APIOperation[Any, Any, Any, Any]


@pytest.mark.timeout(4 * 3600 if IS_LONG else 600)
@pytest.mark.parametrize(
    ("database_url", "role"), [*WORLDS, *(MORE_WORLDS if IS_LONG else [])], indirect=["database_url"]
)
async def test_no_route_does_anything_that_its_description_does_not_say(database_url: str, role: Role) -> None:
    async with running_estate(database_url) as estate:
        problems = await asyncio.to_thread(explore, estate, role, asyncio.get_running_loop())
    assert not problems, "\n\n".join(problems)


def explore(estate: Estate, role: Role, loop: asyncio.AbstractEventLoop) -> list[str]:
    """Ask every route of the description many things, beside the loop that answers; what was wrong with the answers."""
    app, base_url = estate.portal.server.app, str(estate.portal.server.make_url("/")).rstrip("/")
    schema = schemathesis.openapi.from_dict(openapi.describe(app, "test"))
    schema.config.checks.positive_data_acceptance.expected_statuses = REFUSED_THOUGH_VALID
    by_name = {route.name: route for route in routes(estate.portal)}
    caller = next(it for it in estate.callers if it.name == role)
    problems: list[str] = []
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if operation.label not in LEFT_OUT:
            preparing = prepared(estate, by_name[operation.label], caller)
            fresh, ids = asyncio.run_coroutine_threadsafe(preparing, loop).result(60)
            with requests.Session() as session:
                problems += ask(operation, ids, partial(check, fresh, base_url, session))
    return problems


async def prepared(estate: Estate, route: Route, caller: Caller) -> tuple[Caller, list[str]]:
    """Somebody to ask, whom the route before has not signed out, and what there is to ask for, of either factory."""
    fresh, maker = await estate.again(caller), maker_of(route)
    return fresh, [await maker(estate, side, fresh) for side in (estate.own, estate.other)] if maker else []


def check(caller: Caller, base_url: str, session: requests.Session, case: AnyCase) -> None:
    """Send a request, and look at the answer."""
    headers = dict(caller.headers)
    answer = case.call(base_url, session=session, headers=headers)
    if TOO_LONG not in answer.content:
        case.validate_response(answer, checks=CHECKS, headers=headers)


def ask(operation: AnyOperation, ids: Sequence[str], check: Callable[[AnyCase], None]) -> Iterator[str]:
    """What is wrong with the answers to requests that fit the description, and to some that do not."""
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        yield from problems_of(partial(examples, operation, mode, ids, check))
    if IS_LONG:  # each value at each edge, one after the other
        config, modes = GenerationConfig(), list(GenerationMode)
        for case in operation.schema.iter_coverage_cases(operation, generation_modes=modes, generation_config=config):
            yield from problems_of(partial(check, case))


def problems_of(attempt: Callable[[], None]) -> Iterator[str]:
    try:
        attempt()
    except Unsatisfiable:
        return  # a request without anything in it cannot be wrong
    except FailureGroup as group:
        yield str(group)


def examples(
    operation: AnyOperation, mode: GenerationMode, ids: Sequence[str], check: Callable[[AnyCase], None]
) -> None:
    """Some requests of a mode; of those that fit, most are about something that is there."""

    @given(case=operation.as_strategy(generation_mode=mode), known=st.sampled_from([*ids, None]))
    @settings(
        max_examples=EXAMPLES,
        derandomize=not IS_LONG,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def run(case: AnyCase, known: str | None) -> None:
        if known is not None and "id" in case.path_parameters and mode is GenerationMode.POSITIVE:
            case.path_parameters["id"] = known
        check(case)

    run()
