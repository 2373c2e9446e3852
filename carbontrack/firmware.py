"""Firmware for devices: signed images, which of two versions is newer, and roll-outs as they are kept.

An image is signed where it is built: ECDSA on P-256 (FIPS 186-5) with SHA-256 over a text of its version, hardware,
size and hash. The platform and every node check that with the public key, so neither a broken platform nor a stranger's
broker can make a node run what was not released.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from carbontrack.words import N_
from carbontrack.words import gettext as _

MOST_BYTES = 4 * 1024 * 1024
"""Of an image; a node's slot is smaller."""
MOST_MANIFEST_BYTES = 20_000
LONGEST_VERSION = 32
LONGEST_NOTES = 2000
MARK = "CARBONTRACK-FIRMWARE-1"
FORMAT = 1
DEFAULT_STAGES = "1, 10%, 50%, 100%"
MOST_STAGES = 10
_WORD = r"(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-({_WORD}(?:\.{_WORD})*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)
_HARDWARE = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_STAGE = re.compile(r"\s*(\d{1,6})\s*(%?)\s*", re.ASCII)


class FirmwareError(ValueError):
    """Something about firmware is not as it has to be: the message says what to do, ``field`` what is to blame."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


# --- versions


def is_version(text: str) -> bool:
    """Whether this is a version such as 1.5.0 or 1.5.0-rc.1 (Semantic Versioning 2.0.0), short enough for a node."""
    return len(text) <= LONGEST_VERSION and _VERSION.fullmatch(text) is not None


def is_pre_release(version: str) -> bool:
    """Whether it comes before a release, such as 1.5.0-rc.1."""
    found = _VERSION.fullmatch(version)
    return found is not None and found[4] is not None


Rank = tuple[tuple[int, int, int], bool, tuple[tuple[bool, int, str], ...]]


def rank(version: str | None) -> Rank:
    """What versions are sorted by, by the precedence of Semantic Versioning; build metadata does not count.

    What is no version is older than all that are, as nodes take it.
    """
    found = _VERSION.fullmatch(version or "")
    if found is None:
        return (0, 0, 0), False, ()
    numbers = int(found[1]), int(found[2]), int(found[3])
    words = found[4].split(".") if found[4] else []
    return numbers, not words, tuple((not it.isdigit(), int(it) if it.isdigit() else 0, it) for it in words)


# --- images


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is said of an image by whoever has built it: the file beside it, as JSON."""

    format: int
    version: str
    hardware: str
    size: int
    """Bytes."""
    sha256: str
    """Hex, of all bytes."""
    sig: str
    """Base64 of the DER of ECDSA over :func:`signed_text`."""
    notes: str = ""
    min_version: str = ""
    """The oldest version that may take it; empty: any. It is not signed: a node that is older refuses by itself."""


def signed_text(version: str, hardware: str, size: int, sha256: str) -> bytes:
    """What the signature is over."""
    return f"{MARK}\n{version}\n{hardware}\n{size}\n{sha256}\n".encode("ascii")


def sign_image(
    content: bytes,
    key: ec.EllipticCurvePrivateKey,
    *,
    version: str,
    hardware: str,
    notes: str = "",
    min_version: str = "",
) -> Manifest:
    """The manifest of an image. Raises :class:`FirmwareError` for what no platform or node takes."""
    sha256 = hashlib.sha256(content).hexdigest()
    manifest = Manifest(FORMAT, version, hardware, len(content), sha256, "-", notes, min_version)
    _check_form(manifest)
    sig = key.sign(signed_text(version, hardware, len(content), sha256), ec.ECDSA(hashes.SHA256()))
    return msgspec.structs.replace(manifest, sig=base64.b64encode(sig).decode())


def write_manifest(manifest: Manifest) -> bytes:
    """As a file."""
    return msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"


