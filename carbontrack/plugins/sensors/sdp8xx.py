"""Frame decoder "sdp8xx": differential pressure sensor Sensirion SDP8xx, for a pitot tube; one I2C read of 9 bytes.

    byte  0   1   2    3   4   5    6   7   8
          pp  pp  crc  tt  tt  crc  ss  ss  crc

    pp   pressure difference times the scale factor, 16 bits with sign
    tt   the sensor's own temperature times 200, 16 bits with sign
    ss   scale factor, 1/Pa: 240 for +-125 Pa, 60 for +-500 Pa
    crc  CRC-8 of the two bytes before it: polynomial 0x31, begun with 0xFF (BE EF gives 92)

    04 B0 BD 13 88 01 00 F0 03    5.0 Pa (and 25.0 degC inside of the sensor)

A negative difference is reported as it was measured, with PRESSURE_DIFFERENCE_NEGATIVE: the tubes are swapped, or the
draught is. At the end of the scale (30,000 steps for both versions) the true difference may be larger: VELOCITY_FAULT.
The velocity is worked out by the platform, which knows the gas's temperature and pressure. The sensor's own temperature
is not the gas's and is not reported.

Source: Sensirion SDP8xx-Digital data sheet, "Measurement data" and "Checksum calculation".
"""

from __future__ import annotations

from collections.abc import Sequence

from carbontrack import Flag, Frame, FrameDecoder, FrameError, Kind, Manifest, Tier, __version__, hookimpl

MANIFEST = Manifest(
    name="sdp8xx",
    version=__version__,
    kinds=(Kind.SENSOR,),
    title="Differential pressure sensors SDP8xx at a pitot tube",
    documentation="docs/plugins/sensors-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

FULL_SCALE = 30_000
"""125 Pa times 240, and 500 Pa times 60."""


def crc8(data: bytes) -> int:
    """Sensirion's CRC-8: polynomial x^8 + x^5 + x^4 + 1, begun with 0xFF."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x31 if crc & 0x80 else crc << 1) & 0xFF
    return crc


def decode(frame: bytes) -> Frame:
    """Pressure difference in Pa out of one read; raises :class:`FrameError`."""
    if len(frame) != 9:
        raise FrameError("frame_length", f"{len(frame)} bytes; a read has 9")
    for at in (0, 3, 6):
        if crc8(frame[at : at + 2]) != frame[at + 2]:
            raise FrameError("frame_checksum", f"byte {at + 2} is not the CRC of the two before it")
    steps = int.from_bytes(frame[0:2], "big", signed=True)
    scale = int.from_bytes(frame[6:8], "big", signed=True)
    if scale <= 0:
        raise FrameError("frame_form", f"the scale factor is {scale}")
    status = 0
    if steps < 0:
        status |= Flag.PRESSURE_DIFFERENCE_NEGATIVE
    if abs(steps) >= FULL_SCALE:
        status |= Flag.VELOCITY_FAULT
    return Frame(pressure_difference_pa=steps / scale, status=int(status))


SDP8XX = FrameDecoder(name="sdp8xx", title="SDP8xx, 9-byte read", decode=decode, gives=("pressure_difference_pa",))


@hookimpl
def register_frame_decoders() -> Sequence[FrameDecoder]:
    return (SDP8XX,)
