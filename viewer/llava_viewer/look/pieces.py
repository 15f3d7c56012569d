"""The words of a question as text: a vocabulary's strings -> what each token adds, as `Token.text` has it for answers;
and which pieces are one word.

Records since `prompt.texts` hold it; earlier ones hold the pieces alone, which are decoded here. Byte-level
vocabularies write every byte as one letter ("cafÃ©", "Ġred"), SentencePiece ones a space as "▁" and bytes of rare
characters as "<0xC3>". A character of several tokens is added by its last one.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Sequence

from llava_wire.record import Record

FUNCTION_WORDS = frozenset((
    "a", "an", "the", "this", "that", "these", "those", "there", "here", "of", "in", "on", "at", "to", "for",
    "from", "with", "by", "as", "into", "onto", "and", "or", "but", "nor", "so", "if", "than", "then", "that", "it",
    "its", "he", "she", "they", "them", "his", "her", "their", "we", "you", "i", "my", "your", "our", "us", "me",
    "is", "are", "was", "were", "be", "been", "being", "am", "do", "does", "did", "has", "have", "had", "can",
    "could", "will", "would", "shall", "should", "may", "might", "must", "not", "no", "which", "who", "whose",
    "what", "when", "where", "how", "also", "very", "some", "any", "each", "both", "all", "such", "s",
))  # fmt: skip
"""English words that stand for nothing that an image shows by themselves."""
_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_REST = [byte for byte in range(256) if byte not in _PRINTED]
_BYTE_OF = {chr(byte): byte for byte in _PRINTED} | {chr(256 + n): byte for n, byte in enumerate(_REST)}
"""How byte-level vocabularies write bytes: printable Latin-1 as itself, the others in order from U+0100."""


def prompt_texts(record: Record) -> tuple[str, ...]:
    """What each id of the prompt adds to the text, one per id; special tokens of earlier records keep their piece."""
    prompt = record.facts.prompt
    if prompt.texts:
        return prompt.texts
    return _decoded(prompt.pieces, _bytes_for((*prompt.pieces, *(token.piece for token in record.tokens))))


def word_groups(texts: Sequence[str]) -> list[list[int]]:
    """The numbers of the pieces of each word, in order: a piece without a space before it goes on with the one before
    when both sides are letters or digits."""
    joined: list[list[int]] = []
    for number, text in enumerate(texts):
        before = texts[number - 1] if number else ""
        if joined and before[-1:].isalnum() and text[:1].isalnum():
            joined[-1].append(number)
        else:
            joined.append([number])
    return joined


def content_words(texts: Sequence[str]) -> list[list[int]]:
    """The numbers of the pieces of each word that may stand for something: no signs, no articles, prepositions and
    the like. All words where no other is left."""
    spoken = [group for group in word_groups(texts) if any(char.isalnum() for n in group for char in texts[n])]
    return [group for group in spoken if not is_function_word("".join(texts[n] for n in group))] or spoken


def is_function_word(word: str) -> bool:
    """Whether a word is one of `FUNCTION_WORDS`."""
    return "".join(char for char in word.casefold() if char.isalnum()) in FUNCTION_WORDS


def _bytes_for(pieces: Iterable[str]) -> Callable[[str], bytes | None]:
    """How this vocabulary writes bytes: piece -> bytes, None for a piece that is text. Told by what all pieces give."""
    known = list(pieces)
    if any(piece.startswith("▁") or _FALLBACK.fullmatch(piece) for piece in known):
        return _fallback_byte
    runs = [data for piece in known if (data := _letters_to_bytes(piece)) is not None]
    try:
        b"".join(runs).decode("utf-8")
    except UnicodeDecodeError:
        # Letters that are no bytes: a vocabulary of plain text.
        return lambda piece: None
    return _letters_to_bytes


def _fallback_byte(piece: str) -> bytes | None:
    found = _FALLBACK.fullmatch(piece)
    return bytes([int(found[1], 16)]) if found else None


def _letters_to_bytes(piece: str) -> bytes | None:
    return bytes(_BYTE_OF[letter] for letter in piece) if all(letter in _BYTE_OF for letter in piece) else None


def _decoded(pieces: Iterable[str], bytes_of: Callable[[str], bytes | None]) -> tuple[str, ...]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    texts: list[str] = []
    for piece in pieces:
        data = bytes_of(piece)
        if data is not None:
            texts.append(decoder.decode(data))
            continue
        _finish(decoder, texts)
        texts.append(piece.replace("▁", " ") if bytes_of is _fallback_byte else piece)
    _finish(decoder, texts)
    return tuple(texts)


def _finish(decoder: codecs.IncrementalDecoder, texts: list[str]) -> None:
    """Bytes that never became a character stand as one sign with the last of them."""
    rest = decoder.decode(b"", final=True)
    decoder.reset()
    if rest:
        texts[-1] += rest
