"""Which of a layer's attention calls has the text in it, and that there is exactly one."""

import pytest
import torch
import torch.nn.functional as F
from diffusers.models import attention_processor as processors
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers import transformer_flux, transformer_wan

import vsf
from families.harness import OFF, STRONG, noise
from families.models import tiny_flux, tiny_kolors, tiny_unet, tiny_wan
from support import tiny_pipelines as tiny

# An adapter with as many image tokens as the text has ---------------------------------------------------------


def with_adapter(pipe, tokens):
    """Let layers that attend to the text attend to an image prompt of so many tokens too."""
    wide, torch_seed = pipe.unet.config.cross_attention_dim, 5
    held = {}
    for name, processor in pipe.unet.attn_processors.items():
        held[name] = processor
        if name.endswith("attn2.processor"):
            out = pipe.unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
            torch.manual_seed(torch_seed)
            held[name] = processors.IPAdapterAttnProcessor2_0(out, wide, num_tokens=(tokens,), scale=[0.8])
    pipe.unet.set_attn_processor(held)
    picture = noise(1, 1, tokens, wide)
    pipe.unet.encoder_hid_proj = Same(picture) if pipe.unet.encoder_hid_proj is None else pipe.unet.encoder_hid_proj
    return picture


class Same(torch.nn.Module):
    """Stands where an IP-Adapter makes tokens of an image: these."""

    def __init__(self, picture):
        super().__init__()
        self.picture = picture

    def forward(self, _):
        return [self.picture]


@pytest.mark.parametrize("xl", [False, True], ids=["stable diffusion", "sdxl"])
@torch.no_grad()
def test_image_tokens_of_an_adapter_are_not_text_however_many_they_are(xl):
    pipe = tiny_unet.pipeline_xl() if xl else tiny_unet.pipeline()
    unet, negative = pipe.unet, noise(3, 32 if xl else 16, seed=2)
    with_adapter(pipe, 77 + 3)
    unet.config.encoder_hid_dim_type = "ip_image_proj"
    text = noise(1, 77, unet.config.cross_attention_dim, seed=3)
    inputs = (tiny_unet.inputs_xl if xl else tiny_unet.inputs)(text)
    inputs["added_cond_kwargs"] = {**inputs.get("added_cond_kwargs", {}), "image_embeds": [torch.zeros(1)]}
    assert_only_text_is_guided(unet, inputs, negative)


def assert_only_text_is_guided(model, inputs, negative):
    plain = model(**inputs, return_dict=False)[0]
    with vsf.guide(model, negative=vsf.Negative((negative,)), method=OFF) as report:
        assert torch.equal(model(**inputs, return_dict=False)[0], plain)
    assert report.calls == len(report.layers)
    with vsf.guide(model, negative=vsf.Negative((negative,)), method=STRONG) as report:
        assert not torch.equal(model(**inputs, return_dict=False)[0], plain)
    assert report.calls == len(report.layers)


@torch.no_grad()
def test_image_tokens_in_kolors_are_not_text():
    pipe = tiny_kolors.pipeline()
    pipe.unet.text_encoder_hid_proj, pipe.unet.encoder_hid_proj = pipe.unet.encoder_hid_proj, None
    with_adapter(pipe, tiny_kolors.LENGTH + 3)
    pipe.unet.config.encoder_hid_dim_type = "ip_image_proj"
    inputs = tiny_unet.inputs_xl(noise(1, tiny_kolors.LENGTH, 16, seed=3))
    inputs["added_cond_kwargs"] = {**inputs["added_cond_kwargs"], "image_embeds": [torch.zeros(1)]}
    plain = pipe.unet(**inputs, return_dict=False)[0]
    with vsf.guide(pipe.unet, negative=vsf.Negative((noise(3, 16, seed=2),)), method=OFF):
        assert torch.equal(pipe.unet(**inputs, return_dict=False)[0], plain)


@torch.no_grad()
def test_as_many_image_tokens_in_flux_as_the_picture_has_are_not_text():
    """Then an adapter's call has as many keys as queries, as the one with the text has."""
    model = tiny_flux.transformer()
    for block in model.transformer_blocks:
        torch.manual_seed(0)
        adapter = transformer_flux.FluxIPAdapterAttnProcessor(32, cross_attention_dim=24, num_tokens=(24,), scale=0.8)
        block.attn.processor = adapter
    inputs = tiny_flux.inputs(noise(1, 12, 32, seed=3))  # 24 tokens of picture
    inputs["joint_attention_kwargs"] = {"ip_hidden_states": [noise(1, 24, 24)]}
    assert_only_text_is_guided(model, inputs, noise(7, 32, seed=2))


@pytest.mark.parametrize("frames", [1, 2])
@torch.no_grad()
def test_image_tokens_of_wan_are_not_text(frames):
    case = tiny_wan.CASES[1]
    tokens = 512 + 512
    sizes = {"pos_embed_seq_len": tokens} if frames == 2 else {}
    model = tiny_wan.image_transformer(**sizes)
    inputs = case.inputs(noise(1, 512, case.channels, seed=3))
    picture = tiny_wan.image_inputs(noise(1, 512, case.channels), tokens)["encoder_hidden_states_image"]
    inputs["encoder_hidden_states_image"] = picture.reshape(frames, -1, 16)
    assert_only_text_is_guided(model, inputs, noise(512, case.channels, seed=2))


