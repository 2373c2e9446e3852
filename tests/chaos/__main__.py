"""``python -m tests.chaos``: run the proof, print its table, and leave the seed and the logs of a run that failed."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest
import structlog

from tests.chaos.faults import FAULTS
from tests.chaos.platform import can_mount
from tests.chaos.run import Profile, complaints, run, table
from tests.support.system import REQUIRE

EXAMPLES = """\
examples:
  make chaos                                    every fault three times, 134 devices of 67 factories
  make chaos ARGS="--short"                     every fault once with shorter pauses, 67 devices
  make chaos ARGS="--seed 7"                    the same again
  make chaos ARGS="--only 'core killed' --rounds 20"
"""


def main() -> int:
    options = _parser().parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    short = options.short
    profile = Profile(
        seed=options.seed,
        devices=options.devices or (67 if short else 134),
        rounds=options.rounds or (1 if short else 3),
        sample_s=1.0,
        day_devices=3 if short else 12,
        disk_mb=600 if short else 3000,
        pace=0.5 if short else 1.0,
        only=options.only,
    )
    if not can_mount():
        print("LEFT OUT: disk full. It needs root and a mount of its own.", file=sys.stderr)
        if os.environ.get(REQUIRE):
            return 2
    folder = Path(tempfile.mkdtemp(prefix=f"carbontrack-chaos-{profile.seed}-"))
    # The devices' own troubles with their links are what we are here for: they are kept, and not printed.
    logging.basicConfig(filename=folder / "devices.log", level=logging.WARNING)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {text}", file=sys.stderr, flush=True)

    say(f"seed {profile.seed}")
    try:
        outcomes = asyncio.run(run(profile, folder, say))
    except pytest.skip.Exception as missing:
        print(f"LEFT OUT: {missing}", file=sys.stderr)
        return 2
    except BaseException:
        print(f"The run broke off. Its logs: {folder}", file=sys.stderr)
        raise
    logging.basicConfig(
        handlers=[logging.NullHandler()], force=True
    )  # connections that die with us have no more to say
    print(table(outcomes))
    wrong = complaints(outcomes)
    for text in wrong:
        print(f"WRONG: {text}")
    if wrong:
        seed = [] if "--seed" in sys.argv else ["--seed", str(profile.seed)]
        again = shlex.join([*sys.argv[1:], *seed])
        print(f'The promise was not kept. Logs: {folder}\nTo repeat it: make chaos ARGS="{again}"')
        return 1
    print(f"Nothing lost, nothing twice, nobody called offline who was not. Seed {profile.seed}.")
    if not options.keep:
        shutil.rmtree(folder)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tests.chaos", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Make core, broker, database, links and devices fail, and count what is lost.",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="repeat a run")
    parser.add_argument(
        "--short", action="store_true", help="every fault once, shorter pauses, fewer devices; what `make test` runs"
    )
    parser.add_argument("--rounds", type=int, help="how many times each fault")
    parser.add_argument("--devices", type=int, choices=range(8, 401), metavar="8..400", help="how many devices")
    parser.add_argument("--only", action="append", choices=list(FAULTS), default=[], help="no other faults than these")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a run that went well, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
