"""The tutorials for plugin authors do what they say: their files are written as a reader would, and used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import carbontrack
from carbontrack import PluginState, Role
from carbontrack.config import load_config
from carbontrack.configured import problems_of
from carbontrack.plugins import load_plugins
from carbontrack.testing import empty_report, leaks, notification, running_core
from tests.support import programs

DOCS = Path(__file__).parent.parent / "docs" / "plugins"
TUTORIALS = ("README", "sensors", "alerts", "notifiers", "reports", "portals")
FILE = re.compile(r"^\*\*`([^`]+)`\*\*\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TESTS_SETTINGS = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
STYLE = ("--no-cache", "--config", "line-length = 120")
pytest_plugins = ["tests.support.plugins"]


def steps(name: str) -> list[tuple[str, str]]:
    """Each file that a tutorial tells the reader to write, in order: its path, and its text."""
    return FILE.findall((DOCS / f"{name}.md").read_text(encoding="utf-8"))


@pytest.fixture
def plugins(folder: Path) -> Path:
    """The folder of plugins; what it brought is forgotten afterwards."""
    made = folder / "plugins"
    made.mkdir()
    return made


def write_all(name: str, plugins: Path) -> None:
    for path, text in steps(name):
        file = plugins.parent / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


# --- each step, and the tests that the tutorials tell the reader to write


@pytest.mark.parametrize("name", TUTORIALS)
def test_every_step_gives_a_plugin_that_loads(name: str, plugins: Path) -> None:
    options = {"watchdog": {"folder": str(plugins)}, "pager": {"url": "http://127.0.0.1:9", "token": "hush"}}
    loaded = 0
    for path, text in steps(name):
        file = plugins.parent / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        if file.parent == plugins and file.suffix == ".py":
            config = load_config(None, {"CARBONTRACK_PLUGINS__FOLDER": str(plugins)})
            chosen = {known: options[known] for known in options if (plugins / f"{known}.py").exists()}
            config = config.model_copy(update={"plugins": config.plugins.model_copy(update={"options": chosen})})
            statuses = {status.name: status for status in load_plugins(config).statuses}
            assert statuses[file.stem].state is PluginState.RUNNING, statuses[file.stem].error
            assert statuses[file.stem].brings
            loaded += 1
    assert loaded


@pytest.mark.parametrize("name", [name for name in TUTORIALS if name != "README"])
def test_the_tests_of_a_tutorial_pass(name: str, plugins: Path) -> None:
    write_all(name, plugins)
    (plugins.parent / "pytest.ini").write_text(TESTS_SETTINGS, encoding="utf-8")

    done = programs.run(
        "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", plugins, cwd=plugins.parent
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)


@pytest.mark.parametrize("name", TUTORIALS)
def test_what_a_tutorial_imports_is_what_the_package_offers(name: str) -> None:
    for _, text in steps(name):
        for imported in re.findall(r"^from carbontrack import (.+)$", text, re.MULTILINE):
            assert set(imported.split(", ")) <= set(carbontrack.__all__)
        assert not re.search(r"^from carbontrack\.(?!testing )", text, re.MULTILINE)


def test_the_code_of_the_tutorials_is_typed_and_in_good_style(plugins: Path) -> None:
    for name in TUTORIALS:
        write_all(name, plugins)
    root = Path(carbontrack.__file__).parent.parent

    linted = programs.run("ruff", "check", *STYLE, "--select", "E,F,I,B,RUF,UP", ".", cwd=plugins)
    assert linted.returncode == 0, linted.stdout
    formatted = programs.run("ruff", "format", "--diff", *STYLE, ".", cwd=plugins)
    assert formatted.returncode == 0, formatted.stdout
    files = sorted(plugins.glob("*.py"))
    settings = ("--strict", "--follow-imports=silent", f"--cache-dir={root / '.mypy_cache' / 'tutorials'}")
    typed = programs.run("mypy", *settings, f"--config-file={root / 'pyproject.toml'}", *files, cwd=root)
    assert typed.returncode == 0, typed.stdout


# --- what the text says beside the code


def test_the_first_driver_of_the_tutorial_fails_its_check_and_the_second_passes(plugins: Path) -> None:
    """As the tutorial says: "inf" is what the golden vectors find."""
    outcomes = []
    for path, text in steps("sensors")[:3]:
        file = plugins.parent / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        if (plugins / "vectors").exists():
            done = programs.run("carbontrack", "plugins", "check", plugins / "semicolons.py", cwd=plugins)
            outcomes.append((done.returncode, "no number that can be measured" in done.stdout))

    assert outcomes == [(1, True), (0, False)]


async def test_a_board_that_numbers_gets_its_receipts_also_for_what_cannot_be_used(plugins: Path) -> None:
    write_all("sensors", plugins)
    async with leaks(), running_core(plugins, names=["counting"], sensor="counting") as core:
        core.tell("4;1;1795433047123;98000;183.2;4.1")
        core.tell("4;2;1795433052123;98000;hot;4.1")
        core.tell("4;3;1795433057123;98000;183.2;4.1")

        assert [reading.seq for reading in await core.readings(at_least=2)] == [1, 3]
        assert [refused.cause for refused in await core.quarantined()] == ["wrong_type"]
        assert core.receipts["dev-001", "counting"] == 3


async def test_a_gateway_s_frame_is_read_by_the_decoder(plugins: Path) -> None:
    write_all("sensors", plugins)
    async with leaks(), running_core(plugins, names=["probe4", "frames"], sensor="frames") as core:
        core.tell('{"frames": {"probe4": "43 03 D4 1A"}}')

        (reading,) = await core.readings()
        assert reading.co2_ppm == 98_000


def test_the_vectors_of_the_tutorial_pass(plugins: Path) -> None:
    write_all("sensors", plugins)

    done = programs.run("carbontrack", "plugins", "check", plugins / "probe4.py", "--tier", "bronze", cwd=plugins)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed          vectors: golden vectors are there and pass (5 vectors)" in done.stdout


async def test_a_factory_s_alert_is_raised_by_the_rule_of_the_tutorial(plugins: Path) -> None:
    write_all("alerts", plugins)
    entry = {"name": "tea-missing", "rule": "no-tea", "hold_s": 0}
    async with leaks(), running_core(plugins, names=["no_tea"], alerts=[entry]) as core:
        await core.watch.look()

        (alert,) = await core.alerts()
        assert (alert.rule, alert.device_id) == ("tea-missing", None)


async def test_the_diary_is_written_by_a_running_core(plugins: Path, tmp_path: Path) -> None:
    write_all("notifiers", plugins)
    entry = {"name": "duty-room", "notifier": "diary", "options": {"file": str(tmp_path / "diary.txt")}}
    async with leaks(), running_core(plugins, names=["diary"], notify=[entry]) as core:
        await core.notify("duty-room", notification())

    assert "raised warning co2-rate-high" in (tmp_path / "diary.txt").read_text(encoding="utf-8")


async def test_the_first_plugin_of_all_makes_its_report(plugins: Path) -> None:
    write_all("README", plugins)
    async with leaks(), running_core(plugins, names=["hello"]) as core:
        assert await core.render("hello", empty_report()) == b"Kangaita Tea Factory: 0 readings\n"


async def test_options_of_an_older_form_are_migrated_and_a_secret_is_masked(plugins: Path) -> None:
    write_all("README", plugins)
    options = {"logbook": {"in_percent": True, "key": "hush:"}}
    async with leaks(), running_core(plugins, names=["logbook"], options=options, sensor="logbook") as core:
        core.tell("hush:9.8")

        (reading,) = await core.readings()
        (status,) = [status for status in core.plugins.statuses() if status.name == "logbook"]
        assert reading.co2_ppm == 98_000
        assert "options_version: 2" in status.notes[0]
        assert "hush" not in str(status.options)


@pytest.mark.parametrize("name", ["README", "alerts", "notifiers", "reports"])
def test_the_examples_of_configurations_are_ones(name: str, plugins: Path) -> None:
    write_all(name, plugins)
    (plugins.parent / "secrets.yaml").write_text("logbook_key: hush\npager_token: hush\n", encoding="utf-8")
    examples = re.findall(r"^```yaml\n(.*?)^```$", (DOCS / f"{name}.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    for example in examples:
        path = plugins.parent / "carbontrack.yaml"
        path.write_text(example, encoding="utf-8")
        problems = problems_of(load_config(path, {}))
        # These two need options, which an example of something else leaves out.
        assert [text for text in problems if not text.startswith(("plugin watchdog:", "plugin pager:"))] == []
    assert examples


async def test_a_plugin_that_waits_runs_when_what_it_needs_is_there(plugins: Path, tmp_path: Path) -> None:
    write_all("README", plugins)
    folder = tmp_path / "later"
    options = {"watchdog": {"folder": str(folder)}}
    async with leaks(), running_core(plugins, names=["watchdog"], options=options) as core:
        (status,) = [status for status in core.plugins.statuses() if status.name == "watchdog"]
        assert (status.state, status.error) == (PluginState.RETRYING, f"there is no folder {folder} yet")

        folder.mkdir()
        assert (await core.reload()).reloaded == ("watchdog",)
        (status,) = [status for status in core.plugins.statuses() if status.name == "watchdog"]
        assert status.state is PluginState.RUNNING
        assert (await core.render("uptime")).startswith(b"Kangaita")
    assert list(folder.iterdir()) == []


async def test_a_page_of_the_tutorial_is_in_the_menu_of_those_who_may_see_it(plugins: Path) -> None:
    write_all("portals", plugins)
    async with leaks(), running_core(plugins, names=["quiet", "portal_hq", "portal_factory"]) as core:
        _, for_hq = await core.page("/hq/", Role.HQ_MANAGER)
        _, for_clerk = await core.page("/factory/kangaita/", Role.FACTORY_CLERK)

    assert "Quiet devices" in for_hq
    assert "Quiet devices" not in for_clerk
