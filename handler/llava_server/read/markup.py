"""What in a text looks like a prompt's markup: special tokens, places of pictures, role words, of any model.

Flow: the model's own control tokens and template + the spellings of other families -> one pattern -> what it finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_FOREIGN = (
    # <|im_start|>, <|image_1|>, <|start_header_id|>, with the wide bars of some families too.
    r"<[|｜][\w .:/▁-]{1,60}[|｜]>",
    # <image>, <image_soft_token>, <start_of_image>, </img>, <IMG_CONTEXT>, <ImageHere>, <video>.
    r"(?i:</?[\w-]*(?:image|img|video)[\w-]*>)",
    r"</?(?:s|bos|eos|pad|unk|im_start|im_end|im_patch|(?:start|end)_of_(?:turn|utterance)|row_\d+_col_\d+)>",
    r"<</?SYS>>",
    r"\[/?(?:INST|IMG(?:_[A-Z]+)?|SYSTEM_PROMPT|TOOL_[A-Z]+|AVAILABLE_TOOLS)\]",
    r"(?<!\w)(?:#{1,4} ?)?(?:USER|ASSISTANT|SYSTEM|HUMAN) ?:",
    r"(?m:^)[ \t]*(?:#{1,4} ?)?(?:User|Assistant|Human|System) ?:",
    r"(?<!\w)Assistant ?:(?=\s*\Z)",
)
"""How families of models write special tokens, pictures and roles; what a model does not know is plain text to it."""


class Markup:
    """Finds markup in the texts of one model's users.

    Args:
        controls: the model's own control tokens.
        template: the text of its chat template around a question, or "".
    """

    def __init__(self, controls: Iterable[str], template: str) -> None:
        longest_first = sorted(controls, key=len, reverse=True)
        words = re.sub("|".join(map(re.escape, longest_first)) or r"(?!)", " ", template).split()
        roles = [rf"(?<!\w){re.escape(word)}" for word in words if word.endswith(":") and any(map(str.isalpha, word))]
        self._pattern = re.compile("|".join([*map(re.escape, longest_first), *roles, *_FOREIGN]))

    def find(self, text: str) -> tuple[str, ...]:
        """What looks like markup, each once, in order."""
        return tuple(dict.fromkeys(match[0].strip() for match in self._pattern.finditer(text)))


def quoted(found: Iterable[str]) -> str:
    """The first few findings in quotes, for a sentence."""
    every = [f'"{one}"' for one in found]
    return ", ".join(every[:6]) + (f" and {len(every) - 6} more" if len(every) > 6 else "")
