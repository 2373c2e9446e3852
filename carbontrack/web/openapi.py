"""The OpenAPI document, made of what the routes declare (:mod:`carbontrack.web.contract`)."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from aiohttp import web
from openapi_pydantic import (
    Components,
    Header,
    Info,
    License,
    MediaType,
    OpenAPI,
    Operation,
    Parameter,
    PathItem,
    Reference,
    RequestBody,
    Response,
    Schema,
    SecurityScheme,
    Tag,
)
from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from ruamel.yaml import YAML

from carbontrack.web import api, contract
from carbontrack.web.answers import FORMATS, JSON
from carbontrack.web.examples import example_of
from carbontrack.web.idempotency import HEADER

PROBLEM = "application/problem+json"
COMPONENTS = "#/components/schemas/{model}"
COOKIE_SCHEME, TOKEN_SCHEME, DEVICE_SCHEME = "session", "token", "device"
DESCRIPTION = """\
Measured CO2 of tea factories' chimneys, the accounts that are made of it, and all that belongs to them.

Units are in the names of fields. Times are ISO 8601 with zone. A list is an object with `results` and `next`, which is
the `cursor` of the list's next part. What somebody may not see is not there: lists leave it out, and a single one
is 404. Errors are problem documents (RFC 9457) that say what to do.
"""
MEANINGS: Mapping[int, str] = {
    304: "It is still what the `If-None-Match` of the request names.",
    400: "The body is not encoded as its headers say, or was cut off.",
    401: "Nobody is signed in: the token is missing, wrong or has ended.",
    403: "The role, or the token's scope, does not allow this.",
    404: "There is no such thing for the caller.",
    406: "The header `Accept` asks for what this is not given as.",
    409: "It contradicts what is there; `detail` says what to do.",
    413: "The body is too large.",
    415: "The body is not of the media type that is read here.",
    422: "A field is wrong, missing or unknown; `errors` has each.",
    429: "Too many attempts; `Retry-After` says when to come back.",
    502: "What had to be asked for this failed.",
    503: "The database does not answer; try again soon.",
}
RETRIED = {429, 503}
"""These may say when to come back."""


class FieldError(BaseModel):
    """What is wrong with one field."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    field: str
    """Empty for what concerns no field."""
    message: str
    row: int | None = None
    """Of an uploaded table: the row that is wrong, as a spreadsheet counts."""


class ProblemDocument(BaseModel):
    """An error that says what to do (RFC 9457)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: str
    """`about:blank`, or a name for what programs may want to tell apart."""
    title: str
    """The status in words."""
    status: int
    detail: str = ""
    """What is wrong, and what to do."""
    errors: list[FieldError] = []
    request_id: str
    """The operator finds what the log says of it under this; the header `X-Request-ID` has it too."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the API."""

    method: str
    path: str
    operation: contract.Operation
    handler: Any


def routes_of(app: web.Application) -> Iterator[Route]:
    """The routes that the document speaks of, as they were added."""
    for route in app.router.routes():
        described = contract.operation_of(route.handler, route.method)
        if described is not None and route.resource is not None:
            yield Route(route.method, route.resource.canonical, described, route.handler)


def describe_api(version: str) -> dict[str, Any]:
    """The document of our API, without anything that runs."""
    app = web.Application()
    api.add_routes(app)
    return describe(app, version)


def describe(app: web.Application, version: str) -> dict[str, Any]:
    """The document of an application's API, as plain values."""
    schemas = _Schemas()
    paths: dict[str, PathItem] = {}
    for route in routes_of(app):
        item = paths.setdefault(route.path, PathItem())
        setattr(item, route.method.lower(), _operation(route, schemas))
    document = OpenAPI(
        openapi="3.1.1",
        info=Info(
            title="Carbon Track",
            version=version,
            description=DESCRIPTION,
            license=License(name="Apache License 2.0", identifier="Apache-2.0"),
        ),
        tags=[Tag(name=tag.value) for tag in contract.Tag],
        paths=paths,
        components=schemas.components(),
    )
    plain: dict[str, Any] = document.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)
    for item in plain["paths"].values():
        for operation in item.values():
            for body in operation.get("requestBody", {}).get("content", {}).values():
                body.setdefault("example", example_of(body["schema"], plain))
    return plain


