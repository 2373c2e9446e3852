"""How a roll-out goes on, as a pure step: stage by stage, never beyond, and not where devices fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.firmware import (
    HELD,
    Ended,
    FirmwareImage,
    Rollout,
    RolloutState,
    Update,
    UpdateState,
    stage_of,
    stage_sizes,
)
from carbontrack.model import Flag
from carbontrack.rollouts import Limits, Report, Sight, Step, advance, connected, failures, reported
from tests.support.world import NOON

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
IMAGE = FirmwareImage(1, "1.5.0", "ct-1", 10, "0" * 64, "", "", "", NOON, "hq")


@dataclass
class World:
    """A roll-out with its devices, what is seen of them, and a clock that stands still."""

    rollout: Rollout
    updates: dict[int, Update]
    sights: dict[int, Sight]
    limits: Limits = field(default_factory=Limits)
    now: object = NOON

    def step(self, *born: int, room: int = 100) -> Step:
        sights = {key: replace(it, is_born=key in born) for key, it in self.sights.items()}
        found = advance(self.rollout, self.updates, sights, self.now, self.limits, room)  # type: ignore[arg-type]
        self.rollout, self.updates = found.rollout, dict(found.updates)
        return found

    def later(self, by: timedelta, *, well: bool = True) -> World:
        self.now += by  # type: ignore[operator]
        if well:
            self.sights = {
                key: replace(it, reading_at=self.now) if it.is_online else it  # type: ignore[arg-type]
                for key, it in self.sights.items()
            }
        return self

    def says(self, key: int, state: str, err: str = "") -> None:
        self.updates[key] = reported(self.updates[key], Report("1.5.0", state, 50, err), self.now)  # type: ignore[arg-type]

    def born(self, key: int, version: str, boot: int | None) -> None:
        self.updates[key] = connected(self.updates[key], version, boot, "1.5.0", self.now)  # type: ignore[arg-type]

    def states(self) -> list[str]:
        return [it.state.value for it in self.updates.values()]

    def all_confirm(self) -> None:
        for key, it in self.updates.items():
            if it.state in HELD:
                self.says(key, "confirmed")


def world(count: int = 4, stages: str = "1, 50%, 100%", *, soak: timedelta = HOUR, failure_limit: int = 1) -> World:
    sizes = stage_sizes(stages, count)
    rollout = Rollout(
        1, IMAGE, "all", stages, len(sizes), int(soak.total_seconds()), failure_limit, False, RolloutState.RUNNING,
        0, NOON, None, Ended.NOT, NOON, "hq",
    )  # fmt: skip
    updates = {
        key: Update(key, 1, key, f"dev-{key}", 1, stage_of(key, sizes), UpdateState.WAITING, "1.4.0", boot=7)
        for key in range(count)
    }
    return World(rollout, updates, dict.fromkeys(range(count), Sight(is_online=True, reading_at=NOON)))


def test_the_first_stage_is_offered_the_image_and_nobody_else() -> None:
    it = world()
    assert [offer.device_id for offer in it.step().offers] == ["dev-0"]
    assert it.step().offers == (), "and not twice"
    assert it.states() == ["offered", "waiting", "waiting", "waiting"]


def test_the_next_stage_begins_when_the_last_one_has_it_and_was_watched() -> None:
    it = world()
    it.step()
    it.says(0, "confirmed")
    assert it.step().offers == ()
    assert it.later(HOUR - MINUTE).step().rollout.stage == 0
    assert [offer.device_id for offer in it.later(MINUTE).step().offers] == ["dev-1"]
    assert it.rollout.stage == 1
    it.all_confirm()
    it.step()
    assert [offer.device_id for offer in it.later(HOUR).step().offers] == ["dev-2", "dev-3"]
    it.all_confirm()
    it.step()
    assert it.later(HOUR).step().rollout.state is RolloutState.DONE


@pytest.mark.parametrize("end", ["failed", "rolled_back"])
def test_it_stops_by_itself_at_the_limit_and_withdraws_what_is_open(end: str) -> None:
    it = world(4, "75%, 100%")
    it.step()
    it.says(0, "rebooting" if end == "rolled_back" else "downloading")
    it.says(0, end, "hash")
    found = it.step()

    assert (found.rollout.state, found.rollout.ended) == (RolloutState.STOPPED, Ended.FAILURES)
    assert [withdrawn.device_id for withdrawn in found.withdrawals] == ["dev-1", "dev-2"]
    assert it.states() == [end, "waiting", "waiting", "waiting"]
    assert it.step().withdrawals == (), "each once"


def test_an_offer_to_a_device_that_is_away_is_withdrawn_when_it_connects() -> None:
    it = world(2, "100%")
    it.step()
    it.sights[1] = Sight()
    it.says(0, "failed", "hash")
    assert it.step().withdrawals == ()
    assert [withdrawn.device_id for withdrawn in it.step(1).withdrawals] == ["dev-1"]


def test_below_the_limit_it_goes_on_where_somebody_has_succeeded() -> None:
    it = world(4, "50%, 100%", failure_limit=2)
    it.step()
    it.says(0, "failed", "link")
    it.says(1, "confirmed")
    it.step()
    it.later(HOUR).step()
    assert (it.rollout.state, it.rollout.stage) == (RolloutState.RUNNING, 1)


def test_a_first_stage_without_any_success_ends_it_whatever_the_limit() -> None:
    it = world(4, failure_limit=3)
    it.step()
    it.says(0, "failed", "link")
    assert it.step().rollout.ended is Ended.NOBODY


def test_a_device_that_connects_gets_its_offer_again_and_one_that_has_it_does_not() -> None:
    it = world()
    it.step()
    assert [offer.device_id for offer in it.step(0).offers] == ["dev-0"]
    it.says(0, "confirmed")
    assert it.step(0).offers == ()


def test_a_device_that_is_away_waits_and_one_that_is_away_for_too_long_is_left_behind() -> None:
    it = world(3, "2, 100%", soak=timedelta(0))
    it.sights[1] = Sight()
    it.step()
    it.says(0, "confirmed")
    it.later(HOUR).step()
    assert it.rollout.stage == 0
    it.later(timedelta(hours=24)).step()
    assert it.rollout.stage == 1
    it.sights[1] = Sight(is_online=True, reading_at=NOON)
    assert "dev-1" in [offer.device_id for offer in it.step(1).offers], "it came back and is offered it"


def test_where_nobody_of_a_stage_can_be_reached_it_waits_for_somebody() -> None:
    it = world(2)
    it.sights[0] = Sight()
    it.later(timedelta(days=9)).step()
    assert (it.rollout.state, it.rollout.stage) == (RolloutState.RUNNING, 0)


def test_a_connected_device_that_does_not_answer_counts_as_failed() -> None:
    it = world()
    it.step()
    it.later(timedelta(minutes=20)).step()
    assert (it.updates[0].state, it.updates[0].error) == (UpdateState.FAILED, "no_answer")


def test_a_download_that_stands_still_counts_as_failed_and_one_of_a_device_that_is_away_does_not() -> None:
    it = world(2, "100%", failure_limit=2)
    it.step()
    it.says(0, "downloading")
    it.says(1, "downloading")
    it.sights[1] = Sight()
    it.later(timedelta(hours=2)).step()
    assert (it.updates[0].error, it.updates[1].state) == ("stalled", UpdateState.DOWNLOADING)


def test_a_device_that_restarts_and_does_not_come_back_counts_as_failed_until_it_does() -> None:
    it = world(failure_limit=1)
    it.step()
    it.says(0, "rebooting")
    it.sights[0] = Sight()
    it.later(HOUR).step()
    assert (it.updates[0].error, it.rollout.state) == ("lost", RolloutState.STOPPED)
    it.born(0, "1.5.0", 8)
    assert it.updates[0].state is UpdateState.CONFIRMED


def test_a_birth_with_the_new_version_confirms_and_one_with_the_old_one_says_that_it_went_back() -> None:
    it = world()
    it.step()
    it.says(0, "rebooting")
    it.born(0, "1.4.0", 7)
    assert it.states()[0] == "rebooting", "the birth of before, which the broker has kept"
    it.born(0, "1.5.0", 8)
    assert it.states()[0] == "confirmed"
    it.born(0, "1.4.0", 9)
    assert it.states()[0] == "rolled_back", "it crashed on trial"


def test_a_power_cut_while_downloading_is_no_failure() -> None:
    it = world()
    it.step()
    it.says(0, "downloading")
    it.born(0, "1.4.0", 8)
    assert [offer.state for offer in it.step(0).offers] == [UpdateState.DOWNLOADING]


def test_a_device_that_delivers_nothing_with_the_image_holds_the_stage_and_fails_after_an_hour() -> None:
    it = world()
    it.step()
    it.says(0, "confirmed")
    it.step()
    it.later(HOUR, well=False).step()
    assert (it.rollout.stage, it.updates[0].state) == (0, UpdateState.CONFIRMED)
    it.later(HOUR, well=False).step()
    assert (it.updates[0].error, it.rollout.ended) == ("silent", Ended.FAILURES)


def test_a_fault_that_was_there_before_does_not_count_and_a_new_one_does() -> None:
    it = world(soak=timedelta(0))
    it.sights[0] = replace(it.sights[0], faults=int(Flag.CO2_FAULT))
    it.step()
    it.says(0, "confirmed")
    it.later(MINUTE)
    it.sights[0] = replace(it.sights[0], faults=int(Flag.CO2_FAULT | Flag.VELOCITY_FAULT))
    it.step()
    it.later(HOUR).step()
    assert it.updates[0].error == "sensor_fault"

    it = world(soak=timedelta(0))
    it.sights[0] = replace(it.sights[0], faults=int(Flag.CO2_FAULT))
    it.step()
    it.says(0, "confirmed")
    it.later(MINUTE).step()
    assert it.rollout.stage == 1


def test_while_it_is_paused_nobody_begins_and_who_has_begun_goes_on() -> None:
    it = world(2, "100%")
    it.step(room=1)
    it.rollout = replace(it.rollout, state=RolloutState.PAUSED)
    assert it.step().offers == ()
    assert [offer.device_id for offer in it.step(0).offers] == ["dev-0"], "it has lost its offer"
    it.all_confirm()
    it.later(timedelta(days=1)).step()
    assert it.rollout.state is RolloutState.PAUSED


def test_no_more_begin_than_there_is_room_for() -> None:
    it = world(4, "100%")
    assert len(it.step(room=3).offers) == 3
    assert it.step(0, room=0).offers == ()
    assert it.updates[0].state is UpdateState.WAITING, "it has lost its offer, and waits again"


def test_what_a_device_says_of_an_offer_that_it_does_not_have_is_ignored() -> None:
    it = world()
    it.says(3, "failed", "hash")
    it.says(3, "downloading")
    it.says(3, "nonsense")
    assert it.updates[3].state is UpdateState.WAITING


SAID = ("downloading", "verifying", "rebooting", "confirmed", "failed", "rolled_back")
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "downloading",
                "verifying",
                "rebooting",
                "confirmed",
                "failed",
                "rolled_back",
                "new",
                "old",
                "off",
                "on",
                "wait",
            ]
        ),
        st.integers(0, 7),
        st.integers(0, 3),
    ),
    max_size=60,
)


@given(EVENTS, st.sampled_from(["1, 100%", "1, 25%, 50%, 100%", "100%", "3, 6, 100%"]), st.integers(1, 4))
def test_whatever_devices_do_no_stage_is_passed_over_and_nothing_follows_a_stop(
    events: list[tuple[str, int, int]], stages: str, failure_limit: int
) -> None:
    it = world(8, stages, soak=MINUTE, failure_limit=failure_limit)
    sizes = stage_sizes(stages, 8)
    boots: Mapping[int, list[int]] = {key: [7] for key in range(8)}
    held: set[int] = set()
    """Who has an offer, as a node would have it."""
    for what, key, room in events:
        born: tuple[int, ...] = ()
        if what in {"new", "old"}:
            boots[key].append(boots[key][-1] + 1)
            it.sights[key] = replace(it.sights[key], is_online=True)
            it.born(key, "1.5.0" if what == "new" else "1.4.0", boots[key][-1])
            held.discard(key)
            born = (key,)
        elif what in {"on", "off"}:
            it.sights[key] = replace(it.sights[key], is_online=what == "on")
        elif what == "wait":
            it.later(timedelta(minutes=10 * (room + 1)))
        else:
            it.says(key, what)
        was_live, stage, before = it.rollout.is_live, it.rollout.stage, dict(it.updates)
        found = it.step(*born, room=room)

        offered = [offer.id for offer in found.offers]
        assert len(offered) <= room
        assert len(set(offered)) == len(offered)
        assert not held.intersection(offered), "nobody is offered twice at once"
        assert all(before[number].stage <= it.rollout.stage for number in offered)
        assert it.rollout.stage - stage in {0, 1}
        reached = sum(update.offered_at is not None for update in it.updates.values())
        assert reached <= sizes[it.rollout.stage]
        if failures(it.updates.values()) >= failure_limit or not was_live:
            assert not it.rollout.is_live
            assert not offered
        held |= set(offered)
        held -= {withdrawn.id for withdrawn in found.withdrawals}
        held = {number for number in held if it.updates[number].state in HELD}


@given(st.integers(1, 3000), st.sampled_from(["1, 10%, 50%, 100%", "1, 5, 25, 100%", "100%"]))
def test_stages_grow_and_the_last_one_is_everybody(count: int, stages: str) -> None:
    sizes = stage_sizes(stages, count)
    assert sizes[-1] == count
    assert all(before < after for before, after in pairwise(sizes))
    assert [stage_of(number, sizes) for number in range(count)] == sorted(stage_of(n, sizes) for n in range(count))
