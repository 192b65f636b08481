"""ACE-Step from a few thousand random weights."""

import torch
from diffusers import (
    AceStepConditionEncoder,
    AceStepPipeline,
    AceStepTransformer1DModel,
    AutoencoderOobleck,
    FlowMatchEulerDiscreteScheduler,
)
from diffusers.pipelines.ace_step.pipeline_ace_step import DEFAULT_DIT_INSTRUCTION, SFT_GEN_PROMPT

from families.harness import Case, PipelineCase, Variant, noise, quiet
from families.models import chat_models as chat
from support import tiny_pipelines as tiny
from support.lockstep_oracle import CROSS

LATENTS = 9  # an odd number, which the model fills up: two make a token
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}


def transformer(**changes):
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "sliding_window": 2}
    torch.manual_seed(0)
    latents = {"in_channels": 12, "audio_acoustic_hidden_dim": 4}
    return tiny.without_silent_parts(AceStepTransformer1DModel(**{**sizes, **HEADS, **latents, **changes}).eval())


def inputs(text):
    rows = len(text)
    return {
        "hidden_states": noise(1, LATENTS, 4).expand(rows, -1, -1),
        "context_latents": noise(1, LATENTS, 8, seed=2).expand(rows, -1, -1),
        "encoder_hidden_states": text,
        "timestep": torch.full((rows,), 0.5),
        "timestep_r": torch.full((rows,), 0.5),
    }


def condition_encoder():
    sizes = {"hidden_size": 16, "intermediate_size": 16, "text_hidden_dim": 16, "timbre_hidden_dim": 4}
    layers = {"num_lyric_encoder_hidden_layers": 1, "num_timbre_encoder_hidden_layers": 1}
    torch.manual_seed(0)
    return AceStepConditionEncoder(**sizes, **layers, **HEADS).eval()


def autoencoder():
    """Two latents a second."""
    torch.manual_seed(0)
    sizes = {"encoder_hidden_size": 8, "decoder_channels": 8, "decoder_input_channels": 4, "audio_channels": 1}
    return AutoencoderOobleck(**sizes, downsampling_ratios=[2, 2], channel_multiples=[1, 2], sampling_rate=8).eval()


def pipeline(**changes):
    parts = {"vae": autoencoder(), "text_encoder": chat.qwen3(), "tokenizer": chat.tokenizer()}
    models = {"transformer": transformer(**changes), "condition_encoder": condition_encoder()}
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0)
    return quiet(AceStepPipeline(scheduler=scheduler, **parts, **models))


def turbo():
    return pipeline(is_turbo=True)


def caption(text):
    instruction = DEFAULT_DIT_INSTRUCTION.removesuffix(":") + ":"
    return SFT_GEN_PROMPT.format(instruction, text, AceStepPipeline._build_metadata_string(audio_duration=60.0))


def projected(pipe, text):
    states = pipe.text_encoder(torch.tensor([pipe.tokenizer(caption(text)).input_ids])).last_hidden_state
    return pipe.condition_encoder.text_projector(states)[0]


def special():
    before, _, after = caption("ab").partition("ab")
    tokens = chat.tokenizer()
    return [True] * len(tokens(before).input_ids) + [False, False] + [True] * len(tokens(after).input_ids)


SETTINGS = {"audio_duration": LATENTS / 2, "num_inference_steps": 2, "output_type": "latent", "guidance_scale": 1.0}

CASES = [
    Case(
        family="ace_step",
        model=transformer,
        inputs=inputs,
        channels=16,
        layers={r"layers\.\d+\.cross_attn": CROSS},
        grid=(1, LATENTS),
    )
]

PIPELINES = [
    PipelineCase(
        name="ace_step",
        build=pipeline,
        settings={**SETTINGS, "lyrics": ["la", "la"]},
        text=projected,
        special=special(),
        encoders=("text_encoder", "condition_encoder"),
        latents=(LATENTS, 4),
        prompts=("a red car", "two dogs."),  # of one length: filling is attended
        copies="",
        cfg={"guidance_scale": 3.0},
    )
]

IN_SOME_STEPS = {**SETTINGS, "guidance_scale": 3.0, "cfg_interval_start": 0.1}

VARIANTS = [Variant("ace_step turbo", turbo, {**SETTINGS, "lyrics": "la la"})]