def to_yaml(document: Mapping[str, Any]) -> str:
    """A document as YAML, in its own order."""
    yaml, text = YAML(typ="safe"), io.StringIO()
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # its stub knows only None
    yaml.dump(document, text)
    return text.getvalue()


def _security_schemes() -> dict[str, SecurityScheme | Reference]:
    return {
        TOKEN_SCHEME: SecurityScheme(
            type="http",
            scheme="bearer",
            description="The token that signing in gives, or an API token. `Token <token>` is understood as well.",
        ),
        DEVICE_SCHEME: SecurityScheme(
            type="http", scheme="basic", description="A device's id, and its password at the broker."
        ),
        COOKIE_SCHEME: SecurityScheme.model_validate(
            {
                "type": "apiKey",
                "in": "cookie",
                "name": "carbontrack_session",
                "description": "What pages use. Its name begins with `__Host-` where the connection is encrypted.",
            }
        ),
    }


# --- one route


def _operation(route: Route, schemas: _Schemas) -> Operation:
    described, access = route.operation, route.handler.access
    is_public = access.roles is None
    return Operation(
        tags=[described.tag.value],
        operationId=route.handler.__name__,
        summary=described.summary.rstrip("."),
        description=_description(route),
        parameters=[*_path_parameters(route.path), *_query_parameters(described), *_header_parameters(route)] or None,
        requestBody=_body(described, schemas),
        responses=_responses(route, schemas, is_public=is_public),
        security=_security(access),
    )


def _security(access: Any) -> list[dict[str, list[str]]]:
    if access.roles is None:
        return [{}]
    found: list[dict[str, list[str]]] = [{TOKEN_SCHEME: []}, {COOKIE_SCHEME: []}]
    return [*found, {DEVICE_SCHEME: []}] if access.devices else found


def _description(route: Route) -> str:
    access, described = route.handler.access, route.operation
    who = "Everybody, signed in or not."
    if access.roles is not None:
        who = f"Roles: {', '.join(f'`{role}`' for role in sorted(access.roles))}."
        if access.scope is not None:
            who += f" API tokens: with the scope `{access.scope}`."
        elif route.method != "GET":
            who += " No API tokens."
        else:
            who += " API tokens: with the scope `read`."
        if access.devices:
            who += " Devices, for themselves."
    return "\n\n".join(part for part in (described.description, who) if part)


def _path_parameters(path: str) -> list[Parameter | Reference]:
    return [
        Parameter.model_validate(
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999}
                if name == "id"
                else {"type": "string", "minLength": 1, "pattern": "^[^/{}]+$"},
            }
        )
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query_parameters(described: contract.Operation) -> list[Parameter | Reference]:
    if described.query is None:
        return []
    schema = described.query.model_json_schema(by_alias=True)
    return [
        Parameter.model_validate(
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "description": value.pop("description", None),
                "schema": _resolved(value, schema.get("$defs", {})),
            }
        )
        for name, value in schema.get("properties", {}).items()
    ]


def _resolved(value: Any, definitions: Mapping[str, Any]) -> Any:
    """A schema whose few references into its own definitions are put in place; a query is no place for null."""
    if isinstance(value, dict):
        if "$ref" in value:
            return _resolved(definitions[value["$ref"].rpartition("/")[2]], definitions)
        choices = value.get("anyOf")
        if choices and {"type": "null"} in choices:
            (choice,) = (it for it in choices if it != {"type": "null"})
            rest = {key: it for key, it in value.items() if key != "anyOf" and it is not None}
            return _resolved({**choice, **rest}, definitions)
        return {key: _resolved(it, definitions) for key, it in value.items() if key not in {"title", "default"}} | (
            {"default": value["default"]} if value.get("default") is not None else {}
        )
    return value


def _header_parameters(route: Route) -> list[Parameter | Reference]:
    if not contract.is_kept(route.handler):
        return []
    return [
        Parameter.model_validate(
            {
                "name": HEADER,
                "in": "header",
                "description": "A word of your own, such as a UUID. What comes twice with it in a day is done once.",
                "schema": {"type": "string", "pattern": "^[!-~]{1,200}$"},
            }
        )
    ]


