"""The life of plugins in a running core: set up, retried, parked, reloaded and unloaded, and nothing of them stays."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from carbontrack.config import Config, load_config
from carbontrack.hookspecs import DecodeError, PluginState, PluginStatus
from carbontrack.metrics import Metrics
from carbontrack.model import Payload
from carbontrack.plugins import Limits, PluginHost, RenderError
from carbontrack.reloading import Reloader
from carbontrack.testing import report
from carbontrack.testing.examples import FACTORY
from tests.support.world import NOON_MS, choosing, eventually, sample

pytest_plugins = ["tests.support.plugins"]

HEAD = """
import asyncio, builtins, os, sys, threading, time
from contextlib import asynccontextmanager
from pydantic import BaseModel, ConfigDict, SecretStr
from carbontrack import *
from carbontrack import hookimpl

MANIFEST = Manifest(name="{name}", version="{version}", kinds=tuple(Kind), title="For a test"{more})
"""
SENSOR = """
def decode(payload):
    if payload.body == b"BAD":
        raise RuntimeError("a defect")
    t = payload.received_at_ms
    return Message("s", 0, t, 1, [Sample(t, t, co2_ppm={value})], numbered=False)

@hookimpl
def register_sensors():
    return [SensorDriver(name="{name}", title="A sensor", decode=decode)]
