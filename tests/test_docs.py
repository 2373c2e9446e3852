"""The documents say what the code does: names, routes, options, flags and causes are compared, and examples are run."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import fields as dataclass_fields
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from carbontrack import (
    Flag,
    Frame,
    Kind,
    Manifest,
    Message,
    Payload,
    PluginState,
    Reading,
    SensorDriver,
    Snapshot,
    fence,
    hookspecs,
    testing,
)
from carbontrack.authoring.rules import RULES
from carbontrack.cli import app
from carbontrack.config import Config, load_config
from carbontrack.device_settings import Fault, check_message, decode_config_answer
from carbontrack.emissions.gas import co2_density_kg_m3, pressure_from_altitude_kpa
from carbontrack.emissions.rate import INVALIDATING, emission_rate
from carbontrack.metrics import DELIVERIES
from carbontrack.model import (
    AuditAction,
    AuditEvent,
    Device,
    Factory,
    MonitoringPlan,
    Role,
    Sample,
    Site,
    Stack,
    TrendPoint,
)
from carbontrack.passwords import (
    CODE_ALPHABET,
    CODE_LASTS,
    CODE_LENGTH,
    FEWEST_SIGNS,
    LONGEST_PASSWORD,
    SHORTEST_PASSWORD,
)
from carbontrack.plugins import FIRST_PARTY, load_plugins
from carbontrack.plugins.contributions import SEND_TIMEOUT_S, SHOW_TIMEOUT_S
from carbontrack.plugins.host import FIRST_WAIT_S, LOAD_TIMEOUT_S, RETRIES_S
from carbontrack.plugins.sensors import ct_v1, flat_json, frames, legacy, modbus_meter
from carbontrack.simulator import wire
from carbontrack.simulator.orders import Orders, OrdersState
from carbontrack.web.present import CAUSE_TEXTS, ROLE_TITLES, live_row
from tests.support.web import Portal, running_portal

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SOURCES = [path for path in (ROOT / "carbontrack").rglob("*.py") if "migrations" not in path.parts]
HOOKS = {name for name, value in vars(hookspecs).items() if hasattr(value, f"{hookspecs.PROJECT}_spec")}


def document(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def section(name: str, heading: str) -> str:
    """What a document says under a heading, up to the next one of the same or a higher level."""
    text = document(name)
    found = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert found, f"docs/{name}.md has no heading {heading!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows, without heads and rules."""
    lines = text.splitlines()
    return [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        for line, after in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith("|") and not line.startswith("| ---") and not after.startswith("| ---")
    ]


