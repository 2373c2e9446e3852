"""``carbontrack`` and ``python -m carbontrack``."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from carbontrack.cli import app  # noqa: PLC0415  # a failing import is reported after Python's version is known

    app()


if __name__ == "__main__":
    main()
