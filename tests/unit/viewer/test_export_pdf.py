"""Figures as PDF: a page of its size, the picture of the PNG, and its text where the letters are."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from llava_viewer import export
from llava_viewer.cli.main import main
from llava_viewer.export.drawing import MARGIN, Drawing, Text
from llava_viewer.export.fonts import width
from llava_viewer.export.pdf import pdf_bytes
from llava_viewer.files import PDF, kind_of
from llava_wire import encode
from llava_wire.record import Record
from support.synthetic import make_record


@pytest.fixture(scope="module")
def record() -> Record:
    return make_record(reductions=("layers_heads", "none"))


def objects_of(data: bytes) -> dict[int, bytes]:
    """The objects of a PDF, each found where its table says that it is."""
    start = int(data.rsplit(b"startxref", 1)[1].split()[0])
    assert data[start:].startswith(b"xref\n0 ")
    count = int(data[start:].split()[2])
    places = [int(line[:10]) for line in data[start:].split(b"\n")[3 : 2 + count]]
    assert f"/Size {count} ".encode() in data[start:]
    found = {}
    for number, place in enumerate(places, 1):
        head = b"%d 0 obj\n" % number
        assert data[place:].startswith(head), number
        found[number] = data[place + len(head) : data.index(b"\nendobj", place)]
    return found


def stream_of(body: bytes) -> bytes:
    facts, data = body.split(b"\nstream\n", 1)
    [length] = re.findall(rb"/Length (\d+)", facts)
    assert data[int(length) :] == b"\nendstream"
    data = data[: int(length)]
    return zlib.decompress(data) if b"/FlateDecode" in facts else data


def lines_of(data: bytes) -> list[tuple[str, float, float, float]]:
    """The lines of text of a PDF: what they say, where they start (x, y) and how wide they are, in points."""
    objects = objects_of(data)
    page = objects[3]
    fonts = {}
    for name, number in re.findall(rb"/(F\d+) (\d+) 0 R", page[page.index(b"/Font") :]):
        body = objects[int(number)]
        assert b"/Subtype /Type3" in body, "in the file, so that no reader takes another one"
        widths = [int(one) for one in re.findall(rb"/Widths \[([\d ]+)\]", body)[0].split()]
        procs = [int(one) for _, one in re.findall(rb"/c(\d+) (\d+) 0 R", body)]
        assert [stream_of(objects[one]) for one in procs] == [b"%d 0 d0" % own for own in widths], "nothing is drawn"
        told = stream_of(objects[int(re.findall(rb"/ToUnicode (\d+)", body)[0])])
        letters = {
            int(code, 16): bytes.fromhex(text.decode()).decode("utf-16-be")
            for code, text in re.findall(rb"^<(..)> <((?:[0-9a-f]{4})+)>$", told, re.M)
        }
        fonts[name] = (widths, letters)
    [content] = re.findall(rb"/Contents (\d+) 0 R", page)
    found = []
    for line in re.findall(rb"^BT (.*) ET$", stream_of(objects[int(content)]), re.M):
        stretched, x, y = (float(one) for one in re.match(rb"([\d.]+) Tz 1 0 0 1 (\S+) (\S+) Tm", line).groups())  # type: ignore[union-attr]
        text, wide = "", 0.0
        for name, size, codes in re.findall(rb"/(F\d+) ([\d.]+) Tf <([0-9a-f]*)> Tj", line):
            widths, letters = fonts[name]
            text += "".join(letters[code] for code in bytes.fromhex(codes.decode()))
            wide += sum(widths[code] for code in bytes.fromhex(codes.decode())) * float(size) / 1000
        found.append((text, x, y, wide * stretched / 100))
    return found


@pytest.mark.parametrize("kind", ["figure", "phrase", "sheet", "heads"])
def test_its_text_lies_where_the_letters_are(record: Record, kind: str) -> None:
    if kind == "heads":
        drawing = export.word_heads(record, view="none", look=export.Look(width_mm=180))
    else:
        shown = export.show(record, look=export.Look(width_mm=84))
        item = export.phrase(shown, [1, 2]) if kind == "phrase" else shown.item(1)
        drawing = export.contact_sheet(shown) if kind == "sheet" else export.figure(shown, item)
    marks = [mark for mark in drawing.marks if isinstance(mark, Text)]
    found = lines_of(pdf_bytes(drawing, 72))
    assert [text for text, *_ in found] == [mark.text for mark in marks]
    assert len(found) > 5
    for mark, (text, x, y, wide) in zip(marks, found, strict=True):
        assert wide == pytest.approx(width(mark.text, mark.size, mark.weight), rel=1e-3, abs=0.01), text
        there = {"start": x, "middle": x + wide / 2, "end": x + wide}[mark.anchor]
        assert there == pytest.approx(mark.x + MARGIN, abs=0.02), text
        assert y == pytest.approx(drawing.height + MARGIN - mark.y, abs=0.01), text
        # On the page: no line hangs over its edge.
        assert -0.1 <= x <= x + wide <= drawing.width + 2 * MARGIN + 0.1, text


def test_many_letters_of_many_scripts_and_signs_of_pdf_itself() -> None:
    many = "".join(chr(code) for code in range(0x4E00, 0x4E00 + 600))
    texts = ["(a) \\ <b> %", many, "שלום", "\U0001f41f fish", "a\nb"]
    marks = tuple(Text(5, 10 + 20 * number, text, 9) for number, text in enumerate(texts))
    drawing = Drawing(300, 120, marks, title="(x) \\ \r é", description=many)
    data = pdf_bytes(drawing, 72)
    assert [text for text, *_ in lines_of(data)] == [mark.text.replace("\n", " ") for mark in marks]
    title = data[data.index(b"/Title (") + 8 :]
    assert title.startswith(b"\xfe\xff\x00\\(\x00x\x00\\)")


def test_a_pdf_is_one_page_of_its_size_with_the_same_bytes_each_time(record: Record, tmp_path: Path) -> None:
    shown = export.show(record, look=export.Look(width_mm=84, dpi=150))
    drawing = export.figure(shown, shown.item(1))
    for name in ("a.pdf", "b.pdf"):
        export.write_pdf(drawing, tmp_path / name, 150)
    data = (tmp_path / "a.pdf").read_bytes()
    assert data == (tmp_path / "b.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", data)
    assert box
    assert float(box[1]) == pytest.approx(drawing.width + 2 * MARGIN, abs=0.001)
    assert float(box[2]) == pytest.approx(drawing.height + 2 * MARGIN, abs=0.001)
    assert data.count(b"/Type /Page ") == 1
    assert kind_of(tmp_path / "a.pdf") == PDF
    picture = export.paint(drawing, 150)
    picture.save(tmp_path / "other.pdf")
    assert kind_of(tmp_path / "other.pdf") == "a PDF document", "of another program"
    start = data.index(b"\xff\xd8\xff")
    (tmp_path / "in.jpg").write_bytes(data[start:])
    with PillowImage.open(tmp_path / "in.jpg") as inside:
        assert inside.size == picture.size
        assert np.abs(np.asarray(inside).astype(int) - np.asarray(picture)).mean() < 1.5


def test_the_command_replaces_its_own_pdf_and_no_other(record: Record, tmp_path: Path) -> None:
    run = tmp_path / "run.npz"
    run.write_bytes(encode(record))
    made = ["export", str(run), "-o", str(tmp_path), "--as", "pdf", "--tokens", "1", "--dpi", "72"]
    assert main(made) == 0
    assert main(made) == 0
    PillowImage.new("RGB", (9, 9)).save(tmp_path / "figure_step_1.pdf")
    assert main(made) != 0
