"""Mail by one SMTP server: what is to be sent waits in memory and is tried again for up to an hour.

What still waits when the core stops is lost. Whoever sends is never kept waiting, and never learns whether it arrived.
Whoever has to know hands a mail over once, and waits for the server's answer.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import localtime, make_msgid

import aiosmtplib
import structlog

from carbontrack.config import Config, ConfigError, Mail, Problem
from carbontrack.hookspecs import Undeliverable
from carbontrack.metrics import Metrics
from carbontrack.tasks import end

log = structlog.get_logger(__name__)

MOST_WAITING = 1000
AT_ONCE = 2
TIME_LIMIT_S = 30.0
WAITS_S = (10.0, 30.0, 60.0, 300.0, 600.0, 1200.0, 1400.0)
"""How long it waits before each further attempt: an hour in all."""
LAST_WORDS_S = 3.0
"""So long a stopping core waits for what has not been sent."""


class MailError(ValueError):
    """A mail cannot be written; the message says why."""


class Mailer:
    """Sends mail. :func:`mailer` makes one. ``problem`` says why mail does not go out; it is empty while it does."""

    def __init__(
        self,
        server: Mail,
        tls: ssl.SSLContext | None,
        metrics: Metrics,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.problem = ""
        self._server = server
        self._tls = tls
        self._metrics = metrics
        self._pause = pause
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._waiting: set[asyncio.Task[None]] = set()
        metrics.mails_waiting.set_function(lambda: len(self._waiting))

    async def send(self, to: str, subject: str, text: str, html: str | None = None) -> None:
        """Leave a mail to be sent to one address. Raises :class:`MailError` for an address that is none."""
        assert self._server.sender is not None, "the configuration asks for one"
        message = written(self._server.sender, to, subject, text, html)
        if len(self._waiting) >= MOST_WAITING:
            self._count("dropped")
            log.warning("a mail was dropped, too many wait", mail=message["Message-ID"])
            return
        task = asyncio.create_task(self._deliver(message), name="mail")
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def deliver(self, to: str, subject: str, text: str, html: str | None = None) -> None:
        """Hand a mail over and return when the server has taken it.

        Raises :class:`Undeliverable` where it never will, and otherwise what went wrong: try again later.
        """
        assert self._server.sender is not None, "the configuration asks for one"
        try:
            message = written(self._server.sender, to, subject, text, html)
        except MailError as error:
            raise Undeliverable(str(error)) from error
        try:
            async with self._at_once:
                await self._hand_over(message)
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as failure:
            if _is_final(failure):
                self._count("failed")
                raise Undeliverable(f"the mail server refuses it: {_told(failure)}") from failure
            raise
        self._count("sent")

    async def close(self) -> None:
        """Let go what goes quickly, and end."""
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=LAST_WORDS_S)
        for _ in self._waiting:
            self._count("dropped")
        await end(*self._waiting)

    async def _deliver(self, message: EmailMessage) -> None:
        error = ""
        for wait_s in (*WAITS_S, None):
            try:
                async with self._at_once:
                    await self._hand_over(message)
            except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as failure:
                error = f"{type(failure).__name__}: {failure}"
                if _is_final(failure):
                    break
                self.problem = f"Mail cannot be sent: {error}"
            else:
                self.problem = ""
                self._count("sent")
                return
            if wait_s is not None:
                await self._pause(wait_s)
        self._count("failed")
        log.warning("a mail was not sent", mail=message["Message-ID"], to=message["To"], error=error)

    async def _hand_over(self, message: EmailMessage) -> None:
        server = self._server
        await aiosmtplib.send(
            message,
            hostname=server.host,
            port=server.port,
            username=server.username,
            password=server.password.get_secret_value() if server.password else None,
            use_tls=server.tls == "tls",
            start_tls=server.tls == "starttls",  # True asks for it: without it nothing is sent
            tls_context=self._tls,
            local_hostname=_domain(message["From"].addresses[0].domain),
            timeout=TIME_LIMIT_S,
        )

    def _count(self, outcome: str) -> None:
        self._metrics.mails.labels(outcome).inc()


@asynccontextmanager
async def mailer(config: Config, metrics: Metrics) -> AsyncIterator[Mailer | None]:
    """Mail until the block ends; None where no server is configured."""
    if config.mail.host is None:
        yield None
        return
    running = Mailer(config.mail, _tls(config), metrics)
    try:
        yield running
    finally:
        await running.close()


def written(sender: str, to: str, subject: str, text: str, html: str | None = None) -> EmailMessage:
    """A mail with all its headers. Raises :class:`MailError` where ``to`` is anything but one address.

    Nothing can be slipped in between the headers: line breaks in ``subject`` become spaces.
    """
    message = EmailMessage(policy=SMTP)
    try:
        to.encode("utf-8")
        message["To"] = Address(addr_spec=to)
    except (ValueError, HeaderParseError, IndexError) as error:
        raise MailError(f"{to!r} is no e-mail address") from error
    message["From"] = sender
    message["Subject"] = " ".join(_whole(subject).split())
    message["Date"] = localtime()
    message["Message-ID"] = make_msgid(domain=_domain(message["From"].addresses[0].domain))
    message["Auto-Submitted"] = "auto-generated"  # no automatic answer is wanted
    message.set_content(_whole(text))
    if html is not None:
        message.add_alternative(_whole(html), subtype="html")
    return message


def _whole(text: str) -> str:
    """Text without halves of characters, which no encoding can take."""
    return text.encode("utf-8", "replace").decode()


def _domain(name: str) -> str:
    return name.encode("idna").decode()


def _told(failure: Exception) -> str:
    if isinstance(failure, aiosmtplib.SMTPRecipientsRefused):
        return "; ".join(f"{refused.code} {refused.message}" for refused in failure.recipients)
    return str(failure)


def _is_final(failure: Exception) -> bool:
    """Whether the server will not have this mail, now or later; what is wrong with us may be put right meanwhile."""
    if isinstance(failure, aiosmtplib.SMTPRecipientsRefused):
        return all(refused.code >= 500 for refused in failure.recipients)
    if isinstance(failure, ValueError) and not isinstance(failure, OSError):
        return True  # it cannot be put into the protocol's words; a bad certificate is both, and can be mended
    refusals = aiosmtplib.SMTPDataError, aiosmtplib.SMTPRecipientRefused, aiosmtplib.SMTPSenderRefused
    return isinstance(failure, refusals) and failure.code >= 500


def _tls(config: Config) -> ssl.SSLContext | None:
    if config.mail.tls == "none":
        return None
    ca_file = config.mail.ca_file
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as error:
        key = ("mail", "ca_file")
        text = f"{ca_file} cannot be used: {error.strerror or error}"
        raise ConfigError([Problem(config.place(key), key, text)]) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
