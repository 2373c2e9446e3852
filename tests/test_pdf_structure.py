"""A report's PDF keeps what PDF/A-2a (ISO 19005-2) and PDF/UA-1 (ISO 14289-1) ask of its structure.

It is what can be told without a validator such as veraPDF, which these tests do not need: it is no proof of either
standard. The numbers in brackets are clauses of ISO 19005-2 (A) and ISO 14289-1 (UA).
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader
from pypdf.generic import ArrayObject, ContentStream, DictionaryObject, IndirectObject, StreamObject

from carbontrack.compliance import Cell, ComplianceReport
from carbontrack.plugins.reports import compliance_pdf
from carbontrack.testing import compliance_report, empty_compliance_report

STANDARD = {
    "/Document", "/Part", "/Sect", "/Div", "/Caption", "/P", "/H", "/H1", "/H2", "/H3", "/L", "/LI", "/Lbl", "/LBody",
    "/Table", "/TR", "/TH", "/TD", "/THead", "/TBody", "/TFoot", "/Span", "/Figure", "/Formula", "/Note", "/Link",
    "/TOC", "/TOCI", "/Quote", "/BlockQuote", "/Code", "/Reference", "/NonStruct", "/Art",
}  # fmt: skip
"""Structure types that every reader knows (ISO 32000-1, 14.8.4)."""
PAINTS = {
    b"Tj", b"TJ", b"'", b'"', b"f", b"F", b"f*", b"S", b"s", b"B", b"B*", b"b", b"b*", b"Do", b"sh",
    b"BI", b"INLINE IMAGE",
}  # fmt: skip
"""Operators that leave something on a page."""
UNNUMBERED = ("identity", "results", "production")
POPPLER = ("Suspects object is wrong type (boolean)", "Attribute BorderColor value is of wrong type (array)")
"""What poppler says of files that are right: it takes ``/Suspects false`` for no boolean, though ISO 32000-1 asks for
one (table 321; with ``true`` it is silent), and a colour of three numbers for no colour (table 344)."""


@dataclass(frozen=True)
class Pdf:
    body: bytes
    reader: PdfReader

    @property
    def catalogue(self) -> Any:
        return self.reader.trailer["/Root"]

    @property
    def size(self) -> int:
        trailer: Any = self.reader.trailer
        return int(trailer["/Size"])

    def objects(self) -> Iterator[Any]:
        """Every object of the file."""
        for number in range(1, self.size):
            found = IndirectObject(number, 0, self.reader).get_object()
            if found is not None:
                yield found

    def pages(self) -> list[Any]:
        return list(self.reader.pages)

    def dictionaries(self) -> Iterator[Any]:
        """Every dictionary of the file, also those within others."""
        for found in self.objects():
            yield from _dictionaries(found)


def _dictionaries(node: Any) -> Iterator[Any]:
    if isinstance(node, DictionaryObject):
        yield node
        for value in node.values():
            if not isinstance(value, IndirectObject):
                yield from _dictionaries(value)
    elif isinstance(node, ArrayObject):
        for value in node:
            if not isinstance(value, IndirectObject):
                yield from _dictionaries(value)


def long_report() -> ComplianceReport:
    """Tables over several pages, some of them on their side, and texts in odd letters."""
    report = compliance_report()
    first, production = report.table("identity"), report.table("production")
    many: tuple[tuple[Cell, ...], ...] = tuple(
        (f"factory-{number}", *(float(number) for _ in production.columns[1:])) for number in range(150)
    )
    odd = tuple((row[0], "Kĩrĩnyaga \N{EM DASH} ŵ <b>", *row[2:]) for row in first.rows)
    tables = tuple(
        replace(it, rows=many) if it is production else replace(it, rows=odd) if it is first else it
        for it in report.tables
    )
    return compliance_report(tables=tables)


REPORTS = {"ordinary": compliance_report, "empty": empty_compliance_report, "long": long_report}


@pytest.fixture(scope="module", params=REPORTS)
def pdf(request: pytest.FixtureRequest) -> Pdf:
    body = compliance_pdf.render(REPORTS[request.param]())
    return Pdf(body, PdfReader(io.BytesIO(body)))


@dataclass(frozen=True)
class Element:
    """A structure element, and where it hangs."""

    tag: str
    node: Any
    parents: tuple[str, ...]

    def attribute(self, name: str) -> Any:
        own = self.node.get("/A", ())
        found = [it.get_object() for it in (own if isinstance(own, list) else [own])]
        return next((it[name] for it in found if name in it), None)


def elements(pdf: Pdf) -> list[Element]:
    """The structure tree in reading order."""
    return list(_elements(pdf.catalogue["/StructTreeRoot"]["/K"], ()))


def _elements(node: Any, parents: tuple[str, ...]) -> Iterator[Element]:
    node = node.get_object() if isinstance(node, IndirectObject) else node
    if isinstance(node, list):
        for each in node:
            yield from _elements(each, parents)
    elif isinstance(node, DictionaryObject) and "/S" in node:
        tag = str(node["/S"])
        yield Element(tag, node, parents)
        yield from _elements(node.get("/K", ()), (*parents, tag))


# --- the file


def test_it_is_a_whole_file_that_says_that_it_is_binary(pdf: Pdf) -> None:
    """(A 6.1.2, 6.1.3)."""
    lines = pdf.body.split(b"\n", 2)
    assert lines[0] == b"%PDF-1.7"
    assert lines[1][:1] == b"%"
    assert len([byte for byte in lines[1][1:5] if byte > 127]) == 4
    assert pdf.body.rstrip().endswith(b"%%EOF")
    assert pdf.body.count(b"%%EOF") == 1
    trailer: Any = pdf.reader.trailer
    first, second = trailer["/ID"]
    assert len(first) >= 16
    assert second


def test_it_is_neither_locked_nor_alive(pdf: Pdf) -> None:
    """(A 6.1.3, 6.5, 6.6, 6.8)."""
    assert "/Encrypt" not in pdf.reader.trailer
    assert not {"/AcroForm", "/OpenAction", "/AA", "/Collection", "/NeedsRendering", "/Requirements"} & set(
        pdf.catalogue
    )
    assert not {"/JavaScript", "/EmbeddedFiles", "/AlternatePresentations"} & set(pdf.catalogue.get("/Names", {}))
    for each in pdf.dictionaries():
        assert not {"/JS", "/XFA", "/EF"} & set(each)
        assert each.get("/S") not in {"/JavaScript", "/Launch", "/Sound", "/Movie", "/ResetForm", "/ImportData"}
    for page in pdf.pages():
        assert not {"/Annots", "/AA"} & set(page)


def test_no_stream_is_elsewhere_or_packed_by_a_filter_that_is_not_allowed(pdf: Pdf) -> None:
    """(A 6.1.7)."""
    streams = [it for it in pdf.objects() if isinstance(it, StreamObject)]
    assert streams
    for each in streams:
        assert "/F" not in each
        filters = each.get("/Filter", ())
        assert not {"/LZWDecode", "/Crypt"} & set(filters if isinstance(filters, list) else [filters])


def test_nothing_shines_through(pdf: Pdf) -> None:
    """Part 2 allows transparency; nothing of ours needs it (A 6.2.10)."""
    for each in pdf.dictionaries():
        assert each.get("/SMask", "/None") == "/None" or each.get("/Subtype") == "/Image"
        assert each.get("/BM", "/Normal") in {"/Normal", "/Compatible"}
        assert {float(each.get(name, 1)) for name in ("/ca", "/CA") if not isinstance(each.get(name), dict)} <= {1.0}
        assert "/Alternates" not in each
        assert each.get("/Subtype") != "/PS"


def test_its_colours_are_those_of_a_profile_that_it_brings(pdf: Pdf) -> None:
    """(A 6.2.3)."""
    (intent,) = [it.get_object() for it in pdf.catalogue["/OutputIntents"]]
    assert intent["/S"] == "/GTS_PDFA1"
    assert intent["/OutputConditionIdentifier"]
    profile = intent["/DestOutputProfile"]
    assert profile["/N"] == 3
    assert profile.get_data()[36:40] == b"acsp", "an ICC profile"
    assert profile.get_data()[16:20] == b"RGB "


def test_its_metadata_say_the_same_in_both_places_and_what_it_claims(pdf: Pdf) -> None:
    """(A 6.6.2, 6.6.4; UA 7.1)."""
    metadata, info = pdf.catalogue["/Metadata"], pdf.reader.metadata
    assert info is not None
    assert (metadata["/Type"], metadata["/Subtype"]) == ("/Metadata", "/XML")
    xmp = metadata.get_data().decode()
    assert "<pdfaid:part>2</pdfaid:part>" in xmp
    assert "<pdfaid:conformance>A</pdfaid:conformance>" in xmp
    assert "<pdfuaid:part>1</pdfuaid:part>" in xmp
    title = re.search(r"<dc:title>.*?<rdf:li[^>]*>(.*?)</rdf:li>", xmp, re.DOTALL)
    assert title is not None
    assert title[1] == info.title
    assert info["/Keywords"] in xmp
    assert info.creation_date is not None
    assert f"<xmp:CreateDate>{info.creation_date:%Y-%m-%d}" in xmp


# --- fonts


def test_every_font_is_inside_and_says_which_letters_its_glyphs_are(pdf: Pdf) -> None:
    """(A 6.2.11; UA 7.21)."""
    fonts = [it for it in pdf.dictionaries() if it.get("/Type") == "/Font" and it.get("/Subtype") == "/Type0"]
    assert fonts
    assert not [it for it in pdf.dictionaries() if it.get("/Subtype") in {"/Type1", "/TrueType", "/Type3"}]
    for font in fonts:
        assert font["/ToUnicode"].get_data(), font["/BaseFont"]
        assert font["/Encoding"] == "/Identity-H"
        (inner,) = [it.get_object() for it in font["/DescendantFonts"]]
        described = inner["/FontDescriptor"]
        assert {"/FontFile2", "/FontFile3"} & set(described), "embedded"
        assert "/W" in inner
        if inner["/Subtype"] == "/CIDFontType2":
            assert "/CIDToGIDMap" in inner


def test_every_letter_is_one(pdf: Pdf) -> None:
    """Nothing is only a shape: no letter is unknown, or of a private area (A 6.2.11.7)."""
    text = "".join(page.extract_text() for page in pdf.pages())
    assert text.strip()
    assert not re.findall("[\N{REPLACEMENT CHARACTER}\\x00\ue000-\uf8ff]", text)


# --- tags


def test_it_is_tagged_titled_and_in_a_language(pdf: Pdf) -> None:
    """(A 6.7.2, 6.7.4; UA 7.1, 7.2)."""
    assert pdf.catalogue["/MarkInfo"]["/Marked"].value is True
    assert pdf.catalogue["/MarkInfo"]["/Suspects"].value is False
    assert pdf.catalogue["/Lang"] == "en-KE"
    assert pdf.catalogue["/ViewerPreferences"]["/DisplayDocTitle"].value is True
    roles = pdf.catalogue["/StructTreeRoot"].get("/RoleMap", {})
    for each in elements(pdf):
        assert roles.get(each.tag, each.tag) in STANDARD, each.tag
    assert not STANDARD & set(roles), "no standard type stands for another"


def test_everything_on_a_page_is_tagged_or_an_artifact(pdf: Pdf) -> None:
    """(A 6.7.3; UA 7.1). What has a number hangs in the tree, once, and the tree has nothing that is on no page."""
    hanging = list(_numbers(pdf.catalogue["/StructTreeRoot"]["/K"], None))
    for page in pdf.pages():
        assert page["/Tabs"] == "/S"
        assert "/StructParents" in page
        reference = page.indirect_reference
        assert reference is not None
        drawn = _drawn(page, pdf.reader)
        assert len(drawn) == len(set(drawn))
        assert sorted(number for number, where in hanging if where == reference.idnum) == sorted(drawn)
    parents = [it["/StructParents"] for it in pdf.pages()]
    assert len(parents) == len(set(parents))
    assert "/ParentTree" in pdf.catalogue["/StructTreeRoot"]


def _drawn(page: Any, reader: PdfReader) -> list[int]:
    """The numbers of what is marked on a page. Fails where something is drawn outside of all marks."""
    open_marks: list[str] = []
    numbers: list[int] = []
    for operands, operator in ContentStream(page["/Contents"], reader).operations:
        if operator in {b"BDC", b"BMC"}:
            open_marks.append(str(operands[0]))
            if operator == b"BDC" and "/MCID" in operands[1]:
                assert "/Artifact" not in open_marks[:-1], "a tag within what is told to nobody"
                numbers.append(int(operands[1]["/MCID"]))
        elif operator == b"EMC":
            open_marks.pop()
        elif operator in PAINTS:
            assert open_marks, (operator, operands)
    assert not open_marks
    return numbers


def _numbers(node: Any, page: int | None) -> Iterator[tuple[int, int | None]]:
    """The marks that a tree holds, each with the number of its page's object."""
    node = node.get_object() if isinstance(node, IndirectObject) else node
    if isinstance(node, list):
        for each in node:
            yield from _numbers(each, page)
    elif isinstance(node, DictionaryObject):
        own = node.raw_get("/Pg").idnum if "/Pg" in node else page
        if "/MCID" in node:
            number: Any = node["/MCID"]
            yield int(number), own
        yield from _numbers(node.get("/K", ()), own)
    elif isinstance(node, int):
        yield node, page


