"""Programs in Python that tests run, without the seconds that their imports take.

Each is a process of its own, with its own folder, environment and streams, forked from one that has imported already
what most of them need. Where the start of a program itself is tested, it is started by hand.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.support.system import START_S

TIMEOUT_S = 110.0
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["carbontrack.authoring.checking", "carbontrack.cli", "carbontrack.demo", "pytest"])


def environment(**more: str) -> dict[str, str]:
    """The environment of somebody who has set nothing for us, and ``more``."""
    ours = ("CARBONTRACK_", "PIP_", "PYTEST_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


def run(
    module: str, *words: str | Path, cwd: Path, text: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Do what ``python -m module words`` does in a folder with ``text`` as its input; return when it has ended."""
    arguments = [module, *map(str, words)]
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
        for stream in streams:
            stream.write_text(text if stream is streams[0] else "", encoding="utf-8")
        process = _forks.Process(target=_main, args=(arguments, cwd, environment() if env is None else env, streams))
        process.start()
        process.join(TIMEOUT_S)
        if process.is_alive():
            process.kill()
            process.join()
        _, output, errors = (stream.read_text(encoding="utf-8") for stream in streams)
    assert process.exitcode is not None
    return subprocess.CompletedProcess(arguments, process.exitcode, output, errors)


class Running:
    """A program that goes on: ``python -m module words``, forked anew at each start, with its output in a file."""

    def __init__(self, module: str, *words: str | Path, log: Path, is_ready: Callable[[], bool]) -> None:
        self.log = log
        self._arguments = [module, *map(str, words)]
        self._is_ready = is_ready
        self._process: BaseProcess | None = None

    def start(self) -> None:
        """Start, and return when it answers."""
        self.log.touch()
        streams = [Path(os.devnull), self.log, self.log]
        own = (self._arguments, self.log.parent, environment(), streams)
        self._process = process = _forks.Process(target=_main, args=own)
        process.start()
        deadline = time.monotonic() + START_S
        while not self._is_ready():
            if not process.is_alive() or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self._arguments} did not start:\n{self.log.read_text(errors='replace')}")
            time.sleep(0.01)

    def kill(self) -> None:
        """Crash, by its own id."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = None


def _main(arguments: list[str], cwd: Path, env: Mapping[str, str], streams: Sequence[Path]) -> None:
    """What the forked process does."""
    for number, stream in enumerate(streams):
        os.dup2(os.open(stream, os.O_RDWR | os.O_APPEND), number)
    sys.stdin = os.fdopen(0, closefd=False)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[:0] = [str(cwd), *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = arguments
    if arguments[0] == "pytest":
        _forget_its_plugins()
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # a process that was forked runs none by itself


def _forget_its_plugins() -> None:
    """Packages that pytest takes for plugins: it imports them by itself, and warns of one that is there already."""
    packages = {entry.module.partition(".")[0] for entry in entry_points(group="pytest11")}
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[name]
