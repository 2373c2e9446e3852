"""Updates from afar: real nodes with two slots fetch real images over HTTPS, try them, and keep them or go back."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import encode_basic_auth, web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.firmware import FOR_UPDATES, NEEDED, Talk, build
from tests.support.mosquitto import DEVICES, Broker, password_of
from tests.support.programs import environment

pytestmark = pytest.mark.timeout(300)  # the first build takes its time

DEVICE = DEVICES[0]
HARDWARE = "posix"
RESUME_STEP = 64 * 1024
FIRST, GOOD, DEAF, CRASH = "0.1.0", "0.2.0", "0.3.0", "0.4.0"
PACE = (
    "--sample-ms",
    "200",
    "--warm-up-s",
    "0",
    "--from-hour",
    "9",
    "--flash-kib",
    "512",
    "--longest-backoff-ms",
    "300",
)


@pytest.fixture(scope="module")
def images() -> Path:
    """The folder with the node's program and what it can be replaced with."""
    return build("release", "-DCMAKE_BUILD_TYPE=MinSizeRel", needs_headers=(*NEEDED, *FOR_UPDATES))


@dataclass
class Signer:
    """Whoever signs images, and the public key that the nodes have."""

    _key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def public_key(self) -> bytes:
        pem, info = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(pem, info)

    def offer(self, version: str, image: bytes, url: str) -> dict[str, Any]:
        """What dn/fw says of an image."""
        digest = hashlib.sha256(image).hexdigest()
        text = f"CARBONTRACK-FIRMWARE-1\n{version}\n{HARDWARE}\n{len(image)}\n{digest}\n"
        signature = base64.b64encode(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))).decode()
        offer = {"ver": version, "hw": HARDWARE, "url": url, "size": len(image), "sha256": digest, "sig": signature}
        return offer | {"jitter_s": 0, "min": FIRST}


@dataclass
class Shelf:
    """An HTTPS server with one file, as the core has it, and what it was asked for."""

    content: bytes = b""
    ranges: list[str] = field(default_factory=list)
    cut_after: int | None = None
    """Break the connection after so many bytes."""
    is_asked_again: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if given != encode_basic_auth(DEVICE, password_of(DEVICE)):
            return web.Response(status=401)
        self.ranges.append(request.headers["Range"])
        if len(self.ranges) > 1:
            self.is_asked_again.set()
        begin = request.http_range.start
        rest = self.content[begin:]
        headers = {"Content-Range": f"bytes {begin}-{len(self.content) - 1}/{len(self.content)}"}
        if self.cut_after is None:
            return web.Response(status=206, headers=headers, body=rest)
        response = web.StreamResponse(status=206, headers=headers | {"Content-Length": str(len(rest))})
        await response.prepare(request)
        await response.write(rest[: self.cut_after])
        assert request.transport is not None
        request.transport.close()
        return response


