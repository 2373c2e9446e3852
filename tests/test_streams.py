"""Which numbers of a device's store are here, and where its times lie."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.model import ClockQuality, Flag
from carbontrack.streams import EARLIEST_MS, FUTURE_TOLERANCE_MS, MOST_RANGES, Anchor, Stream

NOW_MS = 1_772_352_900_000  # 2026-03-01T08:15:00Z
HOUR_MS = 3_600_000

ranges = st.tuples(st.integers(1, 80), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def stream(watermark: int = 0) -> Stream:
    return Stream(1, "9f3c21aa", watermark)


def numbers_of(some: Stream, most: int = 100) -> set[int]:
    return {seq for seq in range(1, most) if some.covers(seq)}


class TestWatermark:
    @given(st.lists(ranges, max_size=25), st.randoms())
    def test_any_order_and_repetition_of_ranges_covers_the_same_numbers(
        self, parts: list[tuple[int, int]], random: Random
    ) -> None:
        shuffled = [*parts, *parts[:5]]
        random.shuffle(shuffled)
        one, other = stream(), stream()
        for first, last in parts:
            one.add(first, last)
        for first, last in shuffled:
            other.add(first, last)

        expected = {seq for first, last in parts for seq in range(first, last + 1)}
        assert numbers_of(one) == numbers_of(other) == expected
        assert (one.watermark, one.beyond) == (other.watermark, other.beyond)

    @given(st.lists(ranges, max_size=25), st.integers(0, 30))
    def test_the_watermark_is_the_highest_number_without_a_gap_before_it(
        self, parts: list[tuple[int, int]], begin: int
    ) -> None:
        some = stream(begin)
        covered = set(range(begin + 1))
        for first, last in parts:
            before = some.watermark
            some.add(first, last)
            covered |= set(range(first, last + 1))

            assert some.watermark == next(seq for seq in range(200) if seq not in covered) - 1
            assert some.watermark >= before

    @given(st.lists(ranges, max_size=25))
    def test_what_lies_beyond_is_kept_as_few_ordered_ranges(self, parts: list[tuple[int, int]]) -> None:
        some = stream()
        for first, last in parts:
            some.add(first, last)

        edges = [some.watermark]
        for first, last in some.beyond:
            assert first > edges[-1] + 1, "ranges that touch are one"
            assert first <= last
            edges.append(last)

    def test_a_late_record_closes_the_hole(self) -> None:
        some = stream(99)
        some.add(100, 109)
        some.add(111, 120)
        some.add(130, 131)
        assert some.watermark == 109

        some.add(110, 110)

        assert some.watermark == 120
        assert some.beyond == [[130, 131]]
        assert not some.covers(121)

    def test_whatever_comes_first_the_numbers_before_it_are_expected(self) -> None:
        some = stream()
        some.add(2000, 2059)

        assert some.watermark == 0
        assert not some.covers(1999)

    @given(st.lists(ranges, max_size=25), st.integers(1, 90))
    def test_numbers_that_the_device_has_no_more_are_lost_and_the_others_stay(
        self, parts: list[tuple[int, int]], first: int
    ) -> None:
        some, other = stream(), stream()
        for part in parts:
            some.add(*part)
            other.add(*part)
        some.begin(first)
        some.begin(1)
        if first > 1:
            other.add(1, first - 1)

        assert (some.watermark, some.beyond) == (other.watermark, other.beyond)

    def test_what_was_read_back_from_the_database_goes_on_where_it_was(self) -> None:
        some = Stream(1, "9f3c21aa", 10, [[13, 15], [20, 20]])

        some.add(11, 12)

        assert some.watermark == 15
        assert some.beyond == [[20, 20]]


class TestRoom:
    @staticmethod
    def full() -> Stream:
        some = stream()
        for number in range(MOST_RANGES):
            some.add(10 + 2 * number, 10 + 2 * number)
        return some

    def test_a_device_with_too_many_holes_must_fill_them_first(self) -> None:
        full = self.full()

        assert len(full.beyond) == MOST_RANGES
        assert not full.has_room_for(1_000_000)
        assert full.has_room_for(1)

    def test_room_comes_back_with_the_first_range(self) -> None:
        full = self.full()

        full.add(1, 9)

        assert full.watermark == 10
        assert full.has_room_for(1_000_000)

    def test_what_begins_before_the_watermark_always_fits(self) -> None:
        """A node that missed a receipt sends again from its older tail; such a range can only close holes."""
        full = self.full()
        full.add(1, 5)

        assert full.has_room_for(3)
        assert full.has_room_for(1)


class TestClockThatIsSet:
    @pytest.mark.parametrize("quality", [ClockQuality.SYNCED, ClockQuality.HOLD_OVER, ClockQuality.RE_ANCHORED])
    def test_its_times_are_taken_as_they_are(self, quality: ClockQuality) -> None:
        clock = stream().clock(1, NOW_MS - HOUR_MS, NOW_MS - 5000, quality, False, NOW_MS)

        assert (clock.offset_ms, clock.flags) == (0, 0)

    def test_a_little_ahead_is_no_fault(self) -> None:
        ahead = NOW_MS + FUTURE_TOLERANCE_MS

        clock = stream().clock(1, ahead, ahead, ClockQuality.SYNCED, True, NOW_MS)

        assert (clock.offset_ms, clock.flags) == (0, 0)

    @pytest.mark.parametrize("ahead_ms", [FUTURE_TOLERANCE_MS + 1, 24 * HOUR_MS, 73 * 365 * 24 * HOUR_MS])
    def test_a_time_in_the_future_is_set_back_to_the_receipt_with_its_distances(self, ahead_ms: int) -> None:
        """Up to 2099. The readings of one message keep their order and their distances."""
        last = NOW_MS + ahead_ms

        clock = stream().clock(1, last - 5000, last, ClockQuality.SYNCED, True, NOW_MS)

        assert last + clock.offset_ms == NOW_MS
        assert clock.flags == Flag.CLOCK_FUTURE

    @pytest.mark.parametrize("first_ms", [0, 5000, EARLIEST_MS - 1])
    def test_a_synced_clock_before_2020_was_never_set(self, first_ms: int) -> None:
        clock = stream().clock(1, first_ms, first_ms, ClockQuality.SYNCED, True, NOW_MS)

        assert first_ms + clock.offset_ms == NOW_MS
        assert clock.flags == Flag.CLOCK_UNSET | Flag.TIME_ESTIMATED


class TestClockThatIsUnset:
    def test_with_the_anchor_of_its_boot_the_time_is_exact(self) -> None:
        some = stream()
        some.anchor(7, NOW_MS - HOUR_MS)

        clock = some.clock(7, 60_000, 65_000, ClockQuality.UNSET, False, NOW_MS)

        assert 60_000 + clock.offset_ms == NOW_MS - HOUR_MS + 60_000
        assert clock.flags == Flag.CLOCK_UNSET

    def test_the_anchor_of_another_boot_says_nothing(self) -> None:
        some = stream()
        some.anchor(7, NOW_MS - HOUR_MS)

        clock = some.clock(8, 60_000, 65_000, ClockQuality.UNSET, True, NOW_MS)

        assert 65_000 + clock.offset_ms == NOW_MS
        assert clock.flags == Flag.CLOCK_UNSET | Flag.TIME_ESTIMATED

    def test_without_an_anchor_live_readings_were_measured_when_they_came(self) -> None:
        some = stream()

        first = some.clock(7, 5000, 5000, ClockQuality.UNSET, True, NOW_MS)
        second = some.clock(7, 10_000, 10_000, ClockQuality.UNSET, True, NOW_MS + 5300)

        assert 5000 + first.offset_ms == NOW_MS
        assert second.offset_ms == first.offset_ms, "within one boot the distances are the device's own"

    def test_without_an_anchor_a_backlog_begins_after_what_is_placed_already(self) -> None:
        some = Stream(1, "9f3c21aa", last_measured_ms=NOW_MS - HOUR_MS)

        clock = some.clock(7, 2000, 302_000, ClockQuality.UNSET, False, NOW_MS)

        assert 2000 + clock.offset_ms == NOW_MS - HOUR_MS + 1000
        assert clock.flags == Flag.CLOCK_UNSET | Flag.TIME_ESTIMATED

    def test_an_anchor_replaces_an_estimate(self) -> None:
        some = stream()
        some.clock(7, 5000, 5000, ClockQuality.UNSET, True, NOW_MS)
        some.anchor(7, NOW_MS - 9000)

        clock = some.clock(7, 10_000, 10_000, ClockQuality.UNSET, True, NOW_MS + 5000)

        assert (clock.offset_ms, clock.flags) == (NOW_MS - 9000, Flag.CLOCK_UNSET)

    @given(
        st.integers(0, 2**53),
        st.integers(0, HOUR_MS),
        st.sampled_from(ClockQuality),
        st.booleans(),
        st.none() | st.integers(-(2**53), 2**53),
        st.sampled_from([0, NOW_MS - HOUR_MS]),
    )
    def test_no_reading_is_ever_put_into_the_future(
        self, first_ms: int, span_ms: int, quality: ClockQuality, live: bool, anchor_ms: int | None, last_measured: int
    ) -> None:
        some = Stream(1, "9f3c21aa", last_measured_ms=last_measured)
        if anchor_ms is not None:
            some.anchor(7, anchor_ms)
        last_ms = first_ms + span_ms

        clock = some.clock(7, first_ms, last_ms, quality, live, NOW_MS)

        assert last_ms + clock.offset_ms <= NOW_MS + FUTURE_TOLERANCE_MS

    def test_a_device_that_reboots_for_ever_does_not_fill_the_memory(self) -> None:
        told, guessed = stream(), stream()
        for boot in range(1000):
            told.anchor(boot, NOW_MS)
            guessed.clock(boot, 5000, 5000, ClockQuality.UNSET, True, NOW_MS)

        assert len(told.anchors) <= 50
        assert told.anchors[999] == Anchor(NOW_MS, estimated=False)
        assert len(guessed.anchors) <= 50, "an estimate takes as much room as an anchor"
        assert guessed.anchors[999] == Anchor(NOW_MS - 5000, estimated=True)