def names(text: str) -> list[str]:
    """What stands in backquotes."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class TestProtocol:
    def test_every_flag_is_in_the_tables_with_its_bit(self) -> None:
        documented = [(int(bit), names(name)[0]) for bit, name, *_ in rows(section("protocol", "Status bits"))]

        assert documented == [(flag.bit_length() - 1, flag.name) for flag in Flag]

    def test_the_table_says_which_bits_of_a_device_take_the_rate_away(self) -> None:
        documented = {names(row[1])[0]: row[3] for row in rows(section("protocol", "Status bits")) if len(row) == 4}

        assert documented == {
            str(flag.name): "no rate" if flag & INVALIDATING else "shown" for flag in Flag if flag < 1 << 16
        }

    def test_every_cause_of_quarantine_is_in_the_table_and_has_a_text(self) -> None:
        documented = {names(row[0])[0] for row in rows(section("protocol", "Bad input")) if len(row) == 3}

        assert causes() == CAUSE_TEXTS.keys()
        assert causes() | set(DELIVERIES) - {"delivered"} == documented

    def test_a_cause_that_is_receipted_says_so(self) -> None:
        """What the table says of heads that can be read: one message of each kind, read by the driver itself."""
        good = '{"v":1,"sid":"s","boot":1,"seq":7,"n":1,"t":0,"s":{"cols":["co2"],"rows":[[1]]}}'
        ends = {
            good.replace("]]}}", "]]}"): ("invalid_json", True),
            good.replace("[[1]]", "[[NaN]]"): ("not_finite", True),
            good.replace('"boot":1,', ""): ("missing_field", True),
            good.replace("[[1]]", '[["1"]]'): ("wrong_type", True),
            good.replace("[[1]]", "[[1],[2]]"): ("row_count_mismatch", True),
            good.replace('"co2"', '"ds"'): ("bad_sequence", True),
            good.replace('"seq":7', '"seq":0'): ("bad_sequence", False),
            good.replace('"v":1', '"v":2'): ("unknown_version", False),
            good.replace('"sid":"s"', '"sid":"s s"'): ("invalid_stream", False),
            good.replace('"n":1', '"n":0'): ("empty", False),
            good.replace('"n":1', '"n":1001'): ("too_many_records", False),
        }
        found = {text: decoded_end(ct_v1.CT_V1, text) for text in ends}
        documented = {
            (names(cause)[0], "no receipt" not in end)
            for cause, _, end in (row for row in rows(section("protocol", "Bad input")) if len(row) == 3)
        }

        assert found == ends
        assert set(found.values()) <= documented

    def test_the_examples_are_read_by_the_drivers(self) -> None:
        every = blocks(document("protocol"), "json")
        record, birth, receipt, config, answers, order, command, offer, report, flat, legacy, moment, backlog = every

        message = decoded(ct_v1.CT_V1, record)
        assert (message.stream, message.first_seq, message.samples[0].co2_ppm) == ("9f3c21aa", 1048577, 98_000)
        assert msgspec.json.decode(birth)["first"] <= msgspec.json.decode(birth)["next"]
        assert wire.decode_receipt(receipt.encode()).seq == 1048577
        alarm = {"v": 1, "id": 7, "cmd": "alarm", "on": True, "level": "critical"}
        assert msgspec.json.decode(command) == alarm  # as test_notifiers has it on the wire
        assert check_message(config.encode())[1] == []
        applied, refused = map(decode_config_answer, answers.encode().splitlines())
        assert (applied.ok, refused.faults()) == (True, (Fault("plan.diameter_m", "range"),))
        told, done = order.encode().splitlines()
        answer = Orders(OrdersState(), lambda _: {}).take_command(told, 0, clock_set=True)
        assert answer is not None
        assert msgspec.json.decode(answer) == msgspec.json.decode(done)
        assert msgspec.json.decode(offer)["ver"] == msgspec.json.decode(report)["ver"]
        assert decoded(flat_json.FLAT_JSON, flat).samples[0].velocity_ms == 4.1
        drivers = load_plugins().contributions.sensors
        (sample,) = decoded(drivers["legacy"], legacy).samples
        assert (sample.device_co2_kg_per_s, sample.co2_ppm) == (0.148, None)
        (sample,) = decoded(drivers["frames"], moment).samples
        assert (sample.co2_ppm, sample.temperature_c, sample.status) == (98_000, 183.25, 0)
        assert sample.pressure_difference_pa == pytest.approx(3.608, abs=0.001)
        message = decoded(drivers["frames"], backlog)
        assert [sample.seq for sample in message.samples] == [1001, 1002]
        assert [(record.seq, record.kind) for record in message.records] == [(1003, "meter")]

    def test_every_column_that_the_driver_reads_is_there_and_every_block_and_its_columns_too(self) -> None:
        columns = {names(row[0])[0] for row in rows(section("protocol", "Columns"))}
        kinds = {
            names(row[0])[0]: (row[1], tuple(names(row[2])))
            for row in rows(section("protocol", "Records"))
            if len(row) == 3 and row[1] in {"sample", *ct_v1._NUMBERS.values()}
        }

        assert columns == set(ct_v1._SAMPLE_COLUMNS)
        assert {letter: kind for letter, (kind, _) in kinds.items()} == {"s": "sample", **ct_v1._NUMBERS}
        assert {letter: found for letter, (_, found) in kinds.items() if found} == wire.COLUMNS

    def test_every_key_of_flat_json_is_there(self) -> None:
        table = rows(section("protocol", "Flat JSON, for simple boards"))

        documented = [(*names(row[0]), *names(row[1])) for row in table]
        assert documented == [*flat_json._ALIASES.values(), ("timestamp",)]

    def test_every_key_of_the_boards_of_before_is_there(self) -> None:
        documented = {names(row[0])[0] for row in rows(section("protocol", "Legacy boards"))}

        assert documented == {*(key for (key,) in legacy._KEYS.values()), "device_id", "timestamp"}

    def test_every_key_of_a_gateways_message_is_there(self) -> None:
        documented = {names(row[0])[0] for row in rows(section("protocol", "Frames of a gateway")) if len(row) == 3}

        assert documented == {*frames._Body.__struct_fields__}


def causes() -> set[str]:
    """Every cause that the code can give: to an error of a driver or a frame decoder, or to a row that was refused."""
    found = set()
    for path in SOURCES:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
                continue
            place = {"DecodeError": 0, "FrameError": 0, "Quarantined": 1}.get(call.func.id)
            if place is None or len(call.args) <= place:
                continue
            found |= texts(call.args[place], path)
    assert len(found) > 10
    return found


def texts(argument: ast.expr, path: Path) -> set[str]:
    """The texts that an argument may be: itself, both sides of a condition, or what is assigned to its name."""
    if isinstance(argument, ast.Constant):
        assert isinstance(argument.value, str)
        return {argument.value}
    if isinstance(argument, ast.IfExp):
        return texts(argument.body, path) | texts(argument.orelse, path)
    if isinstance(argument, ast.Name):
        assigned = [
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == argument.id for target in node.targets)
        ]
        assert assigned, f"{path.name}: where does {argument.id} come from?"
        return set().union(*(texts(value, path) for value in assigned))
    return set()  # an attribute, such as the cause of an error that was raised elsewhere


def decoded(driver: SensorDriver, text: str) -> Message:
    return driver.decode(Payload("dev-001", "data", text.encode(), 1_795_433_047_456))


def decoded_end(driver: SensorDriver, text: str) -> tuple[str, bool]:
    """The cause with which a payload ends in quarantine, and whether its numbers are receipted."""
    with pytest.raises(hookspecs.DecodeError) as caught:
        decoded(driver, text)
    return caught.value.cause, caught.value.covers is not None


class TestCalculation:
    def test_the_example_by_hand_is_what_the_code_computes(self) -> None:
        results = [row[2] for row in rows(section("calculation", "By hand"))]
        plan = MonitoringPlan(diameter_m=0.8, profile_factor=0.9, h2o_fraction=0.12, basis="dry")
        sample = Sample(1, 0, co2_ppm=98_000, temperature_c=183.25, velocity_ms=4.12, pressure_kpa=79.68)
        rate = emission_rate(sample, plan, 79.68, 0)

        assert results[3] == f"{plan.area_m2:.8f} m2"
        assert results[5] == f"{rate.flow_rate_m3s:.7f} m3/s"
        assert results[6] == f"{co2_density_kg_m3(183.25, 79.68):.8f} kg/m3"
        assert results[7] == f"{rate.co2_kg_per_s:.8f} kg/s"

    def test_the_table_of_pressures_is_what_the_code_computes(self) -> None:
        for altitude, pressure, ratio in rows(section("calculation", "The site's pressure")):
            kpa = pressure_from_altitude_kpa(float(altitude.removesuffix(" m").replace(",", "")))
            assert (pressure, ratio) == (f"{kpa:.3f} kPa", f"{101.325 / kpa:.3f}")

    def test_the_errors_of_the_short_formula_are_what_the_code_computes(self) -> None:
        plan, dry_ppm, velocity_ms, temperature_c = MonitoringPlan(), 98_000.0, 4.12, 183.25
        table = dict(zip(ERRORS, errors_by_altitude(), strict=True))
        for place, altitude_m in enumerate((1800, 2000, 2200)):
            kpa = pressure_from_altitude_kpa(altitude_m)
            sample = Sample(1, 0, co2_ppm=dry_ppm, temperature_c=temperature_c, velocity_ms=velocity_ms)
            true = emission_rate(sample, plan, kpa, 0).co2_kg_per_s
            assert true is not None
            too_much = {
                "pressure": 101.325 / kpa,
                "water": 1 / (1 - plan.h2o_fraction),
                "profile": 1 / plan.profile_factor,
                "three": 101.325 / kpa / (1 - plan.h2o_fraction) / plan.profile_factor,
                "normal": co2_density_kg_m3(0, 101.325) / co2_density_kg_m3(temperature_c, kpa),
            }
            assert table["true"][place] == f"{true:.5f} kg/s"
            for name, factor in too_much.items():
                assert table[name][place] == f"+{(factor - 1) * 100:.1f} %"

    def test_every_flag_is_named_where_it_belongs(self) -> None:
        text = section("calculation", "Flags, and when there is no rate")
        without, _, with_rate = text.partition("These flags leave the rate as it is:")

        invalidating = {name for row in rows(without) for name in names(row[0])}
        others = {name for row in rows(with_rate.partition("###")[0]) for name in names(row[0])}
        assert invalidating == {flag.name for flag in Flag if flag & INVALIDATING}
        assert others == {flag.name for flag in Flag if not flag & INVALIDATING}


ERRORS = ("true", "pressure", "water", "profile", "three", "normal")


def errors_by_altitude() -> list[list[str]]:
    return [row[1:] for row in rows(section("calculation", "Why the short formula is wrong"))]


class TestSecurity:
    """The lines that verify an export are run in tests/test_audit.py."""

    def test_every_action_of_the_audit_log_is_in_its_table(self) -> None:
        documented = [name for row in rows(section("security", "What is noted")) for name in names(row[0])]

        assert sorted(documented) == sorted(AuditAction)

    def test_every_field_of_an_event_is_in_its_table(self) -> None:
        documented = [name for row in rows(section("security", "An event")) for name in names(row[0])]

        assert sorted(documented) == sorted(item.name for item in dataclass_fields(AuditEvent))

    def test_the_numbers_of_the_password_rules_are_those_of_the_code(self) -> None:
        text = section("security", "Passwords")

        assert f"{SHORTEST_PASSWORD} to {LONGEST_PASSWORD:,} characters" in text
        assert FEWEST_SIGNS == 5
        assert "fewer than five different" in text
        assert timedelta(hours=1) == CODE_LASTS
        assert len(CODE_ALPHABET) ** CODE_LENGTH == 2**60


PLUGIN_PAGES = ("README", "sensors", "alerts", "notifiers", "reports", "portals")


class TestPlugins:
    """The tutorials' own examples are run in tests/test_tutorials.py."""

    def test_every_hook_is_documented_as_it_is_and_no_other(self) -> None:
        table = {row[0]: row[1] for row in rows(section("plugins/README", "The hooks"))}

        assert table == {f"`{signature}`": f"`{gives}`" for signature, gives in map(signature_of, sorted(HOOKS))}

    def test_every_hook_has_an_example_and_no_other(self) -> None:
        text = "\n".join(document(f"plugins/{name}") for name in PLUGIN_PAGES)

        assert set(re.findall(r"^@hookimpl\ndef (\w+)", text, re.MULTILINE)) == HOOKS

    def test_every_field_of_the_manifest_is_documented(self) -> None:
        fields = {item.name for item in dataclass_fields(Manifest)}

        assert {names(row[0])[0] for row in rows(section("plugins/README", "The manifest"))} == fields

    def test_every_state_is_documented(self) -> None:
        states = [names(row[0])[0] for row in rows(section("plugins/README", "Life and states"))]

        assert set(states) == set(PluginState)

    def test_every_rule_of_every_tier_is_documented(self) -> None:
        table = [(row[0], names(row[1])[0], row[2]) for row in rows(section("plugins/README", "Tiers"))]

        assert table == [(rule.tier.value, rule.name, rule.says) for rule in RULES]

    def test_what_authors_test_with_is_documented(self) -> None:
        text = section("plugins/README", "Testing")

        helpers = {name for name in testing.__all__ if name[0].islower()} - {"make_database", "snapshot"}
        helpers |= {"LoadError"}
        documented = {name.partition("(")[0] for row in rows(text) for name in names(row[0])}
        assert documented == helpers

    def test_the_kinds_have_a_tutorial_each(self) -> None:
        table = {names(row[0])[0] for row in rows(section("plugins/README", "Tutorials"))}

        assert table == set(Kind)

    def test_the_limits_of_the_fence_are_those_of_the_code(self) -> None:
        text = section("plugins/README", "The fence") + section("plugins/README", "Life and states")
        for said in (
            f"imported within {LOAD_TIMEOUT_S:g} s",
            f"waits {FIRST_WAIT_S:g} s",
            ", ".join(f"{wait_s:g}" for wait_s in RETRIES_S),
            f"longer than {SEND_TIMEOUT_S:g} s",
            f"longer than {SHOW_TIMEOUT_S:g} s",
            f"the loop for longer than {fence.LONG_S:g} s",
            f"the loop for longer than {fence.LONGEST_S:g} s",
            f"more than {fence.MOST_SHARE:.0%} of the loop's time for {fence.SHARE_OVER_S:g} s".replace("%", " %"),
        ):
            assert said in text

    def test_every_plugin_of_ours_is_named(self) -> None:
        (ours, *_) = rows(section("plugins/README", "Where plugins are found"))

        assert names(ours[1]) == list(FIRST_PARTY)

    def test_every_member_of_the_reader_is_in_its_table(self) -> None:
        reader = hookspecs.PortalReader
        members = {name for name in {*vars(reader), *reader.__annotations__} if not name.startswith("_")}
        table = rows(section("plugins/portals", "What a page may read"))
        documented = {name.partition("(")[0] for row in table for name in names(row[0])}

        assert documented == members