def read_manifest(data: bytes) -> Manifest:
    """A manifest out of its file. Raises :class:`FirmwareError`."""
    if len(data) > MOST_MANIFEST_BYTES:
        raise FirmwareError(_("This is no manifest: it is too large. It is the file that ends with .ctfw."), "manifest")
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise FirmwareError(
            _("This is no manifest (%(error)s). It is the file that ends with .ctfw.", error=str(error)), "manifest"
        ) from error
    _check_form(manifest)
    return manifest


def _check_form(manifest: Manifest) -> None:
    """Raises :class:`FirmwareError` for a manifest whose values cannot be."""
    wrong = ""
    if manifest.format != FORMAT:
        wrong = _("It has another form than this platform reads.")
    elif not is_version(manifest.version):
        wrong = _("The version has to be one such as 1.5.0 or 1.5.0-rc.1, with at most 32 characters.")
    elif manifest.min_version and not is_version(manifest.min_version):
        wrong = _("The oldest version that may take it has to be one such as 1.3.0.")
    elif not _HARDWARE.fullmatch(manifest.hardware):
        wrong = _("The hardware has to be a name such as ct-1: small letters, digits and . _ -, at most 32.")
    elif not _SHA256.fullmatch(manifest.sha256):
        wrong = _("The SHA-256 has to be 64 digits in hex.")
    elif len(manifest.notes) > LONGEST_NOTES or "\0" in manifest.notes:
        wrong = _("The notes may have %(most)s characters.", most=LONGEST_NOTES)
    elif not 0 < manifest.size <= MOST_BYTES:
        wrong = _("The image has to have 1 byte to 4 MiB.")
    if wrong:
        raise FirmwareError(wrong, "manifest")


def check_image(manifest: Manifest, content: bytes, key: ec.EllipticCurvePublicKey) -> None:
    """Return for an image that its manifest speaks of and the owner of the key has signed.

    Raises :class:`FirmwareError` for any other.
    """
    if len(content) != manifest.size or hashlib.sha256(content).hexdigest() != manifest.sha256:
        raise FirmwareError(
            _("The image is not the one that the manifest is of: take the two files that were made together."), "image"
        )
    text = signed_text(manifest.version, manifest.hardware, manifest.size, manifest.sha256)
    try:
        key.verify(base64.b64decode(manifest.sig, validate=True), text, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError) as error:
        raise FirmwareError(
            _("It was not signed by the key that this platform knows (firmware.public_key_file): it is not taken."),
            "manifest",
        ) from error


# --- keys


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key to sign images with."""
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as a file: PKCS #8, PEM, without a password."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key as a file, as the platform and nodes are given it."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def read_private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """A private key out of PEM. Raises :class:`FirmwareError` for anything else."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise FirmwareError(_("That is no private key in PEM without a password.")) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise FirmwareError(_("That key is of another kind: firmware is signed with ECDSA on P-256."))
    return key


def read_public_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    """A public key out of PEM. Raises :class:`FirmwareError` for anything else."""
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError as error:
        raise FirmwareError(_("That is no public key in PEM.")) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise FirmwareError(_("That key is of another kind: firmware is signed with ECDSA on P-256."))
    return key


def public_key_at(path: Path | None) -> ec.EllipticCurvePublicKey:
    """The public key of a site. Raises :class:`FirmwareError` where there is none, with what to do."""
    if path is None:
        raise FirmwareError(_("No image is taken: the operator has to set firmware.public_key_file first."))
    try:
        return read_public_key(path.read_bytes())
    except OSError as error:
        raise FirmwareError(
            _("The key %(path)s cannot be read: %(error)s.", path=path, error=error.strerror)
        ) from error


# --- what is kept


@dataclass(frozen=True, slots=True)
class FirmwareImage:
    """An image as it is kept, without its bytes."""

    id: int
    version: str
    hardware: str
    size: int
    sha256: str
    signature: str
    """Base64 of DER."""
    notes: str
    min_version: str
    added_at: datetime
    added_by: str


