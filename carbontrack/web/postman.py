"""The API as a Postman collection (format 2.1), made of the OpenAPI document: every route with an example to send."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from carbontrack.web.examples import example_of

FORMAT = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
KEEP_TOKEN = [
    "const answer = pm.response.json();",
    'if (answer.token) { pm.collectionVariables.set("token", answer.token); }',
]
"""What Postman does after signing in: all other requests send the token."""


def collection(document: Mapping[str, Any], base_url: str) -> dict[str, Any]:
    """The collection of an OpenAPI document. Its variables are ``base_url`` and ``token``."""
    folders: dict[str, list[dict[str, Any]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, method, operation in operations(document):
        folders[operation["tags"][0]].append(_item(path, method, operation))
    return {
        "info": {
            "name": document["info"]["title"],
            "description": document["info"]["description"],
            "version": document["info"]["version"],
            "schema": FORMAT,
        },
        "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{token}}", "type": "string"}]},
        "variable": [{"key": "base_url", "value": base_url}, {"key": "token", "value": ""}],
        "item": [{"name": name, "item": items} for name, items in folders.items() if items],
    }


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every route of a document: path, method and operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method.upper(), operation


def _item(path: str, method: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    parameters = operation.get("parameters", [])
    request: dict[str, Any] = {
        "method": method,
        "description": operation.get("description", ""),
        "url": _url(path, parameters),
        "header": [],
    }
    if operation.get("security") == [{}]:
        request["auth"] = {"type": "noauth"}
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        example = content["application/json"]["example"]
        request["header"].append({"key": "Content-Type", "value": "application/json"})
        request["body"] = {
            "mode": "raw",
            "raw": json.dumps(example, indent=2, ensure_ascii=False),
            "options": {"raw": {"language": "json"}},
        }
    elif "multipart/form-data" in content:
        files = content["multipart/form-data"]["schema"]["properties"]
        request["body"] = {"mode": "formdata", "formdata": [{"key": name, "type": "file"} for name in files]}
    elif content:  # a file by itself
        request["header"].append({"key": "Content-Type", "value": next(iter(content))})
        request["body"] = {"mode": "file", "file": {}}
    item: dict[str, Any] = {"name": operation["summary"], "request": request, "response": []}
    if operation["operationId"] == "login":
        item["event"] = [{"listen": "test", "script": {"type": "text/javascript", "exec": KEEP_TOKEN}}]
    return item


def _url(path: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    parts = [f":{part[1:-1]}" if part.startswith("{") else part for part in path.strip("/").split("/")]
    query = [
        {
            "key": it["name"],
            "value": _word(it["schema"]),
            "description": it.get("description", ""),
            "disabled": not it.get("required", False),
        }
        for it in parameters
        if it["in"] == "query"
    ]
    return {
        "raw": "{{base_url}}/" + "/".join(parts) + "/",
        "host": ["{{base_url}}"],
        "path": [*parts, ""],  # every path ends with a slash
        "query": query,
        "variable": [{"key": it["name"], "value": _word(it["schema"])} for it in parameters if it["in"] == "path"],
    }


def _word(schema: Mapping[str, Any]) -> str:
    value = example_of(schema, {})
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