def test_headings_begin_with_the_first_level_and_leave_none_out(pdf: Pdf) -> None:
    """(UA 7.4.2)."""
    levels = [int(each.tag[2:]) for each in elements(pdf) if re.fullmatch(r"/H\d", each.tag)]
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    titles = [each.node.get("/T") for each in elements(pdf) if re.fullmatch(r"/H\d", each.tag)]
    assert all(titles)


def test_every_figure_is_told_in_words(pdf: Pdf) -> None:
    """(A 6.7.3.4; UA 7.3)."""
    figures = [each for each in elements(pdf) if each.tag in {"/Figure", "/Formula"}]
    for each in figures:
        assert len(str(each.node.get("/Alt", ""))) > 20
        assert each.attribute("/BBox") is not None


def test_every_column_of_every_table_has_its_heading(pdf: Pdf) -> None:
    """(UA 7.5). Rows are as long as each other, headings say of what, and each cell says which are its own."""
    tables = [each for each in elements(pdf) if each.tag == "/Table"]
    assert tables
    for table in tables:
        inside = list(_elements(table.node["/K"], ("/Table",)))
        headings = [each for each in inside if each.tag == "/TH"]
        assert headings
        assert {each.attribute("/Scope") for each in headings} <= {"/Column", "/Row", "/Both"}
        known = {each.node["/ID"] for each in headings}
        for cell in (each for each in inside if each.tag == "/TD"):
            own = cell.attribute("/Headers")
            assert own
            assert set(own) <= known
        rows = [list(_elements(each.node["/K"], ())) for each in inside if each.tag == "/TR"]
        lengths = {
            sum(int(cell.attribute("/ColSpan") or 1) for cell in row if cell.tag in {"/TH", "/TD"}) for row in rows
        }
        assert len(lengths) == 1
        for each in inside:
            if each.tag in {"/TH", "/TD"}:
                assert each.parents[-1] == "/TR"


