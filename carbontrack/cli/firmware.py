"""The commands for firmware: signing images where they are built, and bringing them to devices."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carbontrack.cli.common import ConfigOption, from_here, load, stop, with_store, write_new

if TYPE_CHECKING:  # the store takes a third of a command's start, and not every command needs it
    from carbontrack.firmware import FirmwareImage, Rollout, RolloutState
    from carbontrack.store import Store

firmware_app = typer.Typer(help="Sign, add and roll out firmware.", no_args_is_help=True)
rollout_app = typer.Typer(help="Bring an image to devices, stage by stage.", no_args_is_help=True)
firmware_app.add_typer(rollout_app, name="rollout")
SUFFIX = ".ctfw"


@firmware_app.command("new-key")
def new_signing_key(
    key: Annotated[Path, typer.Argument(help="Where the private key is to be; beside it the public one, .pub.pem.")],
) -> None:
    """Make a key to sign firmware with. Keep the private one away from the platform: docs/firmware.md.

    Example: carbontrack firmware new-key firmware-key.pem
    """
    from carbontrack.firmware import new_key, private_pem, public_pem  # noqa: PLC0415  # see common.run

    made, public = new_key(), key.with_suffix(".pub.pem")
    for path in (key, public):
        if path.exists():
            stop(f"{path} is there already: choose another name, a key is never overwritten.")
    write_new(key, private_pem(made))
    public.write_bytes(public_pem(made.public_key()))
    typer.echo(f"{key}: keep it off line; whoever has it can make every device run anything.")
    typer.echo(f"{public}: for firmware.public_key_file of the platform, and for every device when it is provisioned.")


@firmware_app.command("sign")
def sign(
    image: Annotated[Path, typer.Argument(help="What the build made, at most 4 MiB.")],
    key: Annotated[Path, typer.Option(help="The private key (carbontrack firmware new-key).")],
    version: Annotated[str, typer.Option(help="For example 1.5.0, or 1.5.0-rc.1 for a pre-release.")],
    hardware: Annotated[str, typer.Option(help="Which boards it is for, for example ct-1.")],
    notes: Annotated[str, typer.Option(help="What is new, for people.")] = "",
    min_version: Annotated[str, typer.Option(help="The oldest version that may take it, for example 1.3.0.")] = "",
) -> None:
    """Sign an image: writes its manifest beside it, IMAGE.ctfw. Needs no platform.

    Example: carbontrack firmware sign node.bin --key firmware-key.pem --version 1.5.0 --hardware ct-1
    """
    from carbontrack.firmware import (  # noqa: PLC0415  # see common.run
        FirmwareError,
        read_private_key,
        sign_image,
        write_manifest,
    )

    try:
        made = sign_image(
            _read(image),
            read_private_key(_read(key)),
            version=version,
            hardware=hardware,
            notes=notes,
            min_version=min_version,
        )
    except FirmwareError as error:
        stop(str(error))
    written = image.with_name(image.name + SUFFIX)
    written.write_bytes(write_manifest(made))
    typer.echo(f"{written}: {version} for {hardware}, {made.size:,} bytes, SHA-256 {made.sha256}")


@firmware_app.command("add")
def add(
    image: Annotated[Path, typer.Argument(help="The image.")],
    manifest: Annotated[Path | None, typer.Argument(help="Its manifest; without it, IMAGE.ctfw.")] = None,
    config: ConfigOption = None,
) -> None:
    """Give the platform a signed image. Nothing is sent to devices yet.

    Example: carbontrack firmware add node.bin node.bin.ctfw --config config/carbontrack.yaml
    """
    from carbontrack.firmware import FirmwareError, check_image, public_key_at, read_manifest  # noqa: PLC0415  # see run

    content, beside = _read(image), _read(manifest or image.with_name(image.name + SUFFIX))
    try:
        key = public_key_at(load(config).firmware.public_key_file)
        said = read_manifest(beside)
        check_image(said, content, key)
    except FirmwareError as error:
        stop(str(error))

    async def command(store: Store) -> None:
        added = await store.add_image(said, content, by=from_here(), now=datetime.now(UTC))
        typer.echo(f"{added.version} for {added.hardware} is there.")

    with_store(config, command)


@firmware_app.command("list")
def list_images(config: ConfigOption = None) -> None:
    """List images, and how many devices run each version."""

    async def command(store: Store) -> None:
        running = Counter((it.version, it.hardware) for it in await store.device_firmware())
        for image in await store.images():
            count = running.pop((image.version, image.hardware), 0)
            typer.echo(f"{image.version:16} {image.hardware:12} {image.size:9,} bytes  {count} devices  {image.notes}")
        for (version, hardware), count in sorted(running.items()):
            typer.echo(f"{version or '-':16} {hardware or '-':12} {'no image':>15}  {count} devices")

    with_store(config, command)


@rollout_app.command("start")
def start(
    version: Annotated[str, typer.Argument(help="The image's version.")],
    hardware: Annotated[str, typer.Option(help="Which boards, for example ct-1.")],
    region: Annotated[str, typer.Option(help="Only devices of this region.")] = "",
    factory: Annotated[str, typer.Option(help="Only devices of this factory, by its name in addresses.")] = "",
    device: Annotated[list[str] | None, typer.Option(help="Only this device; may be given several times.")] = None,
    stages: Annotated[str, typer.Option(help="Devices or shares that have it after each stage.")] = "1, 10%, 50%, 100%",
    soak_minutes: Annotated[int, typer.Option(min=0, max=43_200, help="For so long all must be well.")] = 60,
    failure_limit: Annotated[int, typer.Option(min=1, max=10_000, help="With so many failures it stops.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Also where something newer runs: a way back.")] = False,
    pre_release: Annotated[bool, typer.Option("--pre-release", help="A pre-release is meant.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would come to.")] = False,
    config: ConfigOption = None,
) -> None:
    """Start a roll-out; a running core offers the image to devices.

    Example: carbontrack firmware rollout start 1.5.0 --hardware ct-1 --stages "1, 10%, 100%" --soak-minutes 120
    """
    from carbontrack.firmware import FirmwareError, Plan  # noqa: PLC0415  # see common.run

    given = [name for name, it in (("region", region), ("factory", factory), ("devices", device)) if it]
    if len(given) > 1:
        stop("Give one of --region, --factory and --device.")
    settings = load(config)
    if not (settings.firmware.base_url or settings.http.public_url):
        typer.echo(
            "Devices are told where to download from by http.public_url or firmware.base_url: set one.", err=True
        )
    plan = Plan(stages, soak_minutes * 60, failure_limit, force, pre_release)

    async def command(store: Store) -> None:
        from carbontrack.rollouts import outlook, start_rollout  # noqa: PLC0415  # see common.run
        from carbontrack.store import Choice  # noqa: PLC0415  # as above

        names = tuple(device or ()) or tuple(filter(None, (region or factory,)))
        image = await _image(store, version, hardware)
        choice, now = Choice(given[0] if given else "all", names), datetime.now(UTC)
        try:
            if dry_run:
                found = await outlook(store, image, choice, plan, now)
                typer.echo(f"{len(found.devices)} devices, after each stage: {', '.join(map(str, found.sizes))}")
                for why, count in found.left_out.items():
                    typer.echo(f"left out: {count} ({why.value})")
                return
            made = await start_rollout(store, image, choice, plan, by=from_here(), now=now)
        except FirmwareError as error:
            stop(str(error))
        typer.echo(f"Roll-out {made.id} has begun. See: carbontrack firmware rollout show {made.id}")

    with_store(config, command)


@rollout_app.command("pause")
def pause(number: int, config: ConfigOption = None) -> None:
    """Let no further device begin; those that have begun go on."""
    _change(number, "paused", config)


@rollout_app.command("resume")
def resume(number: int, config: ConfigOption = None) -> None:
    """Let a paused roll-out go on."""
    _change(number, "running", config)


@rollout_app.command("stop")
def stop_rollout(number: int, config: ConfigOption = None) -> None:
    """End a roll-out for good; what is not yet installed is withdrawn."""
    _change(number, "stopped", config)


@rollout_app.command("show")
def show(
    number: Annotated[int | None, typer.Argument(help="Which one; without it, the last ones.")] = None,
    config: ConfigOption = None,
) -> None:
    """Show the last roll-outs, or one with its devices."""

    async def command(store: Store) -> None:
        if number is None:
            for rollout in await store.rollouts():
                typer.echo(_line(rollout))
            return
        typer.echo(_line(await _rollout(store, number)))
        for it in await store.updates(number):
            state = f"{it.state.value} {it.pct} %" if it.state.value == "downloading" else it.state.value
            typer.echo(f"  stage {it.stage + 1}  {it.device_id:24} {state:16} {it.before:12} {it.error}".rstrip())

    with_store(config, command)


def _line(rollout: Rollout) -> str:
    image = rollout.image
    ended = f" ({rollout.ended.value})" if rollout.ended.value else ""
    stage = f"stage {rollout.stage + 1} of {rollout.stage_count}, {rollout.chosen}"
    return f"{rollout.id:4}  {image.version} for {image.hardware}: {rollout.state.value}{ended}, {stage}"


def _change(number: int, to: str, config: Path | None) -> None:
    async def command(store: Store) -> None:
        from carbontrack.firmware import RolloutState as States  # noqa: PLC0415  # see common.run

        state: RolloutState = States(to)
        await store.change_rollout(number, state, by=from_here(), now=datetime.now(UTC))
        typer.echo(f"Roll-out {number} is {to}.")

    with_store(config, command)


async def _image(store: Store, version: str, hardware: str) -> FirmwareImage:
    found = await store.image(version, hardware)
    if found is None:
        stop(f"There is no image {version} for {hardware}. See: carbontrack firmware list")
    return found


async def _rollout(store: Store, number: int) -> Rollout:
    found = await store.rollout(number)
    if found is None:
        stop(f"There is no roll-out {number}. See: carbontrack firmware rollout show")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        stop(f"{path}: {error.strerror}")
