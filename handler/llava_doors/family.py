"""A family of models: everything that the server must know of one kind of vision-language model, in one class.

Flow: config.json -> `check` -> `shape`; sizes of pictures -> `layout`, before any picture is opened -> opened pictures
-> `inputs` -> `features` -> `embedded` with the prompt's ids and `positions` -> the text model.

An instance serves one checkpoint: `check` is called first and keeps its configuration. Torch and transformers are
imported inside functions alone, so that families can be listed where neither is installed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from llava_wire.geometry import Geometry
from llava_wire.schema import Note


class FamilyError(ValueError):
    """A checkpoint that a family cannot run: "field: got X, expected Y; do Z"."""


@dataclass(frozen=True)
class ModelFacts:
    """The shape of a model: text layers, query heads, key-value heads, head size, context length in tokens.

    `token_bytes` bounds what a prefill holds at one time per prompt token, `score_bytes` what the scores of one token
    of a given answer take; `width` is that of hidden states; `vocabulary` counts the ids that the text model has
    embeddings for by its configuration.
    """

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    cache_bytes_per_value: int
    token_bytes: int = 0
    score_bytes: int = 0
    width: int = 0
    vocabulary: int = 0


@dataclass(frozen=True)
class PatchGrid:
    """One grid of patches on one picture.

    Args:
        image: the picture's number in the prompt, from 0.
        name: what the grid is on its picture: "base", "detail", "tile 0,1".
        geometry: from the picture to the grid.
        tokens: [rows * cols], row by row, which of the tokens that the picture takes in the prompt each patch is.
            Tokens that no grid names (a class token, newlines, separators) stand for no place.
    """

    image: int
    name: str
    geometry: Geometry
    tokens: Sequence[int]

    @property
    def rows(self) -> int:
        """Rows of patches."""
        return self.geometry.rows

    @property
    def cols(self) -> int:
        """Columns of patches."""
        return self.geometry.cols


@dataclass(frozen=True)
class Layout:
    """What some pictures become in a prompt.

    Args:
        expansions: per picture, the token ids that take the place of its placeholder.
        grids: the pictures' grids, in the order of the prompt; maps hold their patches one grid after another.
    """

    expansions: tuple[tuple[int, ...], ...]
    grids: tuple[PatchGrid, ...]

    @cached_property
    def tokens(self) -> int:
        """Tokens that the pictures take in the prompt."""
        return sum(map(len, self.expansions))

    @cached_property
    def patches(self) -> int:
        """Patches of all grids."""
        return sum(len(grid.tokens) for grid in self.grids)

    def same_tokens(self, other: Layout) -> bool:
        """Whether both put the same tokens and patches into a prompt, wherever on the pictures these lie."""
        return self.expansions == other.expansions and [
            (one.image, one.name, one.rows, one.cols, tuple(one.tokens)) for one in self.grids
        ] == [(one.image, one.name, one.rows, one.cols, tuple(one.tokens)) for one in other.grids]


class Family(ABC):
    """One kind of vision-language model; see docs/own-family.md.

    Attributes:
        one_size: whether every picture takes the same tokens, so that a request is sized without looking at it.
        several: whether a prompt may hold more than one picture.
        joined: whether the inputs of several prompts may be joined along their first axis and go through `features`
            together; otherwise features are made prompt by prompt.
        axes: of a token's position: 1, or 3 for time, height and width.
    """

    one_size: ClassVar[bool] = False
    joined: ClassVar[bool] = False
    axes: ClassVar[int] = 1
    several: bool = False  # may be told by the checkpoint

    config: Any
    """The checkpoint's configuration, from `check` on."""

    @abstractmethod
    def check(self, config: Any) -> None:
        """Keeps a configuration, or refuses what this family cannot run; needs no weights.

        Raises:
            FamilyError: naming the key.
        """

    def check_processor(self, processor: Any) -> None:  # noqa: B027
        """Refuses a processor that does not belong to the configuration.

        Raises:
            FamilyError: naming the setting.
        """

    @abstractmethod
    def facts(self, dtype: Any) -> ModelFacts:
        """The shape of the text model, for weights of a torch dtype."""

    @abstractmethod
    def layout(self, processor: Any, sizes_px: Sequence[tuple[int, int]]) -> Layout:
        """Tokens and grids of a prompt's pictures, from their sizes alone.

        Args:
            processor: has the `image_processor`, and a `tokenizer` where one is at hand: estimates know none.
            sizes_px: (width, height) of each picture, upright.

        Raises:
            RequestError: "invalid", for a size that the model cannot take.
        """

    def picture_bytes(self, layout: Layout, dtype: Any) -> int:
        """Bytes that making the features of a layout's pictures holds at one time, at most."""
        return 0

    @abstractmethod
    def inputs(self, processor: Any, pictures: Sequence[Any]) -> dict[str, Any]:
        """What `features` needs of a prompt's pictures.

        Args:
            processor: as in `layout`.
            pictures: Pillow images of mode RGB, upright, as many as the prompt has.

        Returns:
            torch tensors by name, on the CPU; those of floating point are moved to the model's dtype.
        """

    @abstractmethod
    def features(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        """The vision side's part of the prompt.

        Args:
            model: the whole model.
            inputs: of one prompt, or of several where the family is `joined`, on the model's device.

        Returns:
            [token, width]: one vector for each id of the expansions that is `image_token_id`, in their order.
        """

    def positions(self, ids: Sequence[int], inputs: Mapping[str, Any]) -> Any:
        """Positions of a prompt's tokens; every token after the prompt follows the largest of them by 1 on each axis.

        Args:
            ids: of the whole prompt, expanded, without padding.
            inputs: the prompt's own.

        Returns:
            [axes, length] int64 on the CPU; None where a token's position is its place.
        """
        return None

    def embedded(self, model: Any, ids: Any, where: Any, features: Any) -> dict[str, Any]:
        """What the model's forward takes in place of ids: words with the pictures' features among them.

        Args:
            model: the whole model.
            ids: [batch, length] int64, padded on the left.
            where: [batch, length] bool, where features go; an answer may hold the image token as a word.
            features: [token, width], of all prompts.
        """
        words = model.get_input_embeddings()(ids)  # [batch, length, width]
        features = features.to(words.device, words.dtype)
        return {"inputs_embeds": words.masked_scatter(where[..., None].to(words.device), features)}

    def own_inputs(self, ids: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What the model's own forward takes beside ids and mask: beam search and the self-test at load call that.

        Args:
            ids: [1, length] int64.
            inputs: the prompt's own.
        """
        return dict(inputs)

    def read_config(self, folder: Path) -> Any:
        """The configuration in a folder; no network, no code of the checkpoint's own."""
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(folder, local_files_only=True)

    def read_processor(self, folder: Path) -> Any:
        """The processor in a folder: `tokenizer`, `image_processor`, `chat_template`, `apply_chat_template`."""
        from transformers import AutoProcessor

        return AutoProcessor.from_pretrained(folder, local_files_only=True, backend="pil")

    def read_image_processor(self, folder: Path) -> Any:
        """The image processor alone, for estimates of models whose other files are not there."""
        from transformers import AutoImageProcessor

        return AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")

    def model_class(self) -> Any:
        """The class that holds the weights and generates: `model_class()(config)`, `.from_pretrained(folder)`."""
        from transformers import AutoModelForImageTextToText

        return AutoModelForImageTextToText._model_mapping[type(self.config)]

    def text_model(self, model: Any) -> Any:
        """The part of a model that is a stack of text layers; they are its `layers`."""
        return model.get_decoder()

    @property
    def text_config(self) -> Any:
        """The configuration of the text model, at the key that `text_key` names."""
        return getattr(self.config, self.text_key)

    @property
    def text_key(self) -> str:
        """The key of the text model's configuration."""
        return "text_config"

    @property
    def image_token_id(self) -> int:
        """The id whose embeddings are replaced by features."""
        return int(self.config.image_token_id)

    def placeholder(self, tokenizer: Any) -> str:
        """The token that stands for one picture in the text of a prompt, as a chat template writes it."""
        return str(tokenizer.convert_ids_to_tokens(self.image_token_id))

    def notes(self) -> tuple[Note, ...]:
        """What every record of this checkpoint must say about its image tokens."""
        return ()
