"""``python -m benchmarks ingest``, or another name of those below."""

import signal
import sys

from benchmarks import (
    alerts,
    api,
    growth,
    ingest,
    over_http,
    pages,
    peers,
    plugins,
    recompute,
    reports,
    restore,
    score,
    upgrade,
    watchers,
)

BENCHMARKS = {
    "alerts": alerts.main,
    "api": api.main,
    "growth": growth.main,
    "http": over_http.main,
    "ingest": ingest.main,
    "pages": pages.main,
    "peers": peers.main,
    "plugins": plugins.main,
    "recompute": recompute.main,
    "reports": reports.main,
    "restore": restore.main,
    "score": score.main,
    "upgrade": upgrade.main,
    "watchers": watchers.main,
}


def overview() -> str:
    """Every benchmark with the first line of what it says of itself."""
    lines = [
        f"  {name:10} {(sys.modules[main.__module__].__doc__ or '').splitlines()[0]}"
        for name, main in BENCHMARKS.items()
    ]
    return "\n".join(("python -m benchmarks NAME [OPTIONS]; `NAME --help` lists its options.", "", *lines))


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "ingest"
    if name in ("-h", "--help"):
        print(overview())
        sys.exit()
    if name not in BENCHMARKS:
        sys.exit(f"There is no benchmark {name!r}. There are: {', '.join(BENCHMARKS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # what was started ends with it
    BENCHMARKS[name](sys.argv[2:])