@dataclass(frozen=True, slots=True)
class DeviceFirmware:
    """What a device said last that it runs. ``boot`` tells one start of it from another."""

    device_pk: int
    device_id: str
    factory_id: int
    version: str
    hardware: str
    boot: int | None
    mode: str
    """``run``, or ``safe`` after crashes; empty: it has not said."""
    heard_at: datetime


class RolloutState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    """No device begins; those that have begun go on."""
    STOPPED = "stopped"
    DONE = "done"


LIVE = frozenset({RolloutState.RUNNING, RolloutState.PAUSED})


class Ended(StrEnum):
    """Why a roll-out is not live any more; empty while it is."""

    NOT = ""
    PERSON = "person"
    FAILURES = "failures"
    """So many devices failed as were allowed at most."""
    NOBODY = "nobody"
    """A stage ended and no device had taken the image."""
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Rollout:
    """An image on its way to devices, stage by stage. ``stage`` counts from 0."""

    id: int
    image: FirmwareImage
    chosen: str
    """Which devices, as it was asked for: ``all``, ``region:NAME``, ``factory:SLUG`` or ``devices``."""
    stages: str
    """As it was asked for, such as ``1, 10%, 100%``."""
    stage_count: int
    soak_s: int
    """How long all must be well after a stage before the next one begins."""
    failure_limit: int
    """With so many failures it stops."""
    is_forced: bool
    """Also for devices that have a newer version: a deliberate way back."""
    state: RolloutState
    stage: int
    stage_began_at: datetime
    settled_at: datetime | None
    """Since when nothing is awaited of the stage."""
    ended: Ended
    started_at: datetime
    started_by: str
    ended_at: datetime | None = None
    ended_by: str = ""

    @property
    def is_live(self) -> bool:
        return self.state in LIVE


class UpdateState(StrEnum):
    WAITING = "waiting"
    """It was not offered the image, or has it no more."""
    OFFERED = "offered"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    REBOOTING = "rebooting"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


FAILURES = frozenset({UpdateState.FAILED, UpdateState.ROLLED_BACK})
ENDS = FAILURES | {UpdateState.CONFIRMED}
FETCHING = frozenset({UpdateState.OFFERED, UpdateState.DOWNLOADING})
"""Whoever is offered an image may be fetching it."""
HELD = FETCHING | {UpdateState.VERIFYING}
"""Whoever has an offer that can still be withdrawn."""


@dataclass(frozen=True, slots=True)
class Update:
    """One device of a roll-out."""

    id: int
    rollout_id: int
    device_pk: int
    device_id: str
    factory_id: int
    stage: int
    state: UpdateState
    before: str
    """The version that it had."""
    pct: int = 0
    error: str = ""
    """Why it failed or waits: the node's own word, or one of :data:`~carbontrack.rollouts.OWN_ERRORS`."""
    boot: int | None = None
    """The start of the device that was heard of last."""
    faults: int = 0
    """Sensors that were faulty before (bits of :class:`~carbontrack.model.Flag`)."""
    offered_at: datetime | None = None
    changed_at: datetime | None = None
    seen_at: datetime | None = None
    """When it was connected, to some minutes."""
    ended_at: datetime | None = None

    @property
    def is_over(self) -> bool:
        return self.state in ENDS


# --- who gets it, and when


