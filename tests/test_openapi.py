"""The description of the API is complete, and what is made of it works: examples, YAML, Postman and two viewers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types
from openapi_spec_validator import OpenAPIV31SpecValidator
from ruamel.yaml import YAML

from carbontrack.web.openapi import describe_api
from carbontrack.web.postman import FORMAT, collection, operations
from tests.support.calls import table
from tests.support.chromium import Chromium
from tests.support.estate import Estate, running_estate
from tests.support.web import Portal, running_portal


@cache
def document() -> dict[str, Any]:
    return describe_api("test")


def schemas() -> dict[str, Any]:
    found: dict[str, Any] = document()["components"]["schemas"]
    return found


# --- the document


def test_the_document_is_what_openapi_3_1_says() -> None:
    OpenAPIV31SpecValidator(document()).validate()


def test_every_operation_says_what_it_is_who_may_call_it_and_what_it_gives() -> None:
    tags = {tag["name"] for tag in document()["tags"]}
    names = []
    for path, method, operation in operations(document()):
        where = f"{method} {path}"
        names.append(operation["operationId"])
        assert operation["summary"], where
        assert operation["description"], where
        assert set(operation["tags"]) <= tags, where
        assert operation["security"], where
        assert any(status.startswith("2") for status in operation["responses"]), where
        for status, answer in operation["responses"].items():
            if status.startswith("2") and status != "204":
                assert answer["content"], where
                assert all(media["schema"] for media in answer["content"].values()), where
    assert len(set(names)) == len(names)


def bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each body in each media type, with where it is."""
    for path, method, operation in operations(document()):
        for media_type, body in operation.get("requestBody", {}).get("content", {}).items():
            yield f"{method} {path} {media_type}", body


@pytest.mark.parametrize(("where", "body"), [pytest.param(*it, id=it[0]) for it in bodies()])
def test_every_body_has_an_example_that_fits_its_schema(where: str, body: dict[str, Any]) -> None:
    schema = {**body["schema"], "components": document()["components"]}

    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(body["example"])


PLAIN = re.compile(
    r"(id|name|email|first_name|last_name|phone_number|password|version|note|evidence|reason|author|unit|county|region|"
    r"latitude|longitude|timestamp|results|next|message|address|day|fields|status|is_active|"
    r".*(_id|_at|_kg|_m|_m2|_mm|_c|_ms|_kpa|_pa|_ppm|_s|_h|_kg_per_s|_m3s|_nm3_per_s|_hours|_count|_start|_end))"
)
"""Names that say it all: of people and things, times, and numbers with their unit."""


def test_every_schema_has_fields_and_every_field_is_explained_by_its_name_or_its_text() -> None:
    unexplained = []
    for name, schema in schemas().items():
        if "enum" in schema:
            continue
        assert schema["properties"], name
        for field, about in schema["properties"].items():
            if not (about.get("description") or PLAIN.fullmatch(field) or has_own_text(about)):
                unexplained.append(f"{name}.{field}")
    assert unexplained == []


def has_own_text(about: dict[str, Any]) -> bool:
    """Whether the field's type explains it: what it may be is listed, or is a described thing of its own."""
    named = "$ref" in about or "$ref" in about.get("items", {}) or "enum" in about
    return named or any(has_own_text(choice) for choice in about.get("anyOf", []))


async def test_the_yaml_says_what_the_json_says(tmp_path: Path) -> None:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as portal:
        nobody = portal.client()
        as_json = await nobody.get("/api/schema/")
        as_yaml = await nobody.get("/api/schema/", headers={"Accept": "application/yaml"})

        assert as_yaml.content_type == "application/yaml"
        assert YAML(typ="safe").load(await as_yaml.text()) == await as_json.json() == document()


# --- Postman


def test_the_collection_has_the_form_that_postman_reads() -> None:
    """The few rules of the collection format 2.1 that concern us."""
    found = collection(document(), "http://127.0.0.1:8080")

    assert found["info"]["schema"] == FORMAT
    assert found["info"]["name"]
    assert {it["key"] for it in found["variable"]} == {"base_url", "token"}
    assert found["auth"]["type"] in found["auth"]
    for folder in found["item"]:
        assert folder.keys() == {"name", "item"}
        for item in folder["item"]:
            request = item["request"]
            assert item["name"]
            assert item["response"] == []
            assert request["method"] in {"GET", "POST", "PUT", "PATCH", "DELETE"}
            assert request["url"]["host"] == ["{{base_url}}"]
            assert request["url"]["raw"] == "{{base_url}}/" + "/".join(request["url"]["path"])
            variables = {it["key"] for it in request["url"]["variable"]}
            assert variables == {part[1:] for part in request["url"]["path"] if part.startswith(":")}
            assert all(isinstance(it["value"], str) for it in (*request["url"]["query"], *request["url"]["variable"]))
            assert all(it.keys() >= {"key", "value"} for it in request["header"])
            body = request.get("body", {"mode": "raw", "raw": "{}"})
            assert body["mode"] in {"raw", "formdata", "file"}
            if body["mode"] == "raw":
                json.loads(body["raw"])
            elif body["mode"] == "formdata":
                assert all(it["type"] == "file" for it in body["formdata"])
    sent = {(it["request"]["method"], it["request"]["url"]["raw"]) for folder in found["item"] for it in folder["item"]}
    assert len(sent) == len(list(operations(document())))


