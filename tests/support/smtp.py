"""A real SMTP server in the test's own loop, with the tests' certificate."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USERNAME, PASSWORD = "carbontrack", "password of the core"


@dataclass
class MailServer:
    """What came in, and what is answered to the next mails instead of taking them."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[Sequence[str]] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    attempts: int = 0

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  # its name
        self.attempts += 1
        if self.refusals:
            return self.refusals.pop(0)
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        self.recipients.append(envelope.rcpt_tos)
        assert server.transport is not None
        self.encrypted.append(server.transport.get_extra_info("sslcontext") is not None)
        return "250 taken"


def _may_sign_in(server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
    fits = isinstance(given, LoginPassword) and given == LoginPassword(USERNAME.encode(), PASSWORD.encode())
    return AuthResult(success=fits, handled=False)  # the server answers


@asynccontextmanager
async def smtp_server(certificates: Path | None = None, tls: str = "none") -> AsyncIterator[MailServer]:
    """Run a server. With ``starttls`` it takes nothing without encryption and a password."""
    context = None
    if certificates is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    loop = asyncio.get_running_loop()
    running = MailServer()
    secured: dict[str, Any] = {}
    if tls == "starttls":
        secured = {"tls_context": context, "require_starttls": True, "auth_required": True}
    elif tls == "tls":
        secured = {"auth_require_tls": False}  # it does not see that it is encrypted already

    def session() -> SMTP:
        return SMTP(running, hostname="mail.example", authenticator=_may_sign_in, loop=loop, **secured)

    server = await loop.create_server(session, "127.0.0.1", 0, ssl=context if tls == "tls" else None)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
        await server.wait_closed()
