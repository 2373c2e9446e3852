"""The parts that other tests lean on are real, and strict."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiomqtt
import asyncpg
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from playwright.async_api import Page

from tests.support import system
from tests.support.chromium import Chromium
from tests.support.mosquitto import Broker, password_of
from tests.support.network import refuse_other_hosts
from tests.support.postgres import Postgres


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


class TestPostgres:
    async def test_a_row_comes_back(self, postgres_url: str) -> None:
        async with connected(postgres_url) as connection:
            await connection.execute("CREATE TABLE reading (co2_ppm double precision)")
            await connection.execute("INSERT INTO reading VALUES ($1)", 98_000.5)

            assert await connection.fetchval("SELECT co2_ppm FROM reading") == 98_000.5

    async def test_every_database_is_empty_and_separate(self, postgres: Postgres) -> None:
        async with connected(postgres.new_url()) as one, connected(postgres.new_url()) as other:
            await one.execute("CREATE TABLE only_here (id int)")

            assert await other.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0

    async def test_what_was_committed_survives_a_crash(self, postgres: Postgres) -> None:
        url = postgres.new_url()
        async with connected(url) as connection:
            await connection.execute("CREATE TABLE kept (id int)")
            postgres.kill()
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
                await connection.fetchval("SELECT count(*) FROM kept")
        postgres.start()
        async with connected(url) as connection:
            assert await connection.fetchval("SELECT count(*) FROM kept") == 0


class TestMosquitto:
    async def test_a_message_of_a_device_reaches_the_core(self, mosquitto: Broker) -> None:
        async with mosquitto.client("core") as core, mosquitto.client("dev-007") as device:
            await core.subscribe("ct/v1/+/up/#", qos=1)
            await device.publish("ct/v1/dev-007/up/data", b"{}", qos=1)

            assert str((await anext(core.messages)).topic) == "ct/v1/dev-007/up/data"

    async def test_a_device_cannot_speak_for_another(self, mosquitto: Broker) -> None:
        async with mosquitto.client("core") as core:
            await core.subscribe("ct/v1/+/up/#", qos=1)
            with suppress(aiomqtt.MqttError):  # mosquitto 2.0 hangs up on a client that tries this
                async with mosquitto.client("dev-007") as device:
                    await device.publish("ct/v1/dev-008/up/data", b"forged", qos=1)
            async with mosquitto.client("dev-007") as device:
                await device.publish("ct/v1/dev-007/up/data", b"own", qos=1)

            assert (await anext(core.messages)).payload == b"own"
        assert "Denied PUBLISH" in mosquitto.log()

    async def test_a_device_hears_its_own_receipts_only(self, mosquitto: Broker) -> None:
        async with mosquitto.client("core") as core, mosquitto.client("dev-007") as device:
            await device.subscribe("ct/v1/+/dn/#", qos=1)
            await core.publish("ct/v1/dev-008/dn/ack", b"another's", qos=1)
            await core.publish("ct/v1/dev-007/dn/ack", b"own", qos=1)

            assert (await anext(device.messages)).payload == b"own"

    async def test_a_wrong_password_is_refused(self, mosquitto: Broker) -> None:
        with pytest.raises(aiomqtt.MqttError, match="Not authorized"):
            async with mosquitto.client("dev-007", password="guess"):
                pass

    async def test_a_client_that_does_not_know_the_authority_refuses_the_broker(self, mosquitto: Broker) -> None:
        with pytest.raises(aiomqtt.MqttError, match="certificate verify failed"):
            async with mosquitto.client("dev-007", tls_context=ssl.create_default_context()):
                pass

    async def test_the_certificates_pass_the_strict_check_of_newer_pythons(self, mosquitto: Broker) -> None:
        tls = ssl.create_default_context(cafile=str(mosquitto.ca_file))
        tls.verify_flags |= ssl.VERIFY_X509_STRICT
        for name in ("localhost", "127.0.0.1"):
            _, writer = await asyncio.open_connection("127.0.0.1", mosquitto.port, ssl=tls, server_hostname=name)
            writer.close()
            await writer.wait_closed()

    async def test_a_device_can_be_added_while_the_broker_runs(self, mosquitto: Broker) -> None:
        async with mosquitto.client("core") as core:
            await core.subscribe("ct/v1/+/up/#", qos=1)
            password = mosquitto.add_device("dev-new")
            async with mosquitto.client("dev-new", password=password) as device:
                await device.publish("ct/v1/dev-new/up/data", b"{}", qos=1)

            assert str((await anext(core.messages)).topic) == "ct/v1/dev-new/up/data"

    async def test_it_comes_back_on_the_same_port_after_a_crash(self, mosquitto: Broker) -> None:
        with suppress(aiomqtt.MqttError):  # leaving, the client finds nobody to say goodbye to
            async with mosquitto.client("core") as core:
                mosquitto.kill()
                with pytest.raises(aiomqtt.MqttError):
                    await anext(core.messages)
        mosquitto.start()
        async with mosquitto.client("core") as core:
            await core.publish("ct/v1/dev-007/dn/ack", b"{}", qos=1)

    async def test_the_plain_listener_asks_for_passwords_too(self, mosquitto: Broker) -> None:
        with pytest.raises(aiomqtt.MqttError, match="Not authorized"):
            async with aiomqtt.Client(mosquitto.host, mosquitto.plain_port):
                pass
        async with aiomqtt.Client(
            mosquitto.host, mosquitto.plain_port, username="dev-007", password=password_of("dev-007")
        ):
            pass


async def serve(body: str, headers: dict[str, str] | None = None) -> TestServer:
    """Serve one page."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=body, content_type="text/html", headers=headers)

    async def no_icon(_: web.Request) -> web.Response:
        return web.Response(status=204)

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_get("/favicon.ico", no_icon)
    server = TestServer(app)
    await server.start_server()
    return server


