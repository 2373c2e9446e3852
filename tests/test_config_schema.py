"""Editors are told what the configuration may be, the options of plugins, alerts and notifications included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from carbontrack.cli import app
from carbontrack.config import describe
from carbontrack.plugins import load_plugins
from carbontrack.plugins.schema import config_schema
from tests.support.world import choosing

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "config" / "carbontrack.schema.json"


def refused(schema: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """Where an editor would draw red lines."""
    validator = jsonschema.Draft202012Validator(schema)
    return sorted(error.json_path for error in validator.iter_errors(config))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return config_schema(load_plugins())


def test_it_is_a_schema(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


def test_every_setting_is_in_it_with_its_description(schema: dict[str, Any]) -> None:
    for setting in describe():
        place: Any = schema
        for part in setting.key.replace("[]", ".0").split("."):
            place = resolved(schema, place["items"] if part == "0" else place["properties"][part])
        assert place or setting.key


def resolved(schema: dict[str, Any], place: dict[str, Any]) -> dict[str, Any]:
    """A part of the schema with what it refers to."""
    for part in (place, *place.get("anyOf", ())):
        if "$ref" in part:
            definition: dict[str, Any] = schema["$defs"][part["$ref"].removeprefix("#/$defs/")]
            return definition
    return place


def test_the_example_is_fine(schema: dict[str, Any]) -> None:
    text = (ROOT / "config" / "carbontrack.yaml").read_text(encoding="utf-8")
    config = json.loads(json.dumps(YAML(typ="rt").load(text), default=lambda tagged: tagged.value))

    assert refused(schema, config) == []


def test_mistakes_are_shown_where_they_are(schema: dict[str, Any]) -> None:
    config = {
        "mqtt": {"port": "many"},
        "plugins": {"enabled": ["no_such_plugin"], "options": {"mhz19": {"full_scale": 1}, "nobody": {}}},
        "alerts": [
            {"name": "a", "rule": "limit", "options": {"quantity": "co2_ppm", "raise_above": 1}},
            {"name": "b", "rule": "no-such-rule"},
        ],
    }

    assert refused(schema, config) == [
        "$.alerts[0].options",
        "$.alerts[1].rule",
        "$.mqtt.port",
        "$.plugins.enabled",
        "$.plugins.options",
        "$.plugins.options.mhz19",
    ]


def test_the_options_of_a_plugin_in_the_folder_are_in_it(tmp_path: Path) -> None:
    (tmp_path / "gateway.py").write_text(
        "from pydantic import BaseModel, ConfigDict\n"
        "from carbontrack import Kind, Manifest\n"
        "class Options(BaseModel):\n"
        "    model_config = ConfigDict(extra='forbid')\n"
        "    host: str\n"
        "MANIFEST = Manifest('gateway', '1.0', (Kind.SENSOR,), 'A', options_model=Options, options_version=2)\n",
        encoding="utf-8",
    )
    schema = config_schema(load_plugins(choosing("gateway", folder=tmp_path)))

    def checked(**options: Any) -> list[str]:
        return refused(schema, {"plugins": {"options": {"gateway": options}}})

    assert checked(host="a", options_version=2) == []
    assert checked(host="a", options_version=1) == ["$.plugins.options.gateway.options_version"]
    assert checked(hots="a") == ["$.plugins.options.gateway", "$.plugins.options.gateway"]


def test_the_shipped_schema_is_that_of_our_own_plugins() -> None:
    """It is made by carbontrack config-schema --output config/carbontrack.schema.json."""
    printed = CliRunner().invoke(app, ["config-schema"]).stdout

    assert SHIPPED.read_text(encoding="utf-8") == printed
