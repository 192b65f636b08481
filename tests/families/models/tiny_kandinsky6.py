"""Kandinsky 6 from a few thousand random weights."""

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from transformers import CLIPTextModel

from families.harness import Case, PipelineCase, Variant, noise, quiet
from families.models import chat_models as chat
from families.models.tiny_kandinsky5 import FRAME, Processor, video_autoencoder
from support import host
from support import tiny_pipelines as tiny
from support.lockstep_oracle import CROSS


def transformer(**changes):
    sizes = {"in_visual_dim": 4, "out_visual_dim": 4, "in_text_dim": 16, "in_text_dim2": 16, "time_dim": 16}
    dims = {"model_dim": 16, "ff_dim": 32, "num_text_blocks": 2, "num_visual_blocks": 2, "axes_dims": (2, 2, 4)}
    sound = {"in_audio_dim": 4, "out_audio_dim": 4, "ca_rope": True, "cross_gates": True, "fix_modulation": True}
    torch.manual_seed(0)
    model = host.Kandinsky6Transformer3DModel(**sizes, **dims, **sound, **changes)
    return tiny.without_silent_parts(model.eval())


def inputs(text):
    """What a text has beyond ten tokens is filling."""
    rows, tokens, _ = text.shape
    return {
        "hidden_states": noise(1, 2, 4, 6, 9).expand(rows, -1, -1, -1, -1),
        "audio_hidden_states": noise(1, 5, 4, seed=2).expand(rows, -1, -1),
        "encoder_hidden_states": text,
        "encoder_attention_mask": (torch.arange(tokens) < 10).expand(rows, -1),
        "timestep": torch.full((rows,), 500.0),
        "pooled_projections": noise(1, 16, seed=3).expand(rows, -1),
    }


def silent_inputs(text):
    """Without sound, and without filling."""
    given = inputs(text)
    return {**given, "audio_hidden_states": None, "encoder_attention_mask": None}


def template():
    from diffusers.pipelines.kandinsky6 import pipeline_kandinsky6_ti2va as module

    return module._PROMPT_TEMPLATE, module._QWEN_CROP_START


def pipeline():
    model = transformer(visual_token_type_num_embeddings=2)
    frame, tokens = template()
    return quiet(
        host.Kandinsky6TI2VAPipeline(
            transformer=model,
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=video_autoencoder(),
            text_encoder=chat.qwen25_vl(),
            tokenizer=Processor(chat.tokenizer(frame.partition("{}")[0], tokens)),
            text_encoder_2=tiny.clip(seed=0, cls=CLIPTextModel),
            tokenizer_2=tiny.clip_tokenizer(),
        )
    )


def unpadded(pipe, text):
    frame, tokens = template()
    ids = pipe.tokenizer.tokenizer(frame.format(text)).input_ids
    states = pipe.text_encoder(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1]
    return states[0, tokens:]


SETTINGS = {"height": 32, "width": 48, "num_frames": 5, "num_inference_steps": 2, "output_type": "latent"}
ALONE = {**SETTINGS, "guidance_scale": 1.0, "max_sequence_length": 48, "sample_audio": False}
LAYERS = {r"visual_transformer_blocks\.\d+\.(video|audio)_dec_block\.cross_attention": CROSS}

CASES = [
    Case("kandinsky6", transformer, inputs, 16, LAYERS, (2, 2, 3)),
    Case("kandinsky6", transformer, silent_inputs, 16, LAYERS, (2, 2, 3), name="kandinsky6 without sound"),
]

PIPELINES = [
    PipelineCase(
        "kandinsky6",
        pipeline,
        ALONE,
        text=unpadded,
        special=[False, False, True],  # a, b, end of the message
        encoders=("text_encoder", "text_encoder_2"),
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
        copies="num_videos_per_prompt",
        latents=(4, 2, 4, 6),
    )
]

VARIANTS = [Variant("kandinsky6 image to video", pipeline, {**ALONE, "image": FRAME})]
