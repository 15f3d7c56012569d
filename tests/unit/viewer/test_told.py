"""What a report says in words: the words it opens on and counts, what a mean is of, what was tested."""

from __future__ import annotations

from dataclasses import replace

from llava_viewer.judging import BY_HAND
from llava_viewer.look.pieces import content_words
from llava_viewer.pages.assemble import build_report
from llava_viewer.pages.report import render_report
from llava_wire.schema import Annotations
from support.several import make_signed
from support.synthetic import make_record


def test_a_report_opens_on_no_article_and_says_of_which_words_its_mean_is() -> None:
    record = make_record(words=("The", " cup", " is", " red"), reductions=("layers_heads",))
    for seed in range(6):
        one = make_record(words=("The", " cup", " is", " red"), reductions=("layers_heads",), seed=seed)
        assert build_report(one).first_key in ("t1", "t3")
    few = replace(record, facts=replace(record.facts, queries=record.queries[1:3]))
    view = few.views["layers_heads"]
    maps, shares = view.stored[1:3], None if view.shares is None else view.shares[1:3]
    few = replace(few, views={view.name: replace(view, stored=maps, shares=shares, scales=view.scales[1:3])})
    [share] = [fact.value for fact in build_report(few).summary if fact.label == "attention on the image"]
    assert share.endswith("(view “layers_heads”; mean of the 2 of 4\xa0tokens that were recorded)")
    assert "recorded" not in " ".join(fact.value for fact in build_report(record).summary)


def test_what_was_tested_is_told_and_a_person_is_no_rule() -> None:
    plain = make_record(words=("A", " red"), reductions=("layers_heads",))
    tokens = tuple(replace(token, without_image=-2.0) for token in plain.tokens)
    checks = {"image": {"result": "measured", "needing": 2, "of": 2, "nats": 1.0}}
    said = Annotations(rule=BY_HAND, right=False)
    report = build_report(replace(plain, facts=replace(plain.facts, tokens=tokens, checks=checks, annotations=said)))
    facts = {fact.label: fact.value for group in report.groups for fact in group.facts}
    assert facts["Causal effect"].startswith("2 of 2\xa0tokens need the image: their log probability falls")
    assert facts["Judged"] == "wrong, judged by hand"


def test_pages_of_signed_maps_alone_have_no_dead_controls() -> None:
    record = make_signed()
    views = {name: view for name, view in record.views.items() if view.quantity.signed}
    page = render_report(replace(record, views=views))
    assert 'id="b-share"' not in page
    assert 'id="b-prob" checked' in page
    assert '.desk[data-v="v0"] .colours{display:none}' in page


def test_content_words_are_whole_words_without_signs_and_articles() -> None:
    texts = ["The", " sq", "uare", ",", " on", " the", " left", ".", " It", "'s", " red"]
    assert content_words(texts) == [[1, 2], [6], [10]]
    assert content_words([" on", " it", "."]) == [[0], [1]], "all words where no other is left"
    assert content_words(["."]) == []
