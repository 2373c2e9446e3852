#!/usr/bin/env python3
"""Gather the texts of pages and scripts, and bring the other languages' catalogues up to date.

    scripts/words.py            write the catalogues anew: translations stay, what is new waits for one
    scripts/words.py --check    only say what is missing or no longer used

A catalogue is sorted and says nothing of places, so that two people's changes go together.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "carbontrack"
LANGUAGES = ("sw",)
"""English is in the code."""
KEYWORDS = {"_": None, "gettext": None, "N_": None, "ngettext": (1, 2)}
DOMAINS: dict[str, tuple[list[tuple[str, str]], dict[str, dict[str, str]]]] = {
    "pages": (
        [("**.py", "python"), ("web/templates/**.html", "jinja2")],
        {
            "web/templates/**.html": {
                "trimmed": "true",
                "trim_blocks": "true",
                "lstrip_blocks": "true",
                "silent": "false",
            }
        },
    ),
    "scripts": ([("web/static/*.js", "javascript")], {"web/static/*.js": {"parse_template_string": "true"}}),
}


def gathered(domain: str) -> Catalog:
    """All texts of a domain that are in the code now."""
    methods, options = DOMAINS[domain]
    found = Catalog(project="Carbon Track", charset="utf-8")
    for _, _, message, _, context in extract_from_dir(PACKAGE, methods, options, KEYWORDS):
        found.add(message, context=context)
    return found


def catalogues() -> Iterator[tuple[Path, Catalog, Catalog]]:
    """Of each language and domain: the file, what it holds, and what it should hold."""
    for language in LANGUAGES:
        for domain in DOMAINS:
            path = PACKAGE / "locale" / language / f"{domain}.po"
            held = Catalog(locale=language, project="Carbon Track", charset="utf-8")
            if path.exists():
                with path.open("rb") as file:
                    held = read_po(file, locale=language)
            wanted = Catalog(locale=language, project="Carbon Track", charset="utf-8", fuzzy=False)
            for message in gathered(domain):
                if message.id:
                    before = held.get(message.id)
                    is_alike = before is not None and before.pluralizable == message.pluralizable
                    wanted.add(message.id, before.string if before and is_alike else "", flags=message.flags)
            yield path, held, wanted


def untranslated(catalogue: Catalog) -> list[str]:
    """The texts that wait for a translation."""
    return [
        str(message.id)
        for message in catalogue
        if message.id and not (all(message.string) if isinstance(message.string, tuple) else message.string)
    ]


def written(catalogue: Catalog) -> bytes:
    """A catalogue as its file has it: without dates and places."""
    text = BytesIO()
    write_po(text, catalogue, width=0, no_location=True, omit_header=True, sort_output=True, ignore_obsolete=True)
    fields = {
        "Content-Type": "text/plain; charset=utf-8",
        "Language": catalogue.locale_identifier,
        "Plural-Forms": catalogue.plural_forms,
    }
    header = ['msgid ""', 'msgstr ""', *(f'"{name}: {value}\\n"' for name, value in fields.items()), "", ""]
    return "\n".join(header).encode() + text.getvalue()


def main() -> int:
    """Bring all catalogues up to date, or say what is not."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true", help="write nothing")
    is_check = arguments.parse_args().check
    is_behind = False
    for path, held, wanted in catalogues():
        missing = untranslated(wanted)
        unused = sorted({str(it.id) for it in held if it.id} - {str(it.id) for it in wanted if it.id})
        name = path.relative_to(ROOT)
        print(f"{name}: {len(wanted)} texts, {len(missing)} without a translation, {len(unused)} no longer used")
        for text in missing if is_check else ():
            print(f"  no translation: {text!r}")
        for text in unused if is_check else ():
            print(f"  no longer used: {text!r}")
        is_behind = is_behind or bool(missing or unused)
        if not is_check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(written(wanted))
    return int(is_check and is_behind)


if __name__ == "__main__":
    sys.exit(main())