def signature_of(hook: str) -> tuple[str, str]:
    """A hook as the contract writes it, and what it gives."""
    function = getattr(hookspecs, hook)
    found = inspect.signature(function)
    arguments = ", ".join(f"{name}: {parameter.annotation}" for name, parameter in found.parameters.items())
    return f"{hook}({arguments})", str(found.return_annotation)


class TestSensors:
    """The reference of what ships with Carbon Track, against what the plugins themselves say."""

    NAME = "plugins/sensors-reference"

    def test_every_driver_is_there_and_every_decoder_with_what_it_gives(self) -> None:
        brought = load_plugins(WITH_A_CALIBRATION).contributions
        drivers = {names(row[0])[0] for row in rows(section(self.NAME, "Drivers"))}
        decoders = {names(row[0])[0]: set(names(row[2])) for row in rows(decoder_table(self.NAME))}

        assert drivers == set(brought.sensors)
        assert decoders.keys() == brought.frame_decoders.keys()
        for name, decoder in brought.frame_decoders.items():
            assert set(decoder.gives) <= decoders[name]

    def test_the_examples_are_read_by_the_decoders(self) -> None:
        decoders = load_plugins(WITH_A_CALIBRATION).contributions.frame_decoders
        table = {names(row[0])[0]: (names(row[2])[0], row[3]) for row in rows(section(self.NAME, "Layouts"))}

        assert table.keys() == decoders.keys()
        for name, (example, says) in table.items():
            frame = decoders[name].decode(bytes.fromhex(example))
            values = [*frame.meter.values(), *(getattr(frame, part) for part in decoders[name].gives if part in FRAME)]
            number = float(says.split()[0].replace(",", ""))
            assert values == [pytest.approx(number / 10 if name == "pulse_anemometer" else number)]

    def test_every_option_is_there_with_its_default(self) -> None:
        documented = {(names(row[0])[0], names(row[1])[0]): row[3] for row in rows(section(self.NAME, "Options"))}
        models = {
            name: manifest.options_model
            for name in [*load_plugins(WITH_A_CALIBRATION).contributions.frame_decoders, "legacy"]
            if (manifest := sensor_manifest(name)).options_model is not None
        }
        options = {(name, option): field.default for name, model in models.items() for option, field in fields(model)}

        assert documented.keys() == options.keys()
        for key, default in options.items():
            if isinstance(default, float):
                assert float(documented[key].replace(",", "")) == default

    def test_every_map_of_a_meter_is_there_and_every_key_of_a_register(self) -> None:
        maps, keys = section(self.NAME, "Meters").split("A register of one's own:")

        assert {names(row[0])[0] for row in rows(maps)} == set(modbus_meter.MAPS)
        assert {names(row[0])[0] for row in rows(keys)} == set(modbus_meter.Register.model_fields)

    def test_the_example_of_options_is_one(self, tmp_path: Path) -> None:
        (example,) = blocks(document(self.NAME), "yaml")
        path = tmp_path / "carbontrack.yaml"
        path.write_text(example, encoding="utf-8")
        plugins = load_plugins(load_config(path, {}))

        assert [status.error for status in plugins.statuses if status.error] == []
        assert plugins.contributions.frame_decoders["modbus_meter"].gives == ("genset_kwh", "kwh", "litres", "run_s")


