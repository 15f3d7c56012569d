"""Methods behind the door: one of another package against a slow direct computation, and all that they may see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from integration.conftest import STORE
from integration.reference import processor_inputs
from llava_doors.method import Maps, Needs
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_viewer.look.picture import prepare_picture
from llava_viewer.pages.report import render_report
from llava_wire import Record, RequestError, decode, encode
from support.direct_pull import direct
from support.families import HEADS, WORKING, tiny_llava
from support.looking import DECLARATION, OWN_METHOD, Probe, install, installed

PROMPTS = ["Describe the image.", "What colour is the square?", "Is there a red circle in the image?"]
PULL = {"method": "pull", "layers": "all", "heads": "all", "reduction": "none", "precision": "float32"}
PROBE = {"method": DECLARATION.name, "precision": "float32"}


@pytest.fixture(autouse=True, scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Both methods installed as a package would be."""
    points = {"pull": "own_method:DECLARATION", "probe": "support.looking:DECLARATION"}
    with installed(install(tmp_path_factory.mktemp("site"), points, OWN_METHOD)):
        yield


def ask(engine: Engine, pictures: list[bytes], options: dict[str, Any], **more: Any) -> list[Record]:
    results = engine.run(
        [
            GenerateRequest.build(p, q, {"max_new_tokens": 8, **options, **more})
            for p, q in zip(pictures, PROMPTS, strict=False)
        ]
    )
    assert all(isinstance(result, Record) for result in results), results
    return results


def maps(record: Record) -> np.ndarray:
    [view] = record.views.values()
    return view.maps_float()


def close(ours: np.ndarray, theirs: np.ndarray, relative: float = 2e-4) -> None:
    assert ours.shape == theirs.shape
    assert theirs.min() < 0 < theirs.max()
    np.testing.assert_allclose(ours, theirs, atol=relative * np.abs(theirs).max(), rtol=0)


def test_a_batch_of_a_package_of_its_own_equals_the_direct_computation(engine, eager, pictures):
    for picture, record in zip(pictures, ask(engine, pictures, PULL), strict=True):
        [view] = record.views.values()
        assert (view.facts.method.name, view.facts.method.parameters) == ("pull", {"power": 1.0})
        assert view.facts.quantity.signed
        assert view.facts.quantity.unit == "logit"
        found = maps(record)
        close(found.reshape(*found.shape[:3], -1), direct(eager, engine.loaded.processor, picture, record))


def test_grouped_heads_and_parameters(grouped, pictures):
    engine, reference = grouped
    [record] = ask(engine, pictures[:1], PULL, parameters={"power": 2})
    found = maps(record)
    close(found.reshape(*found.shape[:3], -1), direct(reference, engine.loaded.processor, pictures[0], record, 2.0))