def _body(described: contract.Operation, schemas: _Schemas) -> RequestBody | None:
    if described.body is not None:
        content = {JSON: MediaType.model_validate({"schema": schemas.of(described.body, "validation")})}
        return RequestBody(content=content, required=True)
    if not described.reads:
        return None
    read = {
        media: MediaType.model_validate({"schema": it if isinstance(it, dict) else schemas.of(it, "validation")})
        for media, it in described.reads.items()
    }
    is_file = all(isinstance(it, dict) for it in described.reads.values())  # of a table there is a form as well
    return RequestBody(content=read, required=is_file)


def _responses(route: Route, schemas: _Schemas, *, is_public: bool) -> dict[str, Response | Reference]:
    described = route.operation
    found: dict[str, Response | Reference] = {str(described.status): _success(route, schemas)}
    if described.can_be_tried:
        found["200"] = _success(route, schemas).model_copy(update={"description": "What it would come to."})
    if route.method == "GET" and not described.media and described.status == 200:
        found["304"] = Response(description=MEANINGS[304])
    usual = contract.usual_problems(described, route.method, is_public=is_public, has_variable="{" in route.path)
    for status in sorted(usual):
        found[str(status)] = schemas.problem(status)
    return found


def _success(route: Route, schemas: _Schemas) -> Response:
    described = route.operation
    phrase = HTTPStatus(described.status).phrase
    if described.media:
        content = {
            media: MediaType.model_validate({"schema": {"type": "object" if media == JSON else "string"}})
            for media in described.media
        }
        return Response(description=phrase, content=content)
    if described.status == 204:
        return Response(description="Done.")
    etag = Header(description="For `If-None-Match`.", schema=Schema.model_validate({"type": "string"}))
    headers = {"ETag": etag} if route.method == "GET" else None
    if not described.is_list:
        content = {JSON: MediaType.model_validate({"schema": schemas.of(described.gives, "serialization")})}
        return Response(description=phrase, headers=headers, content=content)
    text = {"schema": {"type": "string"}}
    content = {
        media: MediaType.model_validate(
            {"schema": _list(schemas.of(described.row, "serialization"))} if media == JSON else text
        )
        for media in FORMATS.values()
    }
    return Response(description=phrase, headers=headers, content=content)


def _list(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "results": {"type": "array", "items": row},
            "next": {"type": ["string", "null"], "description": "The `cursor` of the list's next part."},
        },
        "required": ["results", "next"],
    }


# --- schemas


class _Schemas:
    """The models that the routes name, each once."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}
        self._problems: dict[str, Response] = {}

    def of(self, kind: Any, mode: JsonSchemaMode) -> dict[str, Any]:
        """The schema of a type: a reference, where it has a name."""
        adapter: TypeAdapter[Any] = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
        schema = adapter.json_schema(mode=mode, ref_template=COMPONENTS, schema_generator=GenerateJsonSchema)
        self._keep(schema.pop("$defs", {}))
        if isinstance(kind, type) and "$ref" not in schema:
            self._keep({kind.__name__: schema})
            return {"$ref": COMPONENTS.format(model=kind.__name__)}
        return schema

    def _keep(self, definitions: Mapping[str, Any]) -> None:
        for name, schema in definitions.items():
            known = self._found.setdefault(name, schema)
            if known != schema:
                raise TypeError(f"two models of the API have the name {name}, or one is both read and written")

    def problem(self, status: int) -> Reference:
        """The answer to what goes wrong in one way, which is the same everywhere."""
        name = re.sub(r"\W", "", HTTPStatus(status).phrase)
        if name not in self._problems:
            retry = {"Retry-After": Header.model_validate({"schema": {"type": "integer", "minimum": 0}})}
            schema = self.of(ProblemDocument, "serialization")
            self._problems[name] = Response(
                description=MEANINGS[status],
                headers=retry if status in RETRIED else None,
                content={PROBLEM: MediaType.model_validate({"schema": schema})},
            )
        return Reference.model_validate({"$ref": f"#/components/responses/{name}"})

    def components(self) -> Components:
        """All that the document's routes refer to."""
        return Components(
            schemas={name: Schema.model_validate(schema) for name, schema in sorted(self._found.items())},
            responses=dict(sorted(self._problems.items())),
            securitySchemes=_security_schemes(),
        )