class TestChromium:
    async def test_a_page_is_rendered_and_its_script_runs(self, browser_page: Page) -> None:
        server = await serve("<h1></h1><script>document.querySelector('h1').textContent = 6 * 7</script>")
        await browser_page.goto(str(server.make_url("/")))

        assert await browser_page.inner_text("h1") == "42"
        await server.close()

    @pytest.mark.parametrize(
        ("body", "complaint"),
        [
            ("<script>console.error('broken chart')</script>", "broken chart"),
            ("<script>nowhere()</script>", "nowhere is not defined"),
            ("<img src='https://example.org/logo.png'>", "request to another host: https://example.org/logo.png"),
            ("<p style='color: red'>", "Content Security Policy"),
        ],
        ids=["console error", "script error", "request to another host", "policy violation"],
    )
    async def test_a_bad_page_is_noticed(self, chromium: Chromium, body: str, complaint: str) -> None:
        policy = "default-src 'self'; script-src 'unsafe-inline'; img-src https:"
        server = await serve(body, {"Content-Security-Policy": policy})
        page = await chromium.new_page()
        await page.goto(str(server.make_url("/")))

        assert any(complaint in said for said in chromium.complaints), chromium.complaints
        chromium.complaints.clear()
        await server.close()


class TestNetworkGuard:
    @pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.org", 443)])
    def test_a_plain_socket_cannot_leave_this_machine(
        self, monkeypatch: pytest.MonkeyPatch, address: tuple[str, int]
    ) -> None:
        refused = refuse_other_hosts(monkeypatch)
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(address)

        assert refused == [f"{address[0]}:{address[1]}"]

    async def test_an_http_client_cannot_leave_this_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        refused = refuse_other_hosts(monkeypatch)
        async with ClientSession() as session:
            with pytest.raises(OSError, match="192"):
                await session.get("http://192.0.2.1/")

        assert refused == ["192.0.2.1:80"]

    async def test_this_machine_can_be_reached(self) -> None:
        server = await serve("here")
        async with ClientSession() as session, session.get(server.make_url("/")) as response:
            assert await response.text() == "here"
        await server.close()


class TestMissingParts:
    def test_a_missing_part_is_skipped_by_the_name_of_its_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(system.REQUIRE, raising=False)
        with pytest.raises(pytest.skip.Exception, match="apt install frobnicator"):
            system.needs("frobnicate", package="frobnicator")

    def test_a_missing_part_is_a_failure_in_the_ci(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(system.REQUIRE, "1")
        with pytest.raises(pytest.fail.Exception, match="apt install frobnicator"):
            system.needs("frobnicate", package="frobnicator")


async def test_the_loop_of_tests_is_the_plain_one() -> None:
    """The network guard cannot see the sockets of uvloop."""
    assert type(asyncio.get_running_loop()).__module__.startswith("asyncio")