def test_replay_static_buffers_and_means_give_the_same(engine, static_engine, pictures):
    [whole] = ask(engine, pictures[:1], PULL)
    [static] = ask(static_engine, pictures[:1], PULL)
    assert static.run["decoder"] in ("static", "compiled")
    close(maps(static), maps(whole))
    [again] = engine.run([GenerateRequest.replay(whole, PULL, pictures[0])])
    close(maps(again), maps(whole))
    views = [{"name": name, **{k: v for k, v in PULL.items() if k != "precision"}, "reduction": name}
             for name in ("heads", "layers_heads", "all")]  # fmt: skip
    [means] = ask(engine, pictures[:1], {"views": views, "precision": "float32"})
    close(means.views["heads"].maps_float(), maps(whole).mean(2))
    close(means.views["layers_heads"].maps_float(), maps(whole).mean((1, 2)))
    rows = [i for i, token in enumerate(whole.tokens) if not token.special]
    close(means.views["all"].maps_float(), maps(whole)[rows].mean((0, 1, 2)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_computes_in_float32(dtype, engine, pictures):
    named = {"name": engine.settings.name, "revision": engine.settings.revision}
    half = Engine.load(STORE / "llava-shapes", device="cpu", dtype=dtype, settings=named)
    exact = ask(engine, pictures, PULL)
    again = half.run([GenerateRequest.replay(one, PULL, data) for one, data in zip(exact, pictures, strict=True)])
    for one, other in zip(again, exact, strict=True):
        assert isinstance(one, Record), one
        assert np.corrcoef(maps(one).ravel(), maps(other).ravel())[0, 1] > 0.995


def probed(engine: Engine, pictures: list[bytes], needs: Needs, look: Callable[..., Any], **more: Any) -> list[Any]:
    """What requests give while the probe needs and does this."""
    Probe.declared, Probe.look = needs, look
    try:
        return engine.run(
            [
                GenerateRequest.build(p, q, {"max_new_tokens": 6, **PROBE, **more})
                for p, q in zip(pictures, PROMPTS, strict=False)
            ]
        )
    finally:
        Probe.declared, Probe.look = Needs(), None


def test_contributions_add_up_to_the_centred_logit(engine, pictures):
    """With attention, norms and gates held, the network is linear in what each row read."""
    gaps, sizes = [], []

    def look(seen: Any, view: Any) -> None:
        run = seen.replay(hold=("attention", "norms", "gates"))
        logits = run.logits
        chosen = logits.gather(1, seen.targets[:, None])[:, 0] - logits.mean(-1)
        layers = range(len(run.reads))
        slopes = run.gradients(chosen.sum(), [run.embeddings, *(run.reads[layer] for layer in layers)])
        rows = torch.arange(len(chosen))
        parts = torch.zeros(len(chosen), seen.layout.length)
        for layer in layers:
            moved = torch.einsum("htd,rhd->hrt", seen.values(layer).float(), slopes[1 + layer])
            parts += (run.weights[layer] * moved).detach().sum(0)
        parts[rows, seen.layout.positions] = (run.embeddings * slopes[0]).sum(-1).detach()
        chosen = chosen.detach()
        gaps.append(float((parts.sum(-1) - chosen).abs().max() / chosen.abs().max()))
        sizes.append(float(parts[:, seen.layout.image].sum(-1).abs().max()))

    needs = Needs(values=True, gradients="asked")
    found = probed(engine, pictures, needs, look)
    assert all(isinstance(one, Record) for one in found), found
    assert max(gaps) < 1e-4
    assert min(sizes) > 1


@pytest.mark.parametrize("family", list(WORKING))
def test_replays_against_the_cache_are_those_of_the_whole_text(family, pictures):
    """Whatever a text model is made of: each row's weights, logits and own gradient, windows and groups included."""
    engine = Engine.from_model(*tiny_llava(WORKING[family]))
    apart: dict[str, float] = {}

    def look(seen: Any, view: Any) -> None:
        asked, whole, at = (
            seen.replay(),
            seen.declaring(Needs(gradients="whole")).replay("whole"),
            seen.layout.positions,
        )
        targets = seen.targets[:, None]
        layers = range(len(asked.weights))
        mine = asked.gradients(asked.logits.gather(1, targets).sum(), [asked.embeddings])[0]
        chosen = whole.logits[at].gather(1, targets)[:, 0]
        theirs = torch.stack(
            [whole.gradients(one, [whole.embeddings])[0][p] for one, p in zip(chosen, at, strict=True)]
        )
        rows = {block.layer: block.weights for block in seen.rows({layer: range(HEADS) for layer in layers})}
        apart["gradients"] = float((mine - theirs).abs().max() / theirs.abs().max())
        apart["logits"] = float((asked.logits - whole.logits[at]).abs().max().detach())
        for layer in layers:
            for name, weights in (("asked", asked.weights[layer]), ("whole", whole.weights[layer][:, at])):
                apart[f"{name} {layer}"] = float((weights - rows[layer]).abs().max().detach())

    found = probed(engine, pictures[:2], Needs(values=True, gradients="asked"), look, max_new_tokens=5, rows="both")
    assert all(isinstance(one, Record) for one in found), found
    assert max(apart.values()) < 2e-4, apart


def test_every_offer_of_a_run(engine, eager, pictures):
    inputs = processor_inputs(engine.loaded.processor, pictures[:1], PROMPTS[:1])
    other, kept = "What colour is the square?", {}

    def look(seen: Any, view: Any) -> None:
        kept["targets"] = seen.targets.tolist()
        kept["hidden"], kept["last"] = seen.hidden(2).clone(), seen.hidden(4).clone()
        kept["ordinary"] = seen.ordinary
        kept["words"] = seen.tokenizer.decode(seen.targets)
        kept["rows"] = torch.stack([torch.cat([block.weights for block in seen.every_row({1: range(8)})])])[0]
        kept["shown"] = torch.cat([block.weights for block in seen.rows({1: range(8)})])
        kept["weight"] = seen.output_weight(1)
        embeddings = seen.embeddings()
        blank = embeddings.clone()
        blank[seen.layout.image] = blank[seen.layout.image].mean(0)
        kept["logits"] = seen.forward(torch.stack([embeddings, blank]))
        leaf = embeddings[None].float().requires_grad_()
        picked = seen.forward(leaf).gather(2, seen.targets[None, :, None])[0, :, 0]
        kept["slope"] = torch.autograd.grad(picked[1], leaf)[0][0]
        whole = seen.replay("whole")
        position = int(seen.layout.positions[1])
        chosen = whole.logits[position, seen.targets[1]]
        kept["whole"] = whole.gradients(chosen, [whole.embeddings])[0]
        [block] = seen.other(other).rows({0: range(8)})
        kept["other"] = block.weights

    needs = Needs(rows="every", values=True, hidden=(2, 4), gradients="whole", questions=(other,), passes=2)
    [record] = probed(engine, pictures[:1], needs, look)
    assert isinstance(record, Record), record
    ids = [token.id for token in record.tokens]
    assert kept["targets"] == ids
    whole_ids = torch.cat([inputs["input_ids"], torch.tensor([ids[:-1]])], 1)
    reference = eager(
        input_ids=whole_ids, pixel_values=inputs["pixel_values"], attention_mask=torch.ones_like(whole_ids),
        output_hidden_states=True, output_attentions=True,
    )  # fmt: skip
    first = inputs["input_ids"].shape[1] - 1
    torch.testing.assert_close(kept["hidden"], reference.hidden_states[2][0], atol=1e-4, rtol=1e-4)
    left = eager.get_decoder().norm(kept["last"])
    torch.testing.assert_close(left, reference.hidden_states[-1][0], atol=1e-4, rtol=1e-4)
    assert kept["ordinary"].nonzero()[:, 0].tolist() == [
        first + step for step, token in enumerate(record.tokens) if not token.special
    ]
    assert kept["words"].strip() == record.answer
    torch.testing.assert_close(kept["rows"], reference.attentions[1][0], atol=1e-5, rtol=0)
    torch.testing.assert_close(kept["shown"], reference.attentions[1][0][:, first:], atol=1e-5, rtol=0)
    torch.testing.assert_close(kept["logits"][0], reference.logits[0, first:], atol=1e-3, rtol=1e-4)
    assert (kept["logits"][1] - kept["logits"][0]).abs().max() > 1
    projection = eager.get_decoder().layers[1].self_attn.o_proj.weight
    torch.testing.assert_close(kept["weight"], projection.T.reshape(8, 16, 128))
    torch.testing.assert_close(kept["slope"], kept["whole"], atol=1e-4 * float(kept["whole"].abs().max()), rtol=0)
    assert kept["slope"][first + 2 :].abs().max() == 0
    asked = processor_inputs(engine.loaded.processor, pictures[:1], [other])
    row = eager(**asked, output_attentions=True).attentions[0][0, :, -1:]
    torch.testing.assert_close(kept["other"], row, atol=1e-5, rtol=0)


def test_what_a_method_says_of_its_maps_is_in_the_record(engine, pictures):
    def look(seen: Any, view: Any) -> Maps:
        shape = (len(seen.layout.positions), 1, seen.layout.patches)
        return Maps(torch.zeros(shape), notes=("patches 3, 7 were left out.",))

    [record] = probed(engine, pictures[:1], Needs(), look)
    [note] = [note for note in record.facts.notes if note.code == "method"]
    assert note.text == "View “selection”, probe: patches 3, 7 were left out."
    decode(encode(record))


@pytest.mark.parametrize(
    ("look", "says"),
    [
        (lambda seen, view: seen.values(0), "asks for values, expected it to say so in `needs`"),
        (lambda seen, view: seen.hidden(1), "hidden states of layer 1"),
        (lambda seen, view: list(seen.every_row({0: [0]})), "rows of every position"),
        (lambda seen, view: seen.replay(), "a replay of the asked rows"),
        (lambda seen, view: seen.forward(seen.embeddings()[None]), "1 passes side by side"),
        (lambda seen, view: seen.other("Why?"), "the question 'Why?'"),
        (lambda seen, view: 1 / 0, "ZeroDivisionError"),
        (lambda seen, view: torch.zeros(1, 2, 3), "got maps of [1, 2, 3] in torch.float32 from method 'probe'"),
        (lambda seen, view: torch.full((6, 1, 64), torch.nan), "got maps of 'probe' that are not finite"),
    ],
)
def test_a_method_that_fails_is_named_and_harms_nobody(look, says, engine, pictures):
    Probe.look = look
    try:
        bad = GenerateRequest.build(pictures[0], PROMPTS[0], {**PROBE, "max_new_tokens": 6})
        good = GenerateRequest.build(pictures[1], PROMPTS[1], {"max_new_tokens": 6})
        refused, answered = engine.run([bad, good])
    finally:
        Probe.look = None
    assert isinstance(refused, RequestError)
    assert (refused.code, refused.field in ("options.method", "model")) == ("internal", True)
    assert says in refused.message
    assert isinstance(answered, Record)


def test_what_methods_take_is_estimated_and_refused_beforehand(engine, pictures):
    def bytes_of(**options: Any) -> Any:
        return engine.estimate(GenerateRequest.build(pictures[0], PROMPTS[0], {"max_new_tokens": 8, **options}))

    plain, own = bytes_of(), bytes_of(**PROBE, parameters={"bytes": 12_345})
    assert plain.looking_bytes == 0
    assert own.looking_bytes == 12_345
    assert own.device_bytes - own.maps_bytes >= plain.device_bytes - plain.maps_bytes + 12_345
    assert bytes_of(**PULL).looking_bytes > 4 * 4 * 8 * 8 * 72
    with pytest.raises(RequestError, match="bytes of device memory") as refused:
        bytes_of(**PROBE, parameters={"bytes": 1 << 40})
    assert refused.value.code == "does_not_fit"


@pytest.mark.parametrize(
    ("options", "field", "says"),
    [
        ({**PULL, "stream": True}, "options.stream", "known only when the answer is finished"),
        ({**PROBE, "heads": [1]}, "options.heads", "tells no heads apart"),
        ({**PROBE, "reduction": "heads"}, "options.reduction", "one of ['layers_heads', 'all'] with method 'probe'"),
        ({**PULL, "parameters": {"power": "x"}}, "options.parameters.power", "expected a number"),
        ({**PULL, "method": "pul"}, "options.method", "did you mean 'pull'"),
    ],
)
def test_what_a_method_cannot_do_is_refused(options, field, says, engine, pictures):
    with pytest.raises(RequestError, match="got") as refused:
        engine.estimate(GenerateRequest.build(pictures[0], PROMPTS[0], options))
    assert (refused.value.field, refused.value.code) == (field, "invalid")
    assert says in refused.value.message


def test_a_report_shows_maps_of_the_package_in_their_own_unit(engine, pictures):
    views = [{"name": "mean"}, {"name": "pulls", "method": "pull", "layers": "all", "heads": "all"}]
    [record] = ask(engine, pictures[:1], {"views": views})
    page = render_report(decode(encode(record.with_picture(*prepare_picture(pictures[0])))))
    assert all(word in page for word in ("pulls", "pull", "logit"))