"""


def write(folder: Path, name: str, source: str, *, version: str = "1.0", more: str = "") -> None:
    head = HEAD.replace("{name}", name).replace("{version}", version).replace("{more}", more)
    (folder / f"{name}.py").write_text(head + dedent(source), encoding="utf-8")


def sensor(name: str, value: float = 1.0) -> str:
    return SENSOR.replace("{name}", name).replace("{value}", repr(value))


@pytest.fixture
async def host() -> AsyncIterator[PluginHost]:
    host = PluginHost(Metrics())
    with host.watch.on():
        yield host
        await host.close()


def with_folder(folder: Path, **options: Any) -> Config:
    return choosing(*(path.stem for path in folder.glob("*.py")), folder=folder, options=options)


def status(host: PluginHost, name: str) -> PluginStatus:
    (found,) = (known for known in host.statuses() if known.name == name)
    return found


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def decoded(host: PluginHost, name: str, body: bytes = b"", device_id: str = "dev-001") -> float | None:
    message = host.contributions.sensors[name].decode(Payload(device_id, "data", body, NOON_MS))
    return message.samples[0].co2_ppm


class TestLife:
    async def test_a_plugin_is_set_up_serves_and_is_unloaded(self, host: PluginHost, folder: Path) -> None:
        write(
            folder,
            "alive",
            """
            @hookimpl
            @asynccontextmanager
            async def set_up(plugin):
                builtins.carbontrack_told = ["in"]
                async def tick():
                    while True:
                        await asyncio.sleep(3600)
                plugin.start(tick(), "tick")
                yield
                builtins.carbontrack_told.append("out")
            """
            + sensor("alive").replace("\n", "\n            "),
        )
        before = asyncio.all_tasks()

        await host.apply(with_folder(folder))
        assert status(host, "alive").state is PluginState.RUNNING
        assert {task.get_name() for task in asyncio.all_tasks() - before} == {"plugin:alive", "plugin:alive:tick"}

        await host.apply(choosing())
        assert sys.modules["builtins"].carbontrack_told == ["in", "out"]
        assert host.contributions.sensors == {}
        assert asyncio.all_tasks() == before
        assert "carbontrack_plugin_alive" not in sys.modules

    async def test_what_is_not_ready_is_tried_again_and_then_serves(
        self, host: PluginHost, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("carbontrack.plugins.host.RETRIES_S", (0.01,))
        write(
            folder,
            "late",
            """
            attempts = []
            @hookimpl
            @asynccontextmanager
            async def set_up():
                attempts.append(1)
                if len(attempts) < 4:
                    raise NotReady("the gateway does not answer yet")
                yield
            """
            + sensor("late").replace("\n", "\n            "),
        )

        await host.apply(with_folder(folder))
        seen = status(host, "late")
        await eventually(lambda: status(host, "late").state is PluginState.RUNNING)

        assert (seen.state, seen.error) == (PluginState.RETRYING, "the gateway does not answer yet")
        assert seen.retry_at is not None
        assert seen.brings == ()
        assert decoded(host, "late") == 1.0

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            ("raise ValueError('no such port')", "ValueError: no such port"),
            ("sys.exit(3)", "SystemExit"),
            ("time.sleep(3600)", "interrupted"),
            ("await asyncio.sleep(3600)", "longer than 0.2 s"),
        ],
    )
    async def test_a_set_up_that_fails_parks_the_plugin_and_says_why(
        self, host: PluginHost, folder: Path, body: str, error: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("carbontrack.plugins.host.SET_UP_TIMEOUT_S", 0.2 if "await" in body else 60.0)
        write(folder, "good", sensor("good"))
        source = f"""
            @hookimpl
            @asynccontextmanager
            async def set_up():
                {body}
                yield
            """
        write(folder, "bad", source)

        changes = await host.apply(with_folder(folder))

        assert status(host, "bad").state is PluginState.PARKED
        assert error in status(host, "bad").error
        assert status(host, "bad").advice
        assert changes.failed.keys() == {"bad"}
        assert decoded(host, "good") == 1.0

    async def test_an_import_that_never_ends_is_left_behind(
        self, host: PluginHost, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("carbontrack.plugins.host.LOAD_TIMEOUT_S", 0.2)
        write(folder, "endless", "threading.Event().wait(30)")
        write(folder, "good", sensor("good"))

        await host.apply(with_folder(folder))

        assert "import did not end within 0.2 s" in status(host, "endless").error
        assert decoded(host, "good") == 1.0

    async def test_a_job_that_raises_parks_its_plugin_and_takes_back_what_it_brought(
        self, host: PluginHost, folder: Path
    ) -> None:
        write(
            folder,
            "worker",
            """
            @hookimpl
            @asynccontextmanager
            async def set_up(plugin):
                async def job():
                    await asyncio.sleep(0.01)
                    raise OSError("the line is cut")
                plugin.start(job(), "job")
                yield
            """
            + sensor("worker").replace("\n", "\n            "),
        )

        await host.apply(with_folder(folder))
        await eventually(lambda: status(host, "worker").state is PluginState.PARKED)

        assert status(host, "worker").error == "OSError: the line is cut"
        assert host.contributions.sensors == {}

    async def test_a_plugin_that_leaves_tasks_behind_has_them_ended_and_is_told_of(
        self, host: PluginHost, folder: Path
    ) -> None:
        write(
            folder,
            "messy",
            """
            kept = []
            async def forgotten():
                await asyncio.sleep(3600)
            @hookimpl
            @asynccontextmanager
            async def set_up():
                kept.append(asyncio.create_task(forgotten(), name="forgotten"))
                yield
            """,
        )
        before = asyncio.all_tasks()
        await host.apply(with_folder(folder))

        await host.apply(with_folder(folder), again="messy")

        assert any("forgotten" in note for note in status(host, "messy").notes)
        await host.close()
        assert asyncio.all_tasks() == before

    async def test_no_file_and_no_task_stays_however_often_it_is_reloaded(self, host: PluginHost, folder: Path) -> None:
        write(
            folder,
            "files",
            """
            @hookimpl
            @asynccontextmanager
            async def set_up():
                with open(__file__) as file:
                    yield
            """,
        )
        config = with_folder(folder)
        await host.apply(config)
        tasks, files = len(asyncio.all_tasks()), open_files()

        for _ in range(20):
            await host.apply(config, again="files")

        assert (len(asyncio.all_tasks()), open_files()) == (tasks, files)


class TestReload:
    async def test_only_what_has_changed_is_reloaded(self, host: PluginHost, folder: Path) -> None:
        for name in ("stays", "changes", "goes"):
            write(folder, name, sensor(name))
        await host.apply(with_folder(folder))
        kept = host.contributions.sensors["stays"]
        (folder / "goes.py").unlink()
        write(folder, "changes", sensor("changes", 2.0))
        write(folder, "comes", sensor("comes"))

        changes = await host.apply(with_folder(folder))

        assert (changes.added, changes.removed, changes.reloaded) == (("comes",), ("goes",), ("changes",))
        assert host.contributions.sensors["stays"] is kept
        assert decoded(host, "changes") == 2.0
        assert set(host.contributions.sensors) == {"changes", "comes", "stays"}

    async def test_changed_options_reload_a_plugin(self, host: PluginHost, folder: Path) -> None:
        source = """
            class Options(BaseModel):
                model_config = ConfigDict(extra="forbid")
                factor: float = 1.0

            MANIFEST = Manifest(
                name="opted", version="1.0", kinds=(Kind.SENSOR,), title="With options", options_model=Options
            )

            @hookimpl
            def register_sensors(plugin):
                def decode(payload):
                    t = payload.received_at_ms
                    sample = Sample(t, t, co2_ppm=10 * plugin.options.factor)
                    return Message("s", 0, t, 1, [sample], numbered=False)
                return [SensorDriver(name="opted", title="A sensor", decode=decode)]
            """
        write(folder, "opted", source)
        await host.apply(with_folder(folder))
        assert decoded(host, "opted") == 10.0

        changes = await host.apply(with_folder(folder, opted={"factor": 3}))

        assert changes.reloaded == ("opted",)
        assert decoded(host, "opted") == 30.0
        assert status(host, "opted").options == {"factor": 3.0}

    async def test_while_it_is_replaced_the_old_one_serves(self, host: PluginHost, folder: Path) -> None:
        write(folder, "slowly", sensor("slowly", 1.0))
        await host.apply(with_folder(folder))
        write(
            folder,
            "slowly",
            """
            @hookimpl
            @asynccontextmanager
            async def set_up():
                await asyncio.sleep(0.05)
                yield
            """
            + sensor("slowly", 2.0).replace("\n", "\n            "),
        )
        reload = asyncio.create_task(host.apply(with_folder(folder)))
        served = []

        while not reload.done():
            served.append(decoded(host, "slowly"))
            await asyncio.sleep(0)

        assert set(served) == {1.0, 2.0} or set(served) == {1.0}
        assert decoded(host, "slowly") == 2.0

    @pytest.mark.parametrize("mistake", ["def (", "raise RuntimeError('no')", "MANIFEST = 5"])
    async def test_a_bad_edit_leaves_the_running_plugin_as_it_is(
        self, host: PluginHost, folder: Path, mistake: str
    ) -> None:
        write(folder, "edited", sensor("edited", 1.0))
        await host.apply(with_folder(folder))
        write(folder, "edited", mistake)

        changes = await host.apply(with_folder(folder))

        assert changes.failed.keys() == {"edited"}
        assert decoded(host, "edited") == 1.0
        assert status(host, "edited").state is PluginState.RUNNING
        assert any("its reload failed" in note for note in status(host, "edited").notes)

        write(folder, "edited", sensor("edited", 2.0))
        assert (await host.apply(with_folder(folder))).reloaded == ("edited",)
        assert status(host, "edited").notes == ()

    async def test_a_parked_plugin_is_tried_again_by_a_reload(self, host: PluginHost, folder: Path) -> None:
        write(
            folder,
            "mended",
            "if not os.path.exists(__file__ + '.mended'): raise OSError('not yet')\n" + sensor("mended"),
        )
        await host.apply(with_folder(folder))
        assert status(host, "mended").state is PluginState.PARKED
        (folder / "mended.py.mended").touch()

        changes = await host.apply(with_folder(folder))

        assert changes.added == ("mended",)
        assert decoded(host, "mended") == 1.0

    async def test_a_package_with_parts_of_its_own_is_reloaded_as_a_whole(self, host: PluginHost, folder: Path) -> None:
        package = folder / "whole"
        package.mkdir()
        write(package, "__init__", "from .part import VALUE\n" + sensor("whole").replace("1.0", "VALUE"))
        text = (package / "__init__.py").read_text().replace('name="__init__"', 'name="whole"')
        (package / "__init__.py").write_text(text)
        (package / "part.py").write_text("VALUE = 1.0\n")
        config = choosing("whole", folder=folder)
        await host.apply(config)
        assert decoded(host, "whole") == 1.0
        (package / "part.py").write_text("VALUE = 22.0\n")

        assert (await host.apply(config)).reloaded == ("whole",)
        assert decoded(host, "whole") == 22.0

    async def test_followers_are_told_when_something_is_another_and_only_then(
        self, host: PluginHost, folder: Path
    ) -> None:
        told = []
        host.followers.append(lambda: told.append(set(host.contributions.sensors)))
        write(folder, "a", sensor("a"))

        await host.apply(with_folder(folder))
        await host.apply(with_folder(folder))
        await host.apply(choosing())

        assert told == [{"a"}, set()]


class TestOptions:
    OPTIONS = """
        class Options(BaseModel):
            model_config = ConfigDict(extra="forbid")
            server: str
            port: int = 25
            password: SecretStr | None = None

        MANIFEST = Manifest(
            name="opted", version="1.0", kinds=(Kind.SENSOR,), title="With options",
            options_model=Options, options_version=2,
        )

        @hookimpl
        def migrate_options(options, version):
            return {"server": options.pop("host"), **options}
        """

    def config(self, folder: Path, text: str) -> Config:
        path = folder / "carbontrack.yaml"
        path.write_text(f"plugins:\n  folder: .\n  enabled: [opted]\n  options:\n    opted:\n{text}")
        return load_config(path, {"MAIL_PASSWORD": "s3cret"})

    async def test_they_are_checked_with_file_line_key_and_what_is_allowed(
        self, host: PluginHost, folder: Path
    ) -> None:
        write(folder, "opted", self.OPTIONS)
        text = "      options_version: 2\n      server: mail\n      port: many\n      prot: 4\n"

        await host.apply(self.config(folder, text))

        error = status(host, "opted").error
        assert f"{folder}/carbontrack.yaml:8: plugins.options.opted.port: must be a whole number" in error
        assert f"{folder}/carbontrack.yaml:9: plugins.options.opted.prot: unknown key; allowed: server, port" in error
        assert 'Did you mean "port"?' in error
        assert "many" not in error

    async def test_what_is_secret_is_never_shown(self, host: PluginHost, folder: Path) -> None:
        write(folder, "opted", self.OPTIONS)
        text = (
            "      options_version: 2\n      server: !env_var MAIL_PASSWORD\n      password: !env_var MAIL_PASSWORD\n"
        )

        await host.apply(self.config(folder, text))

        assert status(host, "opted").state is PluginState.RUNNING
        assert "s3cret" not in str(status(host, "opted"))
        assert status(host, "opted").options == {"server": "**********", "port": 25, "password": "**********"}

    @pytest.mark.parametrize("what", ["raise OSError", "raise NotReady"])
    async def test_no_error_of_the_plugin_tells_a_secret(
        self, host: PluginHost, folder: Path, what: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source = f"""
        @hookimpl
        @asynccontextmanager
        async def set_up(plugin):
            {what}(f"no answer from mail://{{plugin.options.password.get_secret_value()}}@host")
            yield
        """
        write(folder, "opted", self.OPTIONS + source)
        text = "      options_version: 2\n      server: mail\n      password: !env_var MAIL_PASSWORD\n"

        await host.apply(self.config(folder, text))

        assert "no answer from mail" in status(host, "opted").error
        assert "s3cret" not in str(status(host, "opted")) + str(host.problems()) + capsys.readouterr().out

    async def test_options_of_an_older_form_are_migrated_and_the_operator_is_told(
        self, host: PluginHost, folder: Path
    ) -> None:
        write(folder, "opted", self.OPTIONS)

        await host.apply(self.config(folder, "      host: mail\n"))

        assert status(host, "opted").options["server"] == "mail"
        assert "options_version: 2" in status(host, "opted").notes[0]

    async def test_options_of_a_newer_form_are_refused(self, host: PluginHost, folder: Path) -> None:
        write(folder, "opted", self.OPTIONS)

        await host.apply(self.config(folder, "      options_version: 3\n      server: mail\n"))

        assert "opted.options_version: must be a whole number from 1 to 2" in status(host, "opted").error

    async def test_a_plugin_without_a_model_takes_none(self, host: PluginHost, folder: Path) -> None:
        write(folder, "opted", sensor("opted"))

        await host.apply(self.config(folder, "      server: mail\n"))

        assert "the plugin takes no options" in status(host, "opted").error

    async def test_options_of_a_plugin_that_is_not_there_are_an_error(self, host: PluginHost, folder: Path) -> None:
        config = choosing("ct_v1", options={"ct_v2": {"a": 1}})

        await host.apply(config)

        assert "there is no plugin 'ct_v2'" in status(host, "ct_v2").error


class TestFence:
    async def test_a_driver_that_fails_for_one_device_serves_all_others(self, host: PluginHost, folder: Path) -> None:
        write(folder, "frail", sensor("frail"))
        await host.apply(with_folder(folder))

        for _ in range(3):
            with pytest.raises(RuntimeError, match="a defect"):
                decoded(host, "frail", b"BAD", "dev-001")

        with pytest.raises(Exception, match="held back"):
            decoded(host, "frail", b"good", "dev-001")
        assert all(decoded(host, "frail", b"good", f"dev-{n:03}") == 1.0 for n in range(2, 68))
        assert status(host, "frail").state is PluginState.TROUBLED
        assert "dev-001" in status(host, "frail").advice
        metrics = host._metrics
        assert sample(metrics, "carbontrack_plugin_errors_total", plugin="frail", kind="raised") == 3

    @pytest.mark.parametrize(
        "answer",
        [
            "None",
            "5",
            "Message('s', 0, 1, 1, [5])",
            "Message(5, 0, 1, 1, [Sample(1, 1)])",
            "Message('s', 0, 'one', 1, [Sample(1, 1)])",
            "Message('s', 0, 1, 1, [Sample('one', 1)])",
            "Message('s', 0, 1, 1, [Sample(1, 2**60)])",
            "Message('s', 0, 1, 1, [Sample(1, 1, co2_ppm='many')])",
            "Message('s', 0, 1, 1, [Sample(1, 1, co2_ppm=float('nan'))])",
            "Message('s', 0, 1, 1, [Sample(1, 1, velocity_ms=float('inf'))])",
            "Message('s', 0, 1, 1, [], [{'seq': 1}])",
        ],
    )
    async def test_nonsense_of_a_driver_is_an_error_of_it(self, host: PluginHost, folder: Path, answer: str) -> None:
        source = sensor("mad").replace("t = payload", f"return {answer}\n    t = payload")
        write(folder, "mad", source)
        await host.apply(with_folder(folder))

        with pytest.raises((TypeError, ValueError)) as caught:
            decoded(host, "mad")

        assert not isinstance(caught.value, DecodeError)
        assert status(host, "mad").errors == 1

    async def test_our_own_drivers_give_no_nonsense(self, host: PluginHost) -> None:
        await host.apply(choosing("flat_json"))

        assert decoded(host, "flat_json", b'{"co2_ppm": 98000}') == 98_000


class TestReports:
    LIMITS = Limits(20.0, 600)
    FORMAT = """
        def render(report):
            {body}
            return report.factory.name.encode()

        @hookimpl
        def register_report_formats():
            return [ReportFormat(name="odd", title="Odd", extension="txt", media_type="text/plain", render=render)]
        """

    async def rendered(self, host: PluginHost, folder: Path, body: str, limits: Limits = LIMITS) -> bytes:
        write(folder, "odd", self.FORMAT.replace("{body}", body))
        await host.apply(with_folder(folder))
        return await host.render("odd", report(), limits)

    async def test_a_format_runs_in_a_process_of_its_own(self, host: PluginHost, folder: Path) -> None:
        body = "return str(os.getpid()).encode()"

        assert int(await self.rendered(host, folder, body)) != os.getpid()

    async def test_it_gets_the_whole_report(self, host: PluginHost, folder: Path) -> None:
        assert await self.rendered(host, folder, "pass") == FACTORY.name.encode()

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            ("raise ValueError('no such column')", "ValueError: no such column"),
            ("return 'text'", "render gave str, not bytes"),
            ("os._exit(7)", "ended with 7"),
            ("os.kill(os.getpid(), 9)", "killed"),
            ("sys.exit(4)", "SystemExit: 4"),
            ("return b'x' * 2_000_000_000", "more than 600 MB"),
        ],
    )
    async def test_whatever_it_does_only_its_report_fails(
        self, host: PluginHost, folder: Path, body: str, error: str
    ) -> None:
        with pytest.raises(RenderError, match=error):
            await self.rendered(host, folder, body)

        assert status(host, "odd").errors == 1

    async def test_one_that_never_ends_is_ended_with_all_that_it_started(self, host: PluginHost, folder: Path) -> None:
        body = f"os.spawnlp(os.P_NOWAIT, 'sleep', 'sleep', '3600'); open({str(folder / 'up')!r}, 'w'); time.sleep(3600)"

        with pytest.raises(RenderError, match="longer than 8 s"):
            await self.rendered(host, folder, body, Limits(8.0, 600))

        assert (folder / "up").exists()
        sleeping = [
            path for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists() and b"sleep\x003600" in _read(path)
        ]
        assert sleeping == []

    async def test_cancelling_ends_its_process(self, host: PluginHost, folder: Path) -> None:
        body = f"open({str(folder / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(3600)"
        task = asyncio.create_task(self.rendered(host, folder, body))
        pid = folder / "pid"
        await eventually(lambda: pid.exists() and bool(pid.read_text()))

        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)

    async def test_one_that_fails_again_and_again_is_held_back(self, host: PluginHost, folder: Path) -> None:
        with pytest.raises(RenderError, match="no"):
            await self.rendered(host, folder, "raise ValueError('no')")
        for _ in range(2):
            with pytest.raises(RenderError, match="no"):
                await host.render("odd", report(), self.LIMITS)

        with pytest.raises(RenderError, match="held back"):
            await host.render("odd", report(), self.LIMITS)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


class TestReloader:
    @asynccontextmanager
    async def running(self, path: Path) -> AsyncIterator[tuple[Reloader, PluginHost]]:
        metrics = Metrics()
        host = PluginHost(metrics)
        reloader = Reloader(load_config(path, {}), host, metrics, lambda: load_config(path, {}))
        await host.apply(reloader.config)
        yield reloader, host
        await host.close()

    async def test_a_changed_file_is_followed(self, folder: Path) -> None:
        write(folder, "mine", sensor("mine"))
        path = folder / "carbontrack.yaml"
        path.write_text("plugins:\n  folder: .\n  enabled: [ct_v1]\n")
        async with self.running(path) as (reloader, host):
            path.write_text("plugins:\n  folder: .\n  enabled: [ct_v1, mine]\n")

            result = await reloader.reload("a test")

            assert (result.added, result.by, result.problems) == (("mine",), "a test", ())
            assert set(host.contributions.sensors) == {"ct_v1", "mine"}
            assert reloader.last is result

    async def test_a_bad_file_changes_nothing_and_says_where(self, folder: Path) -> None:
        path = folder / "carbontrack.yaml"
        path.write_text("plugins:\n  enabled: [ct_v1]\n")
        async with self.running(path) as (reloader, host):
            path.write_text("plugins:\n  enabled: [flat_json]\n  enable: x\n")

            result = await reloader.reload("a test")

            assert set(host.contributions.sensors) == {"ct_v1"}
            assert "carbontrack.yaml:3: plugins.enable: unknown key" in result.problems[0]
            assert reloader.config.plugins.enabled == ("ct_v1",)

    async def test_what_needs_a_restart_is_named(self, folder: Path) -> None:
        path = folder / "carbontrack.yaml"
        path.write_text("plugins:\n  enabled: [ct_v1]\n")
        async with self.running(path) as (reloader, _):
            path.write_text("plugins:\n  enabled: [ct_v1]\nhttp:\n  port: 9090\nalerts: []\n")

            result = await reloader.reload("a test")

            assert result.needs_restart == ("http",)
            assert reloader.config.alerts == ()
