"""How large a record may be: every count and number of a file has a bound, so that a small file stays cheap to read.

Flow: these numbers -> `zipped` (the file), `bounded_json` (its text), `checks` (what the text says).
docs/wire-format.md states them. They leave room over what a server makes of a request (`llava_server.ask.settings`).
"""

from __future__ import annotations

MAX_FILE_BYTES = 256 << 20
"""The largest record file: the largest picture that a client keeps, as a PNG, beside the largest response."""
MAX_DIRECTORY_BYTES = 1 << 20
"""The largest zip directory; `MAX_MEMBERS` members take a tenth of it."""
MAX_MEMBERS = 1000
MAX_ALTERNATIVES = 64
ALWAYS_INFLATED_BYTES = 32 << 20
"""Every file may inflate to this much: maps of layers that do not reach the picture are zeros and deflate to little."""
MAX_INFLATION = 64
"""How many bytes more each byte of a file may stand for; maps and texts of real runs stay far below."""
MAX_INFLATED_BYTES = 512 << 20
MAX_MAP_VALUES = 1 << 27
"""Values of all maps of a file, alternatives included; every head of LLaVA-1.5-7B takes 77 million for 131 tokens."""
MAX_MAPS = 1 << 21

MAX_JSON_BYTES = 24 << 20
"""All JSON of a file: parsed it takes ten times its size in memory."""
MAX_JSON_VALUES = 1_500_000
"""Values in a JSON member; a token takes 26."""
MAX_NUMBER_CHARS = 100
"""Digits, sign, point and exponent of a number; the shortest form of a float64 has at most 24."""
MAX_DEPTH = 8
"""Lists and objects inside one another, in what has no shape of its own: checks, sampling, the run block."""

MAX_INTEGER = 2**31 - 1
"""The largest of the schema's whole numbers: ids, positions, steps, sizes."""
MAX_TEXT_CHARS = 1 << 18
"""The longest prompt or answer."""
MAX_PIECE_CHARS = 4096
"""The longest text of a token, name of a model, key of an object or sentence of a note."""
MAX_PLAIN_VALUES = 2000
"""Entries of checks, sampling, software or the run block, everything inside counted."""
MAX_NOTES = 200
MAX_CANDIDATES = 100
"""Candidates of a token; writers store five."""
MAX_TOKENS = 1 << 14
MAX_TOKEN_CHARS = 1 << 20
"""Texts of all tokens of an answer, candidates included."""
MAX_PROMPT_IDS = 1 << 18
MAX_PROMPT_CHARS = 1 << 21
"""Pieces, and texts, of all ids of a prompt."""
MAX_LAYERS = 4096
"""Layers of a model, and heads of a layer."""
MAX_VIEWS = 64
MAX_PARTS = 16
"""Parts of a row's total."""

MAX_PICTURE_PIXELS = 1 << 27
"""Width times height of the picture that was asked about."""
MAX_SIDE_PX = 1 << 27
"""Width or height of a picture before and inside the image processor, and its offsets there."""
MAX_GRID_SIDE = 1024
"""Rows or columns of a patch grid."""
MAX_STEPS = 100
"""Steps of the image processor on the way to a grid."""
MAX_IMAGES = 64
MAX_GRIDS = 256
MAX_ALL_STEPS = 1 << 11
"""Steps on the way to all grids: their exact arithmetic costs a reader more than their text."""
MAX_RUNS = 1 << 16
"""Runs of positions in all grids: one per row where a separator ends each."""
MAX_TURNS = 256
MAX_TAGS = 100