# Layers that attend in another way ----------------------------------------------------------------------------

fast_kernels = {"here": False}


class FastWhereAvailable(processors.JointAttnProcessor2_0):
    """Attends with a kernel of its own where there is one."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **_):
        pairs = (attn.to_q, attn.add_q_proj), (attn.to_k, attn.add_k_proj), (attn.to_v, attn.add_v_proj)
        query, key, value = (
            torch.cat([own(hidden_states), added(encoder_hidden_states)], 1).unflatten(2, (4, 8)).transpose(1, 2)
            for own, added in pairs
        )
        if fast_kernels["here"]:
            out = torch.softmax(query @ key.transpose(-1, -2) * 8**-0.5, -1) @ value
        else:
            out = F.scaled_dot_product_attention(query, key, value)
        out, images = out.transpose(1, 2).flatten(2), hidden_states.shape[1]
        text = out[:, images:] if attn.context_pre_only else attn.to_add_out(out[:, images:])
        return attn.to_out[0](out[:, :images]), text


def test_one_layer_among_many_that_attends_by_other_means_is_named(monkeypatch):
    pipe = tiny.sd3(dual_attention_layers=())
    pipe.transformer.transformer_blocks[1].attn.processor = FastWhereAvailable()
    with vsf.guide(pipe, "wheels"):
        tiny.call(pipe)
        monkeypatch.setitem(fast_kernels, "here", True)
        with pytest.raises(vsf.NotGuidedError, match=r"layer transformer_blocks\.1\.attn ran and was not guided"):
            tiny.call(pipe)
    with vsf.guide(pipe, ""):
        tiny.call(pipe)


class InChunks:
    """Cross attention with the queries in two pieces."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, *_, **__):
        text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            made.unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for made in (attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text))
        )
        pieces = [F.scaled_dot_product_attention(piece, key, value) for piece in query.chunk(2, 2)]
        return attn.to_out[0](torch.cat(pieces, 2).transpose(1, 2).flatten(2))


class WanInChunks(transformer_wan.WanAttnProcessor):
    def __call__(self, attn, hidden_states, encoder_hidden_states=None, *_, **__):
        query, key, value = (
            made.unflatten(2, (attn.heads, -1))
            for made in (
                attn.norm_q(attn.to_q(hidden_states)),
                attn.norm_k(attn.to_k(encoder_hidden_states)),
                attn.to_v(encoder_hidden_states),
            )
        )
        pieces = [dispatch_attention_fn(piece, key, value) for piece in query.chunk(2, 1)]
        return attn.to_out[0](torch.cat(pieces, 1).flatten(2))


@torch.no_grad()
def test_queries_in_chunks_are_refused_by_the_layers_name():
    unet = tiny_unet.unet()
    names = [name for name, _ in unet.named_modules() if name.endswith("attn2")]
    unet.get_submodule(names[-1]).processor = InChunks()
    negative = vsf.Negative((noise(3, 16),))
    refused = pytest.raises(vsf.UnsupportedAttentionError, match=rf"layer {names[-1]} attends more than once")
    with vsf.guide(unet, negative=negative), refused:
        unet(**tiny_unet.inputs(noise(1, 12, 16)))


@torch.no_grad()
def test_queries_in_chunks_are_refused_in_wan_too():
    case = tiny_wan.CASES[0]
    model = case.model()
    model.blocks[1].attn2.processor = WanInChunks()
    refused = pytest.raises(vsf.UnsupportedAttentionError, match=r"layer blocks\.1\.attn2 attends more than once")
    with vsf.guide(model, negative=vsf.Negative((noise(3, case.channels),))), refused:
        case.run(model, case.text())


class Copying(processors.AttnProcessor2_0):
    """Hands a copy of its values on, in one piece of memory."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, *_, **__):
        text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            made.unflatten(2, (attn.heads, -1)).transpose(1, 2).contiguous()
            for made in (attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text))
        )
        out = F.scaled_dot_product_attention(query, key, value)
        return attn.to_out[0](out.transpose(1, 2).flatten(2))


@torch.no_grad()
def test_values_that_were_copied_are_known():
    unet, negative = tiny_unet.unet(), vsf.Negative((noise(3, 16),))
    inputs = tiny_unet.inputs(noise(1, 12, 16))
    with vsf.guide(unet, negative=negative, method=STRONG):
        expected = unet(**inputs, return_dict=False)[0]
        for name, module in unet.named_modules():
            if name.endswith("attn2"):
                module.processor = Copying()
        got = unet(**inputs, return_dict=False)[0]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_a_layer_that_is_skipped_is_no_error():
    pipe = tiny.sd3(num_layers=3)
    skipping = {"skip_guidance_layers": [1], "skip_layer_guidance_start": -1.0, "skip_layer_guidance_stop": 1.0}
    with vsf.guide(pipe, "wheels") as report:
        tiny.call(pipe, guidance_scale=3.0, num_inference_steps=1, **skipping)
    assert report.calls == 3 + 2


@torch.no_grad()
def test_nothing_listens_when_the_call_is_over():
    unet = tiny_unet.unet()
    with vsf.guide(unet, negative=vsf.Negative((noise(3, 16),))):
        unet(**tiny_unet.inputs(noise(1, 12, 16)))
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in unet.modules())
