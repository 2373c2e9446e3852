"""What the notifiers that ship send, to real servers; and what they do with the answers."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import structlog
from aiohttp import web
from pydantic import ValidationError

from carbontrack.app import broker_settings
from carbontrack.config import load_config
from carbontrack.hookspecs import Notification, Undeliverable
from carbontrack.ingest import Ingest, Receipts
from carbontrack.letters import letter
from carbontrack.live import Live
from carbontrack.mail import mailer
from carbontrack.metrics import Metrics
from carbontrack.outbound import Alarms, Ways
from carbontrack.overload import Drain
from carbontrack.plugins.notifiers import device, email, portal
from carbontrack.plugins.notifiers.log import LOG, LogOptions
from carbontrack.plugins.notifiers.sms import LENGTHS, SMS, SmsOptions, number_of, text_of
from carbontrack.plugins.notifiers.webhook import WEBHOOK, WebhookOptions
from carbontrack.tasks import end
from carbontrack.testing import notification
from carbontrack.testing.examples import FACTORY, NAIROBI, RECIPIENT
from tests.support.certificates import write_certificates
from tests.support.mosquitto import Broker, core_config
from tests.support.smtp import PASSWORD, USERNAME, smtp_server
from tests.support.world import core, eventually, migrated_store

pytest_plugins = ["tests.support.world"]


@dataclass
class Receiver:
    """A small web server that keeps what it is sent; ``status`` and ``answer`` are what it says."""

    url: str = ""
    status: int = 200
    answer: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[bytes, dict[str, str]]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.requests.append((await request.read(), dict(request.headers)))
        return web.json_response(self.answer, status=self.status, headers=self.headers)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    kept = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", kept.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    kept.url = f"http://{host}:{port}/alerts"
    yield kept
    await runner.cleanup()


# --- the log


@pytest.mark.parametrize(
    ("told", "level", "event"),
    [
        (notification(severity="info"), "info", "alert raised"),
        (notification(severity="warning"), "warning", "alert raised"),
        (notification(severity="critical"), "error", "alert raised"),
        (notification("acknowledged", severity="critical"), "info", "alert acknowledged"),
        (notification("cleared", severity="critical"), "info", "alert is over"),
    ],
)
async def test_the_log_has_a_line_for_each(told: Notification, level: str, event: str) -> None:
    with structlog.testing.capture_logs() as lines:
        await LOG.send(LogOptions(), told)

    (line,) = lines
    assert (line["log_level"], line["event"]) == (level, event)
    assert (line["alert"], line["stack"], line["device"]) == ("co2-rate-high", "Boiler 1", "dev-001")
    json.dumps(line)


async def test_the_log_has_a_line_for_an_alert_of_the_network() -> None:
    with structlog.testing.capture_logs() as lines:
        await LOG.send(LogOptions(), notification(of_network=True))
    assert (lines[0]["factory"], lines[0]["device"]) == (None, None)


# --- e-mail


async def test_a_mail_goes_encrypted_to_a_real_server_and_what_is_refused_for_ever_is_said(tmp_path: Path) -> None:
    write_certificates(tmp_path)
    ways = Ways()
    send = email.notifier(ways).send
    told = notification(to=RECIPIENT)
    with pytest.raises(ConnectionError, match="no mail server"):
        await send(email.EmailOptions(), told)
    async with smtp_server(tmp_path, "starttls") as server:
        values = {"HOST": "127.0.0.1", "PORT": str(server.port), "SENDER": "Carbon Track <carbontrack@example.org>"}
        values |= {"USERNAME": USERNAME, "PASSWORD": PASSWORD, "CA_FILE": str(tmp_path / "ca.pem")}
        config = load_config(None, {f"CARBONTRACK_MAIL__{name}": value for name, value in values.items()})
        async with mailer(config, Metrics()) as mail:
            assert mail is not None
            ways.by_mail = mail.deliver
            await send(email.EmailOptions(), told)
            server.refusals = ["451 try again later", "550 no such mailbox"]
            with pytest.raises(Exception, match="451") as later:
                await send(email.EmailOptions(), told)
            assert not isinstance(later.value, Undeliverable)
            with pytest.raises(Undeliverable, match="no such mailbox"):
                await send(email.EmailOptions(), told)
            with pytest.raises(Undeliverable, match="no e-mail address"):
                await send(email.EmailOptions(), notification(to=replace(RECIPIENT, email="nobody")))
            with pytest.raises(Undeliverable, match="somebody"):
                await send(email.EmailOptions(), notification())
    (message,) = server.mails
    assert server.encrypted == [True]
    assert message["To"] == "wanjiru@example.org"
    assert message["Subject"] == "[warning] CO2 rate is high, Kangaita Tea Factory, Boiler 1"
    html = message.get_body(("html",))
    assert html is not None
    assert "<li>Look at the fire.</li>" in html.get_content()
    text = message.get_body(("plain",))
    assert text is not None
    said = "- Boiler 1: 0.61 kg/s CO2, the limit is 0.6"
    assert said in text.get_content().splitlines(), "the place is said once"


async def test_what_is_in_a_name_is_no_markup_and_no_header() -> None:
    told = notification(to=RECIPIENT)
    item = replace(told.items[0], factory=replace(FACTORY, name="<b>Tea & Co</b>\r\nBcc: all@example.org"))
    written = letter([item], 1, "en", NAIROBI)
    assert "\n" not in written.subject
    assert "<b>" not in written.html
    assert "&lt;b&gt;Tea &amp; Co" in written.html


# --- web addresses


def signed(receiver: Receiver, **changed: Any) -> WebhookOptions:
    return WebhookOptions.model_validate({"url": receiver.url, "secret": "0123456789abcdef"} | changed)


async def test_a_request_is_signed_so_that_the_receiver_can_tell(receiver: Receiver) -> None:
    await WEBHOOK.send(signed(receiver), notification("cleared"))

    ((body, headers),) = receiver.requests
    fields = dict(part.split("=") for part in headers["Carbontrack-Signature"].split(","))
    expected = hmac.new(b"0123456789abcdef", f"{fields['t']}.".encode() + body, hashlib.sha256).hexdigest()
    assert fields["v1"] == expected
    sent = json.loads(body)
    assert (sent["id"], sent["event"], sent["alerts"][0]["device"]) == ("0123456789abcdef", "cleared", "dev-001")
    assert sent["alerts"][0]["cleared_at"] == "2026-03-02T09:20:00+00:00"


async def test_without_a_secret_nothing_is_signed_and_the_network_has_no_factory(receiver: Receiver) -> None:
    await WEBHOOK.send(signed(receiver, secret=None), notification(of_network=True))
    ((body, headers),) = receiver.requests
    assert "Carbontrack-Signature" not in headers
    (alert,) = json.loads(body)["alerts"]
    assert (alert["factory"], alert["devices"], alert["factories"]) == (None, 27, 9)


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_an_answer_that_is_final_is_final(receiver: Receiver, status: int) -> None:
    receiver.status = status
    with pytest.raises(Undeliverable, match=str(status)):
        await WEBHOOK.send(signed(receiver), notification())


@pytest.mark.parametrize("status", [301, 401, 403, 408, 429, 500, 503])
async def test_any_other_answer_is_tried_again_and_a_redirect_is_not_followed(receiver: Receiver, status: int) -> None:
    receiver.status, receiver.headers = status, {"Location": "/elsewhere"}
    with pytest.raises(ConnectionError, match=str(status)):
        await WEBHOOK.send(signed(receiver), notification())
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "ftp://example.org/",
        "https://",
        "http://localhost.example.org/",
        "http://127.0.0.1.example.org/",
        "http://10.0.0.1/",
        "alerts",
    ],
)
@pytest.mark.parametrize("options", [WebhookOptions, SmsOptions])
def test_secrets_go_nowhere_unencrypted(url: str, options: type[WebhookOptions | SmsOptions]) -> None:
    with pytest.raises(ValidationError, match="https"):
        options.model_validate({"url": url, "username": "ct", "api_key": "k"})


# --- text messages


def gateway(receiver: Receiver, **changed: Any) -> SmsOptions:
    values = {"username": "ktda", "api_key": "key of ktda", "sender": "KTDA", "url": receiver.url}
    return SmsOptions.model_validate(values | changed)


def answered(code: int, status: str = "") -> dict[str, Any]:
    number = {"statusCode": code, "number": "+254711000001", "status": status, "cost": "KES 0.8000", "messageId": "AT1"}
    return {"SMSMessageData": {"Message": "Sent to 1/1 Total Cost: KES 0.8000", "Recipients": [number]}}


async def test_a_text_message_goes_to_the_gateway_as_it_wants_it(receiver: Receiver) -> None:
    receiver.status, receiver.answer = 201, answered(101, "Success")
    await SMS.send(gateway(receiver), notification(to=replace(RECIPIENT, phone="0711 000-001")))

    ((body, headers),) = receiver.requests
    assert headers["apiKey"] == "key of ktda"
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    form = dict(parse_qsl(body.decode()))
    assert (form["username"], form["to"], form["from"]) == ("ktda", "+254711000001", "KTDA")
    found = "(warning) CO2 rate is high, Kangaita Tea Factory, Boiler 1: 0.61 kg/s CO2, the limit is 0.6"
    assert form["message"] == f"{found} https://carbon.example.org/alerts/7/"
    assert len(form["message"]) <= LENGTHS[1]


@pytest.mark.parametrize("code", [403, 404, 406, 409])
async def test_a_number_that_the_gateway_refuses_is_not_tried_again(receiver: Receiver, code: int) -> None:
    receiver.status, receiver.answer = 201, answered(code, "InvalidPhoneNumber")
    with pytest.raises(Undeliverable, match=str(code)):
        await SMS.send(gateway(receiver), notification(to=RECIPIENT))


@pytest.mark.parametrize("code", [402, 405, 407, 500, 501, 502])
async def test_what_can_be_mended_at_the_gateway_is_tried_again(receiver: Receiver, code: int) -> None:
    receiver.status, receiver.answer = 201, answered(code, "InsufficientBalance")
    with pytest.raises(ConnectionError, match=str(code)):
        await SMS.send(gateway(receiver), notification(to=RECIPIENT))


@pytest.mark.parametrize(
    "answer", [{}, [], {"SMSMessageData": {"Message": "InvalidSenderId", "Recipients": []}}, {"SMSMessageData": None}]
)
async def test_an_answer_that_says_nothing_is_no_delivery(receiver: Receiver, answer: Any) -> None:
    receiver.status, receiver.answer = 201, answer
    with pytest.raises(ConnectionError):
        await SMS.send(gateway(receiver), notification(to=RECIPIENT))


@pytest.mark.parametrize(("status", "error"), [(401, ConnectionError), (500, ConnectionError), (400, Undeliverable)])
async def test_a_gateway_that_refuses_says_whether_it_may_be_tried_again(
    receiver: Receiver, status: int, error: type[Exception]
) -> None:
    receiver.status = status
    with pytest.raises(error):
        await SMS.send(gateway(receiver), notification(to=RECIPIENT))


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("+254 711 000 001", "+254711000001"),
        ("0711000001", "+254711000001"),
        ("00254711000001", "+254711000001"),
        ("254711000001", "+254711000001"),
        ("(+254) 711-000.001", "+254711000001"),
    ],
)
def test_numbers_are_taken_as_people_write_them(written: str, number: str) -> None:
    assert number_of(written, "254") == number


@pytest.mark.parametrize(
    "written", ["", "none", "+254", "+25471100000112345678", "+0711000001", "+254\u0667\u0661\u0661000001"]
)
def test_what_is_no_number_is_told_so(written: str) -> None:
    with pytest.raises(Undeliverable):
        number_of(written, "254")


@pytest.mark.parametrize("parts", [1, 2])
def test_a_text_is_cut_to_its_messages_and_its_address_stays(parts: int) -> None:
    told = replace(notification(), subject="\u014cne [two] \u2013 \u201cthree\u201d \u706b " + "x" * 400)
    text = text_of(told, parts)
    assert len(text) == LENGTHS[parts]
    assert text.startswith('One (two) - "three" ? xxx')
    assert text.endswith("... https://carbon.example.org/alerts/7/")


def test_the_sandbox_has_an_address_of_its_own() -> None:
    of = {name: SmsOptions.model_validate({"username": name, "api_key": "k"}).address for name in ("sandbox", "ktda")}
    assert of == {
        "sandbox": "https://api.sandbox.africastalking.com/version1/messaging",
        "ktda": "https://api.africastalking.com/version1/messaging",
    }


# --- open pages


async def test_open_pages_hear_of_alerts_of_what_their_people_may_see() -> None:
    live, ways = Live(), Ways()
    send = portal.notifier(ways).send
    with pytest.raises(ConnectionError):
        await send(portal.PortalOptions(), notification())
    ways.by_page = live.publish_alert
    with live.subscribe(1) as own, live.subscribe(2) as other, live.subscribe(None) as everything:
        await send(portal.PortalOptions(), notification())
        await send(portal.PortalOptions(), notification("acknowledged"))
        await send(portal.PortalOptions(), notification(of_network=True))
        assert await everything.changes() == []
        shown = everything.alerts()
        assert [alert["factory"] for alert in shown] == ["Kangaita Tea Factory", None]
        assert own.alerts() == shown[:1]
        assert other.alerts() == []
    assert shown[0] == {
        "id": 7,
        "event": "raised",
        "severity": "warning",
        "title": "CO2 rate is high",
        "message": "Kangaita Tea Factory, Boiler 1: 0.61 kg/s CO2, the limit is 0.6",
        "factory": "Kangaita Tea Factory",
    }


# --- the device's buzzer


async def test_a_device_that_connects_is_told_which_of_its_alarms_are_on() -> None:
    sent: list[tuple[str, Mapping[str, Any]]] = []
    is_away = False

    async def command(device_id: str, body: Mapping[str, Any]) -> None:
        if is_away:
            raise ConnectionError
        sent.append((device_id, body))

    alarms = Alarms(command)
    first, second, third = ({"v": 1, "id": number, "cmd": "alarm", "on": True} for number in (1, 2, 3))
    for device_id, body in (("dev-001", first), ("dev-001", second), ("dev-002", third)):
        await alarms.command(device_id, body)
    await alarms.command("dev-001", {**first, "on": False})
    await alarms.command("dev-002", {"v": 1, "id": "a1", "cmd": "identify", "args": {}})
    is_away = True
    with pytest.raises(ConnectionError):
        await alarms.command("dev-002", {**third, "on": False})  # by the time it connects it is over
    is_away = False
    del sent[:]

    job = asyncio.create_task(alarms.keep())
    for device_id in ("dev-001", "dev-002", "dev-003", "dev-001"):
        alarms.born(device_id)
    await eventually(lambda: bool(sent))
    await end(job)

    assert sent == [("dev-001", second)]


async def test_the_device_s_own_alarm_goes_on_and_off(mosquitto: Broker, tmp_path: Path, metrics: Metrics) -> None:
    ways = Ways()
    send = device.notifier(ways).send
    with pytest.raises(ConnectionError):
        await send(device.DeviceOptions(), notification())
    settings = broker_settings(core_config(mosquitto, "sqlite://:memory:"))
    url = f"sqlite://{tmp_path / 'carbontrack.sqlite3'}"
    heard: list[tuple[str, dict[str, Any]]] = []
    async with migrated_store(url, metrics) as store, core(store, metrics) as running:
        ingest = Ingest(settings, running.fleet, Receipts(settings, metrics, Drain(5.0, 200.0)), metrics)
        ways.by_command = ingest.command
        async with mosquitto.client("dev-001") as node:
            await node.subscribe("ct/v1/dev-001/dn/#", qos=1)
            with structlog.testing.capture_logs():
                job = asyncio.create_task(ingest.consume())
                await eventually(lambda: ingest.connected)
                told = [notification(event, severity="critical") for event in ("raised", "acknowledged", "cleared")]
                for each in (*told, notification(of_network=True), notification(of_factory=True)):
                    await send(device.DeviceOptions(), each)
                async for message in node.messages:
                    heard.append((message.topic.value, json.loads(bytes(message.payload))))
                    if len(heard) == 3:
                        break
                await end(job)
        with pytest.raises(ConnectionError):
            await send(device.DeviceOptions(), notification())
    off = {"v": 1, "id": 7, "cmd": "alarm", "on": False}
    assert heard == [
        ("ct/v1/dev-001/dn/cmd", {**off, "on": True, "level": "critical"}),
        ("ct/v1/dev-001/dn/cmd", off),
        ("ct/v1/dev-001/dn/cmd", off),
    ]