@pytest.mark.parametrize("with_all", [False, True], ids=["as it is", "with everything that may be added"])
async def test_every_request_of_the_collection_can_be_sent(tmp_path: Path, with_all: bool) -> None:
    """As it comes, with the ids of its examples: it may find nothing, but it is understood."""
    async with running_estate(f"sqlite://{tmp_path / 'web.sqlite3'}") as estate:
        answers = {}
        for folder in collection(document(), "")["item"]:
            for item in folder["item"]:
                request = item["request"]
                answers[f"{request['method']} {request['url']['raw']}"] = await sent(estate, request, with_all)
    understood = {200, 201, 202, 204, 404, 409} | ({422} if with_all else set())  # a cursor is of an answer before
    not_understood = {
        name: answer
        for name, answer in answers.items()
        if answer[0] not in understood | NEEDS_MORE.get(name.replace("{{base_url}}", ""), set())
    }
    assert not not_understood, "\n".join(f"{name}: {answer}" for name, answer in not_understood.items())


NEEDS_MORE: dict[str, set[int]] = {
    "POST /api/login/": {401},
    "POST /api/reset-password/": {401},
    "POST /api/me/password/": {403},
    "POST /api/emissions/": {422},
    "PUT /api/alert-rules/:rule/adjustments/:option/": {422},
    "DELETE /api/alert-rules/:rule/adjustments/:option/": {422},
    "POST /api/energy-entries/bulk/": {422},
    "POST /api/production-entries/bulk/": {422},
    "POST /api/energy-entries/:id/photos/": {422},
    "POST /api/firmware/images/": {422},  # the two files
    "POST /api/firmware/rollouts/": {422},  # devices that are left
}
"""What needs a password or a code of one's own, a factory's name, the messages of a device, a table, or a photo."""


async def sent(estate: Estate, request: dict[str, Any], with_all: bool) -> tuple[int, str]:
    url, client = request["url"], estate.portal.client()
    path = url["raw"].removeprefix("{{base_url}}")
    for variable in url["variable"]:
        path = path.replace(f":{variable['key']}", variable["value"])
    caller = await estate.again(next(it for it in estate.callers if it.name == "hq_manager"))
    headers = {} if request.get("auth") == {"type": "noauth"} else dict(caller.headers)
    headers |= {it["key"]: it["value"] for it in request["header"]}
    query = {it["key"]: it["value"] for it in url["query"] if with_all or not it["disabled"]}
    body = body_of(request.get("body", {}))
    async with client.request(request["method"], path, headers=headers, params=query, data=body) as answer:
        if answer.content_type == "text/event-stream":
            return answer.status, ""
        return answer.status, (await answer.read())[:500].decode(errors="replace")


def body_of(body: dict[str, Any]) -> Any:
    """As Postman would send it, with a file that somebody has chosen."""
    if body.get("mode") != "formdata":
        return body.get("raw")
    return table("timestamp\n2026-02-26\n")


# --- the viewers, in a real browser that may ask nobody else


@pytest.fixture
async def portal(tmp_path: Path) -> Any:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


async def test_swagger_ui_shows_every_operation_offline(portal: Portal, chromium: Chromium) -> None:
    page = await chromium.new_page()
    await page.goto(str(portal.server.make_url("/api/schema/swagger-ui/")))

    await page.wait_for_selector(".opblock-tag")
    for tag in await page.locator(".opblock-tag").all():
        await tag.click()
    shown = await page.locator(".opblock .opblock-summary-path").all_inner_texts()

    assert sorted(text.replace("\u200b", "") for text in shown) == sorted(path for path, _, _ in operations(document()))
    await page.locator(".opblock-summary", has_text="/api/login/").click()
    assert await page.locator(".opblock.is-open .opblock-section-request-body").is_visible()


async def test_redoc_shows_every_operation_offline(portal: Portal, chromium: Chromium) -> None:
    page = await chromium.new_page()
    await page.goto(str(portal.server.make_url("/api/schema/redoc/")))

    await page.wait_for_selector("[data-section-id^='tag/']")
    text = await page.locator("body").inner_text()

    for path, _, operation in operations(document()):
        assert operation["summary"] in text, path
