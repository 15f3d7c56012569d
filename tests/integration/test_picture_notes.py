"""What was done to a picture reaches the record, the picture kept in it, and the report."""

from __future__ import annotations

import numpy as np

from llava_server.ask.request import GenerateRequest
from llava_viewer.look.picture import check_picture, prepare_picture
from llava_viewer.pages.report import render_report
from llava_wire import decode, encode
from support.pictures import encoded, scene


def test_a_transparent_picture_is_seen_on_white_and_its_record_and_report_say_so(engine) -> None:
    clear = scene(96, 96, 3).convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 96, 40))
    white = scene(96, 96, 3)
    white.paste("white", (0, 0, 96, 40))
    data = encoded(clear)
    asked = [
        GenerateRequest.build(image=image, prompt="What colour is the cross?", options={"max_new_tokens": 3})
        for image in (data, encoded(white))
    ]
    seen, same = (engine.run([one])[0] for one in asked)
    assert [note.code for note in seen.facts.notes if note.field == "image"] == ["transparency"]
    assert [note for note in same.facts.notes if note.field == "image"] == []
    assert seen.facts.image.pixels_sha256 == same.facts.image.pixels_sha256
    np.testing.assert_array_equal(seen.maps_float(), same.maps_float())
    kept = seen.with_picture(*prepare_picture(data))
    assert check_picture(kept, kept.picture[1]) is None
    assert "Parts of the image are transparent" in render_report(decode(encode(kept)))
