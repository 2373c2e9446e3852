"""What plugin authors get: a package to begin with, a kit to test with, and a judge that finds what is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from carbontrack import DecodeError, FrameDecoder, Message, Payload, Role, Sample, SensorDriver, Tier
from carbontrack.authoring.checking import Judgement, judge
from carbontrack.authoring.new import CannotWrite, write_package
from carbontrack.authoring.rules import RULES, Outcome, Seen, Trial
from carbontrack.authoring.subject import NothingToCheck, Subject, subjects
from carbontrack.config import Config
from carbontrack.hookspecs import Frame, FrameError, Kind
from carbontrack.plugins import FIRST_PARTY
from carbontrack.plugins.alerts import limit
from carbontrack.testing import (
    VectorError,
    as_installed,
    check_frames,
    check_sensor,
    empty_report,
    example_options,
    leaks,
    load_plugin,
    notification,
    observation,
    payload,
    read_vectors,
    report,
    running_core,
)
from tests.support import programs

pytest_plugins = ["tests.support.plugins"]

ROOT = Path(__file__).parent.parent
FLAT = '{"co2_ppm": 98000, "temperature_c": 183.25, "velocity_ms": 4.12}'


def command(module: str, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program as an author would, beside this environment."""
    return programs.run(module, *words, cwd=cwd, env=programs.environment(MYPYPATH=str(ROOT)))


# --- the kit


def decode_number(body: Payload) -> Message:
    try:
        co2_ppm = float(body.body)
    except ValueError as error:
        raise DecodeError("wrong_type", str(error)) from None
    return Message("s", 0, 1, 1, [Sample(1, body.received_at_ms, co2_ppm=co2_ppm)], numbered=False)


def driver(decode: Callable[[Payload], Message] = decode_number) -> SensorDriver:
    return SensorDriver("mine", "Mine", decode)


def vector_file(folder: Path, *vectors: dict[str, Any]) -> Path:
    file = folder / "mine.json"
    file.write_text(json.dumps([{"about": "a vector"} | vector for vector in vectors]), encoding="utf-8")
    return file


