"""Language models of a few thousand random weights, and their tokenizers, built without any download."""

import re

import torch
from transformers import (
    Gemma2Config,
    Gemma2Model,
    LlamaConfig,
    LlamaModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

VOCABULARY = 400
MARKS = ("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{{ m['content'] if m['content'] is string else m['content'][0]['text'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SIZES = {"vocab_size": VOCABULARY, "num_attention_heads": 2, "num_key_value_heads": 2}


def tokenizer(frame="", tokens=0):
    """One token per byte, and the marks of a chat; `frame`, what stands before a prompt, has so many tokens in all."""
    letters = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
    vocabulary = {letter: index for index, letter in enumerate(letters)} | {"<|endoftext|>": len(letters)}
    made = Qwen2Tokenizer(vocab=vocabulary, merges=[], model_max_length=2048)
    made.add_special_tokens({"additional_special_tokens": list(MARKS)})
    made.chat_template = CHAT
    if frame:
        marks = "|".join(map(re.escape, MARKS))
        *short, long = sorted(filter(None, re.split(marks, frame)), key=len)
        single = tokens - len(re.findall(marks, frame)) - len(short) - 1  # every mark and short piece is a token
        made.add_tokens([*short, long[single:]])
        assert len(made(frame).input_ids) == tokens
    return made


def qwen3(hidden_size=16, layers=3):
    torch.manual_seed(0)
    return Qwen3Model(
        Qwen3Config(**SIZES, hidden_size=hidden_size, intermediate_size=16, num_hidden_layers=layers, head_dim=8)
    ).eval()


def llama(hidden_size=16, layers=3):
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES, hidden_size=hidden_size, intermediate_size=16, num_hidden_layers=layers)
    return LlamaModel(config).eval()


def gemma2(hidden_size=24, layers=2):
    torch.manual_seed(0)
    sizes = {"hidden_size": hidden_size, "intermediate_size": 16, "num_hidden_layers": layers, "head_dim": 8}
    return Gemma2Model(Gemma2Config(**SIZES, **sizes, pad_token_id=0)).eval()


def qwen25_vl(hidden_size=16, layers=3):
    """Qwen2.5-VL, whose pictures no test looks at."""
    torch.manual_seed(0)
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}
    text = {"hidden_size": hidden_size, "intermediate_size": 16, "num_hidden_layers": layers, "rope_scaling": rope}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": hidden_size}
    config = Qwen2_5_VLConfig(text_config={**SIZES, **text}, vision_config=vision, vocab_size=VOCABULARY)
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def qwen3_vl(hidden_size=16, layers=3, **tokens):
    """Qwen3-VL; `tokens` are ids of the marks that stand for pictures."""
    torch.manual_seed(0)
    rope = {"mrope_section": [2, 1, 1], "rope_type": "default", "rope_theta": 10000.0}
    text = {"hidden_size": hidden_size, "intermediate_size": 16, "num_hidden_layers": layers, "head_dim": 8}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": hidden_size}
    config = Qwen3VLConfig(
        text_config={**SIZES, **text, "rope_parameters": rope},
        vision_config={**vision, "deepstack_visual_indexes": [0], "num_position_embeddings": 16},
        **tokens,
    )
    return Qwen3VLForConditionalGeneration(config).eval()
