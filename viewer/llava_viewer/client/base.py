"""The client, the same over both transports.

Flow: picture + question (or a record to replay) + options -> `Connection` -> reply bytes -> `llava_wire.decode` ->
`Record`.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llava_viewer.client.connection import Connection
from llava_viewer.client.fields import Pictures, pictures_in, question_fields, replay_fields, with_pictures
from llava_viewer.client.replays.checking import UNSEEN, Check, asked, usual_checks, with_checks
from llava_viewer.client.replays.scoring import Scorer, SetScores
from llava_viewer.client.transport.stream import StreamedToken, read_stream
from llava_wire.container import decode
from llava_wire.errors import RequestError
from llava_wire.record import Record

Part = StreamedToken | Record


class Client(Connection):
    """A connection to one model of one server; usable from several threads, and as a context manager.

    Make one with `Client.local`, `Client.http`, `Client.grpc`, or, where no server runs, `Client.engine`.
    """

    def predict(
        self,
        image: Pictures,
        prompt: str,
        options: Mapping[str, Any] | None = None,
        *,
        keep_picture: bool = True,
        timeout_s: float | None = None,
        **more: Any,
    ) -> Record:
        """Asks one question about a picture, or about several.

        Args:
            image: a picture file's bytes, or its path; a list of them for a model that takes several.
            prompt: the question.
            options: the request's options (docs/http-api.md); `more` gives the same as keywords and wins.
            keep_picture: add the upright, metadata-free picture to the record, so that one file renders and replays.
            timeout_s: seconds until this request is given up, instead of the client's.

        Raises:
            RequestError: the request was refused or not answered; `ServerUnreachable` when nothing listens there.
            RecordError: the reply is not a record.
            OSError: the picture file cannot be read.
        """
        merged = {**(options or {}), **more, "format": "npz"}
        if merged.get("stream") is True:
            raise RequestError("invalid", "options.stream", "got true, expected false here; call stream instead")
        fields = question_fields(image, prompt, merged)
        record = decode(self._send(fields, merged, timeout_s))
        return with_pictures(record, pictures_in(fields)) if keep_picture else record

    def predict_bytes(
        self,
        image: Pictures,
        prompt: str,
        options: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        **more: Any,
    ) -> bytes:
        """Like `predict`, but gives the reply as it came: a record file, or JSON with `format="json"`."""
        merged = {"format": "npz", **(options or {}), **more}
        return self._send(question_fields(image, prompt, merged), merged, timeout_s)

    def stream(
        self,
        image: Pictures,
        prompt: str,
        options: Mapping[str, Any] | None = None,
        *,
        keep_picture: bool = True,
        timeout_s: float | None = None,
        **more: Any,
    ) -> Iterator[Part]:
        """Asks one question and gives the answer as it is being written; over HTTP alone.

        Args:
            image, prompt, options, keep_picture: as for `predict`.
            timeout_s: as for `predict`, until the record is there; what the caller does between two parts counts too.

        Yields:
            a `StreamedToken` for each token, then the `Record` that `predict` would give.

        Raises:
            RequestError: as `predict`; after the first token also for what ended the answer, and "unavailable" when the
                stream was cut off before its record. Nothing is sent again once a token has come.
            RecordError, OSError: as `predict`.
        """
        merged = {**(options or {}), **more, "stream": True}
        fields = question_fields(image, prompt, merged)
        most_bytes = self._most_bytes(fields, merged)

        def begin(left_s: float) -> tuple[Part, Generator[Part, None, None]]:
            parts = read_stream(self._transport.stream(fields, timeout_s=left_s, most_bytes=most_bytes), most_bytes)
            return next(parts), parts

        first, parts = self._patiently(begin, timeout_s)
        with contextlib.closing(parts):
            for part in itertools.chain([first], parts):
                yield with_pictures(part, pictures_in(fields)) if isinstance(part, Record) and keep_picture else part

    def replay(
        self,
        record: Record,
        options: Mapping[str, Any] | None = None,
        *,
        image: Pictures | None = None,
        keep_picture: bool = True,
        timeout_s: float | None = None,
        **more: Any,
    ) -> Record:
        """Asks for other views of an answer that exists, without generating it again; its annotations stay.

        Args:
            record: the answer; it must come from the model that is served.
            options: layers, heads, reduction, method, parameters or views, rows, steps, precision; `more` gives the
                same as keywords.
            image: the picture file's bytes, or its path, or a list of them; None sends what the record carries.
            keep_picture, timeout_s: as for `predict`.

        Raises:
            RequestError, RecordError, OSError: as `predict`.
        """
        merged = {**(options or {}), **more, "format": "npz"}
        fields = replay_fields(record, image, merged)
        again = decode(self._send(fields, merged, timeout_s, tokens=len(record.tokens)))
        if again.answer == record.answer:
            # Servers write none: what was said of the answer holds for other views of it too.
            again = again.with_facts(replace(again.facts, annotations=record.facts.annotations))
        files = pictures_in(fields)
        return with_pictures(again, files) if keep_picture and files else again

    def check(
        self,
        record: Record,
        checks: Sequence[Check] | None = None,
        *,
        image: Pictures | None = None,
        timeout_s: float | None = None,
    ) -> Record:
        """Asks what there is to test about an answer that exists; the record with what was found, and else as it was.

        Args:
            record: the answer; it must come from the model that is served.
            checks: as the option `check`; None for "patches", and "image" where the record does not tell it. The
                patches of "patches" are those of the record's own maps: `view`, `steps` and `top` choose among them.
            image: as for `replay`.
            timeout_s: as for `predict`.

        Raises:
            RequestError, RecordError, OSError: as `predict`.
            ValueError: the record has no such view or words, or the replay reads other words than the record has.
        """
        named, own = asked(record, usual_checks(record) if checks is None else checks)
        again = self.replay(record, {**UNSEEN, "check": named}, image=image, keep_picture=False, timeout_s=timeout_s)
        return with_checks(record, again, named, own)

    def scorer(self, record: Record, steps: int | Sequence[int], *, image: Pictures | None = None) -> Scorer:
        """The served model, asked how probable a word stays when it sees only some of the patches; metrics take it.

        Hidden patches are replaced by the mean of all. Nothing is asked before the scorer is.

        Args:
            record: the answer; it must come from the model that is served.
            steps: the word's token, or the tokens of a phrase, whose probability is that of all of them.
            image: as for `replay`.

        Raises:
            ValueError: tokens that the answer does not have.
        """

        def replay(record: Record, options: Mapping[str, Any]) -> Record:
            return self.replay(record, options, image=image, keep_picture=False)

        tokens = [steps] if isinstance(steps, int) else [*steps]
        return SetScores(replay, record, tokens).of(tokens)
