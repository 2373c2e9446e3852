"""The command that looks whether everything is well."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from carbontrack.cli.common import ConfigOption, load, run

if TYPE_CHECKING:
    from carbontrack.doctor import Finding

COLOURS = {"fine": typer.colors.GREEN, "look": typer.colors.YELLOW, "wrong": typer.colors.RED}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, for programs.")] = False,
    config: ConfigOption = None,
) -> None:
    """Look at configuration, secrets, database, clock, broker, certificates, disk and core, and say what to do.

    It ends with 0 where nothing is wrong, and with 1 otherwise. Nothing is changed.

    Example: carbontrack doctor --config config/carbontrack.yaml
    """
    from carbontrack.doctor import examine  # noqa: PLC0415  # everything: slow to import

    settings = load(config)
    found: list[Finding] = []

    async def main() -> None:
        async for finding in examine(settings, config.parent if config else None):
            found.append(finding)
            if not as_json:
                _print(finding)

    run(main)
    counts = Counter(finding.verdict.value for finding in found)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        typer.echo(f"\n{counts['fine']} fine, {counts['look']} to look after, {counts['wrong']} wrong.")
    if counts["wrong"]:
        raise typer.Exit(1)


def _print(finding: Finding) -> None:
    verdict = finding.verdict.value
    typer.secho(f"{verdict:6}", fg=COLOURS[verdict], nl=False)
    typer.echo(f"{finding.subject:21} {finding.text}")
    if finding.to_do:
        typer.echo(f"{'':27} {finding.to_do}")
