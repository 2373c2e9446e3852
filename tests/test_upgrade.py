"""A newer version takes over while nodes send: nothing is lost, and the way back is as the page says."""

from __future__ import annotations

from pathlib import Path

from benchmarks.upgrade import Size, complaints, drill
from tests.support.mosquitto import Broker


async def test_nodes_lose_nothing_while_the_oldest_schema_is_migrated_and_no_core_runs_on_another(
    postgres_url: str, mosquitto: Broker, tmp_path: Path
) -> None:
    found = await drill(postgres_url, mosquitto, tmp_path, Size(nodes=3, readings=600, sample_s=0.25, patience_ms=1000))

    assert complaints(found) == []
    assert "carbontrack migrate" in found.refused
    assert "9999_from_the_future" in found.ended
    assert found.account.is_even
    assert found.account.taken > found.old_readings == 1800
