"""Firmware: signed images, what devices say that they run, and roll-outs with every device of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from tortoise.functions import Count
from tortoise.transactions import in_transaction

from carbontrack.firmware import (
    HELD,
    LEFT_OUT,
    LIVE,
    Candidate,
    DeviceFirmware,
    Ended,
    FirmwareError,
    FirmwareImage,
    LeftOut,
    Manifest,
    Plan,
    Rollout,
    RolloutState,
    Update,
    UpdateState,
    check_plan,
    in_order,
    stage_of,
    stage_sizes,
    why_not,
)
from carbontrack.model import AuditAction, DeviceStatus, Origin
from carbontrack.store.audit import Audit, Journal
from carbontrack.store.context import RegistryError, in_context
from carbontrack.store.work import storable_text
from carbontrack.tables import (
    DeviceFirmwareRow,
    DeviceRow,
    FactoryRow,
    FirmwareImageRow,
    FirmwareRolloutRow,
    FirmwareUpdateRow,
)
from carbontrack.words import gettext as _

NEAR = timedelta(minutes=10)
"""A device that was heard within this is there: it is among the first."""
AT_ONCE = 500
"""Rows of one statement."""
_IMAGE = tuple(item.name for item in fields(FirmwareImage))
_ROLLOUT = tuple(item.name for item in fields(Rollout) if item.name not in {"image", "state", "ended"})
_UPDATE = tuple(item.name for item in fields(Update) if item.name not in {"device_pk", "device_id", "state"})
_MOVING = ("state", "pct", "error", "boot", "faults", "offered_at", "changed_at", "seen_at", "ended_at")
"""What of an update changes."""
_LIVE = [state.value for state in LIVE]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which devices are to get an image: ``kind`` is all, region, factory or devices, ``names`` which of them."""

    kind: str = "all"
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}:{self.names[0]}" if self.kind in {"region", "factory"} and self.names else self.kind


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a roll-out would come to."""

    devices: tuple[str, ...]
    """In the order in which they are offered the image."""
    sizes: tuple[int, ...]
    left_out: Mapping[LeftOut, int]


class Firmware(Audit):
    """Images, versions and roll-outs. Only the core moves a roll-out on; people start, pause, resume and stop it."""

    # --- images

    @in_context
    async def add_image(self, manifest: Manifest, content: bytes, *, by: Origin, now: datetime) -> FirmwareImage:
        """Keep an image that was checked; the same one again is given back as it is.

        Raises :class:`RegistryError` where its version of this hardware is there with other bytes.
        """
        async with self._changing(by) as journal:
            names = {"version": manifest.version, "hardware": manifest.hardware}
            there = await FirmwareImageRow.filter(**names).only(*_IMAGE).first()
            if there is not None:
                if there.sha256 == manifest.sha256:
                    return _image(there)
                raise RegistryError(
                    _("%(version)s for %(hardware)s is there with other bytes: give it another version.", **names),
                    "manifest",
                )
            row = await FirmwareImageRow.create(
                version=manifest.version,
                hardware=manifest.hardware,
                size=manifest.size,
                sha256=manifest.sha256,
                signature=manifest.sig,
                notes=storable_text(manifest.notes, 2000),
                min_version=manifest.min_version,
                added_at=now,
                added_by=storable_text(by.name, 200),
                content=content,
            )
            said = {**names, "size": manifest.size, "sha256": manifest.sha256}
            await journal.note(AuditAction.FIRMWARE_ADDED, "firmware", row.id, after=said)
        return _image(row)

    @in_context
    async def images(self) -> list[FirmwareImage]:
        """All images, the newest first."""
        return [_image(row) for row in await FirmwareImageRow.all().order_by("-id").only(*_IMAGE)]

    @in_context
    async def image(self, version: str, hardware: str) -> FirmwareImage | None:
        """The image of a version for a hardware."""
        row = await FirmwareImageRow.filter(version=version, hardware=hardware).only(*_IMAGE).first()
        return _image(row) if row is not None else None

    @in_context
    async def image_by_id(self, image_id: int) -> FirmwareImage | None:
        """An image by its number."""
        row = await FirmwareImageRow.filter(id=image_id).only(*_IMAGE).first()
        return _image(row) if row is not None else None

    @in_context
    async def image_content(self, image_id: int) -> bytes | None:
        """The bytes of an image."""
        row = await FirmwareImageRow.get_or_none(id=image_id).only("content")
        return bytes(row.content) if row is not None else None

    # --- what devices run

    @in_context
    async def keep_device_firmware(self, heard: Sequence[DeviceFirmware]) -> None:
        """Keep what devices have just said that they run; of those that are gone nothing."""
        there = {row.id for row in await DeviceRow.filter(id__in=[it.device_pk for it in heard])}
        rows = [
            DeviceFirmwareRow(
                device_id=it.device_pk,
                version=it.version,
                hardware=it.hardware,
                boot=it.boot,
                mode=it.mode,
                heard_at=it.heard_at,
            )
            for it in heard
            if it.device_pk in there
        ]
        for at in range(0, len(rows), AT_ONCE):
            await DeviceFirmwareRow.bulk_create(
                rows[at : at + AT_ONCE],
                on_conflict=["device_id"],
                update_fields=["version", "hardware", "boot", "mode", "heard_at"],
            )

    @in_context
    async def device_firmware(self, factory_id: int | None = None) -> list[DeviceFirmware]:
        """What registered devices said last that they run."""
        query = (
            DeviceFirmwareRow.all() if factory_id is None else DeviceFirmwareRow.filter(device__factory_id=factory_id)
        )
        return [
            DeviceFirmware(
                row.device_id,
                row.device.device_id,
                row.device.factory_id,
                row.version,
                row.hardware,
                row.boot,
                row.mode,
                row.heard_at,
            )
            for row in await query.prefetch_related("device")
        ]

    # --- starting

    @in_context
    async def outlook(
        self, image: FirmwareImage, choice: Choice, plan: Plan, heard: Mapping[str, datetime], now: datetime
    ) -> Outlook:
        """What a roll-out would come to. Raises as :meth:`start_rollout`, but not where no device is left."""
        return (await _outlook(image, choice, plan, heard, now))[0]

    @in_context
    async def start_rollout(
        self,
        image: FirmwareImage,
        choice: Choice,
        plan: Plan,
        heard: Mapping[str, datetime],
        *,
        by: Origin,
        now: datetime,
    ) -> Rollout:
        """Begin a roll-out; a running core offers the image. ``heard`` says when each device was heard last.

        Raises :class:`FirmwareError` for a plan or a choice that cannot be, or where there is no device for it.
        """
        async with self._changing(by) as journal:
            outlook, chosen = await _outlook(image, choice, plan, heard, now)
            if not chosen:
                raise FirmwareError(_nobody(outlook.left_out), "devices")
            row = await FirmwareRolloutRow.create(
                image_id=image.id,
                chosen=storable_text(str(choice), 300),
                stages=plan.stages.strip()[:100],
                stage_count=len(outlook.sizes),
                soak_s=plan.soak_s,
                failure_limit=plan.failure_limit,
                is_forced=plan.is_forced,
                state=RolloutState.RUNNING.value,
                stage=0,
                stage_began_at=now,
                started_at=now,
                started_by=storable_text(by.name, 200),
            )
            rows = [
                FirmwareUpdateRow(
                    rollout_id=row.id,
                    device_id=it.device_pk,
                    factory_id=it.factory_id,
                    stage=stage_of(number, outlook.sizes),
                    state=UpdateState.WAITING.value,
                    before=it.version,
                    boot=it.boot,
                )
                for number, it in enumerate(chosen)
            ]
            await FirmwareUpdateRow.bulk_create(rows, batch_size=AT_ONCE)
            said = {"version": image.version, "hardware": image.hardware, "chosen": str(choice), "devices": len(chosen)}
            more = {"stages": plan.stages, "soak_s": plan.soak_s, "failure_limit": plan.failure_limit}
            forced = {"is_forced": True} if plan.is_forced else {}
            await journal.note(AuditAction.ROLLOUT_STARTED, "rollout", row.id, after=said | more | forced)
        return _rollout(row, image)

    # --- reading

    @in_context
    async def rollouts(self, *, before_id: int | None = None, limit: int = 20) -> list[Rollout]:
        """Roll-outs, newest first."""
        query = FirmwareRolloutRow.all() if before_id is None else FirmwareRolloutRow.filter(id__lt=before_id)
        return await _with_images(await query.order_by("-id").limit(limit))

    @in_context
    async def rollout(self, rollout_id: int) -> Rollout | None:
        """One roll-out."""
        found = await _with_images(await FirmwareRolloutRow.filter(id=rollout_id))
        return found[0] if found else None

    @in_context
    async def open_rollouts(self) -> list[Rollout]:
        """Roll-outs that the core has to look after: live ones, and those of which an offer is still out."""
        held = (
            await FirmwareUpdateRow.filter(state__in=[it.value for it in HELD])
            .distinct()
            .values_list("rollout_id", flat=True)
        )
        live = await FirmwareRolloutRow.filter(state__in=_LIVE).values_list("id", flat=True)
        rows = await FirmwareRolloutRow.filter(id__in=[*held, *live]).order_by("id")
        return await _with_images(rows)

    @in_context
    async def updates(self, rollout_id: int) -> list[Update]:
        """The devices of a roll-out, in the order in which they are offered the image."""
        rows = await FirmwareUpdateRow.filter(rollout_id=rollout_id).order_by("id").prefetch_related("device")
        return [_update(row) for row in rows]

    @in_context
    async def updates_of(
        self, device_pk: int, *, factory_id: int | None = None, limit: int = 5
    ) -> list[tuple[Update, Rollout]]:
        """A device's updates, newest first; with ``factory_id`` those of the time when it stood there."""
        query = FirmwareUpdateRow.filter(device_id=device_pk)
        if factory_id is not None:
            query = query.filter(factory_id=factory_id)
        rows = await query.order_by("-id").limit(limit).prefetch_related("device")
        found = await _with_images(await FirmwareRolloutRow.filter(id__in=[row.rollout_id for row in rows]))
        rollouts = {it.id: it for it in found}
        return [(_update(row), rollouts[row.rollout_id]) for row in rows]

    @in_context
    async def update_counts(self, rollout_ids: Sequence[int]) -> dict[int, dict[UpdateState, int]]:
        """How many devices of these roll-outs stand how."""
        found: dict[int, dict[UpdateState, int]] = {}
        rows = (
            await FirmwareUpdateRow.filter(rollout_id__in=rollout_ids)
            .annotate(count=Count("id"))
            .group_by("rollout_id", "state")
            .values_list("rollout_id", "state", "count")
        )
        for rollout_id, state, count in rows:
            found.setdefault(rollout_id, {})[UpdateState(state)] = count
        return found

    # --- moving on

    @in_context
    async def change_rollout(self, rollout_id: int, to: RolloutState, *, by: Origin, now: datetime) -> Rollout:
        """Pause, resume or stop a roll-out. Raises :class:`RegistryError` for one that is over."""
        actions = {
            RolloutState.PAUSED: AuditAction.ROLLOUT_PAUSED,
            RolloutState.RUNNING: AuditAction.ROLLOUT_RESUMED,
            RolloutState.STOPPED: AuditAction.ROLLOUT_STOPPED,
        }
        async with self._changing(by) as journal:
            row = await FirmwareRolloutRow.get_or_none(id=rollout_id).prefetch_related("image")
            if row is None:
                raise RegistryError(_("there is no such roll-out"))
            if row.state not in _LIVE:
                raise RegistryError(_("this roll-out is over"))
            if row.state != to.value:
                before, row.state = row.state, to.value
                if to is RolloutState.STOPPED:
                    row.ended, row.ended_at, row.ended_by = Ended.PERSON.value, now, storable_text(by.name, 200)
                await row.save(update_fields=["state", "ended", "ended_at", "ended_by"])
                await journal.note(actions[to], "rollout", row.id, before={"state": before}, after={"state": to.value})
        return _rollout(row, _image(row.image))

    @in_context
    async def keep_rollouts(
        self, moved: Sequence[tuple[Rollout, Rollout]], updates: Iterable[Update], *, by: Origin
    ) -> bool:
        """Keep how roll-outs and devices stand now: all or nothing.

        False: a person has paused, resumed or stopped one of them meanwhile. Then nothing is kept.
        """
        ended = [after for before, after in moved if before.is_live and not after.is_live]
        try:
            if ended:
                async with self._changing(by) as journal:
                    await _keep(moved, updates)
                    for rollout in ended:
                        await _note_end(journal, rollout)
            else:
                async with in_transaction():
                    await _keep(moved, updates)
        except _Overtaken:
            return False
        return True