class TestVectors:
    def test_a_driver_that_gives_what_they_say_passes(self, tmp_path: Path) -> None:
        taken = {"body": "98000", "expected": {"samples": [{"co2_ppm": 98000}]}}
        refused = {"hex": "FF", "expected": {"cause": "wrong_type"}}

        check_sensor(driver(), read_vectors(vector_file(tmp_path, taken, refused)))

    @pytest.mark.parametrize(
        ("vector", "says"),
        [
            ({"body": "98000", "expected": {"samples": [{"co2_ppm": 98001}]}}, "co2_ppm is 98000.0, not 98001"),
            ({"body": "98000", "expected": {"samples": [{}]}}, "co2_ppm is 98000.0, not None"),
            ({"body": "98000", "expected": {"samples": []}}, "it has 1 samples, not 0"),
            ({"body": "98000", "expected": {"samples": [{"co2": 98000}]}}, "there is no 'co2'"),
            ({"body": "98000", "expected": {"stream": "t", "samples": [{"co2_ppm": 98000}]}}, "stream is 's', not 't'"),
            ({"body": "98000", "expected": {"cause": "wrong_type"}}, "it was taken, and should be refused"),
            ({"body": "hot", "expected": {"cause": "empty"}}, "the cause is wrong_type, not empty"),
            ({"body": "hot", "expected": {"samples": []}}, "it was refused as wrong_type"),
            ({"body": "hot", "expected": {"cause": "wrong_type", "covers": ["s", 1, 1]}}, "it covers None"),
        ],
    )
    def test_what_a_driver_gives_otherwise_is_told(self, tmp_path: Path, vector: dict[str, Any], says: str) -> None:
        with pytest.raises(AssertionError, match="does not give what its vectors say") as caught:
            check_sensor(driver(), read_vectors(vector_file(tmp_path, vector)))

        assert f"a vector: {says}" in str(caught.value).replace("a vector: sample 1: ", "a vector: ")

    def test_numbers_are_compared_to_six_digits(self, tmp_path: Path) -> None:
        near = {"body": "98000.04", "expected": {"samples": [{"co2_ppm": 98000}]}}

        check_sensor(driver(), read_vectors(vector_file(tmp_path, near)))

    def test_what_a_driver_raises_by_mistake_is_told(self, tmp_path: Path) -> None:
        def broken(body: Payload) -> Message:
            raise KeyError(body.device_id)

        with pytest.raises(AssertionError, match="it raised KeyError"):
            check_sensor(driver(broken), read_vectors(vector_file(tmp_path, {"body": "", "expected": {"cause": "x"}})))

    def test_no_vectors_prove_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(AssertionError, match="there are no vectors"):
            check_sensor(driver(), read_vectors(vector_file(tmp_path)))

    def test_a_frame_decoder_is_checked_with_the_options_of_each_vector(self, tmp_path: Path) -> None:
        def decoder_with(options: Mapping[str, Any]) -> FrameDecoder:
            def decode(frame: bytes) -> Frame:
                if len(frame) != 1:
                    raise FrameError("frame_length", "one byte is needed")
                return Frame(temperature_c=frame[0] * options.get("scale", 1.0))

            return FrameDecoder("mine", "Mine", decode)

        vectors = read_vectors(
            vector_file(
                tmp_path,
                {"hex": "0A", "expected": {"temperature_c": 10}},
                {"hex": "0A", "options": {"scale": 0.5}, "expected": {"temperature_c": 5}},
                {"hex": "", "expected": {"cause": "frame_length"}},
            )
        )

        check_frames(decoder_with, vectors)
        with pytest.raises(AssertionError, match=r"temperature_c is 10\.0, not 5"):
            check_frames(decoder_with({}), vectors)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("[", "Expecting"),
            ("{}", "must be a list"),
            ('[{"body": ""}]', "must be an object with 'about'"),
            ('[{"about": "x", "expected": {}}]', "needs either 'body' (text) or 'hex' (bytes)"),
            ('[{"about": "x", "body": "", "hex": "", "expected": {}}]', "needs either"),
            ('[{"about": "x", "body": ""}]', "needs 'expected'"),
            ('[{"about": "x", "hex": "zz", "expected": {}}]', "non-hexadecimal"),
        ],
    )
    def test_a_file_that_is_none_says_where_and_why(self, tmp_path: Path, text: str, says: str) -> None:
        (tmp_path / "mine.json").write_text(text, encoding="utf-8")

        with pytest.raises(VectorError) as caught:
            read_vectors(tmp_path)

        assert says in str(caught.value)
        assert "mine.json" in str(caught.value)


class TestLeaks:
    async def test_nothing_left_is_fine(self, tmp_path: Path) -> None:
        async with leaks():
            await asyncio.create_task(asyncio.sleep(0))
            await asyncio.to_thread((tmp_path / "file").write_text, "x")

    async def test_a_task_that_goes_on_is_found(self) -> None:
        task = None
        with pytest.raises(AssertionError, match="left behind: task forgotten"):
            async with leaks(patience_s=0.0):
                task = asyncio.create_task(asyncio.sleep(3600), name="forgotten")
        assert task is not None
        task.cancel()

    async def test_a_thread_that_goes_on_is_found(self) -> None:
        ended = threading.Event()
        with pytest.raises(AssertionError, match="left behind: thread forgotten"):
            async with leaks(patience_s=0.0):
                threading.Thread(target=ended.wait, name="forgotten").start()
        ended.set()

    async def test_a_file_that_stays_open_is_found(self, tmp_path: Path) -> None:
        with pytest.raises(AssertionError, match=r"left behind: open file .*forgotten"):
            async with leaks(patience_s=0.0):
                file = (tmp_path / "forgotten").open("w")
        file.close()


class TestExampleOptions:
    def test_defaults_examples_and_guesses_make_options(self) -> None:
        class Model(BaseModel):
            model_config = ConfigDict(extra="forbid")

            quantity: Literal["co2", "gas"]
            above: float = Field(gt=10)
            share: float = Field(le=0.5)
            count: int
            url: str = Field(pattern="^https://", examples=["https://example.org"])
            token: SecretStr
            later: int = 7

        made = Model.model_validate(example_options(Model))

        assert (made.quantity, made.share, made.count, made.url) == ("co2", 0.5, 1, "https://example.org")
        assert made.above > 10

    def test_a_model_s_own_example_counts_first_and_what_is_given_before_all(self) -> None:
        class Model(BaseModel):
            model_config = ConfigDict(json_schema_extra={"examples": [{"low": 1, "high": 2}]})

            low: int
            high: int

        assert example_options(Model, {"high": 3}) == {"low": 1, "high": 3}

    def test_a_guess_that_is_refused_is_an_error(self) -> None:
        class Model(BaseModel):
            url: str = Field(pattern="^https://")

        with pytest.raises(ValidationError):
            example_options(Model)