@dataclass(frozen=True, slots=True)
class Plan:
    """How a roll-out is to go."""

    stages: str = DEFAULT_STAGES
    soak_s: int = 3600
    failure_limit: int = 1
    is_forced: bool = False
    allows_pre_release: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device that may get an image."""

    device_pk: int
    device_id: str
    factory_id: int
    version: str
    hardware: str
    boot: int | None
    is_near: bool
    """Whether it was heard shortly before."""
    is_busy: bool
    """Whether another roll-out has it."""


class LeftOut(StrEnum):
    """Why a device gets an image not."""

    HARDWARE = "hardware"
    UNHEARD = "unheard"
    """It has never said what it is."""
    HAS_IT = "has_it"
    NEWER = "newer"
    TOO_OLD = "too_old"
    BUSY = "busy"


LEFT_OUT: Mapping[LeftOut, str] = {
    LeftOut.HARDWARE: N_("other hardware"),
    LeftOut.UNHEARD: N_("has never said which hardware it is"),
    LeftOut.HAS_IT: N_("has this version"),
    LeftOut.NEWER: N_("has a newer version"),
    LeftOut.TOO_OLD: N_("has a version that is too old for it"),
    LeftOut.BUSY: N_("is in another roll-out"),
}


def why_not(image: FirmwareImage, device: Candidate, *, is_forced: bool) -> LeftOut | None:
    """Why a device cannot get an image; None: it can."""
    reasons = {
        LeftOut.UNHEARD: not device.hardware,
        LeftOut.HARDWARE: device.hardware != image.hardware,
        LeftOut.BUSY: device.is_busy,
        LeftOut.HAS_IT: device.version == image.version,
        LeftOut.NEWER: not is_forced and rank(device.version) >= rank(image.version),
        LeftOut.TOO_OLD: bool(image.min_version) and rank(device.version) < rank(image.min_version),
    }
    return next((why for why, holds in reasons.items() if holds), None)


def in_order(image: FirmwareImage, devices: Sequence[Candidate]) -> list[Candidate]:
    """Devices as they get an image: first who is there, and otherwise by chance, which is the same each time."""

    def place(device: Candidate) -> tuple[bool, str]:
        return not device.is_near, hashlib.sha256(f"{image.sha256} {device.device_id}".encode()).hexdigest()

    return sorted(devices, key=place)


def stage_sizes(stages: str, count: int) -> list[int]:
    """How many of ``count`` devices have had the image offered when each stage is over; the last are all.

    Stages that add nobody are left out. Raises :class:`FirmwareError` for a text that says no stages.
    """
    parts = [_STAGE.fullmatch(part) for part in stages.split(",")]
    if not all(parts) or len(parts) > MOST_STAGES:
        raise FirmwareError(
            _("Write stages as numbers of devices or shares, such as %(example)s.", example=DEFAULT_STAGES), "stages"
        )
    found: list[int] = []
    last = "", 0
    for part in parts:
        assert part is not None, "looked at above"
        number, is_share = int(part[1]), part[2] == "%"
        if number < 1 or (is_share and number > 100):  # per cent
            raise FirmwareError(_("A stage has at least 1 device, and at most 100%."), "stages")
        if last[0] == part[2] and number <= last[1]:
            raise FirmwareError(_("Each stage has to be larger than the one before."), "stages")
        last = part[2], number
        size = min(count, -(-count * number // 100) if is_share else number)
        if not found or size > found[-1]:
            found.append(size)
    if last != ("%", 100):
        raise FirmwareError(_("The last stage has to be 100%."), "stages")
    return found


def stage_of(number: int, sizes: Sequence[int]) -> int:
    """The stage of the device that is ``number`` in order, from 0."""
    return next(stage for stage, size in enumerate(sizes) if number < size)


def check_plan(plan: Plan, image: FirmwareImage) -> None:
    """Raises :class:`FirmwareError` for a plan that cannot be, with what to do."""
    stage_sizes(plan.stages, 1)
    if not 0 <= plan.soak_s <= timedelta(days=30).total_seconds():
        raise FirmwareError(_("The time to watch has to be 0 to 30 days."), "soak_minutes")
    if not 1 <= plan.failure_limit <= 10_000:  # a fleet
        raise FirmwareError(_("It has to stop after 1 to 10,000 failures."), "failure_limit")
    if is_pre_release(image.version) and not plan.allows_pre_release:
        raise FirmwareError(
            _("%(version)s is a pre-release: say that it is meant for these devices.", version=image.version),
            "allows_pre_release",
        )