@asynccontextmanager
async def shelf(broker: Broker) -> AsyncIterator[Shelf]:
    found = Shelf()
    app = web.Application()
    app.router.add_get("/image", found.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(broker.ca_file.parent / "server.pem", broker.ca_file.parent / "server.key")
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    found.url = f"https://127.0.0.1:{runner.addresses[0][1]}/image"
    try:
        yield found
    finally:
        await runner.cleanup()


class Box:
    """A node with two slots, and whoever puts it up again when it falls over."""

    def __init__(self, images: Path, broker: Broker, folder: Path, signer: Signer) -> None:
        key = folder / "firmware-key.pem"
        key.write_bytes(signer.public_key())
        self._program = images / "carbontrack-node"
        self._words = (
            *("--id", DEVICE, "--flash", folder / "flash", "--state", folder / "state", "--slots", folder / "slots"),
            *("--ca", broker.ca_file, "--port", str(broker.port), "--firmware-key", key, *PACE),
        )
        self.process: asyncio.subprocess.Process | None = None
        self.crashes = 0
        self._keeper: asyncio.Task[None] | None = None

    async def start(self, *more: str) -> None:
        """Run it, and again with another reset cause whenever it ends by itself in any but the orderly way."""
        await self._run(*more)
        self._keeper = asyncio.create_task(self._keep(more))

    async def _run(self, *more: str) -> None:
        self.process = await asyncio.create_subprocess_exec(
            self._program,
            *self._words,
            *more,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(CARBONTRACK_NODE_PASSWORD=password_of(DEVICE)),
        )

    async def _keep(self, more: tuple[str, ...]) -> None:
        while self.process is not None and await self.process.wait() != 0:
            self.crashes += 1
            await self._run(*more, "--reset-cause", "panic")

    async def kill(self) -> None:
        """The power goes, and stays away."""
        if self._keeper is not None:
            self._keeper.cancel()
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@dataclass
class World:
    """A box, the platform's end of it, and the server with the image."""

    box: Box
    talk: Talk
    shelf: Shelf
    signer: Signer
    images: Path

    async def birth(self, *, is_answered: bool = True) -> dict[str, Any]:
        """The next birth; answered with a receipt, as the platform does."""
        born = await self.talk.heard("state", online=True)
        if is_answered:
            await self.talk.say("ack", sid=born["sid"], seq=0)
        return born

    async def offer(self, name: str, version: str, **other: Any) -> None:
        """Offer an image; ``other`` is put over what was signed."""
        self.shelf.content = (self.images / name).read_bytes()
        await self.talk.say("fw", **(self.signer.offer(version, self.shelf.content, self.shelf.url) | other))

    async def heard(self, state: str, version: str) -> dict[str, Any]:
        return await self.talk.heard("res", cmd="ota", st=state, ver=version)


@pytest.fixture
async def world(images: Path, mosquitto: Broker, tmp_path: Path) -> AsyncIterator[World]:
    signer = Signer()
    box = Box(images, mosquitto, tmp_path, signer)
    async with shelf(mosquitto) as server, mosquitto.client("core") as client:
        await client.subscribe(f"ct/v1/{DEVICE}/up/#", qos=1)
        try:
            yield World(box, Talk(client, DEVICE), server, signer, images)
        finally:
            await box.kill()


async def test_a_good_image_is_fetched_tried_and_confirmed_by_the_first_receipt(world: World) -> None:
    await world.box.start()
    born = await world.birth()
    assert (born["fw"], born["rst"]) == (FIRST, "poweron")

    await world.offer("ct_image_good", GOOD)
    assert (await world.heard("downloading", GOOD))["pct"] == 0
    assert (await world.heard("verifying", GOOD))["pct"] == 100
    await world.heard("rebooting", GOOD)
    assert (await world.talk.heard("state", online=False))["why"] == "update"
    again = await world.birth(is_answered=False)
    assert (again["fw"], again["rst"], again["sid"]) == (GOOD, "ota", born["sid"])
    await world.talk.say("ack", sid=again["sid"], seq=0)
    assert (await world.heard("confirmed", GOOD))["err"] == ""

    await world.box.kill()
    await world.box.start()
    after = await world.birth()
    assert (after["fw"], after["rst"]) == (GOOD, "poweron"), "it stays, also without its trial"
    assert world.shelf.ranges == ["bytes=0-"]


async def test_an_image_that_never_connects_is_given_up_and_the_old_one_says_so(world: World) -> None:
    await world.box.start("--trial-s", "3")
    await world.birth()

    await world.offer("ct_image_deaf", DEAF)
    await world.heard("rebooting", DEAF)
    born = await world.birth()
    assert (born["fw"], born["rst"], born["mode"]) == (FIRST, "ota", "run")
    await world.heard("rolled_back", DEAF)

    await world.offer("ct_image_deaf", DEAF)
    assert (await world.heard("rolled_back", DEAF))["err"] == "tried"
    assert len(world.shelf.ranges) == 1, "it is not fetched again"
    await world.offer("ct_image_good", GOOD)
    await world.heard("rebooting", GOOD)
    assert (await world.birth())["fw"] == GOOD
    await world.heard("confirmed", GOOD)


async def test_an_image_that_crashes_is_given_up_after_three_starts(world: World) -> None:
    await world.box.start()
    await world.birth()

    await world.offer("ct_image_crash", CRASH)
    await world.heard("rebooting", CRASH)
    born = await world.birth()
    assert (born["fw"], born["rst"], born["mode"]) == (FIRST, "ota", "run")
    await world.heard("rolled_back", CRASH)
    assert world.box.crashes == 3


async def test_what_is_no_program_at_all_is_given_up_at_once(world: World) -> None:
    await world.box.start()
    await world.birth()

    world.shelf.content = b"no program\n" * 9000
    await world.talk.say("fw", **world.signer.offer("0.5.0", world.shelf.content, world.shelf.url))
    await world.heard("rebooting", "0.5.0")
    assert (await world.birth())["fw"] == FIRST
    await world.heard("rolled_back", "0.5.0")


async def test_after_a_lost_link_and_a_lost_power_it_goes_on_where_it_was(world: World) -> None:
    await world.box.start()
    await world.birth()

    world.shelf.cut_after = RESUME_STEP + 5000
    await world.offer("ct_image_good", GOOD)
    await world.heard("downloading", GOOD)
    await asyncio.wait_for(world.shelf.is_asked_again.wait(), 20)
    first, second = (int(asked.removeprefix("bytes=").removesuffix("-")) for asked in world.shelf.ranges[:2])
    assert first == 0
    assert RESUME_STEP < second <= RESUME_STEP + 5000, "in one run it goes on at the very byte"

    await world.box.kill()
    world.shelf.cut_after = None
    asked = len(world.shelf.ranges)
    await world.box.start()
    await world.birth()
    await world.offer("ct_image_good", GOOD)
    await world.heard("rebooting", GOOD)
    begin = int(world.shelf.ranges[asked].removeprefix("bytes=").removesuffix("-"))
    assert begin >= RESUME_STEP
    assert begin % RESUME_STEP == 0
    assert (await world.birth())["fw"] == GOOD
    await world.heard("confirmed", GOOD)


async def test_what_is_not_right_is_not_installed(world: World) -> None:
    await world.box.start()
    await world.birth()

    async def why_not(version: str, **other: Any) -> str:
        await world.offer("ct_image_good", version, **other)
        error: str = (await world.heard("failed", version))["err"]
        return error

    assert await why_not("0.6.1", hw="ct-1") == "hw"
    assert await why_not("0.0.9") == "older"
    assert await why_not("0.6.2", min="0.1.1") == "min"
    assert await why_not("0.6.3", size=1 << 30) == "size"
    assert await why_not("0.6.4", size=1000) == "signature"
    assert await why_not("0.6.5", sha256="00" * 32) == "signature"
    await world.talk.say("fw", **Signer().offer("0.6.6", world.shelf.content, world.shelf.url))
    assert (await world.heard("failed", "0.6.6"))["err"] == "signature", "signed by somebody else"
    assert world.shelf.ranges == [], "all that is found out before anything is fetched"

    await world.offer("ct_image_good", "0.6.7", url=world.shelf.url.replace("https", "http"))
    assert (await world.heard("failed", "0.6.7"))["err"] == "url", "the password goes over TLS only"
    await world.offer("ct_image_good", "0.6.8")
    world.shelf.content = world.shelf.content[:-1] + b"?"
    assert (await world.heard("failed", "0.6.8"))["err"] == "hash"
    assert world.shelf.ranges == ["bytes=0-", "bytes=0-"], "once more, in case that it was the link"