class TestLoading:
    def test_a_plugin_is_loaded_by_its_module_its_file_or_its_name(self) -> None:
        file = Path(limit.__file__)

        for place in (limit, file, "limit"):
            loaded = load_plugin(place)
            assert loaded.manifest.name == "limit"
            assert set(loaded.contributions.alert_rules) == {"limit"}

    def test_options_are_those_of_its_model(self) -> None:
        assert load_plugin("mhz19", {"full_scale_ppm": 10_000}).options.full_scale_ppm == 10_000

    def test_a_file_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            load_plugin(tmp_path / "nothing.py")


class TestRunningCore:
    async def test_what_a_device_sends_is_kept_or_refused_and_raises_alerts(self) -> None:
        alert = {
            "name": "hot",
            "rule": "limit",
            "hold_s": 0,
            "options": {"quantity": "temperature_c", "raise_above": 100, "clear_below": 90},
        }
        async with leaks(), running_core(names=["flat_json", "limit"], sensor="flat_json", alerts=[alert]) as core:
            assert core.tell(FLAT) == "delivered"
            assert core.tell("hello") == "delivered"
            assert core.tell(FLAT, device_id="stranger") == "unknown_device"

            assert [reading.co2_ppm for reading in await core.readings()] == [98_000]
            assert [refused.cause for refused in await core.quarantined()] == ["invalid_json"]
            assert [raised.rule for raised in await core.alerts()] == ["hot"]

    async def test_pages_reports_and_reloads_are_the_core_s_own(self) -> None:
        async with leaks(), running_core(names=["csv", "portal_hq", "portal_factory"]) as core:
            assert (await core.page("/hq/", Role.HQ_MANAGER))[0] == 200
            assert (await core.page("/hq/", Role.FACTORY_CLERK))[0] in {403, 404}
            assert (await core.page("/factory/kangaita/", Role.FACTORY_CLERK))[0] == 200
            assert (await core.render("csv", empty_report())).startswith(b"\xef\xbb\xbfmeasured_at")
            assert (await core.reload("csv")).reloaded == ("csv",)

    def test_what_is_shown_to_plugins_is_of_one_piece(self) -> None:
        assert observation(co2_ppm=1.0).snapshot.co2_ppm == 1.0
        assert {reading.stack_id for reading in report().readings} == {report().stacks[0].id}
        assert notification(of_factory=True).items[0].stack is None
        assert notification(of_network=True).items[0].factory is None
        assert payload("x").body == b"x"


# --- a package to begin with


class TestNew:
    @pytest.mark.parametrize("kind", Kind)
    def test_a_new_package_passes_its_own_tests(self, tmp_path: Path, kind: Kind) -> None:
        folder, _ = write_package(kind, f"try_{kind}", tmp_path, "Wanjiru")

        tested = command("pytest", "-q", "-W", "error", "-p", "no:cacheprovider", cwd=folder)

        assert tested.returncode == 0, tested.stdout + tested.stderr

    def test_new_packages_of_all_kinds_are_better_than_they_claim(self, tmp_path: Path) -> None:
        folders = [write_package(kind, f"try_{kind}", tmp_path, "Wanjiru")[0] for kind in Kind]

        checked = command("carbontrack", "plugins", "check", *folders, "--tier", "platinum", cwd=tmp_path)

        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert checked.stdout.count("Its manifest claims gold.") == len(Kind)

    def test_the_command_says_where_it_is_and_what_to_do_next(self, tmp_path: Path) -> None:
        made = command("carbontrack", "plugins", "new", "sensor", "probe", "--owner", "Wanjiru", cwd=tmp_path)

        assert made.returncode == 0, made.stderr
        assert "cd carbontrack-probe" in made.stdout
        assert (tmp_path / "carbontrack-probe" / "pyproject.toml").exists()

    def test_a_new_package_is_written_in_good_style(self, tmp_path: Path) -> None:
        settings = ("--no-cache", "--config", "line-length = 120")
        for kind in Kind:
            folder, _ = write_package(kind, f"try_{kind}", tmp_path, "Wanjiru")
            formatted = command("ruff", "format", "--diff", *settings, cwd=folder)
            assert formatted.returncode == 0, formatted.stdout
            linted = command("ruff", "check", *settings, "--select", "E,F,I,B,C4,RET,RUF,SIM,UP", cwd=folder)
            assert linted.returncode == 0, linted.stdout

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("Kericho-Probe", "Perhaps kericho_probe?"),
            ("7probe", "a letter first"),
            ("", "cannot be a plugin's name"),
            ("limit", "ships with Carbon Track"),
            ("../probe", "Perhaps probe?"),
        ],
    )
    def test_a_name_that_cannot_be_one_is_refused(self, tmp_path: Path, name: str, says: str) -> None:
        with pytest.raises(CannotWrite) as caught:
            write_package(Kind.SENSOR, name, tmp_path, "Wanjiru")

        assert says in str(caught.value)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_is_there_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "carbontrack-probe").mkdir()

        refused = command("carbontrack", "plugins", "new", "sensor", "probe", cwd=tmp_path)

        assert refused.returncode == 2
        assert "is there already" in refused.stderr
        assert list((tmp_path / "carbontrack-probe").iterdir()) == []

    def test_an_owner_cannot_break_out_of_the_manifest(self, tmp_path: Path) -> None:
        with pytest.raises(CannotWrite, match="without quotes"):
            write_package(Kind.SENSOR, "probe", tmp_path, 'me", tier=None) #')


