"""MiniMax-H3 from a few thousand random weights: from texts, key frames and references."""

from functools import cache, partial
from types import SimpleNamespace

import torch
from diffusers import AutoencoderKLMiniMaxH3, MiniMaxH3Scheduler, MiniMaxH3Transformer3DModel, modular_pipelines
from diffusers.modular_pipelines.minimax_h3 import MiniMaxH3ImageReference
from diffusers.modular_pipelines.minimax_h3 import before_denoise as stock
from PIL import Image
from transformers import Qwen2VLImageProcessorPil

from families.harness import Case, PipelineCase, Variant, noise, quiet
from families.models import chat_models as chat
from support import tiny_pipelines as tiny

IMAGE_TOKEN = chat.tokenizer().convert_tokens_to_ids("<|image_pad|>")
POSITIVE = 12  # text tokens of the cases
VIDEO, TEXT, SOUND = 0, 1, 2  # kinds of rows
CLIP = (3, 4, 6, 5, (1, 2, 2), 2)  # frames, height and width of its latents, length of the sound, patch, stereo
SETTINGS = {"height": 32, "width": 64, "num_frames": 124, "num_inference_steps": 3, "output": "latents"}
LAYERS = {r"transformer_blocks\.\d+\.attn": ("text", "image")}
FRAME = Image.linear_gradient("L").resize((64, 32)).convert("RGB")


def transformer(**changes):
    sizes = {"num_attention_heads": 2, "attention_head_dim": 16, "hidden_size": 16, "num_layers": 2}
    blocks = {"num_refiner_layers": 2, "ffn_dim": 32, "in_channels": 4, "audio_in_channels": 4, "rope_freq_dim": 2}
    dims = {"text_dim": 16, "freq_dim": 32, "time_embed_hidden_dim": 16, "time_embed_dim": 8}
    torch.manual_seed(0)
    model = MiniMaxH3Transformer3DModel(**{**sizes, **blocks, **dims, **changes})
    return tiny.without_silent_parts(model.eval())


def inputs(text, anchors=(), seen=0):
    """The stock layout for key frames at these `anchors`, of which the first `seen` text tokens hold pictures."""
    kinds = torch.full((POSITIVE,), TEXT)
    kinds[:seen] = VIDEO
    build = stock.MiniMaxH3PrepareLayoutStep.build_packed_sequence
    return described(text, kinds, build(kinds, *CLIP, SOUND, VIDEO, anchors))


def referring_inputs(text):
    """The stock layout for a reference picture, and one of sound."""
    kinds = torch.full((POSITIVE,), TEXT)
    references = [SimpleNamespace(kind="image", has_audio=False), SimpleNamespace(kind="audio", has_audio=True)]
    latents = [torch.zeros(1, 4, 1, 2, 4)], [torch.zeros(4, 4)]
    build = stock.MiniMaxH3Ref2VAPrepareLayoutStep.build_ref2va_packed_sequence
    return described(text, kinds, build(kinds, references, *latents, *CLIP, SOUND, VIDEO))


def described(text, kinds, layout):
    """Arguments for a layout that was made for a positive text of these kinds.

    All that is not text stands where the positive ends, whichever text is given: the negative has no clip of its own.
    """
    rows, tokens, _ = text.shape
    positions, tags, video, sound, _, given_video, given_sound = layout
    times, levels = stock.MiniMaxH3SetTimestepsStep.build_row_timesteps(
        video, sound, given_video, given_sound, POSITIVE, 0.5, 0.3, 0.999, 1.0
    )
    if tokens != POSITIVE:
        kinds = torch.full((tokens,), TEXT)
    text_positions = torch.zeros(tokens, 3, dtype=positions.dtype)
    text_positions[:, 0] = torch.arange(tokens)
    moved = tokens - POSITIVE
    return {
        "hidden_states": noise(1, len(video), 16).expand(rows, -1, -1),
        "audio_hidden_states": noise(1, len(sound), 4, seed=2).expand(rows, -1, -1),
        "encoder_hidden_states": text,
        "timestep": times,
        "timestep_indices": torch.cat([levels[:1].expand(tokens), levels[POSITIVE:]]),
        "token_tags": torch.cat([kinds, tags[POSITIVE:]]),
        "position_ids": torch.cat([text_positions, positions[POSITIVE:]]),
        "video_indices": video + moved,
        "audio_indices": sound + moved,
        "text_indices": torch.arange(tokens),
    }


