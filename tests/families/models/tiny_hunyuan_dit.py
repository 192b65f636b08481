"""HunyuanDiT from a few thousand random weights."""

from dataclasses import dataclass

import diffusers
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from families.harness import Case, PipelineCase, Variant, noise, picture, quiet
from families.models.tiny_joint import T5_MARKS, built
from families.models.tiny_masked import ALONE, CFG
from support import tiny_pipelines as tiny
from support.lockstep_oracle import CROSS

BERT, T5 = 16, 32  # channels
SIZES = {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "patch_size": 2, "hidden_size": 16}
SIZES |= {"cross_attention_dim": BERT, "cross_attention_dim_t5": T5, "pooled_projection_dim": 16, "sample_size": 8}


@dataclass(frozen=True)
class TwoEncoders(Case):
    """Of the tokens of a text every other one is BERT's, with nothing in the channels of T5, and the rest are T5's."""

    def text(self, tokens=None, seed=0, rows=1):
        text = super().text(tokens, seed, rows)
        text[:, ::2, BERT:] = 0
        text[:, 1::2, :BERT] = 0
        return text


def transformer(text_len=6, text_len_t5=6):
    lengths = {"text_len": text_len, "text_len_t5": text_len_t5}
    return built(diffusers.HunyuanDiT2DModel, **SIZES, **lengths, num_layers=4)


def inputs(text):
    rows = len(text)
    turns = noise(24, 8)
    bert, t5 = text[:, ::2, :BERT], text[:, 1::2, BERT:]
    return {
        "hidden_states": noise(1, 4, 8, 12).expand(rows, -1, -1, -1),
        "timestep": torch.full((rows,), 500.0),
        "encoder_hidden_states": bert,
        "text_embedding_mask": torch.ones(bert.shape[:2]).long(),
        "encoder_hidden_states_t5": t5,
        "text_embedding_mask_t5": torch.ones(t5.shape[:2]).long(),
        "image_meta_size": torch.full((rows, 6), 64.0),
        "style": torch.zeros(rows, dtype=torch.long),
        "image_rotary_emb": (turns.cos(), turns.sin()),
    }


def bert():
    torch.manual_seed(0)
    sizes = {"vocab_size": 256, "hidden_size": BERT, "intermediate_size": 16, "num_hidden_layers": 2}
    return BertModel(BertConfig(**sizes, num_attention_heads=2)).eval()


def bert_tokenizer():
    """One token per letter; those that go on with a word have a mark."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    return BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, model_max_length=77)


def autoencoder():
    """It makes pictures eight times smaller, as the pipeline takes for granted."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    sizes = {"block_out_channels": (4,) * 4, "layers_per_block": 1, "latent_channels": 4, "norm_num_groups": 1}
    return diffusers.AutoencoderKL(**blocks, **sizes).eval()


def pipeline(cls=diffusers.HunyuanDiTPipeline, **extra):
    return quiet(
        cls(
            transformer=transformer(77, 256),
            scheduler=diffusers.DDIMScheduler(),
            vae=autoencoder(),
            text_encoder=bert(),
            tokenizer=bert_tokenizer(),
            text_encoder_2=tiny.t5_encoder(),
            tokenizer_2=tiny.t5_tokenizer(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            **extra,
        )
    )


def controlled():
    sizes = {**SIZES, "text_len": 77, "text_len_t5": 256, "transformer_num_layers": 4}
    control = built(diffusers.HunyuanDiT2DControlNetModel, **sizes)
    return pipeline(diffusers.HunyuanDiTControlNetPipeline, controlnet=control)


def both(pipe, text):
    rows = []
    for encoder, tokenizer, front, behind in (
        (pipe.text_encoder, pipe.tokenizer, 0, T5),
        (pipe.text_encoder_2, pipe.tokenizer_2, BERT, 0),
    ):
        found = encoder(torch.tensor([tokenizer(text).input_ids]))[0][0]
        rows.append(torch.nn.functional.pad(found, (front, behind)))
    return torch.cat(rows)


CASES = [
    TwoEncoders(
        "hunyuan_dit",
        transformer,
        inputs,
        BERT + T5,
        {r"blocks\.\d+\.attn2": CROSS},
        (4, 6),
        negative=12,  # the model takes texts of one length only
    )
]

SETTINGS = {**ALONE, "height": 32, "width": 64, "use_resolution_binning": False}

PIPELINES = [
    PipelineCase(
        "hunyuan_dit",
        pipeline,
        SETTINGS,
        text=both,
        special=[True, False, False, True, *T5_MARKS],  # BERT reads "ab" between its marks
        encoders=("text_encoder", "text_encoder_2"),
        knows_characters=False,
        latents=(4, 4, 8),
        cfg=CFG,
        unconditional=(True, False),
        prompts=("a red car", "a big dog"),  # of one length: copies of a prompt get the mask of another one
        compiles_once=False,
    )
]

VARIANTS = [Variant("HunyuanDiTControlNetPipeline", controlled, {**SETTINGS, "control_image": picture(32, 64)})]
