"""Golden vectors: what comes in and what it says, in JSON files that a sensor's firmware can share.

A file is a list of objects. ``about`` says what the vector shows. The bytes are ``body`` (text) or ``hex``.
``expected`` is one of two:

- ``cause`` (and for a driver ``covers``, if it is there): they must not be taken, and are counted under this name;
- what they say. For a driver: ``samples`` and ``records``, and what else of a message is to be compared. For a frame
  decoder: the values that the frame has, and ``status``.

A measured value that is not named must not be there: a decoder that makes one up is found. A number is right when it
agrees to 6 significant digits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isclose
from pathlib import Path
from typing import Any

import msgspec

from carbontrack.hookspecs import DecodeError, Frame, FrameDecoder, FrameError, SensorDriver
from carbontrack.model import Message, Sample
from carbontrack.testing.examples import payload

SAME = 5e-6
"""Relative: 6 significant digits."""
VALUES = (
    "co2_ppm",
    "temperature_c",
    "velocity_ms",
    "pressure_difference_pa",
    "pressure_kpa",
    "device_co2_kg_per_s",
    "status",
)
"""What of a sample was measured: absent (or 0, for ``status``) where a vector does not name it."""


class VectorError(ValueError):
    """A file of vectors cannot be read; the text says where and what it should be."""


@dataclass(frozen=True, slots=True)
class Vector:
    """One input and the right answer. ``options`` are of the plugin that reads it, where they matter."""

    about: str
    body: bytes
    expected: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_refusal(self) -> bool:
        return "cause" in self.expected


def read_vectors(path: Path) -> list[Vector]:
    """The vectors of a file, or of all ``*.json`` files in a folder. Raises :class:`VectorError`."""
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    return [vector for file in files for vector in _in_file(file)]


def _in_file(file: Path) -> list[Vector]:
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VectorError(f"{file}: {error}") from error
    if not isinstance(entries, list):
        raise VectorError(f"{file}: must be a list of vectors")
    return [_vector(entry, f"{file}, vector {number}") for number, entry in enumerate(entries, 1)]


def _vector(entry: Any, place: str) -> Vector:
    if not isinstance(entry, dict) or not isinstance(entry.get("about"), str):
        raise VectorError(f"{place}: must be an object with 'about', which says what it shows")
    place = f"{place} ({entry['about']})"
    if ("hex" in entry) == ("body" in entry):
        raise VectorError(f"{place}: needs either 'body' (text) or 'hex' (bytes)")
    if not isinstance(entry.get("expected"), dict):
        raise VectorError(f"{place}: needs 'expected', an object")
    try:
        body = bytes.fromhex(entry["hex"]) if "hex" in entry else entry["body"].encode()
    except (ValueError, AttributeError, TypeError) as error:
        raise VectorError(f"{place}: {error}") from error
    return Vector(entry["about"], body, entry["expected"], entry.get("options", {}))


# --- what a driver or a decoder makes of them


def sensor_problems(driver: SensorDriver, vectors: Iterable[Vector]) -> list[str]:
    """Where a driver does not give what its vectors say; empty when it is right."""
    found = []
    for vector in vectors:
        try:
            message = driver.decode(payload(vector.body))
        except DecodeError as error:
            found += _refusal_problems(vector, error.cause, error.covers, str(error))
        except Exception as error:  # noqa: BLE001  # whatever a driver raises is what is wrong with it
            found.append(f"{vector.about}: it raised {type(error).__name__}: {error}")
        else:
            found += _message_problems(vector, message)
    return found


def frame_problems(decoder_of: Callable[[Mapping[str, Any]], FrameDecoder], vectors: Iterable[Vector]) -> list[str]:
    """Where a decoder does not give what its vectors say; ``decoder_of`` gives the decoder with a vector's options."""
    found = []
    for vector in vectors:
        try:
            frame = decoder_of(vector.options).decode(vector.body)
        except FrameError as error:
            found += _refusal_problems(vector, error.cause, None, str(error))
        except Exception as error:  # noqa: BLE001  # as above
            found.append(f"{vector.about}: it raised {type(error).__name__}: {error}")
        else:
            found += _frame_problems(vector, frame)
    return found


