"""HiDream, whose text stands in the sequence three times, from a few thousand random weights."""

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from families.harness import Case, PipelineCase, noise, quiet
from families.models import chat_models as chat
from support import host
from support import tiny_pipelines as tiny

T5, LLAMA, LAYERS = 32, 16, 3  # channels of both, and the layers that there are
CHOSEN = [2, 0]  # which of them the two blocks get


def transformer():
    """With room for 32 image tokens, of which a picture that is not square fills up what it does not need."""
    sizes = {"patch_size": 2, "in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8}
    dims = {"num_attention_heads": 4, "caption_channels": [T5, LLAMA], "text_emb_dim": 32, "axes_dims_rope": (4, 2, 2)}
    experts = {"num_routed_experts": 2, "num_activated_experts": 1}
    torch.manual_seed(0)
    model = host.HiDreamImageTransformer2DModel(**sizes, **dims, **experts, max_resolution=(8, 16), llama_layers=CHOSEN)
    return tiny.without_silent_parts(model.eval())


def inputs(text):
    rows = len(text)
    return {
        "hidden_states": noise(1, 4, 8, 12).expand(rows, -1, -1, -1),
        "encoder_hidden_states_t5": text[..., :T5],
        "encoder_hidden_states_llama3": text[..., T5:].unflatten(2, (LAYERS, LLAMA)).permute(2, 0, 1, 3),
        "pooled_embeds": noise(1, 32).expand(rows, -1),
        "timesteps": torch.full((rows,), 500.0),
    }


def pipeline():
    llama = chat.llama(layers=LAYERS)
    llama.set_attn_implementation("eager")  # the pipeline asks for the attention as well
    pipe = host.HiDreamImagePipeline(
        transformer=transformer(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=tiny.autoencoder(4),
        text_encoder=tiny.clip(0),
        tokenizer=tiny.clip_tokenizer(),
        text_encoder_2=tiny.clip(1),
        tokenizer_2=tiny.clip_tokenizer(),
        text_encoder_3=tiny.t5_encoder(),
        tokenizer_3=tiny.t5_tokenizer(),
        text_encoder_4=llama,
        tokenizer_4=chat.tokenizer(),
    )
    pipe.default_sample_size = 8  # it brings every picture to this area
    return quiet(pipe)


def unpadded(pipe, text):
    """Both read the longer of their lengths: the shorter one has padding there, which it does not see."""
    ids = [tokenizer(text).input_ids for tokenizer in (pipe.tokenizer_3, pipe.tokenizer_4)]
    pads = (pipe.tokenizer_3.pad_token_id, pipe.tokenizer_4.pad_token_id)
    length = max(map(len, ids))
    t5, llama = (torch.tensor([own + [pad] * (length - len(own))]) for own, pad in zip(ids, pads, strict=True))
    seen = [(torch.arange(each.shape[1]) < len(own)).long()[None] for each, own in zip((t5, llama), ids, strict=True)]
    rows = pipe.text_encoder_3(t5, attention_mask=seen[0])[0][0]
    states = pipe.text_encoder_4(llama, attention_mask=seen[1], output_hidden_states=True).hidden_states
    return torch.cat([rows, *(layer[0] for layer in states[1:])], 1)


CASES = [
    Case(
        family="hidream",
        model=transformer,
        inputs=inputs,
        channels=T5 + LAYERS * LLAMA,
        layers={r"(double|single)_stream_blocks\.\d+\.block\.attn1": ("image", ("shared", 8), "text")},
        grid=(4, 6),
        attended=lambda tokens: 3 * tokens,
    )
]

PIPELINES = [
    PipelineCase(
        name="hidream",
        build=pipeline,
        settings={
            "height": 8,
            "width": 12,
            "num_inference_steps": 2,
            "output_type": "latent",
            "guidance_scale": 1.0,
            "max_sequence_length": 24,
        },
        text=unpadded,
        special=[False, False, False, True],  # "▁", a, b, end; Llama's are a, b, and twice padding
        compiles_once=False,
        knows_characters=False,
        encoders=("text_encoder_3", "text_encoder_4"),
        latents=(4, 6, 8),
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
        unconditional=(True, False),
    )
]