FRAME = set(Frame.__struct_fields__)
WITH_A_CALIBRATION = Config.model_validate({"plugins": {"options": {"pulse_anemometer": {"ms_per_hz": 0.1}}}})


def decoder_table(name: str) -> str:
    return section(name, "Frame decoders").partition("###")[0]


def sensor_manifest(name: str) -> Manifest:
    manifest = importlib.import_module(FIRST_PARTY[name]).MANIFEST
    assert isinstance(manifest, Manifest)
    return manifest


def fields(model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    return list(model.model_fields.items())


FACTORY = Factory(1, "Kangaita Tea Factory", "kangaita", "Kirinyaga", "3", None, None, 2036.0)
STACK = Stack(1, 1, "Boiler 1", (MonitoringPlan(),))
SITE = Site(FACTORY, STACK, Device(1, "dev-001", 1, 1))


# --- the command line


def commands(command: Any = None, words: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every command of the command line by its words, without the groups."""
    command = command or typer.main.get_command(app)
    found: dict[str, Any] = {}
    for name, part in command.commands.items():
        found |= commands(part, (*words, name)) if hasattr(part, "commands") else {" ".join((*words, name)): part}
    return found


def value_of(parameter: Any) -> str:
    """What an option or argument may be, in the words of the document."""
    if getattr(parameter, "is_flag", False):
        return "-"
    kind, least, most = parameter.type_descriptor.annotation, parameter.min, parameter.max
    if issubclass(kind, Enum):
        return "one of " + ", ".join(f"`{member.value}`" for member in kind)
    word = {int: "whole number", float: "number", str: "text", list[str]: "text", Path: "path", list[Path]: "path"}[
        kind
    ]
    if least is not None:
        word += f", {least:,} to {most:,}" if most is not None else f", at least {least:,}"
    return word


def row_of(parameter: Any) -> list[str]:
    """Name, value and default as they stand in a row of the document."""
    is_option = parameter.opts[0].startswith("-")
    name = ", ".join(f"`{option}`" for option in parameter.opts) if is_option else f"`{parameter.name.upper()}`"
    unset = parameter.default is None or parameter.default is False or parameter.default == ""
    return [name, value_of(parameter), "required" if parameter.required else "-" if unset else f"`{parameter.default}`"]


class TestCommandLine:
    def test_every_command_is_documented_and_no_other(self) -> None:
        assert set(re.findall(r"^### `carbontrack (.+)`$", document("cli"), re.MULTILINE)) == set(commands())

    @pytest.mark.parametrize("name", commands())
    def test_the_table_of_a_command_has_its_arguments_and_options_as_they_are(self, name: str) -> None:
        table = rows(section("cli", f"`carbontrack {name}`"))
        parameters = [parameter for parameter in commands()[name].params if not parameter.hidden]

        assert [row[:3] for row in table] == [row_of(parameter) for parameter in parameters]
        for row, parameter in zip(table, parameters, strict=True):
            assert row[3] == parameter.help or (row[3] and not parameter.help)

    @pytest.mark.parametrize("name", commands())
    def test_a_command_has_an_example_that_the_command_line_understands(self, name: str) -> None:
        (example,) = blocks(section("cli", f"`carbontrack {name}`"), "console")
        words = shlex.split(example.removeprefix("$ carbontrack ").partition(" < ")[0])
        count = len(name.split())

        assert " ".join(words[:count]) == name
        commands()[name].make_context(name, words[count:])
        said = (commands()[name].help or "").partition("Example: ")[2].strip()
        assert not said or example == f"$ {said}\n"

    def test_every_option_for_the_shell_is_named(self) -> None:
        general = {option for parameter in typer.main.get_command(app).params for option in parameter.opts}

        assert general == {
            word for text in names(section("cli", "For the shell")) for word in text.split() if word.startswith("--")
        }


# --- the API


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


def routes(portal: Portal) -> dict[str, Any]:
    """Every route of the API and of those who run it, by method and path, with its handler."""
    found = {}
    for route in portal.server.app.router.routes():
        assert route.resource is not None
        path = route.resource.canonical
        if route.method != "HEAD" and (path.startswith("/api/") or path in {"/healthz", "/readyz", "/metrics"}):
            found[f"{route.method} {path}"] = route.handler
    return found


async def test_every_route_of_the_api_is_documented_and_no_other(portal: Portal) -> None:
    listed = [names(row[0])[0] for row in rows(section("api", "Routes")) if "](#" in row[0]]
    described = {name for name in names(document("api")) if re.match(r"(GET|POST|PATCH|PUT|DELETE) /", name)}

    assert sorted(listed) == sorted(routes(portal))
    assert described == set(listed)


async def test_the_api_says_who_may_call_each_route(portal: Portal) -> None:
    documented = {names(row[0])[0]: row[1] for row in rows(section("api", "Routes")) if "](#" in row[0]}
    for route, handler in routes(portal).items():
        access = handler.access
        if access.roles is None:
            expected = "everybody, or whoever has the token" if access.metrics else "everybody"
            expected = "the core's own canary" if access.canary else expected
            assert documented[route] == expected
        elif access.roles == frozenset(Role):
            assert documented[route] == "every role"
        else:
            assert set(names(documented[route])) == {role.value for role in access.roles}


async def test_the_fields_of_the_answers_are_documented(portal: Portal) -> None:
    client = await portal.signed_in("hq@example.org")
    for path, heading in {
        "/api/me/": "The account",
        "/api/factories/": "Factories and stacks",
        "/api/stacks/": "Factories and stacks",
        "/api/mcu-devices/": "Devices",
        "/api/plugins/": "Plugins",
        "/api/plugins/ct_v1/": "Plugins",
    }.items():
        answer = await (await client.get(path)).json()
        (first, *_) = answer.get("results", [answer])
        fields = {*first, *first.get("plan", {})}
        assert fields <= set(names(section("api", heading))), path


async def test_the_fields_of_a_reload_are_documented(portal: Portal) -> None:
    client = await portal.signed_in("hq@example.org")
    answer = await (await client.post("/api/plugins/reload/")).json()
    assert answer.keys() <= set(names(section("api", "Plugins")))


def test_the_fields_of_readings_and_of_the_live_stream_are_documented() -> None:
    raw = {*Reading.__struct_fields__, "factory_id", "device_id", "timestamp"} - {"measured_at", "stream_pk"}
    means = {*TrendPoint.__struct_fields__, "factory_id", "timestamp"} - {"start"}
    documented = set(names(section("api", "Readings")))
    assert raw <= documented
    assert means <= documented
    live = live_row(Snapshot("dev-001", 1, 1, online=True))
    assert live.keys() <= set(names(section("api", "The live stream")))


def test_every_role_is_documented_with_the_title_that_the_pages_show() -> None:
    documented = {names(row[0])[0]: row[1] for row in rows(section("api", "Who may do what"))}

    assert documented == {role.value: title for role, title in ROLE_TITLES.items()}


# --- all documents


DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "deploy/mosquitto/README.md")),
    *sorted(DOCS.rglob("*.md")),
]
CALLED = re.compile(r"(?:^|^\$ |sudo -u carbontrack |exec core |run |\" |bin/)carbontrack ([a-z].*)")
"""A command of ours where a shell would start it: first, or after what starts it for somebody or somewhere else."""


def called_lines(text: str) -> list[str]:
    """What follows ``carbontrack`` in the lines of code blocks, up to a pipe or a redirection."""
    lines = [
        line
        for language in ("console", "sh", "text")
        for block in blocks(text, language)
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [re.split(r" [<>|;] ?", found[1])[0] for line in lines if (found := CALLED.search(line))]


def check_call(line: str) -> None:
    """Raise what the command line raises for words that it does not understand; nothing is done."""
    words, known = shlex.split(line, comments=True), commands()
    name = next((name for count in (3, 2, 1) if (name := " ".join(words[:count])) in known), None)
    assert name is not None, f"there is no command carbontrack {line}"
    known[name].make_context(name, words[len(name.split()) :])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_call_of_the_command_line_is_one_that_it_understands(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for line in called_lines(text):
        check_call(line)
    groups = {name.partition(" ")[0] for name in commands()}
    for inline in names(text):
        if inline.startswith("carbontrack ") and re.match(r"[a-z]", inline[12:]):
            words = shlex.split(inline)
            assert words[1] in groups, inline
            if "--config" in words:
                check_call(inline.removeprefix("carbontrack "))


def test_calls_are_found_wherever_a_shell_starts_them() -> None:
    text = (
        "```console\n$ sudo -u carbontrack carbontrack doctor\n$ createdb --owner carbontrack carbontrack\n"
        '$ DATABASE_URL="$(x y)" carbontrack backup --to b | cat\n```\n'
    )
    assert called_lines(text) == ["doctor", "backup --to b"]
    with pytest.raises(AssertionError, match="there is no command"):
        check_call("backups --to b")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_to_a_heading_in_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    broken = []
    for target, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)", text):
        other = path.parent / target if target else path
        if not other.exists() or (anchor and anchor not in anchors(other)):
            broken.append(f"{target}#{anchor}")
    assert broken == []


def anchors(path: Path) -> set[str]:
    """The names of a document's headings in links, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_worked_examples_of_the_accounting_are_true() -> None:
    """They build on each other, from the first to the last, as somebody who tries them in a shell would."""
    names: dict[str, Any] = {}
    examples = blocks(document("accounting"), "python")

    assert len(examples) >= 10
    for example in examples:
        exec(compile(example, "docs/accounting.md", "exec"), names)  # noqa: S102  # our own document


def test_the_emissions_can_be_used_without_a_database_or_a_broker() -> None:
    """A third party checks a figure with nothing but the formulas."""
    program = (
        "import carbontrack.emissions, sys; print([m for m in ('tortoise', 'asyncpg', 'aiomqtt') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_every_field_of_a_monitoring_plan_is_documented() -> None:
    fields = {item.name for item in dataclass_fields(MonitoringPlan) if item.init}

    assert fields <= {name for row in rows(section("calculation", "Monitoring plan")) for name in names(row[0])}
