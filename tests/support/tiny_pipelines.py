"""Stable Diffusion 3 pipelines of a few thousand random weights, built without any download.

`call` runs one with settings small enough for a test and returns its latents.
"""

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

SETTINGS = {
    "height": 8,
    "width": 8,
    "num_inference_steps": 2,
    "guidance_scale": 0.0,
    "max_sequence_length": 24,
    "output_type": "latent",
}


def sd3(cls=StableDiffusion3Pipeline, *, t5=True, merges=(), extra=None, channels=4, **transformer):
    """A pipeline with both CLIPs; `merges` makes the second tokenizer join letters, so that it counts fewer tokens."""
    pipe = cls(
        transformer=sd3_transformer(in_channels=channels, out_channels=channels, **transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(channels),
        text_encoder=clip(seed=0),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip(seed=1),
        tokenizer_2=clip_tokenizer(merges),
        text_encoder_3=t5_encoder() if t5 else None,
        tokenizer_3=t5_tokenizer() if t5 else None,
        **(extra or {}),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call(pipe, prompt="a red car", seed=0, **settings):
    torch.manual_seed(seed)  # some pipelines draw from here what they do not draw from the generator
    if prompt is not None:
        settings["prompt"] = prompt
    return pipe(generator=torch.Generator().manual_seed(seed), **{**SETTINGS, **settings})[0]


def sd3_transformer(**changes):
    sizes = {
        "sample_size": 8,
        "patch_size": 1,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 4,
        "caption_projection_dim": 32,
        "joint_attention_dim": 32,
        "pooled_projection_dim": 32,
        "pos_embed_max_size": 16,
        "qk_norm": "rms_norm",
        "dual_attention_layers": (0,),
    }
    torch.manual_seed(0)
    return without_silent_parts(SD3Transformer2DModel(**{**sizes, **changes}).eval())


def without_silent_parts(model):
    """Randomise what starts at zero (gates) or one (norms): behind a closed gate no mistake would show."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.abs().max() == 0 or ("norm" in name and weight.ndim == 1):
                weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    return model


def autoencoder(channels):
    torch.manual_seed(0)
    return AutoencoderKL(
        sample_size=32,
        block_out_channels=(4,),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.06,
        scaling_factor=1.5,
    ).eval()


def clip(seed, cls=CLIPTextModelWithProjection, hidden_size=16):
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=600,
        hidden_size=hidden_size,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=hidden_size,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    return cls(config).eval()


def clip_tokenizer(merges=()):
    """One token per letter, fewer where `merges` joins two."""
    letters = [chr(code) for code in range(33, 33 + 256)]
    vocabulary = {letter: index for index, letter in enumerate(letters)}
    vocabulary |= {letter + "</w>": 256 + index for index, letter in enumerate(letters)}
    vocabulary |= {"<|startoftext|>": 512, "<|endoftext|>": 513}
    vocabulary |= {left + right: 514 + index for index, (left, right) in enumerate(merges)}
    return CLIPTokenizer(vocab=vocabulary, merges=list(merges), model_max_length=77)


def t5_encoder():
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=128,
        d_model=32,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=8,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
    )
    return T5EncoderModel(config).eval()


def t5_tokenizer():
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(chr(code), -3.0) for code in range(33, 127)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)
