"""A small host written from what ComfyUI can be observed to do: wrappers, options, attention, conditionings, samplers.

No line of ComfyUI is in here. The same contract tests run on this and, where there is one, on a real host.
"""

from __future__ import annotations

import uuid
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from comfyui.cases import Case

VERSION = "stub"


# Attention and wrappers ---------------------------------------------------------------------------------------------


def attention(q, k, v, heads, mask=None, skip_reshape=False, skip_output_reshape=False, transformer_options=None, **kw):
    """Attend, or let the override in the options do it."""
    options = transformer_options or {}
    shape = {"skip_reshape": skip_reshape, "skip_output_reshape": skip_output_reshape}
    override = options.get("optimized_attention_override")
    if override is None:
        return attention_pytorch(q, k, v, heads, mask=mask, **shape, **kw)
    return override(attention_pytorch, q, k, v, heads, mask=mask, **shape, transformer_options=options, **kw)


def attention_pytorch(q, k, v, heads, mask=None, skip_reshape=False, skip_output_reshape=False, scale=None, **_):
    if not skip_reshape:
        q, k, v = (rows.unflatten(2, (-1, q.shape[2] // heads)).transpose(1, 2) for rows in (q, k, v))
    mask = mask[:, None] if mask is not None and mask.dim() == 3 else mask
    out = F.scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=k.shape[1] != q.shape[1])
    return out if skip_output_reshape else out.transpose(1, 2).flatten(2)


class Executor:
    """A chain of wrappers around a function; each wrapper gets the executor of what is left."""

    def __init__(self, function, class_obj, wrappers):
        self.function, self.class_obj, self.wrappers = function, class_obj, list(wrappers)

    def __call__(self, *args, **kwargs):
        return Executor(self.function, self.class_obj, self.wrappers[1:]).execute(*args, **kwargs)

    def execute(self, *args, **kwargs):
        if not self.wrappers:
            return self.function(*args, **kwargs)
        return self.wrappers[0](self, *args, **kwargs)


def wrappers_of(options, kind):
    return [wrapper for group in options.get("wrappers", {}).get(kind, {}).values() for wrapper in group]


# Model and patcher --------------------------------------------------------------------------------------------------


class Cond:
    def __init__(self, cond):
        self.cond = cond

    def process_cond(self, batch_size, **_):
        return Cond(self.cond.expand(batch_size, *self.cond.shape[1:]) if torch.is_tensor(self.cond) else self.cond)


class BaseModel(nn.Module):
    """Holds the denoiser and prepares what it is conditioned on."""

    def __init__(self, denoiser, case: Case):
        super().__init__()
        self.diffusion_model, self.case = denoiser, case

    def extra_conds(self, **options):
        text = options["cross_attn"]
        conds = {}
        if self.case.left_padded and text.shape[1] < self.case.left_padded:
            text = F.pad(text, (0, 0, self.case.left_padded - text.shape[1], 0))
        conds["c_crossattn"] = Cond(text)
        if options.get("attention_mask") is not None:
            conds["attention_mask"] = Cond(options["attention_mask"])
            conds["num_tokens"] = Cond(int(options["attention_mask"].sum()))
        return conds

    manual_cast_dtype = None

    def get_dtype(self):
        return torch.float32

    def apply_model(self, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **conds):
        options = transformer_options or {}
        chain = Executor(self._apply_model, self, wrappers_of(options, "apply_model"))
        return chain.execute(x, t, c_concat, c_crossattn, control, options, **conds)

    def _apply_model(self, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **conds):
        out = self.diffusion_model(x, t, context=c_crossattn, transformer_options=transformer_options, **conds)
        return x - out * t.view(-1, *[1] * (x.dim() - 1))


class Patcher:
    """A MODEL: clones share the model and have options and wrappers of their own."""

    def __init__(self, model, options=None, wrappers=None):
        self.model = model
        self.model_options = options or {"transformer_options": {}}
        self.wrappers = wrappers or {}

    def clone(self):
        wrappers = {kind: {key: [*group] for key, group in keys.items()} for kind, keys in self.wrappers.items()}
        return Patcher(self.model, {**self.model_options, "transformer_options": self._options()}, wrappers)

    def _options(self):
        options = dict(self.model_options["transformer_options"])
        if "patches_replace" in options:
            options["patches_replace"] = {kind: dict(own) for kind, own in options["patches_replace"].items()}
        return options

    def add_wrapper_with_key(self, kind, key, wrapper):
        self.wrappers.setdefault(kind, {}).setdefault(key, []).append(wrapper)

    def remove_wrappers_with_key(self, kind, key):
        self.wrappers.get(kind, {}).pop(key, None)

    def get_wrappers(self, kind, key):
        return self.wrappers.get(kind, {}).get(key, [])

    def set_model_attn2_replace(self, patch, block, number):
        replaced = self.model_options["transformer_options"].setdefault("patches_replace", {})
        replaced.setdefault("attn2", {})[(block, number)] = patch


# Guider and sampler -------------------------------------------------------------------------------------------------


class Guider:
    """Calls the model for named conditionings and mixes what comes out; `batched` rows go into one call."""

    def __init__(self, patcher, conds, mix, batched=True):
        self.patcher, self.mix, self.batched = patcher, mix, batched
        self.conds = {name: [self._converted(*entry) for entry in conds[name]] for name in conds}

    @staticmethod
    def _converted(tokens, extra):
        return {**extra, "cross_attn": tokens, "uuid": uuid.uuid4()}

    def sample(self, noise, sigmas):
        self.options = {"wrappers": self.patcher.wrappers, **self.patcher.model_options["transformer_options"]}
        chain = Executor(self._sample, self, wrappers_of(self.options, "outer_sample"))
        return chain.execute(noise, None, None, sigmas)

    def _sample(self, noise, latent_image, sampler, sigmas):
        x = noise * sigmas[0]
        options = {"transformer_options": {**self.options, "sample_sigmas": sigmas}}
        for now, after in pairwise(sigmas):
            t = now.expand(len(x))
            chain = Executor(self._predict_noise, self, wrappers_of(self.options, "predict_noise"))
            x = x + (after - now) * (x - chain.execute(x, t, options, None)) / now
        return x

    def _predict_noise(self, x, t, model_options, seed):
        outs = {}
        entries = [(name, entry) for name in self.conds for entry in self.conds[name]]
        alike = len({entry["cross_attn"].shape for _, entry in entries}) == 1
        for group in [entries[::-1]] if alike and self.batched else [[entry] for entry in entries]:
            for (name, _), out in zip(group, self._call(group, x, t, model_options), strict=True):
                outs[name] = out
        return self.mix(outs)

    def _call(self, group, x, t, model_options):
        chunks = []
        for _, entry in group:
            made = self.patcher.model.extra_conds(**entry, noise=x, device=x.device)
            chunks.append({name: cond.process_cond(len(x)).cond for name, cond in made.items()})
        conds = {
            name: torch.cat([chunk[name] for chunk in chunks]) if torch.is_tensor(own) else own
            for name, own in chunks[0].items()
        }
        options = {
            **model_options["transformer_options"],
            "cond_or_uncond": [list(self.conds).index(name) for name, _ in group],
            "uuids": [entry["uuid"] for _, entry in group],
            "sigmas": t,
        }
        many = len(group)
        rows, times = torch.cat([x] * many), torch.cat([t] * many)
        return self.patcher.model.apply_model(rows, times, transformer_options=options, **conds).chunk(many)


# Toy models ---------------------------------------------------------------------------------------------------------


class Rotary(nn.Module):
    """Angles of positions (batch, tokens, axes): each axis turns one pair of channels."""

    def forward(self, ids: Tensor) -> Tensor:
        angles = ids.float().sum(-1) * 0.3
        return torch.stack([angles.cos(), angles.sin()], -1)


def turned(rows: Tensor, angles: Tensor) -> Tensor:
    """(batch, heads, tokens, channels) with the first two channels turned."""
    cos, sin = angles[:, None, :, 0], angles[:, None, :, 1]
    x, y = rows[..., 0], rows[..., 1]
    return torch.cat([torch.stack([x * cos - y * sin, x * sin + y * cos], -1), rows[..., 2:]], -1)


class Attention(nn.Module):
    def __init__(self, width=16, heads=2, key_heads=2):
        super().__init__()
        self.heads, self.key_heads, head = heads, key_heads, width // heads
        self.q, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.k, self.v = nn.Linear(width, key_heads * head), nn.Linear(width, key_heads * head)

    def forward(self, x, context=None, angles=None, mask=None, options=None):
        context = x if context is None else context
        if angles is None:
            rows = self.q(x), self.k(context), self.v(context)
            return self.out(attention(*rows, self.heads, mask=mask, transformer_options=options))
        split = [rows.unflatten(2, (n, -1)).transpose(1, 2) for rows, n in self._projected(x, context)]
        q, k = (turned(rows, angles) for rows in split[:2])
        out = attention(
            q, k, split[2], self.heads, mask, skip_reshape=True, skip_output_reshape=True, transformer_options=options
        )
        return self.out(out.transpose(1, 2).flatten(2))

    def _projected(self, x, context):
        return (self.q(x), self.heads), (self.k(context), self.key_heads), (self.v(context), self.key_heads)


class Patches(nn.Module):
    """Latents into image tokens and back; what is common to the toys."""

    def __init__(self, case: Case, width=16, patch=2):
        super().__init__()
        self.case, self.patch_size, self.width = case, patch, width
        inside = case.shape[1] * patch * patch
        self.embed, self.project = nn.Linear(inside, width), nn.Linear(width, inside)
        self.text = nn.Linear(case.channels, width)
        self.time = nn.Linear(1, width)

    def into_tokens(self, x, t):
        p = self.patch_size
        tokens = F.unfold(x, p, stride=p).transpose(1, 2)
        return self.embed(tokens) + self.time(t.view(-1, 1, 1))

    def into_latents(self, tokens, x):
        p = self.patch_size
        return F.fold(self.project(tokens).transpose(1, 2), x.shape[-2:], p, stride=p)


class Refiner(nn.Module):
    """Text tokens attend to one another."""

    def __init__(self):
        super().__init__()
        self.attention = Attention()

    def forward(self, text, mask=None, freqs_cis=None, transformer_options=None):
        return text + self.attention(text, angles=freqs_cis, options=transformer_options)


class Joint(Patches):
    """Text and image in one sequence."""

    image_first = False
    key_heads = 2

    def __init__(self, case: Case):
        super().__init__(case)
        self.blocks = nn.ModuleList(Attention(key_heads=self.key_heads) for _ in range(2))

    def forward(self, x, t, context, transformer_options=None, attention_mask=None, num_tokens=None):
        image = self.into_tokens(x, t)
        text, image, angles = self.prepare(self.text(context), image, t, attention_mask, transformer_options)
        mask = None
        if attention_mask is not None:
            mask = torch.zeros(len(x), 1, text.shape[1] + image.shape[1])
            mask[:, 0, : text.shape[1]] = (attention_mask - 1).float() * 1e9
        sequence = torch.cat([image, text] if self.image_first else [text, image], 1)
        for block in self.blocks:
            sequence = sequence + block(sequence, angles=angles, mask=mask, options=transformer_options)
        image_at = 0 if self.image_first else text.shape[1]
        return self.into_latents(sequence[:, image_at : image_at + self.case.image], x)

    def prepare(self, text, image, t, mask, options):
        return text, image, None


class Flux(Joint):
    """Numbers its text tokens."""

    def __init__(self, case):
        super().__init__(case)
        self.pe_embedder = Rotary()

    def prepare(self, text, image, t, mask, options):
        words = torch.arange(3, 3 + text.shape[1])[None, :, None].expand(len(text), -1, 2)
        places = torch.arange(image.shape[1])
        grid = torch.stack([places // 4, places % 4], -1)[None].expand(len(text), -1, -1)
        return text, image, self.pe_embedder(torch.cat([words, grid], 1).float())


class OpenAISignatureMMDITWrapper(Joint):
    """Lets text attend to itself first, and the image to itself in between; hands values over in another form."""

    def __init__(self, case):
        super().__init__(case)
        self.context_processor, self.alone = Refiner(), Attention()

    def prepare(self, text, image, t, mask, options):
        text = self.context_processor(text)  # without options: out of reach
        return text, image + self.alone(image, options=options), None


class HunyuanVideo(Joint):
    """The image first, and a refiner that knows the mask."""

    image_first = True

    def __init__(self, case):
        super().__init__(case)
        self.txt_in, self.double_blocks = Refiner(), nn.ModuleList([nn.Module()])
        self.double_blocks[0].flipped_img_txt = True

    def prepare(self, text, image, t, mask, options):
        text = self.txt_in(text, mask, transformer_options=options)
        return text, image, None

    def forward(self, x, t, context, transformer_options=None, attention_mask=None, num_tokens=None):
        return super().forward(x, t, context, transformer_options)


class NextDiT(Joint):
    """Fills captions and image up, places the image behind the caption, and has fewer key heads."""

    key_heads = 1

    def __init__(self, case):
        super().__init__(case)
        self.pad_tokens_multiple = case.text_multiple if case.text_multiple > 1 else None
        self.cap_embedder, self.rope_embedder = nn.Linear(self.width, self.width), Rotary()
        self.context_refiner = nn.ModuleList([Refiner()])
        self.cap_pad_token, self.x_pad_token = (nn.Parameter(torch.zeros(1, self.width)) for _ in range(2))

    def prepare(self, text, image, t, mask, options):
        many = self.pad_tokens_multiple or 1
        text = self.cap_embedder(text)
        text = torch.cat([text, self.cap_pad_token[None].expand(len(text), -text.shape[1] % many, -1)], 1)
        caption = text.shape[1]
        ids = torch.zeros(len(text), caption, 3)
        ids[..., 0] = torch.arange(caption) + 1
        angles = self.rope_embedder(ids)
        places = torch.arange(image.shape[1])
        grid = torch.stack([torch.full_like(places, caption + 1), places // 4, places % 4], -1).float()
        filling = -image.shape[1] % many
        grid = F.pad(grid, (0, 0, 0, filling))[None].expand(len(text), -1, -1)
        image = torch.cat([image, self.x_pad_token[None].expand(len(text), filling, -1)], 1)
        for refiner in self.context_refiner:
            text = refiner(text, None, angles, transformer_options=options)
        return text, image, torch.cat([angles, self.rope_embedder(grid)], 1)


class WanModel(Patches):
    """Attends to the text in layers of their own."""

    def __init__(self, case: Case):
        super().__init__(case)
        self.own = nn.ModuleList(Attention() for _ in range(2))
        self.cross = nn.ModuleList(Attention() for _ in range(2))

    def forward(self, x, t, context, transformer_options=None, **_):
        image, text = self.into_tokens(x, t), self.text(context)
        for own, cross in zip(self.own, self.cross, strict=True):
            image = image + own(image, options=transformer_options)
            image = image + cross(image, text, options=transformer_options)
        return self.into_latents(image, x)


class UNetModel(Patches):
    """Cross-attention on two levels, in whose place others may be put."""

    def __init__(self, case: Case):
        super().__init__(case, patch=1)
        self.cross = nn.ModuleList(Attention() for _ in range(2))
        self.own = nn.ModuleList(Attention() for _ in range(2))

    def forward(self, x, t, context, transformer_options=None, **_):
        options, text = transformer_options or {}, self.text(context)
        tokens = self.into_tokens(x, t)
        size = x.shape[-2:]
        fine = tokens + self._block(0, tokens, text, ("input", 4), options)
        picture = F.avg_pool2d(fine.transpose(1, 2).unflatten(2, size), 2)
        coarse = picture.flatten(2).transpose(1, 2)
        coarse = coarse + self._block(1, coarse, text, ("middle", 0), options)
        wide = F.interpolate(coarse.transpose(1, 2).unflatten(2, picture.shape[-2:]), size)
        return self.into_latents(fine + wide.flatten(2).transpose(1, 2), x)

    def _block(self, number, tokens, text, place, options):
        tokens = tokens + self.own[number](tokens, options=options)
        layer = self.cross[number]
        replacement = options.get("patches_replace", {}).get("attn2", {}).get(place)
        if replacement is None:
            return layer(tokens, text, options=options)
        extra = {"n_heads": layer.heads, **{k: v for k, v in options.items() if k != "patches_replace"}}
        return layer.out(replacement(layer.q(tokens), layer.k(text), layer.v(text), extra))


# Models by name -----------------------------------------------------------------------------------------------------

_PICTURE = (1, 4, 8, 8)
MODELS = {
    "flux-schnell": (Flux, Case("flux-schnell", _PICTURE)),
    "flux2": (Flux, Case("flux2", _PICTURE, left_padded=12)),
    "sd3": (OpenAISignatureMMDITWrapper, Case("sd3", _PICTURE)),
    "hunyuan-video": (HunyuanVideo, Case("hunyuan-video", _PICTURE, image_first=True, masked=True)),
    "lumina2": (NextDiT, Case("lumina2", _PICTURE, masked=True)),
    "z-image": (NextDiT, Case("z-image", (1, 4, 6, 8), image=12, filling=4, text_multiple=8)),
    "wan-t2v": (WanModel, Case("wan-t2v", _PICTURE, kind="cross")),
    "sdxl": (UNetModel, Case("sdxl", _PICTURE, kind="cross", image=64)),
}


def make(name: str) -> tuple[Patcher, Case]:
    """A toy with random weights."""
    kind, case = MODELS[name]
    denoiser = kind(case)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return Patcher(BaseModel(denoiser.eval().requires_grad_(False), case)), case


def sample(patcher, case, positive, negative=None, cfg=1.0, steps=3, batched=True, seed=1):
    """A run of Euler steps under classifier-free guidance; at 1 the negative is not run."""

    def mix(outs):
        return outs["positive"] if cfg == 1 else outs["negative"] + cfg * (outs["positive"] - outs["negative"])

    conds = {"positive": positive} if cfg == 1 or negative is None else {"positive": positive, "negative": negative}
    if negative is not None and cfg == 1:
        conds = {"positive": positive}
    return Guider(patcher, conds, mix, batched).sample(case.latents(seed), torch.linspace(1, 0, steps + 1))


def dual_cfg(patcher, case, first, second, negative):
    """A run of two positives and a negative in calls whose order is no rule."""

    def mix(outs):
        return outs["negative"] + 2.0 * (outs["middle"] - outs["negative"]) + 3.0 * (outs["positive"] - outs["middle"])

    conds = {"positive": first, "middle": second, "negative": negative}
    return Guider(patcher, conds, mix).sample(case.latents(1), torch.linspace(1, 0, 4))


DUAL_CFG_NEGATIVE = 2
"""The number under which the guider with two positives calls its negative."""


def attend_plainly(q, k, v, heads):
    """The host's own attention, for replacements."""
    return attention(q, k, v, heads)
