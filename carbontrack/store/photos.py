"""Photos of delivery notes: kept beside the entry that they prove, with their SHA-256, and never changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime

from tortoise.exceptions import IntegrityError

from carbontrack.model import AuditAction, Origin
from carbontrack.store.audit import Audit
from carbontrack.store.context import RegistryError, in_context
from carbontrack.tables import EnergyEntryRow, EntryPhotoRow
from carbontrack.words import gettext as _

MOST_PHOTOS = 10
"""Of one entry."""


@dataclass(frozen=True, slots=True)
class EntryPhoto:
    """A photo of an energy entry, without its content. ``number`` counts from 1 within the entry."""

    entry_id: int
    factory_id: int
    number: int
    sha256: str
    media_type: str
    width: int
    height: int
    size: int
    """Bytes."""
    author: str
    added_at: datetime


_PHOTO = tuple(item.name for item in fields(EntryPhoto))


class Photos(Audit):
    """The photos of entries."""

    @in_context
    async def add_photo(
        self, entry_id: int, content: bytes, media_type: str, size: tuple[int, int], *, by: Origin, now: datetime
    ) -> EntryPhoto:
        """Keep a photo of an energy entry; one that the entry has already is given back as it is.

        ``size`` is width and height in pixels. Raises :class:`RegistryError` where there is no such entry, where it
        was withdrawn, and where it has :data:`MOST_PHOTOS` already.
        """
        sha256 = hashlib.sha256(content).hexdigest()
        try:
            async with self._changing(by) as journal:
                rows = await _rows([entry_id])
                if there := [row for row in rows if row.sha256 == sha256]:
                    return _photo(there[0])
                entry = await EnergyEntryRow.filter(entry_id=entry_id, superseded_at=None).first()
                if entry is None or entry.withdrawn:
                    raise RegistryError(_("there is no such entry, or it was withdrawn"))
                if len(rows) >= MOST_PHOTOS:
                    raise RegistryError(
                        _("this entry has %(count)s photos already: it takes no more", count=MOST_PHOTOS)
                    )
                photo = EntryPhoto(
                    entry_id, entry.factory_id, len(rows) + 1, sha256, media_type, *size, len(content), by.name, now
                )
                await EntryPhotoRow.create(**asdict(photo), content=content)
                said = {"photo": photo.number, "media_type": media_type, "size": photo.size, "sha256": sha256}
                await journal.note(
                    AuditAction.ENERGY_ENTRY_PHOTO_ADDED, "energy_entry", entry_id, entry.factory_id, after=said
                )
        except IntegrityError as error:
            raise RegistryError(_("somebody has added a photo at the same moment: add it again")) from error
        return photo

    @in_context
    async def photos(self, entry_ids: Iterable[int]) -> list[EntryPhoto]:
        """The photos of some energy entries, by entry and number."""
        return [_photo(row) for row in await _rows(list(entry_ids))]

    @in_context
    async def photo(self, entry_id: int, number: int) -> tuple[EntryPhoto, bytes] | None:
        """One photo with its content."""
        row = await EntryPhotoRow.filter(entry_id=entry_id, number=number).first()
        return None if row is None else (_photo(row), bytes(row.content))


async def _rows(entry_ids: list[int]) -> list[EntryPhotoRow]:
    """Without the contents, which are long."""
    return await EntryPhotoRow.filter(entry_id__in=entry_ids).order_by("entry_id", "number").only(*_PHOTO)


def _photo(row: EntryPhotoRow) -> EntryPhoto:
    return EntryPhoto(**{name: getattr(row, name) for name in _PHOTO})
