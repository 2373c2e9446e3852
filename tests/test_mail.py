"""Mail comes in at a real SMTP server as it was meant, encrypted where it is to be, and is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from carbontrack.config import Config, ConfigError, load_config
from carbontrack.mail import WAITS_S, Mailer, MailError, _tls, mailer, written
from carbontrack.metrics import Metrics
from tests.support.certificates import write_certificates
from tests.support.smtp import PASSWORD, USERNAME, MailServer, smtp_server
from tests.support.system import free_port
from tests.support.world import eventually, sample

SENDER = "Wächter <carbontrack@example.org>"
TO = "clerk@example.org"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mail")
    write_certificates(folder)
    return folder


def settings(port: int, tls: str = "none", ca_file: Path | None = None, password: str = PASSWORD) -> Config:
    values = {"HOST": "127.0.0.1", "PORT": str(port), "TLS": tls, "SENDER": SENDER}
    if tls != "none":
        values |= {"USERNAME": USERNAME, "PASSWORD": password}
    if ca_file is not None:
        values["CA_FILE"] = str(ca_file)
    return load_config(None, {f"CARBONTRACK_MAIL__{name}": value for name, value in values.items()})


async def at_once(_: float) -> None:
    await asyncio.sleep(0)


@asynccontextmanager
async def sending(
    config: Config, metrics: Metrics, pause: Callable[[float], Awaitable[None]] = at_once
) -> AsyncIterator[Mailer]:
    running = Mailer(config.mail, _tls(config), metrics, pause)
    try:
        yield running
    finally:
        await running.close()


def ended(metrics: Metrics, outcome: str) -> float:
    return metrics.registry.get_sample_value("carbontrack_mails_total", {"outcome": outcome}) or 0


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    async with smtp_server() as running:
        yield running


async def test_without_a_host_there_is_no_mail(metrics: Metrics) -> None:
    async with mailer(Config(), metrics) as running:
        assert running is None


async def test_a_mail_arrives_as_it_was_written(server: MailServer, metrics: Metrics) -> None:
    async with mailer(settings(server.port), metrics) as running:
        assert running is not None
        await running.send(TO, "Boiler 1: über 0.6 kg/s", "Zeile 1\nZeile 2 ± 98 000 ppm\n", "<p>Zeile&nbsp;1</p>")
        await eventually(lambda: len(server.mails) == 1)
        await eventually(lambda: ended(metrics, "sent") == 1)
        await eventually(lambda: sample(metrics, "carbontrack_mails_waiting") == 0)
    (mail,) = server.mails
    assert mail["From"] == SENDER
    assert mail["To"] == TO
    assert mail["Subject"] == "Boiler 1: über 0.6 kg/s"
    assert parsedate_to_datetime(mail["Date"]).tzinfo is not None
    assert mail["Message-ID"].endswith("@example.org>")
    assert mail["Auto-Submitted"] == "auto-generated"
    text, html = mail.iter_parts()
    assert text.get_content().replace("\r", "") == "Zeile 1\nZeile 2 ± 98 000 ppm\n"
    assert (html.get_content_type(), html.get_content().strip()) == ("text/html", "<p>Zeile&nbsp;1</p>")


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_it_goes_out_encrypted_and_signed_in(certificates: Path, metrics: Metrics, tls: str) -> None:
    async with smtp_server(certificates, tls) as server:
        async with sending(settings(server.port, tls, certificates / "ca.pem"), metrics) as running:
            await running.send(TO, "Subject", "Text")
            await eventually(lambda: len(server.mails) == 1)
        assert server.encrypted == [True]


@pytest.mark.parametrize(
    ("asked", "offered", "trusted", "password"),
    [
        ("starttls", "none", True, PASSWORD),
        ("starttls", "starttls", False, PASSWORD),
        ("tls", "tls", False, PASSWORD),
        ("starttls", "starttls", True, "wrong"),
    ],
    ids=["no starttls offered", "unknown authority", "unknown authority, tls", "wrong password"],
)
async def test_what_cannot_be_sent_safely_is_not_sent_and_says_why(
    certificates: Path, metrics: Metrics, asked: str, offered: str, trusted: bool, password: str
) -> None:
    ca_file = certificates / "ca.pem" if trusted else None
    async with smtp_server(certificates, offered) as server:
        async with sending(settings(server.port, asked, ca_file, password), metrics) as running:
            with capture_logs() as logs:
                await running.send(TO, "Subject", "A secret text")
                await eventually(lambda: ended(metrics, "failed") == 1)
            assert running.problem.startswith("Mail cannot be sent: S")
        assert server.mails == []
    (warning,) = (entry for entry in logs if entry["event"] == "a mail was not sent")
    assert warning["to"] == TO
    assert "secret" not in str(logs)
    assert password not in str(logs)


async def test_a_server_that_is_busy_is_asked_again_with_longer_and_longer_waits(
    server: MailServer, metrics: Metrics
) -> None:
    waits: list[float] = []

    async def pause(wait_s: float) -> None:
        waits.append(wait_s)
        assert running.problem.startswith("Mail cannot be sent: ")

    server.refusals += ["451 later"] * 3
    async with sending(settings(server.port), metrics, pause) as running:
        await running.send(TO, "Subject", "Text")
        await eventually(lambda: ended(metrics, "sent") == 1)
        assert running.problem == ""
    assert waits == [10, 30, 60]
    assert server.attempts == 4


async def test_after_an_hour_it_gives_up(metrics: Metrics) -> None:
    waits: list[float] = []

    async def pause(wait_s: float) -> None:
        waits.append(wait_s)

    async with sending(settings(free_port()), metrics, pause) as running:
        await running.send(TO, "Subject", "Text")
        await eventually(lambda: ended(metrics, "failed") == 1)
    assert tuple(waits) == WAITS_S
    assert sum(waits) == 3600


async def test_what_the_server_will_never_take_is_not_tried_again(server: MailServer, metrics: Metrics) -> None:
    server.refusals.append("550 no such mailbox")
    async with sending(settings(server.port), metrics) as running:
        await running.send("nobody@example.org", "Subject", "Text")
        await running.send(TO, "Subject", "Text")
        await eventually(lambda: ended(metrics, "failed") + ended(metrics, "sent") == 2)
        assert running.problem == "", "one mailbox that is not there is no trouble of the server's"
    assert server.attempts == 2


async def test_one_that_waits_is_in_no_others_way(server: MailServer, metrics: Metrics) -> None:
    later = asyncio.Event()

    async def pause(_: float) -> None:
        await later.wait()

    server.refusals.append("451 later")
    async with sending(settings(server.port), metrics, pause) as running:
        await running.send("first@example.org", "Subject", "Text")
        await eventually(lambda: server.attempts == 1)
        await running.send("second@example.org", "Subject", "Text")
        await eventually(lambda: server.recipients == [["second@example.org"]])
        await eventually(lambda: ended(metrics, "sent") == 1)
        await eventually(lambda: sample(metrics, "carbontrack_mails_waiting") == 1)
        later.set()
        await eventually(lambda: server.recipients == [["second@example.org"], ["first@example.org"]])


async def test_more_than_can_wait_are_dropped_and_counted_as_are_those_that_wait_at_the_end(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carbontrack.mail.MOST_WAITING", 3)
    monkeypatch.setattr("carbontrack.mail.LAST_WORDS_S", 0.0)

    async def for_ever(_: float) -> None:
        await asyncio.Event().wait()

    async with sending(settings(free_port()), metrics, for_ever) as running:
        for _ in range(5):
            await running.send(TO, "Subject", "Text")
        assert ended(metrics, "dropped") == 2
    assert ended(metrics, "dropped") == 5


whatever = st.text(st.characters(codec=None))


@given(subject=whatever, text=whatever)
def test_nothing_can_be_slipped_in_between_the_headers(subject: str, text: str) -> None:
    plain = message_from_bytes(written(SENDER, TO, "Subject", text).as_bytes(), policy=policy.default)
    mail = message_from_bytes(
        written(SENDER, TO, f"{subject}\r\nBcc: evil@example.org", text).as_bytes(), policy=policy.default
    )
    assert mail.keys() == plain.keys()
    assert mail["To"] == TO
    assert mail["Bcc"] is None


@pytest.mark.parametrize(
    "to",
    [
        "",
        "nobody",
        "a@example.org\r\nBcc: evil@example.org",
        "a@example.org, evil@example.org",
        "A <a@example.org>",
        "a@",
        "@example.org",
        "a b@example.org",
        "a@example.org\0",
    ],
)
async def test_what_is_no_single_address_is_refused(to: str, metrics: Metrics) -> None:
    async with sending(settings(25), metrics) as running:
        with pytest.raises(MailError):
            await running.send(to, "Subject", "Text")
    assert sample(metrics, "carbontrack_mails_waiting") == 0


@given(to=st.text(st.characters(codec=None), max_size=60))
def test_whatever_address_somebody_gives_it_is_one_recipient_or_an_error(to: str) -> None:
    try:
        mail = written(SENDER, to, "Subject", "Text")
    except MailError:
        return
    assert len(mail["To"].addresses) == 1
    assert b"To: " in mail.as_bytes()
    assert "\n" not in to
    assert "\r" not in to


def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mail\.ca_file: .*nowhere\.pem cannot be used: No such file"):
        _tls(settings(587, "starttls", tmp_path / "nowhere.pem"))
