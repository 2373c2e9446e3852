"""Examples of what a schema allows, for the description and for whoever tries it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def example_of(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Any:
    """Something that a schema allows: its example where it has one; what need not be given is left out."""
    if "$ref" in schema:
        return example_of(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if "anyOf" in schema and not schema.get("examples"):
        return example_of(schema["anyOf"][0], document)
    for known in ("examples", "enum"):
        if schema.get(known):
            return schema[known][0]
    if schema.get("type") == "object":
        properties, required = schema.get("properties", {}), schema.get("required", ())
        wanted = {name: it for name, it in properties.items() if name in required or it.get("examples")}
        return {name: example_of(it, document) for name, it in wanted.items()}
    return [example_of(schema["items"], document)] if schema.get("type") == "array" else _plain(schema)


def _plain(schema: Mapping[str, Any]) -> Any:
    for known in ("const", "default"):
        if known in schema:
            return schema[known]
    kind = schema.get("type")
    if kind in {"integer", "number"}:
        return int(schema.get("minimum", 1))
    if kind == "boolean":
        return True
    if schema.get("format") in {"date-time", "date"}:
        return "2026-03-01T00:00:00+03:00" if schema["format"] == "date-time" else "2026-03-01"
    return "text" if kind == "string" else None
