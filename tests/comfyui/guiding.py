"""Steps that tests of the node pack share: guide a model, call it once."""

import torch
from vsf_comfyui.guide import APPLY_MODEL, KEY, Plan, guide

import vsf
from comfyui.cases import Case

FLIP = vsf.ValueSignFlip(scale=1.7, offset=0.3)
METHODS = (
    FLIP,
    vsf.ValueSignFlip(scale=2.5, orthogonal=True),
    vsf.CentredValueSignFlip(scale=2.5, offset=0.3),
    vsf.NormalizedAttentionGuidance(scale=3.0, tau=1.2, alpha=0.5),
    vsf.NormalizedAttentionGuidance(scale=3.0, tau=1.2, alpha=0.5, norm="l2"),
    vsf.NegativeAwaySteerAttention(scale=0.25),
    vsf.OrthogonalNegativeGuidance(scale=0.25),
    vsf.NegativeInPrompt(scale=1.3),
)


def name_of(method) -> str:
    """Return a method's name with its knobs that are not at their defaults."""
    variants = [
        word for word in ("orthogonal", "l2") if getattr(method, word, False) or word == getattr(method, "norm", "")
    ]
    return " ".join([method.name, *variants])


def guided(model, *negatives, method=FLIP, weights=None, **plan):
    """Return a guided MODEL."""
    weighed = tuple(zip(negatives, weights or [1.0] * len(negatives), strict=True))
    return guide(model, Plan(method, weighed, **plan))[0]


def prepared(model, case: Case, conditioning, x):
    """Return text and other conditions as the host passes them to a model call."""
    tokens, extra = conditioning[0]
    options = {**extra, "cross_attn": tokens, "noise": x, "device": x.device, "width": 64, "height": 64}
    conds = {}
    for name, cond in model.extra_conds(**options).items():
        conds[name] = cond.process_cond(batch_size=1, area=None).cond
    return conds.pop("c_crossattn"), conds


def call_once(patcher, x, t, text, conds) -> torch.Tensor:
    """Call a guided MODEL once, outside a sampler."""
    wrappers = {APPLY_MODEL: {KEY: patcher.get_wrappers(APPLY_MODEL, KEY)}}
    options = {"cond_or_uncond": [0], "sigmas": t, "wrappers": wrappers}
    return patcher.model.apply_model(x, t, c_crossattn=text, transformer_options=options, **conds)