def test_the_ordinary_report_has_a_figure_and_a_heading_for_each_table() -> None:
    body = compliance_pdf.render(compliance_report())
    found = Pdf(body, PdfReader(io.BytesIO(body)))
    tags = [each.tag for each in elements(found)]
    headings = [each.node["/T"] for each in elements(found) if each.tag == "/H1"]

    assert "/Figure" in tags
    assert {compliance_report().table(name).title for name in UNNUMBERED} <= set(headings)


# --- what another program says


@pytest.mark.skipif(shutil.which("pdfinfo") is None, reason="poppler is not here")
def test_poppler_finds_nothing_but_what_it_is_wrong_about(pdf: Pdf, tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf.body)

    def say(program: str, *words: str) -> subprocess.CompletedProcess[str]:
        found = shutil.which(program)
        assert found is not None
        return subprocess.run([found, *words, path], capture_output=True, text=True, check=True)

    told, info, fonts = say("pdfinfo", "-struct"), say("pdfinfo").stdout, say("pdffonts").stdout

    complaints = [line for line in told.stderr.splitlines() if not line.endswith(POPPLER)]
    assert not complaints
    assert "Table (block)" in told.stdout
    said = dict(re.findall(r"^([A-Za-z ]+):\s+(.*)$", info, re.MULTILINE))
    assert (said["Tagged"], said["JavaScript"], said["Encrypted"], said["Form"]) == ("yes", "no", "no", "none")
    for line in fonts.splitlines()[2:]:
        embedded, subset, unicode = line.split()[-5:-2]
        assert (embedded, subset, unicode) == ("yes", subset, "yes"), line
