"""The description of the API, without a running core."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from carbontrack.cli.common import stop


def openapi(
    postman: Annotated[bool, typer.Option("--postman", help="As a Postman collection.")] = False,
    yaml: Annotated[bool, typer.Option("--yaml", help="As YAML and not as JSON.")] = False,
    base_url: Annotated[
        str, typer.Option(help="Where the API is, for the Postman collection.")
    ] = "http://127.0.0.1:8080",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
) -> None:
    """Print the OpenAPI document of the HTTP API, or the same as a Postman collection.

    Example: carbontrack openapi --postman --base-url https://co2.example.org -o carbontrack.postman.json
    """
    from carbontrack.web.openapi import describe_api, to_yaml  # noqa: PLC0415  # other commands need not wait for it
    from carbontrack.web.postman import collection  # noqa: PLC0415  # as above

    if postman and yaml:
        stop("Postman reads JSON: leave --yaml out")
    document = describe_api(version("carbontrack"))
    if yaml:
        text = to_yaml(document)
    else:
        wanted = collection(document, base_url.rstrip("/")) if postman else document
        text = json.dumps(wanted, indent=2, ensure_ascii=False) + "\n"
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        stop(f"{output} cannot be written: {error.strerror}")
