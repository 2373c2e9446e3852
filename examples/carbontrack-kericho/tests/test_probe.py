"""What the probe's lines say."""

from pathlib import Path

import pytest
from carbontrack import DecodeError
from carbontrack.testing import check_sensor, leaks, load_plugin, payload, read_vectors, running_core

from carbontrack_kericho import probe

PROJECT = Path(__file__).parent.parent
VECTORS = read_vectors(Path(__file__).parent / "vectors" / "kericho_probe.json")
LINE = b"$KP,98000,183.2,4.12,79.68*3B"


def test_every_vector_is_read_as_it_should_be() -> None:
    check_sensor(load_plugin(probe).contributions.sensors["kericho_probe"], VECTORS)


@pytest.mark.parametrize("place", range(1, len(LINE) - 3))
def test_a_bit_that_has_flipped_is_never_taken(place: int) -> None:
    body = bytearray(LINE)
    body[place] ^= 1

    with pytest.raises(DecodeError):
        probe.decode(payload(bytes(body)))


async def test_a_line_becomes_a_reading() -> None:
    async with leaks(), running_core(PROJECT, names=["kericho_probe"], sensor="kericho_probe") as core:
        core.tell(LINE)

        (reading,) = await core.readings()
        assert reading.co2_ppm == 98_000
