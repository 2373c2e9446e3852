"""Plugins come by one door: a good one is taken whole, a bad one is left out by name, and the rest goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from carbontrack.plugins import FIRST_PARTY, LoadedPlugin, Plugins, load_plugins

OURS = ["ct_v1", "flat_json", "limit", "csv"]

GOOD = """
    from carbontrack import Message, Payload, SensorDriver, hookimpl

    def decode(payload: Payload) -> Message:
        return Message("s", 0, payload.received_at_ms, 0, [])

    @hookimpl
    def register_sensors():
        return [SensorDriver(name="{name}", title="A sensor", decode=decode)]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A plugins folder; what it brought is forgotten afterwards."""
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("carbontrack_plugin_"):
            del sys.modules[name]


def write(folder: Path, name: str, source: str) -> None:
    (folder / f"{name}.py").write_text(dedent(source), encoding="utf-8")


def good(name: str) -> str:
    return GOOD.replace("{name}", name)


def load(folder: Path, *names: str) -> Plugins:
    """Load what Carbon Track brings (but the portals) and these of a folder."""
    return load_plugins(enabled=[*OURS, *names], folder=folder)


def of_name(plugins: Plugins, name: str) -> LoadedPlugin:
    (found,) = (plugin for plugin in plugins.loaded if plugin.name == name)
    return found


def errors(plugins: Plugins) -> dict[str, str]:
    return {plugin.name: plugin.error for plugin in plugins.loaded if plugin.error}


class TestOurOwn:
    def test_all_that_ships_with_carbon_track_loads(self) -> None:
        plugins = load_plugins()

        assert errors(plugins) == {}
        assert {plugin.name for plugin in plugins.loaded} >= set(FIRST_PARTY)

    def test_each_brings_what_it_is_for(self) -> None:
        plugins = load_plugins(enabled=OURS)

        assert set(plugins.sensors) == {"ct_v1", "flat_json"}
        assert set(plugins.alert_rules) == {"limit"}
        assert set(plugins.report_formats) == {"csv"}
        assert of_name(plugins, "limit").hooks == ("register_alert_rules",)
        assert of_name(plugins, "limit").origin == "Carbon Track"


class TestChoice:
    def test_only_what_is_enabled_is_loaded(self) -> None:
        plugins = load_plugins(enabled=["ct_v1"])

        assert [plugin.name for plugin in plugins.loaded] == ["ct_v1"]
        assert set(plugins.sensors) == {"ct_v1"}

    def test_with_an_empty_list_nothing_is_loaded(self) -> None:
        assert load_plugins(enabled=[]).loaded == []

    def test_what_is_disabled_is_not_even_imported(self, folder: Path) -> None:
        write(folder, "off", "raise RuntimeError('imported')")

        plugins = load_plugins(enabled=[*OURS, "off"], disabled=["off", "limit"], folder=folder)

        assert errors(plugins) == {}
        assert plugins.alert_rules == {}
        assert "off" not in {plugin.name for plugin in plugins.loaded}

    def test_a_name_that_nobody_brings_is_reported(self) -> None:
        plugins = load_plugins(enabled=["ct_v1", "ct_v2"])

        assert "no plugin of this name" in errors(plugins)["ct_v2"]
        assert set(plugins.sensors) == {"ct_v1"}


class TestFolder:
    def test_a_file_in_the_folder_is_a_plugin(self, folder: Path) -> None:
        write(folder, "mine", good("mine"))

        plugins = load(folder, "mine")

        assert errors(plugins) == {}
        assert plugins.sensors["mine"].title == "A sensor"
        assert of_name(plugins, "mine") == LoadedPlugin("mine", str(folder / "mine.py"), ("register_sensors",))

    def test_helpers_and_other_files_are_no_plugins(self, folder: Path) -> None:
        write(folder, "_helper", "raise RuntimeError")
        (folder / "README.txt").write_text("hello", encoding="utf-8")

        assert {plugin.origin for plugin in load_plugins(folder=folder).loaded} <= {"Carbon Track"}

    def test_a_folder_that_is_not_there_is_empty(self, folder: Path) -> None:
        assert errors(load(folder / "nowhere")) == {}

    def test_a_plugin_without_hooks_contributes_nothing(self, folder: Path) -> None:
        write(folder, "empty", "x = 1")

        plugins = load(folder, "empty")

        assert of_name(plugins, "empty").hooks == ()
        assert errors(plugins) == {}


class TestInstalled:
    @staticmethod
    def install(site: Path, monkeypatch: pytest.MonkeyPatch, *points: str) -> None:
        """Put a distribution with these entry points where Python looks for them, as pip would."""
        info = site / "tea_sensors-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tea-sensors\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text("[carbontrack]\n" + "\n".join(points), encoding="utf-8")
        monkeypatch.syspath_prepend(site)

    def test_a_package_brings_a_plugin_by_an_entry_point(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path, "tea_sensors_module", good("tea"))
        self.install(tmp_path, monkeypatch, "tea = tea_sensors_module")

        plugins = load_plugins(enabled=[*OURS, "tea"])

        assert errors(plugins) == {}
        assert "tea" in plugins.sensors
        assert of_name(plugins, "tea").origin == "package tea-sensors"

    def test_a_package_that_is_half_there_is_left_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.install(tmp_path, monkeypatch, "gone = tea_sensors_gone", "attribute = json:no_such_thing")

        plugins = load_plugins(enabled=[*OURS, "gone", "attribute"])

        assert errors(plugins).keys() == {"gone", "attribute"}
        assert "ModuleNotFoundError" in errors(plugins)["gone"]
        assert set(plugins.sensors) == {"ct_v1", "flat_json"}

    def test_the_same_module_under_a_second_name_does_not_harm_the_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.install(tmp_path, monkeypatch, "twin = carbontrack.plugins.alerts.limit")

        plugins = load_plugins(enabled=[*OURS, "twin"])

        assert errors(plugins).keys() == {"twin"}
        assert set(plugins.alert_rules) == {"limit"}


BAD = {
    "raises": ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "lacks": ("import no_such_module_anywhere", "ModuleNotFoundError"),
    "broken": ("def (", "SyntaxError"),
    "hook_raises": (
        """
        from carbontrack import hookimpl

        @hookimpl
        def register_sensors():
            return 1 / 0
        """,
        "ZeroDivisionError",
    ),
    "hook_exits": (
        """
        from carbontrack import hookimpl

        @hookimpl
        def register_sensors():
            raise SystemExit("bye")
        """,
        "SystemExit: bye",
    ),
    "hook_gives_a_number": (
        """
        from carbontrack import hookimpl

        @hookimpl
        def register_sensors():
            return 5
        """,
        "TypeError",
    ),
    "hook_gives_text": (
        """
        from carbontrack import hookimpl

        @hookimpl
        def register_sensors():
            return "mine"
        """,
        "must give SensorDriver objects, not str",
    ),
    "hook_gives_another_kind": (
        """
        from carbontrack import SensorDriver, hookimpl

        @hookimpl
        def register_alert_rules():
            return [SensorDriver("mine", "Mine", lambda payload: None)]
        """,
        "must give AlertRule objects, not SensorDriver",
    ),
    "unknown_hook": (
        """
        from carbontrack import hookimpl

        @hookimpl
        def register_sensor():
            return []
        """,
        "register_sensor",
    ),
    "hook_wants_more": (
        """
        from carbontrack import hookimpl

        @hookimpl
        def register_sensors(settings):
            return []
        """,
        "settings",
    ),
    "takes_a_taken_sensor": (good("ct_v1"), "'ct_v1' is taken"),
    "same_name_twice": (
        """
        from carbontrack import SensorDriver, hookimpl

        @hookimpl
        def register_sensors():
            return [SensorDriver("mine", "Mine", None), SensorDriver("mine", "Mine", None)]
        """,
        "'mine' is taken",
    ),
    "half_good": (
        """
        from carbontrack import SensorDriver, hookimpl

        @hookimpl
        def register_sensors():
            return [SensorDriver("half", "Half", None)]

        @hookimpl
        def register_portals():
            raise ValueError("the other half")
        """,
        "the other half",
    ),
    "name_is_no_name": (
        """
        from carbontrack import SensorDriver, hookimpl

        @hookimpl
        def register_sensors():
            return [SensorDriver(["a", "list"], "Mine", None)]
        """,
        "TypeError",
    ),
}


class TestBad:
    @pytest.mark.parametrize("name", BAD)
    def test_a_bad_plugin_is_left_out_by_name_and_the_rest_goes_on(self, folder: Path, name: str) -> None:
        source, reason = BAD[name]
        write(folder, name, source)
        write(folder, "zz_after", good("after"))

        plugins = load(folder, name, "zz_after")

        assert errors(plugins).keys() == {name}
        assert reason in errors(plugins)[name]
        assert of_name(plugins, name).hooks == ()
        assert set(plugins.sensors) == {"ct_v1", "flat_json", "after"}
        assert set(plugins.alert_rules) == {"limit"}
        assert plugins.sensors["ct_v1"].title.startswith("Carbon Track")

    def test_all_the_bad_ones_at_once_hide_no_good_one(self, folder: Path) -> None:
        for name, (source, _) in BAD.items():
            write(folder, name, source)
        write(folder, "good", good("good"))

        plugins = load(folder, *BAD, "good")

        assert errors(plugins).keys() == BAD.keys()
        assert set(plugins.sensors) == {"ct_v1", "flat_json", "good"}

    def test_a_file_with_the_name_of_one_of_ours_does_not_take_its_place(self, folder: Path) -> None:
        write(folder, "limit", good("mine"))

        plugins = load(folder)

        (ours, other) = (plugin for plugin in plugins.loaded if plugin.name == "limit")
        assert (ours.origin, ours.error) == ("Carbon Track", "")
        assert "there is a plugin named 'limit' already" in other.error
        assert set(plugins.sensors) == {"ct_v1", "flat_json"}
