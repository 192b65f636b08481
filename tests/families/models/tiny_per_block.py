"""The families whose negatives are passed from block to block, from a few thousand random weights."""

from functools import partial

import diffusers
import torch

from families.harness import Case
from support import tiny_pipelines as tiny

POSITIVE = 12  # tokens of the positive prompt


def built(cls, **sizes):
    torch.manual_seed(0)
    return tiny.without_silent_parts(cls(**sizes).eval())


def picture(rows, *shape):
    """The same random picture in each row."""
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(1)).expand(rows, *shape)


def padded(text, tokens=2):
    """The text with padding behind it that counts for nothing, and its mask."""
    filling = torch.full((len(text), tokens, text.shape[2]), 9.0)
    mask = torch.cat([torch.ones(text.shape[:2]), torch.zeros(len(text), tokens)], 1).long()
    return {"encoder_hidden_states": torch.cat([text, filling], 1), "encoder_attention_mask": mask}


# One stream -------------------------------------------------------------------------------------------------------


def zimage():
    sizes = {"in_channels": 4, "dim": 32, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2}
    return built(
        diffusers.ZImageTransformer2DModel,
        **sizes,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )


def zimage_inputs(text):
    return {"x": list(picture(len(text), 4, 1, 8, 12)), "t": torch.full((len(text),), 0.5), "cap_feats": list(text)}


def lumina2():
    sizes = {"sample_size": 16, "patch_size": 2, "in_channels": 4, "hidden_size": 24, "num_layers": 2}
    heads = {"num_refiner_layers": 1, "num_attention_heads": 3, "num_kv_heads": 1, "multiple_of": 2}
    return built(
        diffusers.Lumina2Transformer2DModel,
        **sizes,
        **heads,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(300, 32, 32),
        cap_feat_dim=24,
    )


def lumina2_inputs(text):
    return {"hidden_states": picture(len(text), 4, 8, 12), "timestep": torch.full((len(text),), 0.5), **padded(text)}


# Two streams ------------------------------------------------------------------------------------------------------


HEADS = {"num_attention_heads": 2, "attention_head_dim": 10, "num_refiner_layers": 1, "mlp_ratio": 2.0}
LATENTS = {"in_channels": 4, "out_channels": 4}


def hunyuan_video(cls=diffusers.HunyuanVideoTransformer3DModel, **changes):
    sizes = {**LATENTS, **HEADS, "num_layers": 1, "num_single_layers": 1, "patch_size": 1, "patch_size_t": 1}
    text = {"text_embed_dim": 16, "pooled_projection_dim": 16, "rope_axes_dim": (2, 4, 4)}
    return built(cls, **{**sizes, **text, **changes})


def hunyuan_video_inputs(text):
    rows = len(text)
    return {
        "hidden_states": picture(rows, 4, 2, 3, 4),
        "timestep": torch.full((rows,), 500.0),
        "pooled_projections": picture(rows, 16),
        "guidance": torch.full((rows,), 6000.0),
        **padded(text),
    }


def framepack():
    picture_text = {"has_image_proj": True, "image_proj_dim": 12, "has_clean_x_embedder": True}
    cls = diffusers.HunyuanVideoFramepackTransformer3DModel
    return hunyuan_video(cls, **picture_text, patch_size=2)


def framepack_inputs(text):
    rows = len(text)
    past = {
        "latents_clean": picture(rows, 4, 2, 6, 8),
        "latents_history_2x": picture(rows, 4, 2, 6, 8),
        "latents_history_4x": picture(rows, 4, 4, 6, 8),
    }
    places = {"indices_latents": [7, 8], "indices_latents_clean": [0, 6], "indices_latents_history_2x": [4, 5]}
    places |= {"indices_latents_history_4x": [0, 1, 2, 3]}
    return {
        **hunyuan_video_inputs(text),
        "hidden_states": picture(rows, 4, 2, 6, 8),
        "image_embeds": picture(rows, 3, 12),
        **past,
        **{name: torch.tensor(numbers) for name, numbers in places.items()},
    }


