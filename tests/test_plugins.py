"""Plugins come by one door: a good one is taken whole, a bad one is left out by name, and the rest goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from carbontrack.config import Config
from carbontrack.config import Plugins as PluginSettings
from carbontrack.hookspecs import PluginState, PluginStatus
from carbontrack.plugins import FIRST_PARTY, Contributions, load_plugins
from carbontrack.plugins import Plugins as Loaded

pytest_plugins = ["tests.support.plugins"]

OURS = ["ct_v1", "flat_json", "limit", "csv", "compliance_csv", "compliance_json", "compliance_pdf", "compliance_xlsx"]

HEAD = """
    from carbontrack import Kind, Manifest
    MANIFEST = Manifest(name="{name}", version="1.0", kinds=tuple(Kind), title="For a test")
"""

GOOD = """
    from carbontrack import Message, Payload, SensorDriver, hookimpl

    def decode(payload: Payload) -> Message:
        return Message("s", 0, payload.received_at_ms, 0, [])

    @hookimpl
    def register_sensors():
        return [SensorDriver(name="{name}", title="A sensor", decode=decode)]
"""


def write(folder: Path, name: str, source: str, *, manifest: bool = True) -> None:
    head = dedent(HEAD.replace("{name}", name)) if manifest else ""
    (folder / f"{name}.py").write_text(head + dedent(source), encoding="utf-8")


def good(name: str) -> str:
    return GOOD.replace("{name}", name)


def chosen(enabled: Sequence[str] | None = None, folder: Path | None = None, **settings: Any) -> Loaded:
    names = None if enabled is None else tuple(enabled)
    return load_plugins(Config(plugins=PluginSettings(enabled=names, folder=folder, **settings)))


def load(folder: Path, *names: str) -> Loaded:
    """Load some of what Carbon Track brings and these of a folder."""
    return chosen([*OURS, *names], folder)


def of_name(plugins: Loaded, name: str) -> PluginStatus:
    (found,) = (status for status in plugins.statuses if status.name == name)
    return found


def errors(plugins: Loaded) -> dict[str, str]:
    return {status.name: status.error for status in plugins.statuses if status.error}


def running(plugins: Loaded) -> list[str]:
    return [status.name for status in plugins.statuses if status.state is PluginState.RUNNING]


class TestOurOwn:
    def test_all_that_ships_with_carbon_track_loads(self) -> None:
        plugins = load_plugins()

        assert errors(plugins) == {}
        assert set(running(plugins)) >= set(FIRST_PARTY)

    def test_each_brings_what_it_is_for(self) -> None:
        plugins = chosen(OURS)

        assert set(plugins.contributions.sensors) == {"ct_v1", "flat_json"}
        assert set(plugins.contributions.alert_rules) == {"limit"}
        assert set(plugins.contributions.report_formats) == {"csv"}
        assert set(plugins.contributions.compliance_formats) == {"csv", "json", "operator-template", "pdf", "xlsx"}
        assert of_name(plugins, "limit").brings == ("alert rule limit",)
        assert of_name(plugins, "limit").origin == "Carbon Track"


class TestChoice:
    def test_only_what_is_enabled_is_loaded(self) -> None:
        plugins = chosen(["ct_v1"])

        assert running(plugins) == ["ct_v1"]
        assert of_name(plugins, "limit").state is PluginState.DISABLED
        assert set(plugins.contributions.sensors) == {"ct_v1"}

    def test_with_an_empty_list_nothing_is_loaded(self) -> None:
        assert chosen([]).contributions == Contributions()

    def test_what_is_disabled_is_not_even_imported(self, folder: Path) -> None:
        write(folder, "off", "raise RuntimeError('imported')")

        plugins = chosen([*OURS, "off"], disabled=("off", "limit"), folder=folder)

        assert errors(plugins) == {}
        assert plugins.contributions.alert_rules == {}
        assert of_name(plugins, "off").state is PluginState.DISABLED

    def test_a_name_that_nobody_brings_is_reported(self) -> None:
        plugins = chosen(["ct_v1", "ct_v2"])

        assert "there is no plugin 'ct_v2'" in errors(plugins)["ct_v2"]
        assert set(plugins.contributions.sensors) == {"ct_v1"}


class TestFolder:
    def test_a_file_in_the_folder_is_a_plugin(self, folder: Path) -> None:
        write(folder, "mine", good("mine"))

        plugins = load(folder, "mine")

        assert errors(plugins) == {}
        assert plugins.contributions.sensors["mine"].title == "A sensor"
        status = of_name(plugins, "mine")
        assert (status.origin, status.brings) == (str(folder / "mine.py"), ("sensor mine",))

    def test_helpers_and_other_files_are_no_plugins(self, folder: Path) -> None:
        write(folder, "_helper", "raise RuntimeError")
        (folder / "README.txt").write_text("hello", encoding="utf-8")

        assert {status.origin for status in chosen(folder=folder).statuses} <= {"Carbon Track"}

    def test_a_project_in_the_folder_brings_what_it_would_bring_if_it_were_installed(self, folder: Path) -> None:
        project = folder / "carbontrack-tea"
        (project / "src" / "tea").mkdir(parents=True)
        points = '[project.entry-points.carbontrack]\nmine = "tea"\nother = "tea.other"\n'
        (project / "pyproject.toml").write_text(points, encoding="utf-8")
        write(project / "src" / "tea", "__init__", HEAD.replace("{name}", "mine") + good("mine"), manifest=False)
        write(project / "src" / "tea", "other", HEAD.replace("{name}", "other") + good("other"), manifest=False)

        plugins = load(folder, "mine", "other")

        assert errors(plugins) == {}
        assert set(plugins.contributions.sensors) == {"ct_v1", "flat_json", "mine", "other"}
        assert of_name(plugins, "mine").origin == str(project)

    @pytest.mark.parametrize("text", ["", "[", "project = 5", '[project.entry-points.other]\nx = "y"'])
    def test_a_project_of_something_else_is_no_plugin(self, folder: Path, text: str) -> None:
        (folder / "other").mkdir()
        (folder / "other" / "pyproject.toml").write_text(text, encoding="utf-8")

        assert {status.origin for status in chosen(folder=folder).statuses} <= {"Carbon Track"}

    def test_a_folder_that_is_not_there_is_empty(self, folder: Path) -> None:
        assert errors(load(folder / "nowhere")) == {}

    def test_a_plugin_without_hooks_contributes_nothing(self, folder: Path) -> None:
        write(folder, "empty", "x = 1")

        plugins = load(folder, "empty")

        assert of_name(plugins, "empty").brings == ()
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
        write(tmp_path, "tea_sensors_module", HEAD.replace("{name}", "tea") + good("tea"), manifest=False)
        self.install(tmp_path, monkeypatch, "tea = tea_sensors_module")

        plugins = chosen([*OURS, "tea"])

        assert errors(plugins) == {}
        assert "tea" in plugins.contributions.sensors
        assert of_name(plugins, "tea").origin == "package tea-sensors"

    def test_a_package_that_is_half_there_is_left_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.install(tmp_path, monkeypatch, "gone = tea_sensors_gone", "attribute = json:no_such_thing")

        plugins = chosen([*OURS, "gone", "attribute"])

        assert errors(plugins).keys() == {"gone", "attribute"}
        assert "ModuleNotFoundError" in errors(plugins)["gone"]
        assert "Install what it needs" in of_name(plugins, "gone").advice
        assert set(plugins.contributions.sensors) == {"ct_v1", "flat_json"}

    def test_the_same_module_under_a_second_name_does_not_harm_the_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.install(tmp_path, monkeypatch, "twin = carbontrack.plugins.alerts.limit")

        plugins = chosen([*OURS, "twin"])

        assert errors(plugins).keys() == {"twin"}
        assert set(plugins.contributions.alert_rules) == {"limit"}


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
        "must give a sequence, not str",
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
    "takes_a_taken_sensor": (good("ct_v1"), "the name of its sensor ct_v1 is taken"),
    "same_name_twice": (
        """
        from carbontrack import SensorDriver, hookimpl

        @hookimpl
        def register_sensors():
            return [SensorDriver("mine", "Mine", print), SensorDriver("mine", "Mine", print)]
        """,
        "the name 'mine' twice",
    ),
    "half_good": (
        """
        from carbontrack import SensorDriver, hookimpl

        @hookimpl
        def register_sensors():
            return [SensorDriver("half", "Half", print)]

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
            return [SensorDriver(["a", "list"], "Mine", print)]
        """,
        "must be small letters",
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
        assert of_name(plugins, name).brings == ()
        assert of_name(plugins, name).advice
        assert set(plugins.contributions.sensors) == {"ct_v1", "flat_json", "after"}
        assert set(plugins.contributions.alert_rules) == {"limit"}
        assert plugins.contributions.sensors["ct_v1"].title.startswith("Carbon Track")

    def test_all_the_bad_ones_at_once_hide_no_good_one(self, folder: Path) -> None:
        for name, (source, _) in BAD.items():
            write(folder, name, source)
        write(folder, "good", good("good"))

        plugins = load(folder, *BAD, "good")

        assert errors(plugins).keys() == BAD.keys()
        assert set(plugins.contributions.sensors) == {"ct_v1", "flat_json", "good"}

    def test_a_file_with_the_name_of_one_of_ours_does_not_take_its_place(self, folder: Path) -> None:
        write(folder, "limit", good("mine"))

        plugins = load(folder)

        (other,) = (status for status in plugins.statuses if status.name.startswith("limit ("))
        assert (of_name(plugins, "limit").origin, of_name(plugins, "limit").error) == ("Carbon Track", "")
        assert "a second plugin of this name" in other.error
        assert set(plugins.contributions.sensors) == {"ct_v1", "flat_json"}
