"""``python -m benchmarks ingest``, or another name of those below."""

import sys

from benchmarks import ingest, recompute, score

BENCHMARKS = {"ingest": ingest.main, "recompute": recompute.main, "score": score.main}

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "ingest"
    if name not in BENCHMARKS:
        sys.exit(f"There is no benchmark {name!r}. There are: {', '.join(BENCHMARKS)}")
    BENCHMARKS[name](sys.argv[2:])