def check_sensor(driver: SensorDriver, vectors: Sequence[Vector]) -> None:
    """Raise AssertionError unless a driver gives what its vectors say; all that is wrong is told at once."""
    _check(driver.name, vectors, sensor_problems(driver, vectors))


def check_frames(
    decoder: FrameDecoder | Callable[[Mapping[str, Any]], FrameDecoder], vectors: Sequence[Vector]
) -> None:
    """Raise AssertionError unless a frame decoder gives what its vectors say.

    For vectors with options give a function that takes them and gives the decoder.
    """
    if isinstance(decoder, FrameDecoder):
        chosen = decoder
        _check(decoder.name, vectors, frame_problems(lambda _: chosen, vectors))
    else:
        _check("the decoder", vectors, frame_problems(decoder, vectors))


def _check(name: str, vectors: Sequence[Vector], problems: Sequence[str]) -> None:
    assert vectors, f"there are no vectors for {name}"
    assert not problems, f"{name} does not give what its vectors say:\n" + "\n".join(problems)


def _refusal_problems(vector: Vector, cause: str, covers: object, detail: str) -> list[str]:
    expected = vector.expected
    if not vector.is_refusal:
        return [f"{vector.about}: it was refused as {cause} ({detail}), and should be taken"]
    found = []
    if cause != expected["cause"]:
        found.append(f"{vector.about}: the cause is {cause}, not {expected['cause']}")
    if "covers" in expected and covers != (tuple(expected["covers"]) if expected["covers"] else None):
        found.append(f"{vector.about}: it covers {covers}, not {expected['covers']}")
    if not detail:
        found.append(f"{vector.about}: the error says nothing; an operator reads it")
    return found


def _message_problems(vector: Vector, message: Message) -> list[str]:
    if vector.is_refusal:
        return [f"{vector.about}: it was taken, and should be refused as {vector.expected['cause']}"]
    expected = {"records": [], **vector.expected}
    given = msgspec.to_builtins(message)
    found = [f"{vector.about}: there is no {name!r} in a message" for name in expected.keys() - given.keys()]
    for name in sorted(expected.keys() & given.keys() - {"samples"}):
        found += _differences(f"{vector.about}: {name}", expected[name], given[name])
    samples = expected.get("samples", [])
    if len(samples) != len(message.samples):
        return [*found, f"{vector.about}: it has {len(message.samples)} samples, not {len(samples)}"]
    for number, (wanted, sample) in enumerate(zip(samples, message.samples, strict=True), 1):
        found += _value_problems(f"{vector.about}: sample {number}", wanted, sample)
    return found


def _frame_problems(vector: Vector, frame: Frame) -> list[str]:
    if vector.is_refusal:
        return [f"{vector.about}: it was taken, and should be refused as {vector.expected['cause']}"]
    wanted = {"meter": {}, **vector.expected}
    return _value_problems(vector.about, wanted, frame)


def _value_problems(place: str, wanted: Mapping[str, Any], given: Sample | Frame) -> list[str]:
    values = msgspec.to_builtins(given)
    absent = {name: 0 if name == "status" else None for name in VALUES if name in values}
    found = [f"{place}: there is no {name!r}" for name in wanted.keys() - values.keys()]
    for name, value in {**absent, **{name: wanted[name] for name in wanted if name in values}}.items():
        found += _differences(f"{place}: {name}", value, values[name])
    return found


def _differences(place: str, wanted: Any, given: Any) -> list[str]:
    """Where two values, lists or mappings differ."""
    if isinstance(wanted, dict) and isinstance(given, dict) and wanted.keys() == given.keys():
        return [text for key in wanted for text in _differences(f"{place}.{key}", wanted[key], given[key])]
    if isinstance(wanted, list) and isinstance(given, list) and len(wanted) == len(given):
        pairs = enumerate(zip(wanted, given, strict=True), 1)
        return [text for number, (one, other) in pairs for text in _differences(f"{place}, {number}", one, other)]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (wanted, given))
    if numbers and not (isinstance(wanted, int) and isinstance(given, int)):
        return [] if isclose(wanted, given, rel_tol=SAME, abs_tol=1e-12) else [f"{place} is {given}, not {wanted}"]
    return [] if wanted == given else [f"{place} is {given!r}, not {wanted!r}"]
