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
    for section in schema["properties"].values():
        if "$ref" in section:  # a section whose keys are all commented out is null in YAML
            definitions[section["$ref"].rsplit("/", 1)[1]]["type"] = ["object", "null"]
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
    found = {"$schema": DIALECT, **schema, "title": "Carbon Track"}
    _forget_forms(found)
    return found


def _forget_forms(part: Any) -> None:
    """Take away what a text must look like: behind a tag stands a name, and not the text itself."""
    if isinstance(part, list):
        for item in part:
            _forget_forms(item)
    elif isinstance(part, dict):
        if part.get("type") == "string":
            for form in ("pattern", "minLength", "maxLength", "format"):
                part.pop(form, None)
        for item in part.values():
            _forget_forms(item)


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