class _Overtaken(Exception):
    """A person was quicker."""


async def _keep(moved: Iterable[tuple[Rollout, Rollout]], updates: Iterable[Update]) -> None:
    for before, after in moved:
        changed = await FirmwareRolloutRow.filter(id=before.id, state=before.state.value).update(
            state=after.state.value,
            stage=after.stage,
            stage_began_at=after.stage_began_at,
            settled_at=after.settled_at,
            ended=after.ended.value,
            ended_at=after.ended_at,
            ended_by=after.ended_by,
        )
        if not changed:
            raise _Overtaken
    for update in updates:
        values: dict[str, Any] = {name: getattr(update, name) for name in _MOVING}
        await FirmwareUpdateRow.filter(id=update.id).update(**values | {"state": update.state.value})


async def _note_end(journal: Journal, rollout: Rollout) -> None:
    action = AuditAction.ROLLOUT_DONE if rollout.state is RolloutState.DONE else AuditAction.ROLLOUT_STOPPED
    said = {"state": rollout.state.value, "reason": rollout.ended.value, "version": rollout.image.version}
    await journal.note(action, "rollout", rollout.id, after=said)


async def _outlook(
    image: FirmwareImage, choice: Choice, plan: Plan, heard: Mapping[str, datetime], now: datetime
) -> tuple[Outlook, list[Candidate]]:
    check_plan(plan, image)
    devices = await _candidates(choice, heard, now)
    reasons = {it.device_id: why_not(image, it, is_forced=plan.is_forced) for it in devices}
    chosen = in_order(image, [it for it in devices if reasons[it.device_id] is None])
    left_out = {name: why for name, why in reasons.items() if why is not None}
    if choice.kind == "devices" and left_out:
        wrong, why = next(iter(left_out.items()))
        raise FirmwareError(_("%(device)s cannot get it: %(why)s.", device=wrong, why=_(LEFT_OUT[why])), "devices")
    sizes = stage_sizes(plan.stages, len(chosen)) if chosen else []
    return Outlook(tuple(it.device_id for it in chosen), tuple(sizes), Counter(left_out.values())), chosen


