"""Images are taken only if they are signed; devices download only what they were offered, from any byte on."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from carbontrack.cli import app
from carbontrack.credentials import device_password
from carbontrack.firmware import (
    MOST_BYTES,
    DeviceFirmware,
    FirmwareError,
    FirmwareImage,
    Manifest,
    Plan,
    Rollout,
    RolloutState,
    UpdateState,
    check_image,
    is_version,
    new_key,
    private_pem,
    public_pem,
    rank,
    read_manifest,
    read_private_key,
    read_public_key,
    sign_image,
    stage_sizes,
    write_manifest,
)
from carbontrack.health import Birth
from carbontrack.metrics import Metrics
from carbontrack.model import Device, Origin
from carbontrack.rollouts import RolloutDesk, start_rollout
from carbontrack.store import Choice, RegistryError, Store
from carbontrack.store.contents import TABLES_SQLITE, contents
from tests.support.web import Portal, running_portal
from tests.support.world import NOON, Core, birth, core, eventually, migrated_store, payload, register

pytest_plugins = ["tests.support.world"]

KEY, OTHER_KEY = new_key(), new_key()
CONTENT = bytes(range(256)) * 400
HQ = Origin("hq@example.org")
DEVICE_KEY = "k" * 32


def manifest(version: str = "1.5.0", content: bytes = CONTENT, **changed: Any) -> Manifest:
    return sign_image(content, KEY, version=version, hardware="ct-1", **changed)


# --- versions


ORDER = ("0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
         "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0")  # fmt: skip


def test_versions_are_ordered_as_semantic_versioning_says() -> None:
    assert sorted(set(ORDER), key=rank) == list(ORDER)
    assert rank("1.0.0+build.1") == rank("1.0.0")
    assert rank("simulator") < rank("0.0.0-0"), "what is no version is older than all that are"


@pytest.mark.parametrize("text", ["1.5", "01.5.0", "1.5.0-", "1.5.0-01", "v1.5.0", "1.5.0 ", "1.2.3-" + "a" * 40, ""])
def test_what_is_no_version_is_refused(text: str) -> None:
    assert not is_version(text)
    with pytest.raises(FirmwareError, match=r"1\.5\.0"):
        manifest(text)


@pytest.mark.parametrize("stages", ["", "10%", "1, 1, 100%", "0, 100%", "1, 200%", "50%, 10%, 100%", "1; 100%"])
def test_what_is_no_plan_of_stages_is_refused(stages: str) -> None:
    with pytest.raises(FirmwareError) as caught:
        stage_sizes(stages, 10)
    assert caught.value.field == "stages"


# --- signatures


def test_a_signed_image_is_taken_and_its_manifest_reads_as_it_was_written() -> None:
    made = manifest(notes="New.", min_version="1.3.0")
    assert read_manifest(write_manifest(made)) == made
    check_image(made, CONTENT, KEY.public_key())


@given(st.integers(0, len(CONTENT) - 1), st.integers(1, 255))
def test_an_image_of_which_one_bit_is_another_is_refused(at: int, bits: int) -> None:
    changed = bytearray(CONTENT)
    changed[at] ^= bits
    with pytest.raises(FirmwareError, match="not the one"):
        check_image(manifest(), bytes(changed), KEY.public_key())


@pytest.mark.parametrize("name", ["version", "hardware", "sig"])
def test_a_manifest_of_which_something_is_another_is_refused(name: str) -> None:
    other = {"version": "1.5.1", "hardware": "ct-2", "sig": manifest("1.4.9").sig}[name]
    with pytest.raises(FirmwareError, match="not signed"):
        check_image(replaced(manifest(), **{name: other}), CONTENT, KEY.public_key())


def replaced(made: Manifest, **changed: Any) -> Manifest:
    return Manifest(**{name: getattr(made, name) for name in Manifest.__struct_fields__} | changed)


def test_another_key_and_another_kind_of_key_are_refused() -> None:
    with pytest.raises(FirmwareError, match="not signed"):
        check_image(manifest(), CONTENT, OTHER_KEY.public_key())
    wrong = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(FirmwareError, match="P-256"):
        read_private_key(private_pem(wrong))
    with pytest.raises(FirmwareError, match="P-256"):
        read_public_key(public_pem(wrong.public_key()))
    with pytest.raises(FirmwareError, match="PEM"):
        read_public_key(b"rubbish")


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"format":1}', b"x" * 30_000, b'{"format":2}'])
def test_what_is_no_manifest_says_so(data: bytes) -> None:
    with pytest.raises(FirmwareError, match="manifest"):
        read_manifest(data)


def test_an_image_beyond_four_mib_is_refused() -> None:
    with pytest.raises(FirmwareError, match="4 MiB"):
        manifest(content=bytes(MOST_BYTES + 1))


# --- the store, and a desk that starts anew


async def heard(store: Store, device: Device, version: str = "1.4.0", hardware: str = "ct-1") -> None:

    said = DeviceFirmware(device.id, device.device_id, device.factory_id, version, hardware, 4, "run", NOON)
    await store.keep_device_firmware([said])


async def test_an_image_is_kept_once_and_never_replaced(store: Store) -> None:
    first = await store.add_image(manifest(), CONTENT, by=HQ, now=NOON)
    assert await store.add_image(manifest(), CONTENT, by=HQ, now=NOON) == first
    with pytest.raises(RegistryError, match="other bytes"):
        await store.add_image(manifest(content=b"other"), b"other", by=HQ, now=NOON)
    assert await store.image_content(first.id) == CONTENT
    assert [it.action for it in await store.audit_events(limit=9)].count("firmware.added") == 1


async def test_a_roll_out_takes_who_can_have_it_and_says_who_cannot(store: Store) -> None:
    sites = await register(store, *(f"dev-{number}" for number in range(6)))
    devices = [it.device for it in sites]
    for device, version in zip(devices, ["1.4.0", "1.5.0", "1.6.0", "1.2.0", "1.4.0"], strict=False):
        await heard(store, device, version, "ct-2" if device is devices[4] else "ct-1")
    image = await store.add_image(manifest(min_version="1.3.0"), CONTENT, by=HQ, now=NOON)

    found = await store.outlook(image, Choice(), Plan(), {}, NOON)
    assert found.devices == ("dev-0",)
    assert found.left_out == {"has_it": 1, "newer": 1, "too_old": 1, "hardware": 1, "unheard": 1}

    back = await store.outlook(image, Choice(), Plan(is_forced=True), {}, NOON)
    assert set(back.devices) == {"dev-0", "dev-2"}, "a forced one is a way back"
    with pytest.raises(FirmwareError, match="dev-2 cannot get it: has a newer version"):
        await start_rollout(store, image, Choice("devices", ("dev-2",)), Plan(), by=HQ, now=NOON)

    await start_rollout(store, image, Choice(), Plan(), by=HQ, now=NOON)
    with pytest.raises(FirmwareError, match="is in another roll-out"):
        await start_rollout(store, image, Choice("devices", ("dev-0",)), Plan(), by=HQ, now=NOON)


async def test_a_pre_release_goes_to_devices_only_where_it_is_meant(store: Store) -> None:
    (site,) = await register(store, "dev-0")
    await heard(store, site.device)
    image = await store.add_image(manifest("1.5.0-rc.1"), CONTENT, by=HQ, now=NOON)
    with pytest.raises(FirmwareError, match="pre-release"):
        await start_rollout(store, image, Choice(), Plan(), by=HQ, now=NOON)
    begun = await start_rollout(store, image, Choice(), Plan(allows_pre_release=True), by=HQ, now=NOON)
    assert begun.state is RolloutState.RUNNING


async def test_a_person_who_is_quicker_than_the_core_decides(store: Store) -> None:
    (site,) = await register(store, "dev-0")
    await heard(store, site.device)
    image = await store.add_image(manifest(), CONTENT, by=HQ, now=NOON)
    seen = await start_rollout(store, image, Choice(), Plan(), by=HQ, now=NOON)
    await store.change_rollout(seen.id, RolloutState.STOPPED, by=HQ, now=NOON)
    (update,) = await store.updates(seen.id)

    offered = replace(update, state=UpdateState.OFFERED)
    assert not await store.keep_rollouts([(seen, seen)], [offered], by=HQ)
    assert (await store.updates(seen.id))[0].state is UpdateState.WAITING
    with pytest.raises(RegistryError, match="is over"):
        await store.change_rollout(seen.id, RolloutState.RUNNING, by=HQ, now=NOON)


@dataclass
class World:
    """A core with a desk whose broker is a list, and a clock that stands still."""

    core: Core
    desk: RolloutDesk
    sent: list[tuple[str, dict[str, Any]]]
    image: FirmwareImage
    conn: int = 0

    async def born(self, fw: str, boot: int) -> None:
        self.conn += 1
        self.core.tell("dev-001", birth(self.conn, fw=fw, hw="ct-1", boot=boot), "state")
        await eventually(lambda: bool(self.desk._births))
        await self.desk.look()

    async def says(self, state: str, **more: Any) -> None:
        said = {"v": 1, "cmd": "ota", "ver": "1.5.0", "st": state} | more
        self.desk.answered(_payload(said))
        await self.desk.look()

    async def state(self, rollout: Rollout) -> UpdateState:
        return (await self.core.store.updates(rollout.id))[0].state

    def take(self) -> list[dict[str, Any]]:
        found = [message for _, message in self.sent]
        self.sent.clear()
        return found


def _payload(said: dict[str, Any]) -> Any:

    return payload("dev-001", json.dumps(said).encode(), "res")


@pytest.fixture
async def world(store: Store, metrics: Metrics) -> AsyncIterator[World]:
    await register(store, "dev-001")
    image = await store.add_image(manifest(), CONTENT, by=HQ, now=NOON)
    desk = RolloutDesk(store, metrics, base_url="https://core.example.org/", clock=lambda: NOON)
    async with core(store, metrics, born=desk.born) as running:
        made = World(running, desk, [], image)

        async def send(device_id: str, channel: str, content: bytes) -> None:
            assert channel == "fw"
            made.sent.append((device_id, json.loads(content)))

        desk.send, desk.fleet = send, running.fleet
        yield made


async def test_the_offer_is_as_the_protocol_says_and_comes_again_at_each_birth(world: World) -> None:
    await world.born("1.4.0", 4)
    rollout = await start_rollout(world.core.store, world.image, Choice(), Plan("100%"), by=HQ, now=NOON)
    await world.desk.look()

    offer = {
        "v": 1,
        "ver": "1.5.0",
        "hw": "ct-1",
        "url": "https://core.example.org/firmware/1.5.0/ct-1",
        "size": len(CONTENT),
        "sha256": world.image.sha256,
        "sig": world.image.signature,
        "jitter_s": 0,
    }
    assert world.take() == [offer]
    await world.desk.look()
    assert world.take() == []
    await world.says("downloading", pct=40)
    await world.born("1.4.0", 5)
    assert world.take() == [offer]
    await world.says("rebooting", pct=100)
    await world.born("1.5.0", 6)
    assert await world.state(rollout) is UpdateState.CONFIRMED
    assert world.take() == []


async def test_a_core_that_starts_anew_goes_on_where_it_was(world: World, metrics: Metrics) -> None:
    await world.born("1.4.0", 4)
    rollout = await start_rollout(world.core.store, world.image, Choice(), Plan("100%"), by=HQ, now=NOON)
    await world.desk.look()
    await world.says("rebooting")
    world.take()

    desk = RolloutDesk(world.core.store, Metrics(), base_url="https://core.example.org", clock=lambda: NOON)
    desk.send, desk.fleet, world.desk = world.desk.send, world.desk.fleet, desk
    world.core.fleet._services = replace(world.core.fleet._services, born=desk.born)
    await desk.look()
    assert world.take() == [], "nothing is offered anew to who has it"

    desk.born("dev-001", Birth(firmware="1.4.0", hardware="ct-1", boot=5))
    await desk.look()
    assert await world.state(rollout) is UpdateState.ROLLED_BACK
    assert (await world.core.store.rollout(rollout.id)).ended == "failures"  # type: ignore[union-attr]


async def test_a_roll_out_that_is_stopped_is_withdrawn_and_nothing_downloads_any_more(world: World) -> None:
    await world.born("1.4.0", 4)
    rollout = await start_rollout(world.core.store, world.image, Choice(), Plan("100%"), by=HQ, now=NOON)
    await world.desk.look()
    assert world.desk.permit("dev-001", "1.5.0", "ct-1").value == "yes"
    world.take()
    await world.core.store.change_rollout(rollout.id, RolloutState.STOPPED, by=HQ, now=NOON)
    await world.desk.look()
    assert world.take() == [{"v": 1, "ver": None}]
    assert world.desk.permit("dev-001", "1.5.0", "ct-1").value == "no"
    await world.desk.look()
    assert world.take() == []


async def test_rubbish_from_a_node_harms_nobody(world: World) -> None:
    for content in (b"{", b"[]", b'{"pct":"x"}', b"\xff", b'{"st":7}'):
        world.desk.answered(replace_body(content))
    await world.desk.look()


def replace_body(content: bytes) -> Any:

    return payload("dev-001", content, "res")


# --- downloads over real HTTP


@dataclass
class Site:
    portal: Portal
    device: TestClient[Any, Any]

    async def get(self, **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.device.get("/firmware/1.5.0/ct-1", headers=named) as answer:
            return answer.status, await answer.read(), answer.headers


def basic(device: Device, password: str = "") -> str:
    pair = f"{device.device_id}:{password or device_password(DEVICE_KEY, device)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


async def offered(portal: Portal) -> None:
    store, device = portal.core.store, portal.kangaita.device
    await heard(store, device)
    image = await store.add_image(manifest(), CONTENT, by=HQ, now=NOON)
    rollout = await start_rollout(store, image, Choice("devices", ("dev-001",)), Plan("100%"), by=HQ, now=NOON)
    (update,) = await store.updates(rollout.id)
    await store.keep_rollouts([], [replace(update, state=UpdateState.OFFERED, changed_at=NOON)], by=HQ)
    await portal.services.rollouts.look()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    options: dict[str, Any] = {"device_key": DEVICE_KEY, "firmware_key": KEY.public_key}
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}", **options) as portal:
        await offered(portal)
        client = portal.client()
        client.session.headers["Authorization"] = basic(portal.kangaita.device)
        yield Site(portal, client)


async def test_a_device_downloads_the_whole_image(site: Site) -> None:
    status, content, headers = await site.get()
    assert (status, content) == (200, CONTENT)
    assert headers["ETag"].strip('"') == manifest().sha256
    assert headers["Accept-Ranges"] == "bytes"


SIZE = len(CONTENT)


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-", 0, SIZE), ("bytes=65536-", 65536, SIZE), (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        ("bytes=0-0", 0, 1), ("bytes=100-199", 100, 200), (f"bytes=5-{SIZE + 9}", 5, SIZE),
        ("bytes=-7", SIZE - 7, SIZE),
        (f"bytes=-{SIZE + 5}", 0, SIZE),
    ],
)  # fmt: skip
async def test_a_device_goes_on_from_any_byte(site: Site, asked: str, first: int, end: int) -> None:
    status, content, headers = await site.get(Range=asked)
    assert (status, content) == (206, CONTENT[first:end])
    assert headers["Content-Range"] == f"bytes {first}-{end - 1}/{SIZE}"
    assert headers["Content-Length"] == str(end - first)


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}", "bytes=-0"])
async def test_what_is_beyond_the_image_is_answered_416_with_its_size(site: Site, asked: str) -> None:
    status, content, headers = await site.get(Range=asked)
    assert (status, content, headers["Content-Range"]) == (416, b"", f"bytes */{SIZE}")


@pytest.mark.parametrize("asked", ["bytes=5-4", "bytes=a-", "items=0-4", "bytes=0-1,4-5", "bytes=-", "bytes"])
async def test_a_range_that_means_nothing_is_ignored(site: Site, asked: str) -> None:
    status, content, _ = await site.get(Range=asked)
    assert (status, content) == (200, CONTENT)


async def test_a_range_of_another_image_is_answered_with_the_whole_of_this_one(site: Site) -> None:
    assert (await site.get(Range="bytes=5-9", If_Range=f'"{manifest().sha256}"'))[0] == 206
    assert (await site.get(Range="bytes=5-9", If_Range='"other"'))[:2] == (200, CONTENT)
    assert (await site.get(If_None_Match=f'"{manifest().sha256}"'))[:2] == (304, b"")


async def test_nobody_else_downloads_it(site: Site) -> None:
    portal = site.portal
    stranger = portal.client()
    for authorization, status in (
        (basic(portal.mungania.device), 403),
        (basic(portal.kangaita.device, "wrong"), 401),
        ("", 401),
    ):
        headers = {"Authorization": authorization} if authorization else {}
        async with stranger.get("/firmware/1.5.0/ct-1", headers=headers) as answer:
            assert answer.status == status
    person = await portal.signed_in("operator@example.org")
    assert (await person.get("/firmware/1.5.0/ct-1")).status == 403
    async with site.device.get("/firmware/1.4.9/ct-1") as answer:
        assert answer.status == 403


async def test_with_too_many_downloads_a_device_is_told_to_come_later(site: Site) -> None:
    rollouts = site.portal.services.rollouts
    rollouts.limits = replace(rollouts.limits, downloads_at_once=1)
    with rollouts.download() as has_place:
        assert has_place
        status, _, headers = await site.get()
        assert (status, headers["Retry-After"]) == (503, "60")
    assert (await site.get())[0] == 200


# --- the API


def form(image: bytes | None, beside: bytes | None) -> FormData:
    made = FormData()
    made.add_field("about", "an image")
    for name, content in (("image", image), ("manifest", beside)):
        if content is not None:
            made.add_field(name, io.BytesIO(content), filename=name)
    return made


@pytest.mark.parametrize(
    ("image", "beside", "field", "text"),
    [
        (None, write_manifest(manifest("1.6.0")), "image", "Choose a file."),
        (CONTENT, None, "manifest", "Choose a file."),
        (CONTENT, b"rubbish", "manifest", "no manifest"),
        (CONTENT + b"x", write_manifest(manifest("1.6.0")), "image", "not the one"),
        (CONTENT, write_manifest(sign_image(CONTENT, OTHER_KEY, version="1.6.0", hardware="ct-1")), "manifest", "sign"),
    ],
)
async def test_what_is_no_signed_image_is_refused_with_what_to_do(
    site: Site, image: bytes | None, beside: bytes | None, field: str, text: str
) -> None:
    hq = await site.portal.signed_in("hq@example.org")
    async with hq.post("/api/firmware/images/", data=form(image, beside)) as answer:
        assert answer.status == 422
        ((at, message),) = [(it["field"], it["message"]) for it in (await answer.json())["errors"]]
        assert at == field
        assert text in message


async def test_an_image_of_four_mib_is_taken_and_a_larger_one_is_not(site: Site) -> None:
    hq = await site.portal.signed_in("hq@example.org")
    content = bytes(MOST_BYTES)
    beside = write_manifest(manifest("2.0.0", content))
    assert (await hq.post("/api/firmware/images/", data=form(content, beside))).status == 200
    assert (await hq.post("/api/firmware/images/", data=form(content + bytes(100_000), beside))).status == 413


async def test_a_roll_out_by_the_api(site: Site) -> None:
    hq, store = await site.portal.signed_in("hq@example.org"), site.portal.core.store
    await heard(store, site.portal.mungania.device)
    asked = {"version": "1.5.0", "hardware": "ct-1", "soak_minutes": 5}
    outlook = await (await hq.post("/api/firmware/rollouts/outlook/", json=asked)).json()
    assert outlook == {"devices": ["dev-002"], "sizes": [1], "left_out": {"busy": 1}}

    made = await (await hq.post("/api/firmware/rollouts/", json=asked)).json()
    assert (made["state"], made["devices"], made["soak_s"]) == ("running", {"waiting": 1}, 300)
    base = f"/api/firmware/rollouts/{made['id']}/"
    for step, state in (("pause", "paused"), ("resume", "running"), ("stop", "stopped")):
        assert (await (await hq.post(f"{base}{step}/")).json())["state"] == state
    assert (await hq.post(f"{base}resume/")).status == 409
    (device,) = (await (await hq.get(f"{base}devices/")).json())["results"]
    assert (device["device_id"], device["state"], device["stage"]) == ("dev-002", "waiting", 1)
    versions = (await (await hq.get("/api/firmware/versions/")).json())["results"]
    assert versions == [{"version": "1.4.0", "hardware": "ct-1", "devices": 2}]


# --- the command line


def test_an_image_is_signed_added_and_rolled_out_by_the_command_line(tmp_path: Path) -> None:
    runner, image = CliRunner(), tmp_path / "node.bin"
    image.write_bytes(CONTENT)
    config = tmp_path / "carbontrack.yaml"
    config.write_text(
        f"database: {{url: 'sqlite://{tmp_path}/core.sqlite3'}}\nfirmware: {{public_key_file: key.pub.pem}}\n", "utf-8"
    )

    def run(*words: str, code: int = 0) -> str:
        found = runner.invoke(app, words)
        assert found.exit_code == code, found.output
        return found.output

    key = str(tmp_path / "key.pem")
    run("firmware", "new-key", key)
    assert "never overwritten" in run("firmware", "new-key", key, code=2)
    assert (tmp_path / "key.pem").stat().st_mode & 0o77 == 0
    run("firmware", "sign", str(image), "--key", key, "--version", "1.5.0", "--hardware", "ct-1", "--notes", "New.")
    run("migrate", "--config", str(config))
    assert "1.5.0 for ct-1 is there" in run("firmware", "add", str(image), "--config", str(config))
    assert "102,400 bytes" in run("firmware", "list", "--config", str(config))
    start = ("firmware", "rollout", "start", "1.5.0", "--hardware", "ct-1", "--config", str(config))
    assert "no device that could get it" in run(*start, code=2)
    assert "no image" in run(
        "firmware", "rollout", "start", "9.9.9", "--hardware", "x", "--config", str(config), code=2
    )
    image.write_bytes(b"other")
    assert "not the one" in run("firmware", "add", str(image), "--config", str(config), code=2)


async def test_images_and_roll_outs_are_in_a_backup(tmp_path: Path) -> None:

    url = f"sqlite://{tmp_path / 'core.sqlite3'}"
    async with migrated_store(url) as store:
        await store.add_image(manifest(), CONTENT, by=HQ, now=NOON + timedelta(hours=1))
        found = await contents(lambda sql: _query(url, sql), TABLES_SQLITE)
    assert found.tables["firmware_image"] == 1


async def _query(url: str, sql: str) -> Any:

    async with aiosqlite.connect(url.removeprefix("sqlite://")) as database:
        return list(await database.execute_fetchall(sql))
