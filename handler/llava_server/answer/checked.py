"""What is tested about one answer: its tokens with what was found, and what the record's checks say.

Flow: the finished run, tokens and views -> each check behind the door -> its figures, and numbers of tokens. A check
that cannot be made says why; one that fails ends the request, because it was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch

from llava_doors.check import Answer, Finding
from llava_doors.method import Seen as Run
from llava_server.ask.checks import CheckSpec, load_check, needs_of_check
from llava_server.fit.estimate import Extent
from llava_server.load.memory import is_out_of_memory
from llava_server.look.seen import Seen
from llava_wire.errors import RecordError, RequestError
from llava_wire.schema import TOKEN_FIGURES, Token
from llava_wire.untrusted.bounded_json import check_plain

Checks = dict[str, dict[str, Any]]


def checked(seen: Seen, answer: Answer) -> tuple[tuple[Token, ...], Checks]:
    """Every check of a request.

    Args:
        seen: the run, its rows all those of the answer.
        answer: as the record will hold it.

    Returns:
        the tokens with what was found of each, and the record's checks by name.

    Raises:
        RequestError: "internal", a check failed.
    """
    tokens, found = answer.tokens, Checks()
    for spec in seen.asked.plan.checks:
        with _blamed(spec):
            finding = _finding(spec, seen, replace(answer, tokens=tokens))
            tokens = _with_figures(tokens, finding)
            found[spec.name] = _figures(finding)
            check_plain(found, "checks")
    return tokens, found


def _finding(spec: CheckSpec, seen: Seen, answer: Answer) -> Finding:
    plan, layout = seen.asked.plan, seen.asked.images.layout
    if not answer.tokens:
        return Finding(reason="the answer is empty")
    if seen.loaded.length_dependent:
        # One forward over prompt and answer is not what decoding it was.
        return Finding(reason="the model's keys change with the length of the text")
    asked = plan.asked_of(spec)
    reach = Extent.of(plan, len(seen.asked.prompt.ids), layout, 0)
    needs = needs_of_check(spec, asked, seen.loaded.facts, reach, "options.check")
    try:
        with torch.inference_mode(False), torch.set_grad_enabled(needs.gradients != "none"):
            return load_check(spec.name).test(cast(Run, seen.declaring(needs)), answer, asked)
    except RequestError as error:
        if error.code != "deadline":
            raise
        # The answer is there, and worth more than what was to be tested about it.
        return Finding(reason="the request's time passed before it was tested")


def _with_figures(tokens: tuple[Token, ...], finding: Finding) -> tuple[Token, ...]:
    """The tokens with the numbers that a check found of each.

    Raises:
        ValueError: numbers that a token does not have, or not one for each.
    """
    if wrong := {*finding.tokens} - {*TOKEN_FIGURES}:
        raise ValueError(f"tokens: got {sorted(wrong)}, expected {list(TOKEN_FIGURES)}")
    columns = {name: [float(one) for one in column] for name, column in finding.tokens.items()}
    if any(len(column) != len(tokens) for column in columns.values()):
        raise ValueError(f"tokens: got other than {len(tokens)} numbers, expected one for each token")
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return tuple(replace(token, **row) for token, row in zip(tokens, rows, strict=True)) if rows else tokens


def _figures(finding: Finding) -> dict[str, Any]:
    if finding.reason:
        return {"result": "not tested", "reason": finding.reason}
    return {"result": "measured", **finding.figures}


@contextmanager
def _blamed(spec: CheckSpec) -> Iterator[None]:
    """Says which check failed: it may be a stranger's, and the batch has other requests.

    Raises:
        RequestError: "internal"; running out of memory stays what it is.
    """
    try:
        yield
    except RequestError:
        raise
    except Exception as error:
        if is_out_of_memory(error) and not isinstance(error, RecordError):
            raise
        raise RequestError(
            "internal",
            "options.check",
            f"got {type(error).__name__} ({str(error)[:400]}) from check {spec.name!r}, expected figures; correct the "
            "check, or leave it out",
        ) from error