async def _candidates(choice: Choice, heard: Mapping[str, datetime], now: datetime) -> list[Candidate]:
    query = DeviceRow.filter(status=DeviceStatus.ACTIVE.value)
    if choice.kind == "region":
        query = query.filter(factory__region=choice.names[0] if choice.names else "")
    elif choice.kind == "factory":
        slug = choice.names[0] if choice.names else ""
        if not await FactoryRow.exists(slug=slug):
            raise FirmwareError(_("There is no factory %(name)s.", name=repr(slug)), "factory")
        query = query.filter(factory__slug=slug)
    elif choice.kind == "devices":
        query = query.filter(device_id__in=choice.names)
    elif choice.kind != "all":
        raise FirmwareError(_("Choose all devices, a region, a factory or some devices."), "kind")
    rows = await query
    if choice.kind == "devices":
        unknown = sorted(set(choice.names) - {row.device_id for row in rows})
        if unknown or not choice.names:
            name = repr(unknown[0]) if unknown else "-"
            raise FirmwareError(_("There is no device %(name)s that is enabled.", name=name), "devices")
    said = {row.device_id: row for row in await DeviceFirmwareRow.filter(device_id__in=[row.id for row in rows])}
    updates = await FirmwareUpdateRow.filter(rollout__state__in=_LIVE).only("id", "device_id")
    busy = {update.device_id for update in updates}
    return [
        Candidate(
            row.id,
            row.device_id,
            row.factory_id,
            said[row.id].version if row.id in said else "",
            said[row.id].hardware if row.id in said else "",
            said[row.id].boot if row.id in said else None,
            row.device_id in heard and now - heard[row.device_id] <= NEAR,
            row.id in busy,
        )
        for row in rows
    ]


