"""Passwords, tokens and one-time codes of people: how they are made, and what is kept of them."""

from __future__ import annotations

import functools
import hashlib
import secrets
import string
from collections.abc import Iterable
from datetime import timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from carbontrack.words import gettext

SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 1024
FEWEST_SIGNS = 5
"""Different ones in a password."""
SHORTEST_REST = 6
"""What must be left of a password without the person's own names."""
RESET = "password reset"
"""The purpose of codes that stand for a password that somebody has forgotten."""
CODE_LASTS = timedelta(hours=1)
CODE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Without I, O, 0 and 1, which look alike."""
CODE_LENGTH = 12
"""60 bits: also whoever has the database cannot find a code by its hash before it ends."""
_hasher = PasswordHasher(memory_cost=19 * 1024, time_cost=3, parallelism=1)
"""argon2id at 19 MiB: docs/security.md says why so much and no more."""


class WeakPassword(ValueError):
    """A password that others would guess; the message says what to do."""


def check_password(password: str, own: Iterable[str] = ()) -> None:
    """Raise :class:`WeakPassword` for one that is too short, commonly used, or little more than the person's own names.

    ``own`` are the e-mail address and the names. There is no rule about capitals or digits: length is what counts.
    """
    if len(password) < SHORTEST_PASSWORD:
        raise WeakPassword(
            gettext(
                "The password must have at least %(count)s characters. Take several words.", count=SHORTEST_PASSWORD
            )
        )
    if len(password) > LONGEST_PASSWORD:
        raise WeakPassword(gettext("The password may have %(count)s characters at most.", count=LONGEST_PASSWORD))
    lowered = password.lower()
    if len(set(lowered)) < FEWEST_SIGNS:
        raise WeakPassword(gettext("The password repeats the same few characters. Take several words."))
    if {lowered, lowered.strip(string.digits + string.punctuation)} & _common_passwords():
        raise WeakPassword(gettext("Many people use this password, so it is tried first. Take several words."))
    rest = lowered
    for word in sorted(_words(own), key=len, reverse=True):
        rest = rest.replace(word, "")
    if len(rest) < SHORTEST_REST:
        raise WeakPassword(
            gettext("The password is little more than your own name or address. Take words that are not yours.")
        )


def _words(own: Iterable[str]) -> set[str]:
    lowered = {text.strip().lower() for text in own}
    return {word for text in lowered for word in (text, *text.split("@")) if len(word) > 2}


@functools.cache
def _common_passwords() -> frozenset[str]:
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # noqa: PLC0415  # large, and needed for new passwords only

    return frozenset(FREQUENCY_LISTS["passwords"])


def hash_password(password: str) -> str:
    """The argon2id hash of a password, with its salt and cost."""
    return _hasher.hash(password)


def password_fits(password_hash: str, password: str) -> bool:
    """Whether a password is the one that was hashed."""
    try:
        return _hasher.verify(password_hash, password[:LONGEST_PASSWORD])
    except (VerificationError, InvalidHashError):
        return False


def needs_rehash(password_hash: str) -> bool:
    """Whether a hash was made at a lower cost than today's."""
    return _hasher.check_needs_rehash(password_hash)


def new_token() -> str:
    """What a session or a program signs in with: 256 bits."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """What is kept of a token. It needs no salt: nobody guesses 256 bits."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()  # a header may have any bytes


def new_code() -> str:
    """A one-time code for a person to type, such as ``K7QM-2FXA-9TLB``."""
    signs = "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))
    return "-".join(signs[at : at + 4] for at in range(0, CODE_LENGTH, 4))


def code_hash(code: str) -> str:
    """What is kept of a code, however somebody types it: with small letters, spaces, or without hyphens."""
    return token_hash("".join(sign for sign in code.upper() if sign.isalnum()))