# --- the judge

HEAD = """
    from carbontrack import *
    from pydantic import BaseModel, ConfigDict
    MANIFEST = Manifest(name="mine", version="1.0", kinds=(Kind.{kind},), title="Mine", codeowners=("Me",))
"""
SENSOR = """
    def decode(payload):
        {decode}

    @hookimpl
    def register_sensors():
        return [SensorDriver("mine", "Mine", decode)]
"""
RULE = """
    class Options(BaseModel):
        {options}

    def evaluate(options, seen):
        {evaluate}

    @hookimpl
    def register_alert_rules():
        return [AlertRule("mine", "Mine", Options, evaluate)]
"""
REPORT = """
    import time

    def render(report):
        return {render}

    @hookimpl
    def register_report_formats():
        return [ReportFormat("mine", "Mine", "txt", "text/plain", render)]
"""
NOTIFIER = """
    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")

    {send}

    @hookimpl
    def register_notifiers():
        return [Notifier("mine", "Mine", Options, send)]
"""
PORTAL = """
    async def show(request):
        return Page("mine.html", {{"now": request.data.now}})

    @hookimpl
    def register_portals():
        from pathlib import Path
        return [PortalView("mine", "Mine", "/mine/", frozenset({roles}), show, Path(__file__).parent / "templates")]
"""
GOOD_VECTORS = [
    {"about": "a number", "body": "98000", "expected": {"samples": [{"co2_ppm": 98000}]}},
    {"about": "none", "body": "hot", "expected": {"cause": "wrong_type"}},
]
GOOD_DECODE = """
    try:
        value = float(payload.body)
    except ValueError as error:
        raise DecodeError("wrong_type", str(error)) from None
    at_ms = payload.received_at_ms
    sample = Sample(at_ms, at_ms, co2_ppm=value if -1e9 < value < 1e9 else None)
    return Message("s", 0, at_ms, 1, [sample], numbered=False)
"""


def subject_of(folder: Path, kind: str, source: str, vectors: Any = None, **parts: str) -> Subject:
    """A plugin in a single file, with vectors beside it."""
    text = dedent(HEAD.format(kind=kind)) + dedent(source).format(
        **{name: part.strip() for name, part in parts.items()}
    )
    (folder / "mine.py").write_text(text, encoding="utf-8")
    if vectors is not None:
        (folder / "vectors").mkdir(exist_ok=True)
        (folder / "vectors" / "mine.json").write_text(json.dumps(vectors), encoding="utf-8")
    with subjects([str(folder / "mine.py")], Config()) as found:
        (subject,) = found
    return subject


async def seen(name: str, subject: Subject, **more: Any) -> Seen:
    """What one rule sees."""
    trial = Trial(subject, **more)
    (rule,) = (rule for rule in RULES if rule.name == name)
    answer = rule.check(trial)
    return answer if isinstance(answer, Seen) else await answer


