"""The configuration as a JSON Schema, with the options of the plugins that are there: for editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from carbontrack.config import Config
from carbontrack.hookspecs import AlertRule, FactoryRule, Notifier
from carbontrack.plugins import Plugins
from carbontrack.plugins.loading import OPTIONS_VERSION

Family = TypeVar("Family", bound=AlertRule | FactoryRule | Notifier)
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config_schema(plugins: Plugins) -> dict[str, Any]:
    """The schema of the whole configuration.

    An editor checks what is written. ``!secret`` and ``!env_var`` stand for text there; what they give is checked by
    ``carbontrack check-config``.
    """
    schema = Config.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    settings = definitions["Plugins"]["properties"]
    manifests = {status.name: status.manifest for status in plugins.statuses}
    settings["options"] = {
        "description": settings["options"].get("description", ""),
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: _plugin_options(name, manifest.options_model, manifest.options_version, definitions)
            for name, manifest in manifests.items()
            if manifest is not None and manifest.options_model is not None
        },
    }
    for key in ("enabled", "disabled"):
        for part in (settings[key], *settings[key].get("anyOf", ())):
            if part.get("type") == "array":
                part["items"] = {"type": "string", "enum": sorted(manifests)}
    brought = plugins.contributions
    rules: dict[str, AlertRule | FactoryRule] = {**brought.alert_rules, **brought.factory_rules}
    _choose(definitions["AlertEntry"], "rule", rules, definitions)
    _choose(definitions["NotificationEntry"], "notifier", brought.notifiers, definitions)
    return {"$schema": DIALECT, **schema, "title": "Carbon Track"}


def _plugin_options(name: str, model: type[BaseModel], version: int, definitions: dict[str, Any]) -> dict[str, Any]:
    options = _taken_in(f"plugin.{name}", model, definitions)
    form = {"type": "integer", "const": version, "description": "The form that these options are written in."}
    options["properties"] = {**options.get("properties", {}), OPTIONS_VERSION: form}
    return {"$ref": f"#/$defs/plugin.{name}"}


def _choose(
    entry: dict[str, Any],
    key: str,
    families: Mapping[str, Family],
    definitions: dict[str, Any],
) -> None:
    """Have the options of an entry be those of the family that its ``key`` names."""
    entry["properties"][key]["enum"] = sorted(families)
    branches = []
    for name, family in sorted(families.items()):
        _taken_in(f"{key}.{name}", family.options_model, definitions)
        options = {"properties": {"options": {"$ref": f"#/$defs/{key}.{name}"}}}
        branches.append({"if": {"properties": {key: {"const": name}}}, "then": options})
    entry["allOf"] = branches


def _taken_in(place: str, model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    """A model's schema, at ``place`` among the definitions, with those that it needs beside it."""
    schema = model.model_json_schema(ref_template=f"#/$defs/{place}.{{model}}")
    for name, definition in schema.pop("$defs", {}).items():
        definitions[f"{place}.{name}"] = definition
    definitions[place] = schema
    return schema