def _nobody(left_out: Mapping[LeftOut, int]) -> str:
    if not left_out:
        return _("There is no device that could get it.")
    reasons = ", ".join(f"{count} {_(LEFT_OUT[why])}" for why, count in left_out.items())
    return _("There is no device that could get it: %(reasons)s.", reasons=reasons)


async def _with_images(rows: Sequence[FirmwareRolloutRow]) -> list[Rollout]:
    ids = {row.image_id for row in rows}
    images = {row.id: _image(row) for row in await FirmwareImageRow.filter(id__in=ids).only(*_IMAGE)}
    return [_rollout(row, images[row.image_id]) for row in rows]


def _image(row: FirmwareImageRow) -> FirmwareImage:
    return FirmwareImage(**{name: getattr(row, name) for name in _IMAGE})


def _rollout(row: FirmwareRolloutRow, image: FirmwareImage) -> Rollout:
    values: dict[str, Any] = {name: getattr(row, name) for name in _ROLLOUT}
    return Rollout(**values, image=image, state=RolloutState(row.state), ended=Ended(row.ended or ""))


def _update(row: FirmwareUpdateRow) -> Update:
    values: dict[str, Any] = {name: getattr(row, name) for name in _UPDATE}
    return Update(**values, device_pk=row.device_id, device_id=row.device.device_id, state=UpdateState(row.state))
