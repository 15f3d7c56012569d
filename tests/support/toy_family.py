"""A family that nobody publishes, in one file: two grids a picture with separators, positions of three axes, several
pictures. What a package of somebody else would hold; tests install it by its entry point.

A picture is seen twice: squeezed to 4 x 4 patches ("base"), and padded to one of three shapes of up to 6 x 3 patches
("detail"), with a learnt newline vector after each row of it. A token `<sep>` of its own stands between the two.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from llava_doors.door import Declaration
from llava_doors.family import Family, FamilyError, Layout, ModelFacts, PatchGrid
from llava_doors.parts.decoder import text_facts
from llava_wire.geometry import Geometry
from llava_wire.grids import Step

DECLARATION = Declaration(
    "toy_grids",
    "Two grids an image, three axes of positions; for tests",
    "support.toy_family:ToyGrids",
    traits={"model_types": ("toy_grids",), "sections": ("text_config",)},
)
PATCH_PX, BASE = 8, 4
SHAPES = ((3, 6), (4, 4), (6, 3))
"""Rows and columns that a detail grid may have: of wide, square and tall pictures."""


class ToyGrids(Family):
    """See the module."""

    several = True
    axes = 3

    def read_config(self, folder: Path) -> Any:
        return parts().Config.from_pretrained(folder)

    def read_processor(self, folder: Path) -> Any:
        from transformers import AutoTokenizer

        return Processor(AutoTokenizer.from_pretrained(folder), self.read_image_processor(folder))

    def read_image_processor(self, folder: Path) -> Any:
        return SimpleNamespace(**json.loads((folder / "preprocessor_config.json").read_text()))

    def model_class(self) -> Any:
        return parts().Model

    def check(self, config: Any) -> None:
        if config.patch_px != PATCH_PX:
            raise FamilyError(f"config.patch_px: got {config.patch_px}, expected {PATCH_PX}; take another checkpoint")
        self.config = config

    def facts(self, dtype: Any) -> ModelFacts:
        return text_facts(self.config.text_config, dtype)

    def layout(self, processor: Any, sizes_px: Sequence[tuple[int, int]]) -> Layout:
        image, separator = self.image_token_id, self.config.separator_token_id
        expansions, grids = [], []
        for number, (width, height) in enumerate(sizes_px):
            rows, cols = detail_shape(width, height)
            base, side = BASE * BASE, BASE * PATCH_PX
            first = base + 1
            places = [first + row * (cols + 1) + col for row in range(rows) for col in range(cols)]
            grids += [
                PatchGrid(
                    number,
                    "base",
                    Geometry(width, height, (Step("resize", side, side),), PATCH_PX, BASE, BASE),
                    range(base),
                ),
                PatchGrid(number, "detail", detail_geometry(width, height), places),
            ]
            expansions.append((*(image,) * base, separator, *(image,) * (rows * (cols + 1))))
        return Layout(tuple(expansions), tuple(grids))

    def picture_bytes(self, layout: Layout, dtype: Any) -> int:
        return layout.tokens * (3 * PATCH_PX**2 + self.config.text_config.hidden_size) * (4 + dtype.itemsize)

    def inputs(self, processor: Any, pictures: Sequence[Any]) -> dict[str, Any]:
        import torch

        seen = [patches_of(picture, geometry) for picture in pictures for geometry in geometries(*picture.size)]
        shapes = [detail_shape(*picture.size) for picture in pictures]
        return {"patches": torch.cat(seen), "shapes": torch.tensor(shapes)}  # [patch, 3, 8, 8], [picture, 2]

    def features(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        return model.see(**inputs)

    def positions(self, ids: Sequence[int], inputs: Mapping[str, Any]) -> Any:
        return parts().three_axes(ids, self.image_token_id, inputs["shapes"].tolist())


def detail_shape(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the detail grid: the shape nearest to the picture's."""
    return min(SHAPES, key=lambda shape: abs(shape[1] / shape[0] - width / height))


