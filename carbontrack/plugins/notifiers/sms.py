"""Notifier "sms": a text message to each person who is on duty, by Africa's Talking.

    notifications:
      - name: sms
        notifier: sms
        min_severity: critical
        options: {username: carbontrack, api_key: !secret africas_talking, sender: KTDA}

One request for each person: the gateway answers for each number whether it took it. What it will never deliver (no such
number, or its owner wants none) is not tried again; no credit left is.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit

import aiohttp
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from carbontrack import AlertItem, Kind, Manifest, Notification, Notifier, Tier, Undeliverable, __version__, hookimpl

MANIFEST = Manifest(
    name="sms",
    version=__version__,
    kinds=(Kind.NOTIFIER,),
    title="Text messages by Africa's Talking",
    documentation="docs/plugins/alerts-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)
TAKEN = frozenset({100, 101, 102})
"""Processed, sent, queued."""
REFUSED_FOR_EVER = frozenset({403, 404, 406, 409})
"""No such number, a number of no use, and people who want none. No credit (405), no sender id (402), and failures of
the gateway (500 on) can be mended."""
LENGTHS = {1: 160, 2: 2 * 153}
"""Characters of the GSM alphabet that fit into so many messages: of several, each says which it is."""
DOUBLE = str.maketrans({"[": "(", "]": ")", "{": "(", "}": ")", "|": "/", "\\": "/", "^": "", "~": "-", "€": "EUR"})
"""Characters that take the room of two, and what stands for them; and what is no character of the GSM alphabet."""
PLAIN = str.maketrans(dict(zip("–—’‘“”`₂", "--''\"\"'2", strict=True)) | {"…": "...", "°": " deg "})  # noqa: RUF001
NUMBER = re.compile(r"\+[1-9][0-9]{7,14}")


def checked_url(url: str) -> str:
    """An address that a key may be sent to: https, or this very machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return url
    try:
        if parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback:
            return url
    except ValueError:
        pass
    raise ValueError("must begin with https://")


class SmsOptions(BaseModel):
    """The account at the gateway."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    username: str = Field(min_length=1, examples=["sandbox"])
    """The name of the application at Africa's Talking; `sandbox` for its sandbox."""
    api_key: SecretStr = Field(min_length=1)
    """Its API key; write it as !secret."""
    sender: str | None = Field(None, min_length=3, max_length=14, examples=["KTDA"])
    """The sender id or short code that is registered for the account; without it the gateway's own."""
    parts: int = Field(1, ge=1, le=2)
    """Into so many messages a text is cut at most: each is paid for."""
    country_code: str = Field("254", pattern=r"^[1-9]\d{0,3}$")
    """The code of the country of numbers that are written with a leading 0."""
    url: Annotated[str, AfterValidator(checked_url)] = Field("", validate_default=False)
    """The address of the messaging API; without it that of Africa's Talking, or of its sandbox."""
    timeout_s: float = Field(20.0, gt=0, le=25)
    """An answer that takes longer is none; the message is sent again."""

    @property
    def address(self) -> str:
        host = "api.sandbox.africastalking.com" if self.username == "sandbox" else "api.africastalking.com"
        return self.url or f"https://{host}/version1/messaging"


def number_of(phone: str, country_code: str) -> str:
    """A phone number as the gateway takes it. Raises :class:`Undeliverable` for what is none."""
    digits = re.sub(r"[\s().-]", "", phone)
    if digits.startswith("00"):
        digits = f"+{digits[2:]}"
    elif digits.startswith("0"):
        digits = f"+{country_code}{digits[1:]}"
    elif digits.isascii() and digits.isdigit():
        digits = f"+{digits}"
    if not NUMBER.fullmatch(digits):
        raise Undeliverable(f"{phone!r} is no phone number")
    return digits


def text_of(notification: Notification, parts: int = 1) -> str:
    """What fits: the subject, what was found, and the address, of which nothing is cut off."""
    found = _found(notification.items[0]) if notification.count == 1 and notification.items else ""
    text, url = _gsm(notification.subject + found), f" {notification.url}" if notification.url else ""
    room = LENGTHS[parts] - len(url)
    if len(text) > room:
        text = text[: max(0, room - 3)].rstrip() + "..."
    return text + url


def _found(item: AlertItem) -> str:
    """What a rule says, without the place that it begins with: the subject has that."""
    text = item.alert.message if item.factory else ""
    for name in (item.factory.name if item.factory else "", item.stack.name if item.stack else ""):
        if name and text.startswith(name):
            text = text[len(name) :].lstrip(",: ")
    return f": {text}" if text else ""


def _gsm(text: str) -> str:
    """The text in characters of the GSM alphabet that take the room of one."""
    plain = unicodedata.normalize("NFKD", text.translate(PLAIN).translate(DOUBLE))
    letters = (letter for letter in plain if not unicodedata.combining(letter))
    return " ".join("".join(letter if letter.isascii() else "?" for letter in letters).split())


async def send(options: SmsOptions, notification: Notification) -> None:
    """Raises :class:`Undeliverable` for what the gateway refuses for good, and otherwise what went wrong."""
    if notification.recipient is None:
        raise Undeliverable("a text message needs somebody to go to")
    form = {
        "username": options.username,
        "to": number_of(notification.recipient.phone, options.country_code),
        "message": text_of(notification, options.parts),
    }
    if options.sender is not None:
        form["from"] = options.sender
    headers = {"apiKey": options.api_key.get_secret_value(), "Accept": "application/json"}
    timeout = aiohttp.ClientTimeout(total=options.timeout_s)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(options.address, data=form, headers=headers, allow_redirects=False) as answer,
    ):
        if answer.status == 400:
            raise Undeliverable(f"the gateway answered {(await answer.text())[:200]}")
        if answer.status // 100 != 2:
            raise ConnectionError(f"the gateway answered {answer.status} {answer.reason}")
        check_answer(await answer.json(content_type=None))


def check_answer(answer: Any) -> None:
    """Raise where the gateway did not take the message for its only number."""
    try:
        data = answer["SMSMessageData"]
        recipients = data["Recipients"]
        if not recipients:
            raise ConnectionError(f"the gateway took no number: {data.get('Message')}")
        code, status = int(recipients[0]["statusCode"]), recipients[0].get("status", "")
    except (KeyError, TypeError, ValueError) as error:
        raise ConnectionError("the gateway's answer cannot be understood") from error
    if code in TAKEN:
        return
    if code in REFUSED_FOR_EVER:
        raise Undeliverable(f"the gateway refuses the number: {code} {status}")
    raise ConnectionError(f"the gateway does not send it: {code} {status}")


SMS = Notifier(name="sms", title=MANIFEST.title, options_model=SmsOptions, send=send, to_people=True, needs="phone")


@hookimpl
def register_notifiers() -> Sequence[Notifier]:
    return (SMS,)
