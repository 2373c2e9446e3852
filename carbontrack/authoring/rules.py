"""The rules by which plugins are judged, tier by tier. Each is a function that tries something and says what it saw."""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from statistics import median
from typing import Any

from pydantic import BaseModel, ValidationError

from carbontrack.authoring.exercise import Exercise, exercised
from carbontrack.authoring.subject import Subject
from carbontrack.hookspecs import (
    AlertRule,
    DecodeError,
    FactoryRule,
    FrameError,
    Kind,
    Notifier,
    Observation,
    Tier,
)
from carbontrack.model import Report
from carbontrack.outbound import Ways
from carbontrack.plugins.contributions import ALL_HOOKS, HOOKS
from carbontrack.plugins.loading import LoadError
from carbontrack.plugins.rendering import Limits, RenderError, render
from carbontrack.testing.examples import (
    STACK,
    empty_report,
    example_options,
    factory_facts,
    observation,
    payload,
    reading,
    report,
)
from carbontrack.testing.vectors import Vector, VectorError, frame_problems, sensor_problems

SHOWN = 3
"""So many of several problems are told."""
NOISE = 400
"""Inputs that no sensor sends, for each driver and decoder."""
QUICK_S = 0.5e-3
TRIES = 5
"""A measurement that is too slow is made again: the machine may have had something else to do."""
HELD_S = 0.05
LIMITS = Limits(60.0, 1024)


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "FAILED"
    NOT_APPLICABLE = "not applicable"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a rule saw; ``advice`` is what to do about a failure."""

    outcome: Outcome
    detail: str = ""
    advice: str = ""

    @property
    def is_good(self) -> bool:
        return self.outcome in {Outcome.PASSED, Outcome.NOT_APPLICABLE}


def passed(detail: str = "") -> Seen:
    return Seen(Outcome.PASSED, detail)


def failed(detail: str, advice: str = "") -> Seen:
    return Seen(Outcome.FAILED, detail, advice)


def not_for(kinds: str) -> Seen:
    return Seen(Outcome.NOT_APPLICABLE, f"it brings no {kinds}")


def not_checked(detail: str) -> Seen:
    return Seen(Outcome.NOT_CHECKED, detail)


def told(problems: Iterable[str], advice: str, *, good: str = "") -> Seen:
    """Failed with the first problems, or passed without any."""
    found = list(problems)
    if not found:
        return passed(good)
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return failed("; ".join(found[:SHOWN]) + more, advice)


@dataclass
class Trial:
    """One plugin while it is judged, with what several rules look at."""

    subject: Subject
    types: list[str] | None = None
    """What ``mypy --strict`` complains of; None where there is no mypy."""
    rendered: dict[str, bytes] = field(default_factory=dict)
    _exercise: Exercise | None = None

    async def exercise(self, *, again: bool = False) -> Exercise:
        """How it did in a running core."""
        if self._exercise is None or again:
            self._exercise = await exercised(self.subject)
        return self._exercise


Check = Callable[[Trial], Seen | Awaitable[Seen]]


@dataclass(frozen=True, slots=True)
class Rule:
    """``says`` is what is demanded."""

    tier: Tier
    name: str
    says: str
    check: Check


# --- bronze: it works


def loads(trial: Trial) -> Seen:
    try:
        manifest = trial.subject.loaded.manifest
    except LoadError as error:
        return failed(str(error), error.advice)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        advice = (
            f"Give options_model an example (Field(examples=[...])), or name a configuration with --config: {place}."
        )
        return failed(f"no options are known to try it with: {place}: {first['msg']}", advice)
    return passed(f"{manifest.name} {manifest.version}, {manifest.title!r}")


def brings(trial: Trial) -> Seen:
    subject = trial.subject
    try:
        brought = subject.brought
    except Exception as error:  # noqa: BLE001  # a plugin may raise whatever it likes
        return failed(f"{type(error).__name__}: {error}", "Mend the register_ hook that raises this.")
    there = {hook.kind for hook in ALL_HOOKS if getattr(brought, hook.field)}
    missing = [kind.value for kind in subject.loaded.manifest.kinds if kind not in there]
    names = [name for name, hooks in HOOKS.items() if hooks[0].kind.value in missing]
    if missing:
        text = f"the manifest names the kind {', '.join(missing)}, and nothing of it is there"
        return failed(text, f"Add a hook ({', '.join(names)}) marked with @hookimpl, or take the kind away.")
    return passed(", ".join(brought.named()))


def vectors(trial: Trial) -> Seen:
    subject = trial.subject
    if not subject.brings(Kind.SENSOR):
        return not_for("sensor")
    if subject.folder is None:
        return not_checked("its golden vectors are not installed with it: check its project's folder")
    problems, count = [], 0
    for name, found, is_frame in _all_vectors(subject):
        count += len(found)
        if not found:
            where = "tests/vectors/" + ("frames/" if is_frame and subject.found.is_ours else "") + f"{name}.json"
            problems.append(f"there are none for {name} ({where})")
        elif is_frame:
            problems += frame_problems(partial(subject.decoder_with, name), found)
        else:
            problems += sensor_problems(subject.brought.sensors[name], found)
    advice = "Write what the sensor sends and what it says, as docs/plugins/sensors.md describes."
    return told(problems, advice, good=f"{count} vectors")


def _all_vectors(subject: Subject) -> Iterator[tuple[str, list[Vector], bool]]:
    """Name, vectors, and whether it is a frame decoder, of each that a plugin brings. Raises :class:`VectorError`."""
    for name in subject.brought.sensors:
        yield name, subject.vectors(name), False
    for name in subject.brought.frame_decoders:
        yield name, subject.vectors(name, of_frames=True), True


def evaluates(trial: Trial) -> Seen:
    if not trial.subject.brings(Kind.ALERT):
        return not_for("alert rule")
    return told(_rule_problems(trial.subject, [observation()], [factory_facts()]), "Mend what the error says.")


def _rule_problems(subject: Subject, seen: list[Observation], facts: list[Any]) -> list[str]:
    problems = []
    tried: list[tuple[Any, list[Any]]] = [
        *((rule, seen) for rule in subject.brought.alert_rules.values()),
        *((rule, facts) for rule in subject.brought.factory_rules.values()),
    ]
    for rule, shown in tried:
        try:
            options = rule.options_model.model_validate(example_options(rule.options_model))
        except ValidationError as error:
            problems.append(
                f"{rule.name}: no options are known to try it with ({error.error_count()} errors): give "
                f"{rule.options_model.__name__} an example, Field(examples=[...])"
            )
            continue
        for item in shown:
            try:
                rule.evaluate(options, item)
            except Exception as error:  # noqa: BLE001  # a plugin may raise whatever it likes
                problems.append(f"{rule.name}: {type(error).__name__}: {error}")
    return problems


def sends(trial: Trial) -> Seen:
    if not trial.subject.brings(Kind.NOTIFIER):
        return not_for("notifier")
    problems = []
    for notifier in trial.subject.brought.notifiers.values():
        try:
            example_options(notifier.options_model)
        except ValidationError as error:
            problems.append(f"{notifier.name}: no options are known to try it with: {error.errors()[0]['msg']}")
    problems += [f"{name}: send is not async" for name in _not_async(trial.subject)]
    return told(problems, "Write `async def send(options, notification)`, and give its options examples.")


def _not_async(subject: Subject) -> list[str]:
    """Notifiers whose ``send`` is an ordinary function, as the plugin itself brings them."""
    names = []
    for answer in subject.loaded.manager.hook.register_notifiers(plugin=_Given(subject)):
        for notifier in answer:
            send = getattr(notifier.send, "func", notifier.send)
            is_async = inspect.iscoroutinefunction(send) or inspect.iscoroutinefunction(getattr(send, "__call__", None))  # noqa: B004  # an object may be called, too
            if not is_async:
                names.append(notifier.name)
    return names


@dataclass(frozen=True, slots=True)
class _Given:
    """What the hooks are given where only their answer is looked at."""

    subject: Subject

    @property
    def name(self) -> str:
        return self.subject.name

    @property
    def options(self) -> Any:
        return self.subject.loaded.options

    @property
    def frame_decoders(self) -> Any:
        return self.subject.others

    @property
    def outbound(self) -> Ways:
        return Ways()

    def start(self, job: Any, name: str) -> None:
        job.close()
        raise RuntimeError(f"{name} was started by a register_ hook; start it in set_up")


async def renders(trial: Trial) -> Seen:
    if not trial.subject.brings(Kind.REPORT):
        return not_for("report format")
    problems, sizes = [], []
    for name in trial.subject.brought.report_formats:
        try:
            trial.rendered[name] = await _rendered(trial.subject, name, report())
        except RenderError as error:
            problems.append(f"{name}: {error}")
        else:
            sizes.append(f"{name}: {len(trial.rendered[name]):,} bytes")
            if not trial.rendered[name]:
                problems.append(f"{name}: the file is empty")
    return told(problems, "render takes a Report and gives bytes; mend what the error says.", good=", ".join(sizes))


async def _rendered(subject: Subject, name: str, shown: Report) -> bytes:
    return await render(subject.found, subject.options, name, shown, LIMITS)


async def shows(trial: Trial) -> Seen:
    if not trial.subject.brings(Kind.PORTAL):
        return not_for("page")
    done = await trial.exercise()
    advice = "Is the template there, does it get all of its values, and does show give a Page or None?"
    return told(done.page_problems, advice, good=f"{done.pages} answers to people of each role")


# --- silver: it behaves


async def unloads(trial: Trial) -> Seen:
    done = await trial.exercise()
    advice = "Leave in set_up what was entered there, begin tasks with plugin.start(), close files and threads."
    return told(done.problems, advice, good=done.how_it_stood)


async def withstands(trial: Trial) -> Seen:
    subject = trial.subject
    if not ({Kind.SENSOR, Kind.ALERT, Kind.REPORT} & set(subject.loaded.manifest.kinds)):
        return not_for("sensor, rule or report format")
    problems = [
        *_noise_problems(subject),
        *_rule_problems(subject, _odd_observations(), _odd_facts()),
        *[text async for text in _odd_report_problems(subject)],
    ]
    advice = (
        "A driver raises DecodeError and a decoder FrameError for what they cannot use, and nothing else; a rule and a "
        "format take values that are missing."
    )
    return told(problems, advice)


def _noise_problems(subject: Subject) -> list[str]:
    problems = []
    try:
        there = list(_all_vectors(subject))
    except VectorError:
        return []  # told by the rule "vectors"
    for name, found, is_frame in there:
        seeds = [vector.body for vector in found] or [b""]
        for body in _noise(seeds):
            try:
                if is_frame:
                    subject.brought.frame_decoders[name].decode(body)
                else:
                    subject.brought.sensors[name].decode(payload(body))
            except (DecodeError, FrameError) as error:
                if (type(error) is FrameError) != is_frame:
                    problems.append(f"{name}: {type(error).__name__} for {body[:40]!r}")
            except Exception as error:  # noqa: BLE001  # what it raises is what is wrong
                problems.append(f"{name}: {type(error).__name__}: {error} for {body[:40]!r}")
                break  # it is held back soon, and says nothing new
    return problems


def _noise(seeds: list[bytes]) -> Iterator[bytes]:
    """Vectors with bytes changed, cut off, doubled, and plain noise: the same at every run."""
    chance = random.Random(20_260_302)
    for number in range(NOISE):
        seed = bytearray(seeds[number % len(seeds)])
        match number % 4:
            case 0:
                seed = bytearray(chance.randbytes(chance.randrange(0, 80)))
            case 1 if seed:
                for _ in range(chance.randrange(1, 4)):
                    seed[chance.randrange(len(seed))] = chance.randrange(256)
            case 2:
                seed = seed[: chance.randrange(len(seed) + 1)]
            case _:
                place = chance.randrange(len(seed) + 1)
                seed[place:place] = seed[: chance.randrange(len(seed) + 1)]
        yield bytes(seed)


def _odd_observations() -> list[Observation]:
    nothing: dict[str, Any] = dict.fromkeys(
        ("measured_at", "received_at", "co2_ppm", "temperature_c", "velocity_ms", "flow_rate_m3s", "co2_kg_per_s")
    )
    extreme: dict[str, Any] = {
        "co2_ppm": 1e9,
        "temperature_c": -273.0,
        "velocity_ms": 0.0,
        "co2_kg_per_s": 0.0,
        "flags": 2**30 - 1,
    }
    return [
        observation(**nothing, online=False, silence_s=1e9),
        observation(co2_ppm=None, co2_kg_per_s=None, flow_rate_m3s=None),
        observation(**extreme),
    ]


def _odd_facts() -> list[Any]:
    unknown: dict[str, Any] = {
        "monitored_since": None,
        "last_energy_on": None,
        "last_tea_on": None,
        "measured_over_fuel": None,
    }
    return [factory_facts(**unknown), factory_facts(measured_over_fuel=0.0), factory_facts(measured_over_fuel=1e9)]


async def _odd_report_problems(subject: Subject) -> Any:
    none = dict.fromkeys(("co2_ppm", "temperature_c", "velocity_ms", "pressure_kpa", "flow_rate_m3s", "co2_kg_per_s"))
    full = report(*(reading(seq, **none, flags=2**30 - 1) for seq in range(1, 4)))
    odd = replace(full, stacks=(replace(STACK, name='=1+1; "Böiler",\n</p>'),))
    for name in subject.brought.report_formats:
        for shown in (empty_report(), odd):
            try:
                await _rendered(subject, name, shown)
            except RenderError as error:
                yield f"{name}: {error}"


def owner(trial: Trial) -> Seen:
    owners = trial.subject.loaded.manifest.codeowners
    if not any(text.strip() for text in owners):
        return failed("nobody is named", 'Say who answers for it: codeowners=("name or address",) in the manifest.')
    return passed(", ".join(owners))


def documentation(trial: Trial) -> Seen:
    named, folder = trial.subject.loaded.manifest.documentation, trial.subject.folder
    if not named.strip():
        return failed("none is named", 'Say where it is explained: documentation="README.md", or an address.')
    if "://" not in named and folder is not None and not (folder / named).is_file():
        return failed(
            f"there is no file {named} in {folder}", "Correct documentation in the manifest, or write the file."
        )
    return passed(named)


# --- gold: others can work with it


def tests(trial: Trial) -> Seen:
    if trial.subject.folder is None:
        return not_checked("its tests are not installed with it: check its project's folder")
    found = trial.subject.tests()
    if not found:
        return failed("there are none", "Write tests/test_*.py; carbontrack.testing has what they need.")
    return passed(", ".join(file.name for file in found[:SHOWN]))


def explained(trial: Trial) -> Seen:
    if trial.subject.folder is None:
        return not_checked("its documents are not installed with it: check its project's folder")
    document = trial.subject.document()
    if document is None:
        return failed("there is no README.md", "Write what it is for, how it is installed, and its options.")
    if not trial.subject.is_named_in(document):
        return failed(f"{document.name} does not name {trial.subject.name}", "Say how it is used.")
    return passed(document.name)


def options(trial: Trial) -> Seen:
    models = dict(_models(trial.subject))
    if not models:
        return Seen(Outcome.NOT_APPLICABLE, "it takes no options")
    problems = []
    for place, model in models.items():
        if model.model_config.get("extra") != "forbid":
            problems.append(f"{place}: the model takes unknown keys")
        silent = [name for name, info in model.model_fields.items() if not info.description]
        if silent:
            problems.append(f"{place}: nothing says what {', '.join(silent)} is for")
    advice = (
        'model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True), and a docstring below each option, '
        "or Field(description=...)."
    )
    count = sum(len(model.model_fields) for model in models.values())
    return told(problems, advice, good=f"{count} options")


def _models(subject: Subject) -> Iterator[tuple[str, type[BaseModel]]]:
    if subject.loaded.manifest.options_model is not None:
        yield "options_model", subject.loaded.manifest.options_model
    brought = subject.brought
    families: list[AlertRule | FactoryRule | Notifier] = [
        *brought.alert_rules.values(),
        *brought.factory_rules.values(),
        *brought.notifiers.values(),
    ]
    for item in families:
        yield item.name, item.options_model


LONGEST_STEP = 160
"""Characters: a step must fit a text message."""


def words(trial: Trial) -> Seen:
    return _words_in(trial, "en", "English")


def swahili(trial: Trial) -> Seen:
    return _words_in(trial, "sw", "Swahili")


def _words_in(trial: Trial, language: str, its_name: str) -> Seen:
    """Whether each rule has a title and the first steps in a language."""
    brought = trial.subject.brought
    families: list[AlertRule | FactoryRule] = [*brought.alert_rules.values(), *brought.factory_rules.values()]
    if not families:
        return not_for("alert rule")
    problems = []
    for rule in families:
        found = rule.words.get(language)
        steps = found.first_steps if found is not None else ()
        if found is None or not found.title.strip() or not any(step.strip() for step in steps):
            problems.append(f"{rule.name}: nothing says in {its_name} what it is called and what to do first")
        elif any(len(step) > LONGEST_STEP for step in steps):
            problems.append(f"{rule.name}: a step has more than {LONGEST_STEP} characters")
    advice = f'words={{"{language}": RuleWords(title, (one step, another step))}} of the rule.'
    return told(problems, advice, good=f"{len(families)} rules")


def refusals(trial: Trial) -> Seen:
    subject = trial.subject
    if not subject.brings(Kind.SENSOR):
        return not_for("sensor")
    if subject.folder is None:
        return not_checked("its golden vectors are not installed with it: check its project's folder")
    without = [name for name, found, _ in _all_vectors(subject) if not any(vector.is_refusal for vector in found)]
    problems = [f"the vectors of {name} have none" for name in without]
    return told(problems, 'Add vectors that must be refused: "expected": {"cause": "..."}.')


def quick(trial: Trial) -> Seen:
    subject = trial.subject
    if not subject.brings(Kind.SENSOR):
        return not_for("sensor")
    problems, good = [], []
    for name, found, is_frame in _all_vectors(subject):
        good_ones = [vector for vector in found if not vector.is_refusal]
        if not good_ones:
            problems.append(f"{name}: there is no vector to measure with")
            continue
        options = good_ones[0].options
        bodies = [vector.body for vector in good_ones if vector.options == options]
        decode: Callable[[Any], Any] = (
            subject.decoder_with(name, options).decode if is_frame else subject.brought.sensors[name].decode
        )
        try:
            took_s = _median_s(decode, [body if is_frame else payload(body) for body in bodies])
        except (DecodeError, FrameError) as error:
            problems.append(f"{name}: a vector that should be taken is refused: {error}")
            continue
        good.append(f"{name} {took_s * 1e6:.0f} us")
        if took_s > QUICK_S:
            problems.append(f"{name} takes {took_s * 1e3:.2f} ms for a payload, and may take {QUICK_S * 1e3:g}")
    return told(
        problems, "It is called for every message of every device: do less, or do it once.", good=", ".join(good)
    )


def _median_s(decode: Callable[[Any], Any], inputs: list[Any]) -> float:
    """The median time of a call; the best of some tries, since others use the machine as well."""
    best = float("inf")
    for _ in range(TRIES):
        took = []
        for number in range(max(100, len(inputs))):
            item = inputs[number % len(inputs)]
            began = time.perf_counter()
            decode(item)
            took.append(time.perf_counter() - began)
        best = min(best, median(took))
        if best <= QUICK_S:
            break
    return best


# --- platinum: nothing is left to wish for


def types(trial: Trial) -> Seen:
    if trial.types is None:
        return not_checked("mypy is not installed: python -m pip install mypy")
    return told(trial.types, "python -m mypy --strict says where.")


def typed(trial: Trial) -> Seen:
    package = trial.subject.package
    if package is None:
        return Seen(Outcome.NOT_APPLICABLE, "it is a single file")
    if not (package / "py.typed").is_file():
        return failed(
            f"there is no py.typed in {package.name}", "Add an empty file py.typed, and to the package's data."
        )
    return passed()


async def holds(trial: Trial) -> Seen:
    longest_s = (await trial.exercise()).longest_s
    for _ in range(TRIES - 1):
        if longest_s <= HELD_S:
            break
        longest_s = min(longest_s, (await trial.exercise(again=True)).longest_s)
    if longest_s > HELD_S:
        advice = "Every device waits meanwhile: await what waits, and do long work in asyncio.to_thread."
        return failed(f"a call of it held the loop for {longest_s * 1e3:.0f} ms, and may take {HELD_S * 1e3:g}", advice)
    return passed(f"{longest_s * 1e3:.1f} ms at most")


async def reproducible(trial: Trial) -> Seen:
    if not trial.subject.brings(Kind.REPORT):
        return not_for("report format")
    problems = []
    for name, first in trial.rendered.items():
        try:
            again = await _rendered(trial.subject, name, report())
        except RenderError as error:
            problems.append(f"{name}: {error}")
            continue
        if again != first:
            problems.append(f"{name}: the same report gave other bytes")
    if not trial.rendered:
        return failed("it renders nothing")
    return told(problems, "Leave out the time of making, and give sets and dates of archives a fixed order and value.")


RULES: tuple[Rule, ...] = (
    Rule(Tier.BRONZE, "loads", "it is imported, and its manifest, requirements and options are right", loads),
    Rule(Tier.BRONZE, "brings", "it brings what the kinds of its manifest say, with names and titles", brings),
    Rule(Tier.BRONZE, "vectors", "golden vectors are there and pass", vectors),
    Rule(Tier.BRONZE, "evaluates", "its rules judge an ordinary observation", evaluates),
    Rule(Tier.BRONZE, "sends", "its notifiers are async, and their options can be known", sends),
    Rule(Tier.BRONZE, "renders", "its formats render a report in a process of their own, within limits", renders),
    Rule(Tier.BRONZE, "shows", "its pages are shown to each of their roles, and to nobody else", shows),
    Rule(Tier.SILVER, "unloads", "it is set up and unloaded, and no task, thread or open file stays", unloads),
    Rule(Tier.SILVER, "withstands", "bad input and missing values are told by the right error, or by none", withstands),
    Rule(Tier.SILVER, "owner", "somebody answers for it", owner),
    Rule(Tier.SILVER, "documentation", "its manifest says where it is explained", documentation),
    Rule(Tier.GOLD, "tests", "it has tests of its own", tests),
    Rule(Tier.GOLD, "explained", "a README, or the document that the manifest names, says how it is used", explained),
    Rule(Tier.GOLD, "options", "every option is explained, and unknown ones are refused", options),
    Rule(Tier.GOLD, "words", "its rules say in English what they are called and what to do first", words),
    Rule(Tier.GOLD, "refusals", "its golden vectors have some that must be refused", refusals),
    Rule(Tier.GOLD, "quick", "an ordinary payload is decoded in less than 0.5 ms", quick),
    Rule(Tier.PLATINUM, "swahili", "its rules say the same in Swahili", swahili),
    Rule(Tier.PLATINUM, "types", "mypy --strict has nothing to say", types),
    Rule(Tier.PLATINUM, "typed", "its package is marked as typed", typed),
    Rule(Tier.PLATINUM, "holds", "no call of it holds the core's loop for more than 50 ms", holds),
    Rule(Tier.PLATINUM, "reproducible", "the same report gives the same bytes", reproducible),
)