def hunyuan_image(**changes):
    sizes = {**LATENTS, **HEADS, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8}
    text = {"text_embed_dim": 16, "text_embed_2_dim": 8, "rope_axes_dim": (4, 4)}
    return built(diffusers.HunyuanImageTransformer2DModel, **{**sizes, **text, **changes})


def hunyuan_image_inputs(text):
    return {"hidden_states": picture(len(text), 4, 4, 6), "timestep": torch.full((len(text),), 500.0), **glyphs(text)}


def glyphs(text):
    """The text, and four tokens of ByT5, of which one counts; negatives have none."""
    mask = torch.zeros(len(text), 4).long()
    mask[:, 0] = text.shape[1] == POSITIVE
    return {**padded(text), "encoder_hidden_states_2": picture(len(text), 4, 8), "encoder_attention_mask_2": mask}


def hunyuan_video15(**changes):
    sizes = {**LATENTS, **HEADS, "num_layers": 2, "attention_head_dim": 8, "patch_size": 1, "patch_size_t": 1}
    text = {"text_embed_dim": 16, "text_embed_2_dim": 8, "image_embed_dim": 12, "rope_axes_dim": (2, 2, 4)}
    return built(diffusers.HunyuanVideo15Transformer3DModel, **{**sizes, **text, "target_size": 16, **changes})


def hunyuan_video15_inputs(text, seen=True):
    rows = len(text)
    return {
        "hidden_states": picture(rows, 4, 2, 3, 4),
        "timestep": torch.full((rows,), 500.0),
        "image_embeds": picture(rows, 3, 12) * seen,
        **glyphs(text),
    }


EARLIER = (("shared", 24 + 4 + 1), "image", ("shared", 3), "text")
JOINT = {r"(single_)?transformer_blocks\.\d+\.attn": ("image", "text")}

CASES = [
    Case(
        family="z_image",
        model=zimage,
        inputs=zimage_inputs,
        channels=16,
        layers={r"layers\.\d+\.attention": ("image", ("shared", 8), "text")},
        grid=(4, 6),
        positive=32,  # shorter captions are filled up, which negatives are not
        negative=32,
    ),
    Case(
        family="lumina2",
        model=lumina2,
        inputs=lumina2_inputs,
        channels=24,
        layers={r"layers\.\d+\.attn": ("text", "image")},
        grid=(4, 6),
        negative=12,  # the stock model moves the image by a text of another length
    ),
    Case(
        family="hunyuan_video",
        model=hunyuan_video,
        inputs=hunyuan_video_inputs,
        channels=16,
        layers=JOINT,
        grid=(2, 3, 4),
        attended=lambda tokens: tokens + 2,
    ),
    Case(
        family="framepack",
        model=framepack,
        inputs=framepack_inputs,
        channels=16,
        layers={r"(single_)?transformer_blocks\.\d+\.attn": EARLIER},
        grid=(2, 3, 4),
    ),
    Case(
        family="hunyuan_image",
        model=hunyuan_image,
        inputs=hunyuan_image_inputs,
        channels=16,
        layers=JOINT,
        grid=(4, 6),
        attended=lambda tokens: tokens + 2 + 4,
    ),
    Case(
        family="hunyuan_video15",
        model=hunyuan_video15,
        inputs=partial(hunyuan_video15_inputs, seen=False),
        channels=16,
        layers=JOINT,
        grid=(2, 3, 4),
        attended=lambda tokens: tokens + 2 + 4 + 3,
    ),
    Case(
        family="hunyuan_video15",
        name="hunyuan_video15 from a picture",
        model=hunyuan_video15,
        inputs=hunyuan_video15_inputs,
        channels=16,
        layers={r"transformer_blocks\.\d+\.attn": ("image", ("shared", 3), "text")},
        grid=(2, 3, 4),
        attended=lambda tokens: tokens + 2 + 4,
    ),
]