class Processor:
    """The parts of a processor that texts and key frames need."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.image_processor = Qwen2VLImageProcessorPil(patch_size=16, min_pixels=32 * 32, max_pixels=64 * 64)

    def create_mm_token_type_ids(self, ids):
        return [[int(token == IMAGE_TOKEN) for token in each] for each in ids]


@cache
def encoder():
    """Deep enough to have the layer that the pipeline reads; no test changes it."""
    return chat.qwen3_vl(hidden_size=8, layers=51, image_token_id=IMAGE_TOKEN)


def autoencoder():
    torch.manual_seed(0)
    decoder = {"decoder_num_layers": 1, "decoder_num_attention_heads": 2, "decoder_attention_head_dim": 8}
    return AutoencoderKLMiniMaxH3(**decoder, block_out_channels=(4,) * 6, norm_num_groups=4, layers_per_block=1).eval()


def pipeline_transformer():
    return transformer(in_channels=24, audio_in_channels=32, text_dim=8)


def pipeline():
    """Up to the latents, so that no sound is decoded."""
    blocks = modular_pipelines.MiniMaxH3Blocks()
    blocks.sub_blocks.pop("decode")
    pipe = blocks.init_pipeline()
    tokenizer = chat.tokenizer()
    pipe.update_components(
        transformer=pipeline_transformer(),
        scheduler=MiniMaxH3Scheduler(shift=12.0),
        audio_scheduler=MiniMaxH3Scheduler(shift=3.0),
        vae=autoencoder(),
        text_encoder=encoder(),
        tokenizer=tokenizer,
        processor=Processor(tokenizer),
    )
    return quiet(pipe)


class SoundAutoencoder:
    """The numbers that are read of one where no reference is sound."""

    config = SimpleNamespace(latents_mean=[0.0] * 32, latents_std=[1.0] * 32, sampling_rate=32000, latent_channels=32)


def referring_pipeline():
    """With a transformer of its own for references, beside the other one."""
    pipe = pipeline()
    pipe.update_components(transformer_ref=pipeline_transformer(), reference_image_short_edge=32)
    pipe.update_components(audio_vae=SoundAutoencoder())
    return pipe


def unpadded(pipe, text):
    ids = torch.tensor([pipe.tokenizer(text).input_ids])
    return pipe.text_encoder(input_ids=ids, output_hidden_states=True).hidden_states[50][0]


CASES = [
    Case("minimax_h3", transformer, inputs, channels=16, layers=LAYERS, grid=(3, 2, 3)),
    Case(
        "minimax_h3",
        transformer,
        partial(inputs, anchors=("first", "last"), seen=4),
        channels=16,
        layers=LAYERS,
        grid=(3, 2, 3),
        name="minimax_h3 with key frames",
        alone=False,
    ),
    Case(
        "minimax_h3",
        transformer,
        referring_inputs,
        channels=16,
        layers=LAYERS,
        grid=(3, 2, 3),
        name="minimax_h3 with references",
        alone=False,
    ),
]

PIPELINES = [
    PipelineCase(
        name="minimax_h3",
        build=pipeline,
        settings=SETTINGS,
        text=unpadded,
        special=[False, False],
        copies="",
    )
]

VARIANTS = [
    Variant("minimax_h3 between key frames", pipeline, {**SETTINGS, "image": FRAME, "last_image": FRAME}),
    Variant(
        "minimax_h3 with a reference image",
        referring_pipeline,
        {**SETTINGS, "references": [MiniMaxH3ImageReference(FRAME)]},
    ),
]