def detail_geometry(width: int, height: int) -> Geometry:
    """The detail grid: the picture in the middle of a canvas of the grid's shape, then scaled to it."""
    rows, cols = detail_shape(width, height)
    wide, tall = max(width, -(-height * cols // rows)), max(height, -(-width * rows // cols))
    steps = (
        Step("pad", wide, tall, (wide - width) // 2, (tall - height) // 2),
        Step("resize", cols * PATCH_PX, rows * PATCH_PX),
    )
    return Geometry(width, height, steps, PATCH_PX, rows, cols)


def geometries(width: int, height: int) -> tuple[Geometry, Geometry]:
    """Of both grids of a picture."""
    side = BASE * PATCH_PX
    base = Geometry(width, height, (Step("resize", side, side),), PATCH_PX, BASE, BASE)
    return base, detail_geometry(width, height)


def patches_of(picture: Any, geometry: Geometry) -> Any:
    """[rows * cols, 3, 8, 8] float32: a picture taken through the steps of a grid, cut into its patches."""
    import numpy as np
    import torch
    from PIL import Image

    for step in geometry.steps:
        if step.op == "pad":
            canvas = Image.new("RGB", (step.width_px, step.height_px))
            canvas.paste(picture, (step.left_px, step.top_px))
            picture = canvas
        else:
            picture = picture.resize((step.width_px, step.height_px), Image.Resampling.BOX)
    values = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1  # [3, height, width]
    cut = values.unflatten(2, (geometry.cols, PATCH_PX)).unflatten(1, (geometry.rows, PATCH_PX))
    return cut.permute(1, 3, 0, 2, 4).flatten(0, 1)


class Processor:
    """A tokenizer and the settings of pictures."""

    def __init__(self, tokenizer: Any, image_processor: Any) -> None:
        self.tokenizer, self.image_processor = tokenizer, image_processor
        self.chat_template = tokenizer.chat_template

    def apply_chat_template(self, messages: Any, **how: Any) -> Any:
        return self.tokenizer.apply_chat_template(messages, **how)


@functools.cache
def parts() -> Any:
    """The classes that need torch and transformers, which listing families does without."""
    import torch
    from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
    from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLTextModel

    class Config(PretrainedConfig):  # type: ignore[misc]
        model_type = "toy_grids"
        sub_configs: ClassVar = {"text_config": Qwen2VLTextConfig}

        def __init__(
            self,
            text_config: Any = None,
            image_token_id: int = 0,
            separator_token_id: int = 0,
            patch_px: int = PATCH_PX,
            **more: Any,
        ) -> None:
            given = text_config if isinstance(text_config, dict) else {}
            self.text_config = Qwen2VLTextConfig(**given) if text_config is None or given else text_config
            self.image_token_id, self.separator_token_id = image_token_id, separator_token_id
            self.patch_px = patch_px
            super().__init__(**more)

    def three_axes(ids: Sequence[int], image_token_id: int, shapes: Sequence[Sequence[int]]) -> torch.Tensor:
        """[3, length]: time, height and width of every token; a grid's patches share their time."""
        found: list[tuple[int, int, int]] = []
        waiting = [shape for rows, cols in shapes for shape in ((BASE, BASE), (rows, cols + 1))]
        now = at = 0
        while at < len(ids):
            if ids[at] != image_token_id or not waiting:
                found.append((now, now, now))
                now, at = now + 1, at + 1
                continue
            rows, cols = waiting.pop(0)
            found += [(now, now + row, now + col) for row in range(rows) for col in range(cols)]
            now, at = now + max(rows, cols), at + rows * cols
        return torch.tensor(found).T

    class Model(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
        config_class = Config
        base_model_prefix = "model"
        _supports_sdpa = _supports_attention_backend = True

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            width = config.text_config.hidden_size
            self.language_model = Qwen2VLTextModel._from_config(config.text_config)
            self.look = torch.nn.Linear(3 * PATCH_PX**2, width)
            self.newline = torch.nn.Parameter(torch.zeros(width))
            self.lm_head = torch.nn.Linear(width, config.text_config.vocab_size, bias=False)
            self.post_init()

        def get_input_embeddings(self) -> Any:
            return self.language_model.embed_tokens

        def get_output_embeddings(self) -> Any:
            return self.lm_head

        def get_decoder(self) -> Any:
            return self.language_model

        def see(self, patches: torch.Tensor, shapes: torch.Tensor) -> torch.Tensor:
            """[token, width]: base patches, then each row of detail patches and a newline, picture by picture."""
            vectors, seen = self.look(patches.flatten(1)), []
            for rows, cols in shapes.tolist():
                base, detail, vectors = vectors.split(
                    [BASE * BASE, rows * cols, len(vectors) - BASE * BASE - rows * cols]
                )
                lines = self.newline.expand(rows, 1, -1)
                seen += [base, torch.cat([detail.unflatten(0, (rows, cols)), lines], dim=1).flatten(0, 1)]
            return torch.cat(seen)

        def forward(
            self,
            input_ids: torch.Tensor | None = None,
            attention_mask: torch.Tensor | None = None,
            position_ids: torch.Tensor | None = None,
            inputs_embeds: torch.Tensor | None = None,
            patches: torch.Tensor | None = None,
            shapes: torch.Tensor | None = None,
            logits_to_keep: int | torch.Tensor = 0,
            **more: Any,
        ) -> Any:
            if inputs_embeds is None:
                assert input_ids is not None
                inputs_embeds = self.get_input_embeddings()(input_ids)
                if patches is not None and shapes is not None:
                    where = (input_ids == self.config.image_token_id)[..., None]
                    inputs_embeds = inputs_embeds.masked_scatter(where, self.see(patches, shapes))
                    [ids] = input_ids.tolist()
                    position_ids = three_axes(ids, self.config.image_token_id, shapes.tolist())[:, None]
                    position_ids = position_ids.to(input_ids.device)
            output = self.language_model(
                inputs_embeds=inputs_embeds, attention_mask=attention_mask, position_ids=position_ids, **more
            )
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.lm_head(output.last_hidden_state[:, kept])
            return SimpleNamespace(logits=logits, attentions=getattr(output, "attentions", None))

    return SimpleNamespace(Config=Config, Model=Model, three_axes=three_axes)


def write(folder: Path, tokenizer_of: Path) -> None:
    """A random checkpoint of this family, with the tokenizer and chat template of another one's folder."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<sep>"]})
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in ("<image>", "<sep>")}
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024, "bos_token_id": None,
        "eos_token_id": None, "pad_token_id": None, "use_sliding_window": False,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4},
    }  # fmt: skip
    config = parts().Config(text_config=text, image_token_id=ids["<image>"], separator_token_id=ids["<sep>"])
    torch.manual_seed(5)
    model = parts().Model(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 or name == "newline":
                weight.normal_(0, 0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"patch_px": PATCH_PX}))
