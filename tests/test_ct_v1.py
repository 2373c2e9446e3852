"""The node's own format: what a message says, and by which name it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.hookspecs import DecodeError
from carbontrack.model import Payload
from carbontrack.plugins.sensors.ct_v1 import decode

FOLDER = Path(__file__).parent / "vectors" / "ct_v1"
MESSAGES = json.loads((FOLDER / "messages.json").read_text(encoding="utf-8"))
REFUSED = json.loads((FOLDER / "refused.json").read_text(encoding="utf-8"))
NOW_MS = 1_795_433_050_000


def payload(body: str | bytes) -> Payload:
    return Payload("ct-0001", "data", body.encode() if isinstance(body, str) else body, NOW_MS)


def about(vector: dict[str, Any]) -> str:
    return str(vector["about"])


class TestGoldenVectors:
    @pytest.mark.parametrize("vector", MESSAGES, ids=about)
    def test_a_message_says_what_was_measured(self, vector: dict[str, Any]) -> None:
        message = decode(payload(vector["body"]))

        assert msgspec.to_builtins(message) == vector["expected"] | {"numbered": True, "relayed": False}

    @pytest.mark.parametrize("vector", REFUSED, ids=about)
    def test_what_cannot_be_read_is_named_with_the_numbers_it_stands_for(self, vector: dict[str, Any]) -> None:
        with pytest.raises(DecodeError) as caught:
            decode(payload(vector["body"]))

        assert caught.value.cause == vector["expected"]["cause"]
        covers = vector["expected"]["covers"]
        assert caught.value.covers == (tuple(covers) if covers else None)
        assert str(caught.value), "an operator reads the detail"

    @pytest.mark.parametrize("vector", MESSAGES, ids=about)
    def test_a_message_that_is_cut_off_anywhere_is_never_half_taken(self, vector: dict[str, Any]) -> None:
        body = vector["body"].encode()
        expected = vector["expected"]
        whole = (expected["stream"], expected["first_seq"], expected["first_seq"] + expected["count"] - 1)

        for length in range(len(body)):
            with pytest.raises(DecodeError) as caught:
                decode(payload(body[:length]))
            assert caught.value.cause == "invalid_json"
            assert caught.value.covers in {None, whole}


class TestNoise:
    HEAD = b'{"v":1,"sid":"9f3c21aa","boot":412,"cfg":17,"seq":100,"n":2,"t":1795433047123,'

    @pytest.mark.parametrize(
        "rest",
        [
            b'"e":{"cols":["ds","code"],"rows":[[0,"\xff"],[1,""]]}}',
            b'"s":{"cols":["ds","\xe9t\xe9"],"rows":[[0,1],[1,1]]}}',
        ],
        ids=["in a text", "in a column's name"],
    )
    def test_bytes_that_are_no_text_cost_the_node_its_message_and_no_more(self, rest: bytes) -> None:
        with pytest.raises(DecodeError) as caught:
            decode(payload(self.HEAD + rest))

        assert caught.value.covers == ("9f3c21aa", 100, 101), "or the node would send it for ever"

    def test_a_message_nested_deeper_than_anyone_reads_is_refused(self) -> None:
        with pytest.raises(DecodeError) as caught:
            decode(payload(self.HEAD + b'"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"))

        assert caught.value.covers == ("9f3c21aa", 100, 101)

    @given(st.binary(max_size=300))
    def test_noise_is_refused_by_name(self, body: bytes) -> None:
        with pytest.raises(DecodeError):
            decode(payload(body))

    @given(st.sampled_from(MESSAGES + REFUSED), st.integers(0, 250), st.binary(min_size=1, max_size=4))
    def test_one_message_with_some_bytes_changed_is_read_or_refused(
        self, vector: dict[str, Any], at: int, noise: bytes
    ) -> None:
        body = vector["body"].encode()
        body = body[:at] + noise + body[at + len(noise) :]

        try:
            message = decode(payload(body))
        except DecodeError:
            return
        numbers = sorted([sample.seq for sample in message.samples] + [record.seq for record in message.records])
        assert numbers == list(range(message.first_seq, message.first_seq + message.count))

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
        ),
        st.sampled_from(["v", "sid", "boot", "cfg", "seq", "n", "t", "s", "m", "h", "e", "g", "a"]),
    )
    def test_anything_in_any_place_is_read_or_refused(self, value: Any, key: str) -> None:
        body = json.loads(MESSAGES[2]["body"]) | {key: value}

        try:
            message = decode(payload(json.dumps(body)))
        except DecodeError:
            return
        assert message.count == len(message.samples) + len(message.records)
