"""``carbontrack plugins check``: every rule tried on a plugin, and the tier that it reaches."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import carbontrack
from carbontrack.authoring.rules import RULES, Outcome, Rule, Seen, Trial, failed, not_checked
from carbontrack.authoring.subject import Subject
from carbontrack.hookspecs import Tier
from carbontrack.plugins.loading import LoadError

TIERS = tuple(Tier)
MYPY_TIMEOUT_S = 600.0
_COMPLAINT = re.compile(r"(?P<file>.+?\.py):(?P<line>\d+): (?:error|note): ")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What every rule saw of one plugin."""

    subject: Subject
    seen: tuple[tuple[Rule, Seen], ...]

    @property
    def reached(self) -> Tier | None:
        """The highest tier all of whose rules are met, and those of the tiers below it."""
        reached = None
        for tier in TIERS:
            if not all(seen.is_good for rule, seen in self.seen if rule.tier is tier):
                break
            reached = tier
        return reached

    @property
    def claimed(self) -> Tier | None:
        """The tier that the manifest claims."""
        try:
            return self.subject.loaded.manifest.tier
        except (LoadError, ValueError):
            return None

    def reaches(self, tier: Tier) -> bool:
        return self.reached is not None and TIERS.index(self.reached) >= TIERS.index(tier)


async def judged(subjects: Sequence[Subject]) -> list[Judgement]:
    """Try every rule on every plugin."""
    complaints = strict_types(subjects)
    return [
        await judge(subject, complaints[number] if complaints is not None else None)
        for number, subject in enumerate(subjects)
    ]


async def judge(subject: Subject, complaints: list[str] | None) -> Judgement:
    """Try every rule on one; ``complaints`` are those of :func:`strict_types`."""
    trial = Trial(subject, complaints)
    seen: list[tuple[Rule, Seen]] = []
    with subject.watch.on():
        for rule in RULES:
            is_there = all(earlier.is_good for known, earlier in seen if known.name in {"loads", "brings"})
            seen.append((rule, await _tried(rule, trial) if is_there else not_checked("it could not be loaded")))
    return Judgement(subject, tuple(seen))


async def _tried(rule: Rule, trial: Trial) -> Seen:
    try:
        answer = rule.check(trial)
        return await answer if inspect.isawaitable(answer) else answer
    except Exception as error:  # noqa: BLE001  # a plugin may raise whatever it likes, wherever it is tried
        return failed(f"{type(error).__name__}: {error}", "Mend what the error says.")


def lines(judgement: Judgement) -> Iterator[str]:
    """A judgement for a person to read."""
    subject = judgement.subject
    yield f"{subject.name} ({subject.found.path or subject.found.origin})"
    for tier in TIERS:
        yield f"  {tier.value}"
        for rule, seen in judgement.seen:
            if rule.tier is tier:
                says = "" if seen.outcome is Outcome.NOT_APPLICABLE else f": {rule.says}"
                detail = f" ({seen.detail})" if seen.detail else ""
                yield f"    {seen.outcome.value:15} {rule.name}{says}{detail}"
                if seen.outcome is Outcome.FAILED and seen.advice:
                    yield f"    {'':15} -> {seen.advice}"
    claimed = judgement.claimed
    reached = judgement.reached.value if judgement.reached else "none"
    yield f"Tier reached: {reached}. " + (f"Its manifest claims {claimed.value}." if claimed else "It claims none.")


# --- types


def strict_types(subjects: Sequence[Subject]) -> list[list[str]] | None:
    """What ``mypy --strict`` complains of in each plugin; None without mypy."""
    if importlib.util.find_spec("mypy") is None:
        return None
    complaints: list[list[str]] = [[] for _ in subjects]
    by_folder: dict[Path, list[int]] = {}
    for number, subject in enumerate(subjects):
        by_folder.setdefault(_settings_folder(subject), []).append(number)
    for folder, numbers in by_folder.items():
        places = {number: [str(place) for place in subjects[number].found.places()] for number in numbers}
        told = _mypy(folder, sorted({place for found in places.values() for place in found}))
        for number in numbers:
            complaints[number] = [line for line in told if line.startswith(tuple(places[number]))]
    return complaints


def _settings_folder(subject: Subject) -> Path:
    """Where mypy's settings and its cache are: the project's folder, or that of a single file."""
    if subject.folder is not None:
        return subject.folder
    return next((place if place.is_dir() else place.parent for place in subject.found.places()), Path.cwd())


def _mypy(folder: Path, places: Sequence[str]) -> list[str]:
    """The complaints, with whole paths. Raises RuntimeError when mypy itself fails."""
    settings = folder / "pyproject.toml"
    command = [
        *(sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--show-absolute-path"),
        *("--no-error-summary", "--no-color-output", "--no-pretty", "--hide-error-context"),
        f"--config-file={settings if settings.is_file() else ''}",
        f"--cache-dir={_cache_folder()}",
        *places,
    ]
    ours = Path(carbontrack.__file__).parent.parent
    path = os.pathsep.join(filter(None, (str(ours) if "site-packages" not in ours.parts else "", _path_of_mypy())))
    done = subprocess.run(  # noqa: S603  # ourselves
        command,
        cwd=folder,
        env={**os.environ, "MYPYPATH": path},
        capture_output=True,
        text=True,
        timeout=MYPY_TIMEOUT_S,
        check=False,
    )
    complaints = [line for line in done.stdout.splitlines() if ": error: " in line]
    if done.returncode not in {0, 1} or (done.returncode == 1 and not complaints):
        text = (done.stderr or done.stdout).strip()
        return [f"{place}: mypy failed: {text[-300:]}" for place in places]
    return complaints


def _path_of_mypy() -> str:
    return os.environ.get("MYPYPATH", "")


def _cache_folder() -> Path:
    """One for all projects: most of the time goes into Carbon Track's own modules."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "carbontrack" / "mypy"
