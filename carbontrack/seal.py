"""Signatures in files (Ed25519, RFC 8032), so that anybody can tell a genuine report from an altered one.

A format puts a place for the signature into its file: a short text with the report's name, the SHA-256 of its data set
and the name of the key. The platform hashes the file with the place empty, signs the hash, and writes the signature
into the place, which keeps its length. Whoever checks takes it out again and hashes. So one way holds for every format
that can carry a line of text unchanged: also for a third party's.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MARK = "CARBONTRACK-SEAL-1"
EMPTY = "-" * 86
"""86 characters are the 64 bytes of a signature in base64url without padding."""
_SEAL = re.compile(rb"CARBONTRACK-SEAL-1:([\w.-]{1,60}):([0-9a-f]{64}):([0-9a-f]{16}):([\w-]{86})", re.ASCII)
_REFERENCE = re.compile(r"[\w.-]{1,60}", re.ASCII)


class SealError(ValueError):
    """A key cannot be used, or a file has no place for a seal; the text says what to do."""


class Verdict(StrEnum):
    """What a check of a file came to."""

    GENUINE = "genuine"
    ALTERED = "altered"
    UNKNOWN_KEY = "unknown_key"
    """It is sealed with a key that the checker does not know: nothing can be said."""
    NOT_SEALED = "not_sealed"


@dataclass(frozen=True, slots=True)
class Checked:
    """What a file says of itself, and whether that is true. Without a seal all but the verdict is empty."""

    verdict: Verdict
    reference: str = ""
    sha256: str = ""
    key_id: str = ""


def key_id(key: Ed25519PublicKey) -> str:
    """The name of a key: the beginning of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def place(reference: str, sha256: str, key: Ed25519PublicKey) -> str:
    """The text that a file carries where its signature will be."""
    if not _REFERENCE.fullmatch(reference):
        raise SealError(f"a reference is letters, digits, '.', '_' and '-', 60 at most: not {reference!r}")
    return f"{MARK}:{reference}:{sha256}:{key_id(key)}:{EMPTY}"


def sealed(data: bytes, at: str, key: Ed25519PrivateKey) -> bytes:
    """A file with its signature in the place ``at``. Raises :class:`SealError` where the file has no such place."""
    empty = at.encode()
    if empty not in data:
        raise SealError("the format has left out the place of the seal, or has changed it")
    signature = base64.urlsafe_b64encode(key.sign(_message(data))).rstrip(b"=")
    return data.replace(empty, empty[: -len(EMPTY)] + signature)


def check(data: bytes, keys: Sequence[Ed25519PublicKey]) -> Checked:
    """Whether a file is as it was sealed, by one of these keys."""
    found = set(_SEAL.findall(data))
    if not found:
        return Checked(Verdict.NOT_SEALED)
    reference, sha256, name, signature = (part.decode() for part in min(found))
    told = Checked(Verdict.ALTERED, reference, sha256, name)
    if len(found) > 1:
        return told
    known = {key_id(key): key for key in keys}
    if name not in known:
        return Checked(Verdict.UNKNOWN_KEY, reference, sha256, name)
    at = f"{MARK}:{reference}:{sha256}:{name}:".encode()
    empty = data.replace(at + signature.encode(), at + EMPTY.encode())
    try:
        known[name].verify(base64.urlsafe_b64decode(signature + "=="), _message(empty))
    except InvalidSignature:
        return told
    return Checked(Verdict.GENUINE, reference, sha256, name)


def _message(data: bytes) -> bytes:
    return MARK.encode() + b"\n" + hashlib.sha256(data).digest()


# --- keys


def key_at(path: Path) -> Ed25519PrivateKey:
    """The private key in a file (PKCS #8, PEM); a new one is made there where there is none.

    The file is for its owner alone. Raises :class:`SealError` for one that holds something else.
    """
    if not path.exists():
        return _new_key(path)
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise SealError(f"{path} holds no private key in PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SealError(f"{path} holds a key of another kind: reports are signed with Ed25519")
    return key


def _new_key(path: Path) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    return key


def public_pem(key: Ed25519PublicKey) -> str:
    """A public key as others need it to check a file."""
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(encoding, form).decode()


def public_key(pem: bytes) -> Ed25519PublicKey:
    """A public key out of PEM. Raises :class:`SealError` for anything else."""
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError as error:
        raise SealError("that is no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SealError("that key is of another kind: reports are signed with Ed25519")
    return key