class TestJudge:
    async def test_a_good_sensor_in_a_single_file_passes_all_that_a_file_can(self, folder: Path) -> None:
        subject = subject_of(folder, "SENSOR", SENSOR, GOOD_VECTORS, decode=GOOD_DECODE)

        judgement = await judge(subject, [])

        failures = {rule.name for rule, found in judgement.seen if not found.is_good}
        assert failures == {"documentation", "tests", "explained"}
        assert judgement.reached is Tier.BRONZE

    async def test_one_that_cannot_be_loaded_reaches_nothing_and_says_why(self, folder: Path) -> None:
        subject = subject_of(folder, "SENSOR", "import no_such_module_anywhere")

        judgement = await judge(subject, [])

        assert judgement.reached is None
        assert next((rule.name, found.outcome) for rule, found in judgement.seen) == ("loads", Outcome.FAILED)
        assert {found.outcome for _, found in judgement.seen[2:]} == {Outcome.NOT_CHECKED}

    async def test_a_kind_that_nothing_is_brought_of_is_told(self, folder: Path) -> None:
        found = await seen("brings", subject_of(folder, "NOTIFIER", ""))

        assert found.outcome is Outcome.FAILED
        assert "register_notifiers" in found.advice

    async def test_a_sensor_without_vectors_is_told_where_they_belong(self, folder: Path) -> None:
        found = await seen("vectors", subject_of(folder, "SENSOR", SENSOR, decode=GOOD_DECODE))

        assert "tests/vectors/mine.json" in found.detail

    async def test_a_sensor_whose_vectors_fail_is_told_which(self, folder: Path) -> None:
        wrong = [{"about": "a number", "body": "1", "expected": {"samples": [{"co2_ppm": 2}]}}]

        found = await seen("vectors", subject_of(folder, "SENSOR", SENSOR, wrong, decode=GOOD_DECODE))

        assert "a number: sample 1: co2_ppm is 1.0, not 2" in found.detail

    @pytest.mark.parametrize(
        ("decode", "says"),
        [
            ("return Message('s', 0, 1, 1, [Sample(1, 1, co2_ppm=float(payload.body))])", "ValueError"),
            ("return None", "TypeError: decode gave NoneType, not a Message"),
            ("raise SystemExit", "Failed: SystemExit"),
            ("raise FrameError('x', 'y')", "FrameError"),
        ],
    )
    async def test_noise_finds_a_driver_that_raises_anything_else(self, folder: Path, decode: str, says: str) -> None:
        found = await seen("withstands", subject_of(folder, "SENSOR", SENSOR, GOOD_VECTORS, decode=decode))

        assert found.outcome is Outcome.FAILED
        assert says in found.detail

    async def test_a_slow_driver_is_told_how_slow(self, folder: Path) -> None:
        slow = "import time\n    time.sleep(0.001)\n    return Message('s', 0, 1, 1, [Sample(1, 1, co2_ppm=98000.0)])"

        found = await seen("quick", subject_of(folder, "SENSOR", SENSOR, GOOD_VECTORS, decode=slow))

        assert found.outcome is Outcome.FAILED
        assert "ms for a payload" in found.detail

    async def test_vectors_without_a_refusal_are_told(self, folder: Path) -> None:
        found = await seen("refusals", subject_of(folder, "SENSOR", SENSOR, GOOD_VECTORS[:1], decode=GOOD_DECODE))

        assert "the vectors of mine have none" in found.detail

    async def test_a_rule_that_cannot_take_a_missing_value_is_told(self, folder: Path) -> None:
        source = "return Verdict(seen.snapshot.co2_ppm > 5, False)"
        subject = subject_of(
            folder, "ALERT", RULE, options="model_config = ConfigDict(extra='forbid')", evaluate=source
        )

        assert (await seen("evaluates", subject)).outcome is Outcome.PASSED
        assert "TypeError" in (await seen("withstands", subject)).detail

    async def test_options_that_are_not_explained_or_take_anything_are_told(self, folder: Path) -> None:
        verdict = "return Verdict(False, False)"
        found = await seen("options", subject_of(folder, "ALERT", RULE, options="above: float = 5.0", evaluate=verdict))

        assert "takes unknown keys" in found.detail
        assert "nothing says what above is for" in found.detail

    async def test_a_rule_without_words_is_told(self, folder: Path) -> None:
        subject = subject_of(folder, "ALERT", RULE, options="pass", evaluate="return Verdict(False, False)")

        for name, language in (("words", "English"), ("swahili", "Swahili")):
            found = await seen(name, subject)
            assert found.outcome is Outcome.FAILED
            assert f"mine: nothing says in {language} what it is called and what to do first" in found.detail
            assert "RuleWords" in found.advice

    async def test_options_that_cannot_be_guessed_need_an_example(self, folder: Path) -> None:
        verdict = "return Verdict(False, False)"
        found = await seen(
            "evaluates", subject_of(folder, "ALERT", RULE, options="above: tuple[int, int]", evaluate=verdict)
        )

        assert "examples=" in found.detail

    async def test_a_format_that_fails_or_gives_no_bytes_is_told(self, folder: Path) -> None:
        found = await seen("renders", subject_of(folder, "REPORT", REPORT, render="'text'"))

        assert "render gave str, not bytes" in found.detail

    async def test_a_format_with_the_time_of_making_is_not_reproducible(self, folder: Path) -> None:
        subject = subject_of(folder, "REPORT", REPORT, render="str(time.time()).encode()")
        trial = Trial(subject)
        by_name = {rule.name: rule for rule in RULES}

        for name in ("renders", "reproducible"):
            answer = by_name[name].check(trial)
            assert not isinstance(answer, Seen)
            found = await answer

        assert "other bytes" in found.detail

    async def test_a_compliance_format_is_tried_as_well_and_a_missing_seal_is_said_and_no_failure(
        self, folder: Path
    ) -> None:
        source = REPORT.replace("ReportFormat", "ComplianceFormat")

        with_seal = await seen("renders", subject_of(folder, "REPORT", source, render="report.seal.encode()"))
        assert (with_seal.outcome, with_seal.detail.endswith("with its seal")) == (Outcome.PASSED, True)
        without = subject_of(folder, "REPORT", source, render="report.title.encode()")
        assert (await seen("renders", without)).outcome is Outcome.PASSED
        assert "without the seal: nobody can verify this file" in (await seen("renders", without)).detail
        first_row = subject_of(folder, "REPORT", source, render="str(report.tables[0].rows[0]).encode()")
        assert "IndexError" in (await seen("withstands", first_row)).detail

    async def test_a_notifier_that_would_hold_the_loop_is_told(self, folder: Path) -> None:
        blocking = subject_of(folder, "NOTIFIER", NOTIFIER, send="def send(options, notification): pass")
        assert "send is not async" in (await seen("sends", blocking)).detail

        waiting = subject_of(folder, "NOTIFIER", NOTIFIER, send="async def send(options, notification): pass")
        assert (await seen("sends", waiting)).outcome is Outcome.PASSED

    async def test_a_page_without_its_template_is_told_for_each_role(self, folder: Path) -> None:
        found = await seen("shows", subject_of(folder, "PORTAL", PORTAL, roles="{Role.OPERATOR}"))

        assert "/mine/ answers 500 to operator" in found.detail

    async def test_a_page_with_its_template_is_shown(self, folder: Path) -> None:
        (folder / "templates").mkdir()
        (folder / "templates" / "mine.html").write_text("{{ now }}", encoding="utf-8")

        assert (await seen("shows", subject_of(folder, "PORTAL", PORTAL, roles="set(Role)"))).outcome is Outcome.PASSED

    @pytest.mark.parametrize(
        ("set_up", "says"),
        [
            ("asyncio.get_running_loop().create_task(asyncio.sleep(3600), name='forgotten')", "forgotten"),
            ("threading.Thread(target=threading.Event().wait, name='forgotten', daemon=True).start()", "forgotten"),
            ("os.open(__file__, os.O_RDONLY)", "mine.py"),
            ("raise ValueError('no licence')", "no licence"),
        ],
    )
    async def test_what_is_left_behind_at_unload_is_told(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, set_up: str, says: str
    ) -> None:
        monkeypatch.setattr("carbontrack.testing.loading.PATIENCE_S", 0.2)
        source = """
            import asyncio, os, threading
            from contextlib import asynccontextmanager

            @hookimpl
            def set_up(plugin):
                @asynccontextmanager
                async def context():
                    {set_up}
                    yield
                return context()
        """ + SENSOR.replace("\n", "\n        ")
        subject = subject_of(
            folder, "SENSOR", source, GOOD_VECTORS, set_up=set_up, decode="raise DecodeError('x', 'y')"
        )

        assert says in (await seen("unloads", subject)).detail
        for link in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                if link.readlink().name == "mine.py":
                    os.close(int(link.name))

    async def test_a_call_that_holds_the_loop_is_told_for_how_long(self, folder: Path) -> None:
        slow = "import time\n    time.sleep(0.08)\n    raise DecodeError('x', 'y')"

        found = await seen("holds", subject_of(folder, "SENSOR", SENSOR, GOOD_VECTORS, decode=slow))

        assert found.outcome is Outcome.FAILED
        assert "held the loop for" in found.detail

    async def test_without_mypy_the_types_are_not_checked_and_platinum_is_not_reached(self, folder: Path) -> None:
        found = await seen("types", subject_of(folder, "SENSOR", SENSOR, decode=GOOD_DECODE), types=None)

        assert found.outcome is Outcome.NOT_CHECKED
        assert not found.is_good

    def test_a_tier_is_reached_with_all_below_it(self) -> None:
        def judgement(*bad: str) -> Judgement:
            found = [Seen(Outcome.FAILED if rule.name in bad else Outcome.PASSED) for rule in RULES]
            return Judgement(None, tuple(zip(RULES, found, strict=True)))  # type: ignore[arg-type]  # it is not looked at

        assert judgement().reached is Tier.PLATINUM
        assert judgement("types").reached is Tier.GOLD
        assert judgement("owner", "types").reached is Tier.BRONZE
        assert judgement("loads").reached is None
        assert judgement("types").reaches(Tier.SILVER)
        assert not judgement("owner").reaches(Tier.SILVER)

    def test_a_project_without_an_entry_point_says_what_to_add(self, tmp_path: Path) -> None:
        (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n', encoding="utf-8")

        with pytest.raises(NothingToCheck, match=r"entry-points\.carbontrack"), subjects([str(tmp_path)], Config()):
            pass

    def test_a_name_that_nobody_has_lists_those_that_there_are(self) -> None:
        with pytest.raises(NothingToCheck, match="ct_v1"), subjects(["no_such_plugin"], Config()):
            pass

    def test_a_project_in_the_folder_of_plugins_is_checked_by_its_name_with_its_vectors(self, tmp_path: Path) -> None:
        project, _ = write_package(Kind.SENSOR, "probe", tmp_path, "Wanjiru")
        config = Config.model_validate({"plugins": {"folder": tmp_path}})

        with subjects(["probe"], config) as (subject,):
            assert subject.folder == project
            assert len(subject.vectors("probe")) == 8

    def test_a_project_is_forgotten_when_its_check_has_ended(self, tmp_path: Path) -> None:
        folder, _ = write_package(Kind.SENSOR, "probe", tmp_path, "Wanjiru")
        before = list(sys.path), set(sys.modules)

        with as_installed(folder):
            assert load_plugin("probe").manifest.name == "probe"

        assert (list(sys.path), set(sys.modules)) == before
        with pytest.raises(KeyError):
            load_plugin("probe")


class TestOurOwn:
    @pytest.mark.parametrize("name", FIRST_PARTY)
    async def test_a_plugin_of_ours_reaches_the_tier_that_it_claims(self, name: str) -> None:
        """Its types are checked with all of ours, by the same strict rules: `make check`."""
        with subjects([name], Config()) as (subject,):
            judgement = await judge(subject, [])

        failures = {rule.name: found.detail for rule, found in judgement.seen if not found.is_good}
        assert judgement.claimed is not None
        assert judgement.reaches(judgement.claimed), failures

    def test_the_command_says_the_same(self, tmp_path: Path) -> None:
        done = command("carbontrack", "plugins", "check", "max6675", "--tier", "platinum", cwd=tmp_path)

        assert done.returncode == 0, done.stdout + done.stderr
        assert "passed          types: mypy --strict has nothing to say" in done.stdout
        assert "Tier reached: platinum. Its manifest claims platinum." in done.stdout

    def test_the_command_fails_where_the_tier_is_not_reached(self, folder: Path) -> None:
        subject_of(folder, "SENSOR", SENSOR, decode=GOOD_DECODE)

        done = command("carbontrack", "plugins", "check", "mine.py", cwd=folder)

        assert done.returncode == 1, done.stderr
        assert "Tier reached: none. It claims none." in done.stdout
