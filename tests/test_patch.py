"""guide, attach and detach on a live pipeline: what they do to a run, and that nothing stays behind."""

import copy
import gc
import sys
import threading
import weakref

import accelerate
import diffusers
import pytest
import torch
import torch.nn.functional as F
from diffusers.models import attention_processor as processors

import vsf
from support import tiny_pipelines as tiny
from vsf.families import FAMILIES
from vsf.families.sd3 import StableDiffusion3

STRONG = vsf.ValueSignFlip(scale=2.0, offset=0.1)
PROMPTS, NEGATIVES = ["a red car", "a hat", "two old trees"], ["wheels", "", "a long green leaf"]
METHODS = [
    STRONG,
    vsf.ValueSignFlip(scale=2.0, orthogonal=True),
    vsf.ValueSignFlip(scale=2.0, layout="reference"),
    vsf.NormalizedAttentionGuidance(),
    vsf.CentredValueSignFlip(scale=6.0),
    vsf.NegativeAwaySteerAttention(),
]


class BoomError(Exception):
    pass


@pytest.fixture
def pipe():
    return tiny.sd3()


@pytest.fixture
def plain(pipe):
    return tiny.call(pipe)


@pytest.fixture
def guided(pipe):
    with vsf.guide(pipe, "wheels", method=STRONG):
        return tiny.call(pipe)


def difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def state(pipe):
    """Everything a guided run might leave something on: classes, attributes and processors, by identity."""
    parts = {"pipe": pipe, **pipe.components, "scheduler": None}
    for name, module in pipe.transformer.named_modules():
        parts[f"transformer.{name}"] = module
    found = {name: (id(type(part)), sorted(vars(part)) if part is not None else None) for name, part in parts.items()}
    held = {name: id(processor) for name, processor in pipe.transformer.attn_processors.items()}
    return found, held, {name for name in sys.modules if "vsf_shadow" in name}


# A run ------------------------------------------------------------------------------------------------------------


def test_a_negative_prompt_changes_the_picture(plain, guided):
    assert difference(guided, plain) > 1e-3


@pytest.mark.parametrize("nothing", ["", "  ", [""]])
def test_an_empty_negative_prompt_changes_nothing(pipe, plain, nothing):
    with vsf.guide(pipe, nothing) as report:
        assert torch.equal(tiny.call(pipe), plain)
    assert report.steps == 0


def test_an_infinite_offset_changes_nothing(pipe, plain):
    with vsf.guide(pipe, "wheels", method=vsf.ValueSignFlip(offset=float("inf"))) as report:
        assert torch.equal(tiny.call(pipe), plain)
    assert report.calls == 4


def test_the_method_none_changes_nothing(pipe, plain):
    with vsf.guide(pipe, "wheels", method="none"):
        assert torch.equal(tiny.call(pipe), plain)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_batch_of_ragged_negatives_equals_one_by_one(pipe, method):
    latents, alone = torch.randn(3, 4, 8, 8), []
    for index in range(3):
        with vsf.guide(pipe, NEGATIVES[index], method=method):
            alone.append(tiny.call(pipe, PROMPTS[index], latents=latents[index : index + 1]))
    with vsf.guide(pipe, NEGATIVES, method=method):
        together = tiny.call(pipe, PROMPTS, latents=latents)
    assert difference(together, torch.cat(alone)) <= 1e-5


def test_a_row_with_an_empty_negative_in_a_batch_stays_identical_to_the_last_bit(pipe):
    latents = torch.randn(3, 4, 8, 8)
    plain = tiny.call(pipe, PROMPTS, latents=latents)
    with vsf.guide(pipe, NEGATIVES, method=STRONG):
        assert torch.equal(tiny.call(pipe, PROMPTS, latents=latents)[1], plain[1])


@pytest.mark.parametrize("guidance_scale", [0.0, 3.0], ids=["alone", "with cfg"])
def test_several_images_per_prompt_share_its_negative(pipe, guidance_scale):
    latents, settings = torch.randn(6, 4, 8, 8), {"guidance_scale": guidance_scale}
    with vsf.guide(pipe, NEGATIVES, method=STRONG):
        each_twice = tiny.call(pipe, PROMPTS, num_images_per_prompt=2, latents=latents, **settings)
        every_second = tiny.call(pipe, PROMPTS, latents=latents[1::2], **settings)
    assert difference(each_twice[1::2], every_second) <= 1e-5


def test_one_negative_serves_every_prompt(pipe):
    latents = torch.randn(3, 4, 8, 8)
    with vsf.guide(pipe, "wheels", method=STRONG):
        one = tiny.call(pipe, PROMPTS, latents=latents)
    with vsf.guide(pipe, ["wheels"] * 3, method=STRONG):
        assert torch.equal(tiny.call(pipe, PROMPTS, latents=latents), one)


def test_prompts_may_come_as_embeddings(pipe, guided):
    with torch.no_grad():
        text, _, pooled, _ = pipe.encode_prompt(
            "a red car", None, None, do_classifier_free_guidance=False, max_sequence_length=24
        )
    with vsf.guide(pipe, "wheels", method=STRONG):
        got = tiny.call(pipe, None, prompt_embeds=text, pooled_prompt_embeds=pooled)
    assert torch.equal(got, guided)


def test_negatives_may_come_as_padded_embeddings_with_their_mask(pipe, guided):
    (rows,) = vsf.encode(pipe, "wheels").embeddings
    padded = torch.cat([rows, torch.randn(5, 32)])[None]
    mask = torch.arange(len(rows) + 5)[None] < len(rows)
    with vsf.guide(pipe, negative=vsf.Negative.from_padded(padded, mask), method=STRONG):
        assert torch.equal(tiny.call(pipe), guided)


def test_arguments_may_be_positional_and_the_output_a_tuple(pipe, guided):
    settings = {key: value for key, value in tiny.SETTINGS.items() if key not in ("height", "width")}
    with vsf.guide(pipe, "wheels", method=STRONG):
        generator = torch.Generator().manual_seed(0)
        output = pipe("a red car", None, None, 8, 8, generator=generator, return_dict=False, **settings)
    assert isinstance(output, tuple)
    assert torch.equal(output[0], guided)


def test_wrong_arguments_are_refused_as_the_pipeline_would(pipe):
    with vsf.guide(pipe, "wheels"):
        with pytest.raises(TypeError, match="multiple values for prompt"):
            pipe("a red car", prompt="a hat")
        with pytest.raises(TypeError, match="too many positional"):
            pipe(*[None] * 60)
        with pytest.raises(TypeError, match="unexpected keyword argument 'wheels'"):
            pipe("a red car", wheels=True)


def test_callbacks_see_the_pipeline_and_may_replace_its_embeddings(pipe, guided):
    seen = []

    def callback(host, step, timestep, tensors):
        seen.append((host is pipe, step))
        return {"prompt_embeds": torch.zeros_like(tensors["prompt_embeds"])}

    with vsf.guide(pipe, "wheels", method=STRONG):
        changed = tiny.call(
            pipe, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=["latents", "prompt_embeds"]
        )
    assert seen == [(True, 0), (True, 1)]
    assert difference(changed, guided) > 1e-6


def test_the_calls_own_negative_prompt_stays_with_classifier_free_guidance(pipe):
    settings = {"guidance_scale": 3.0}
    with vsf.guide(pipe, "wheels", method=vsf.ValueSignFlip(offset=float("inf"))):
        kept = tiny.call(pipe, negative_prompt="ugly", **settings)
    assert torch.equal(kept, tiny.call(pipe, negative_prompt="ugly", **settings))
    assert not torch.equal(kept, tiny.call(pipe, **settings))


def test_the_report_tells_what_was_done(pipe):
    with vsf.guide(pipe, ["wheels"], method=STRONG) as report:
        assert "nothing guided" in str(report)
        tiny.call(pipe, num_inference_steps=3)
    assert report.layers == ("transformer_blocks.0.attn", "transformer_blocks.1.attn")
    assert (report.steps, report.calls, report.tokens) == (3, 6, (16,))
    assert "ValueSignFlip(scale=2.0" in str(report)
    assert "6 attention calls guided in 3 denoiser calls (2 layers), negative of 16 tokens" in str(report)


def test_gradients_flow_through_a_guided_denoiser():
    model = tiny.sd3_transformer(qk_norm=None).double()  # the norm computes in float32
    noise = torch.randn(1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    rows = torch.randn(3, 32, dtype=torch.float64)
    inputs = {
        "encoder_hidden_states": torch.randn(1, 5, 32).double(),
        "pooled_projections": torch.randn(1, 32).double(),
    }
    direction, step = torch.randn_like(noise), 1e-6

    def loss(x):
        return model(x, timestep=torch.tensor([500.0]), return_dict=False, **inputs)[0].sum()

    with vsf.guide(model, negative=vsf.Negative((rows,)), method=STRONG):
        (gradient,) = torch.autograd.grad(loss(noise), noise)
        expected = (loss(noise + step * direction) - loss(noise - step * direction)) / (2 * step)
    assert torch.isclose((gradient * direction).sum(), expected, rtol=1e-6)


def test_a_compiled_denoiser_is_guided_alike():
    pipe = tiny.sd3(num_layers=1)
    with vsf.guide(pipe, "wheels", method=STRONG):
        expected = tiny.call(pipe, num_inference_steps=1)
    pipe.transformer.compile(backend="eager", fullgraph=True)
    with vsf.guide(pipe, "wheels", method=STRONG) as report:
        assert difference(tiny.call(pipe, num_inference_steps=1), expected) <= 1e-6
    assert "calls not counted" in str(report)


def test_a_denoiser_with_offloaded_weights_is_guided_alike(pipe, guided):
    accelerate.cpu_offload(pipe.transformer, execution_device=torch.device("cpu"))
    assert next(pipe.transformer.parameters()).is_meta
    with vsf.guide(pipe, "wheels", method=STRONG):
        assert torch.equal(tiny.call(pipe), guided)


def test_two_pipelines_in_two_threads_do_not_meet():
    jobs = {"first": (tiny.sd3(), "wheels", STRONG), "second": (tiny.sd3(num_layers=3), "a tree", METHODS[3])}

    def work(name):
        host, negative, method = jobs[name]
        with vsf.guide(host, negative, method=method):
            return tiny.call(host, num_inference_steps=6)

    expected = {name: work(name) for name in jobs}
    got = {}
    threads = [threading.Thread(target=lambda name=name: got.update({name: work(name)})) for name in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(got[name], expected[name]) for name in jobs)


# Afterwards -------------------------------------------------------------------------------------------------------


def test_nothing_stays_on_the_pipeline(pipe, plain):
    before = state(pipe)
    with vsf.guide(pipe, "wheels"):
        tiny.call(pipe)
    assert state(pipe) == before
    assert torch.equal(tiny.call(pipe), plain)


@pytest.mark.parametrize("step", [0, 1])
def test_nothing_stays_after_an_error_at_any_step(pipe, plain, step):
    def callback(host, now, timestep, tensors):
        if now == step:
            raise BoomError
        return tensors

    before = state(pipe)
    with pytest.raises(BoomError), vsf.guide(pipe, "wheels"):
        tiny.call(pipe, callback_on_step_end=callback)
    assert state(pipe) == before
    assert torch.equal(tiny.call(pipe), plain)


@pytest.mark.parametrize("call", [1, 3])
def test_nothing_stays_after_an_error_inside_attention(pipe, plain, call):
    class Failing(vsf.ValueSignFlip):
        calls = 0

        def combine(self, partials):
            Failing.calls += 1
            if Failing.calls == call:
                raise BoomError
            return partials.base.out

    before = state(pipe)
    with pytest.raises(BoomError), vsf.guide(pipe, "wheels", method=Failing()):
        tiny.call(pipe)
    assert state(pipe) == before
    assert torch.equal(tiny.call(pipe), plain)


def test_nothing_stays_when_the_negative_cannot_be_encoded(pipe):
    before = state(pipe)
    with pytest.raises(vsf.PromptError, match="texts, got int"), vsf.guide(pipe, [7]):
        pass
    assert state(pipe) == before


def test_between_the_calls_of_a_guided_run_the_processors_are_the_models_own(pipe):
    before, seen = state(pipe)[1], []

    def callback(host, step, timestep, tensors):
        seen.append(state(host)[1])
        return tensors

    with vsf.guide(pipe, "wheels"):
        tiny.call(pipe, callback_on_step_end=callback)
    assert seen == [before, before]


def test_a_copy_of_a_guided_pipeline_is_not_guided(pipe, plain):
    with vsf.guide(pipe, "wheels"):
        twin = copy.deepcopy(pipe)
        assert torch.equal(tiny.call(twin), plain)
    assert type(twin) is diffusers.StableDiffusion3Pipeline
    assert torch.equal(tiny.call(twin), plain)


def test_a_pipeline_saved_while_guided_is_the_plain_one(pipe, plain, tmp_path):
    with vsf.guide(pipe, "wheels"):
        pipe.transformer.save_pretrained(tmp_path)
    pipe.transformer = diffusers.SD3Transformer2DModel.from_pretrained(tmp_path)
    assert torch.equal(tiny.call(pipe), plain)


# Processors that change while guided ------------------------------------------------------------------------------


@pytest.fixture
def fusable():
    return tiny.sd3(qk_norm=None, dual_attention_layers=())


def test_projections_may_be_fused_and_unfused_while_guided(fusable):
    before = state(fusable)
    with vsf.guide(fusable, "wheels", method=STRONG):
        expected = tiny.call(fusable)
        fusable.transformer.fuse_qkv_projections()
        fused = tiny.call(fusable)
        fusable.transformer.unfuse_qkv_projections()
        unfused = tiny.call(fusable)
    assert difference(fused, expected) <= 1e-5
    assert torch.equal(unfused, expected)
    assert state(fusable)[1] == before[1]


def test_unfusing_after_the_block_brings_the_first_processors_back(fusable):
    before = state(fusable)[1]
    with vsf.guide(fusable, "wheels", method=STRONG):
        fusable.transformer.fuse_qkv_projections()
        tiny.call(fusable)
    fusable.transformer.unfuse_qkv_projections()
    assert state(fusable)[1] == before


def test_processors_set_while_guided_are_guided_and_stay(pipe, guided):
    own = processors.JointAttnProcessor2_0()
    with vsf.guide(pipe, "wheels", method=STRONG):
        pipe.transformer.set_attn_processor(own)
        assert torch.equal(tiny.call(pipe), guided)
    assert all(processor is own for processor in pipe.transformer.attn_processors.values())


def test_a_processor_that_cannot_be_guided_is_refused_by_name_before_anything_runs(pipe):
    class WrittenOut:
        def __call__(self, attn, hidden_states, encoder_hidden_states=None):
            return hidden_states, encoder_hidden_states

    pipe.transformer.set_attn_processor(WrittenOut())
    before = state(pipe)
    match = r"transformer_blocks\.0\.attn uses WrittenOut"
    with pytest.raises(vsf.UnsupportedAttentionError, match=match), vsf.guide(pipe, "wheels"):
        pass
    with pytest.raises(vsf.UnsupportedAttentionError, match=match):
        vsf.attach(pipe)
    assert state(pipe) == before


class OwnLogits(processors.JointAttnProcessor2_0):
    """Scales its logits, by the option or by hand, and may hide the first image token."""

    def __init__(self, scale=0.5, *, by_hand=False, hide=False):
        self.scale, self.by_hand, self.hide = scale, by_hand, hide

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **_):
        images = hidden_states.shape[1]
        pairs = (attn.to_q, attn.add_q_proj), (attn.to_k, attn.add_k_proj), (attn.to_v, attn.add_v_proj)
        query, key, value = (
            torch.cat([own(hidden_states), added(encoder_hidden_states)], 1).unflatten(2, (4, 8)).transpose(1, 2)
            for own, added in pairs
        )
        mask = torch.arange(key.shape[2])[None, None, None] > 0 if self.hide else None
        if self.by_hand:
            out = F.scaled_dot_product_attention(query * self.scale * 8**0.5, key, value, mask)
        else:
            out = F.scaled_dot_product_attention(query, key, value, mask, scale=self.scale)
        out = out.transpose(1, 2).flatten(2)
        text = out[:, images:] if attn.context_pre_only else attn.to_add_out(out[:, images:])
        return attn.to_out[0](out[:, :images]), text


def test_the_hosts_own_scale_and_mask_are_kept():
    pipe = tiny.sd3(dual_attention_layers=())

    def run(**options):
        pipe.transformer.set_attn_processor(OwnLogits(**options))
        with vsf.guide(pipe, "wheels", method=STRONG):
            return tiny.call(pipe)

    assert difference(run(), run(by_hand=True)) <= 1e-6
    assert difference(run(hide=True), run(by_hand=True, hide=True)) <= 1e-6
    assert difference(run(hide=True), run()) > 1e-4
    assert difference(run(scale=1.0), run()) > 1e-4


def test_an_image_adapter_keeps_its_own_attention():
    pipe = tiny.sd3(dual_attention_layers=())
    sizes = {"hidden_size": 32, "ip_hidden_states_dim": 16, "head_dim": 8, "timesteps_emb_dim": 32}
    adapters = {
        name: tiny.without_silent_parts(processors.SD3IPAdapterJointAttnProcessor2_0(**sizes))
        for name in pipe.transformer.attn_processors
    }
    pipe.transformer.set_attn_processor(dict(adapters))
    extra = {"ip_hidden_states": torch.randn(1, 5, 16), "temb": torch.randn(1, 32)}

    def run():
        return tiny.call(pipe, joint_attention_kwargs=dict(extra))

    for processor in adapters.values():
        processor.scale = 0.0
    without = run()
    for processor in adapters.values():
        processor.scale = 0.7
    plain, weights = run(), sorted(pipe.transformer.state_dict())
    assert difference(plain, without) > 1e-3
    with vsf.guide(pipe, "wheels", method=vsf.ValueSignFlip(offset=float("inf"))) as report:
        assert torch.equal(run(), plain)
        assert sorted(pipe.transformer.state_dict()) == weights
    assert report.calls == 4


# Refusals ---------------------------------------------------------------------------------------------------------


def test_guiding_twice_is_refused_and_the_first_goes_on(pipe, guided):
    with vsf.guide(pipe, "wheels", method=STRONG):
        with pytest.raises(vsf.AlreadyGuidedError, match=r"leave the outer guide\(\)"), vsf.guide(pipe, "trees"):
            pass
        with pytest.raises(vsf.AlreadyGuidedError):
            vsf.attach(pipe)
        assert torch.equal(tiny.call(pipe), guided)


def test_an_unknown_pipeline_is_refused_with_the_known_families():
    unet = diffusers.UNet2DModel(
        block_out_channels=(4,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=1,
        attention_head_dim=2,
    )
    other = diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler())
    expected = (
        r"no family recognises DDPMPipeline \(unet UNet2DModel\)\. Supported: sd3.*\. Run \"vsf doctor\" for details\."
    )
    with pytest.raises(vsf.UnsupportedPipelineError, match=expected), vsf.guide(other, "wheels"):
        pass
    with pytest.raises(vsf.UnsupportedPipelineError, match="no family recognises int"):
        vsf.encode(3, "wheels")


def test_every_family_goes_by_its_own_name():
    assert all(family.name == name for name, family in FAMILIES.items())


def test_a_family_without_the_reference_layout_refuses_it(pipe, monkeypatch):
    monkeypatch.setattr(StableDiffusion3, "has_reference_layout", False)
    method = vsf.ValueSignFlip(layout="reference")
    with pytest.raises(vsf.KnobError, match='layout="reference"'), vsf.guide(pipe, "wheels", method=method):
        pass


@pytest.mark.parametrize(("negatives", "prompt"), [(["a", "b"], PROMPTS), (["a", "b"], "a red car"), (["", ""], "a")])
def test_another_number_of_negatives_than_prompts_is_refused(pipe, negatives, prompt):
    with vsf.guide(pipe, negatives), pytest.raises(vsf.PromptError, match=f"{len(negatives)} negatives for"):
        tiny.call(pipe, prompt)


def test_a_negative_is_given_in_one_of_two_ways(pipe):
    both = {"negative_prompt": "wheels", "negative": vsf.encode(pipe, "wheels")}
    with pytest.raises(vsf.PromptError, match="either negative_prompt"), vsf.guide(pipe, **both):
        pass


@pytest.mark.parametrize("method", ["vsf", "nag", "cfg"])
def test_none_is_no_negative_prompt_as_everywhere_in_diffusers(pipe, method):
    plain = tiny.call(pipe)
    for negatives in ({}, {"negative_prompt": None}, {"negative_prompt": [None]}):
        with vsf.guide(pipe, method=method, **negatives) as report:
            assert torch.equal(tiny.call(pipe), plain)
        assert report.steps == 0
    with vsf.guide(pipe, ["wheels", None]):
        one, other = tiny.call(pipe, ["a red car"] * 2, guidance_scale=0.0)
    assert not torch.equal(one, other)
    assert vsf.encode(pipe, None).lengths == (0,)
    vsf.attach(pipe, method=method)
    assert torch.equal(tiny.call(pipe, negative_prompt=None), plain)
    vsf.detach(pipe)


def test_a_bare_tensor_is_refused_as_it_may_be_padded(pipe):
    with pytest.raises(vsf.PromptError, match="from_padded"), vsf.guide(pipe, negative=torch.zeros(1, 77, 32)):
        pass


@pytest.mark.parametrize("method", [vsf.ValueSignFlip, None, 3])
def test_a_method_is_a_name_or_an_instance(pipe, method):
    with pytest.raises(vsf.UnknownNameError, match="an instance such as"), vsf.guide(pipe, "wheels", method=method):
        pass


def test_a_layer_that_attends_another_way_is_an_error_that_names_it(pipe):
    with vsf.guide(pipe, "wheels"):
        for block in pipe.transformer.transformer_blocks:
            block.attn.processor = Halving()
        with pytest.raises(vsf.NotGuidedError, match=r"transformer_blocks\.0\.attn ran and was not guided"):
            tiny.call(pipe)


class Halving:
    """Attends in a way the family does not know: the queries come one half at a time."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **_):
        query = attn.to_q(hidden_states).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        halves = [F.scaled_dot_product_attention(half, query, query) for half in query.chunk(2, 2)]
        out = torch.cat(halves, 2).transpose(1, 2).flatten(2)
        return attn.to_out[0](out), None if attn.context_pre_only else encoder_hidden_states


def test_a_run_on_another_denoiser_is_an_error(pipe):
    with vsf.guide(pipe, "wheels"):
        pipe.transformer = tiny.sd3_transformer()
        with pytest.raises(vsf.NotGuidedError, match="without calling the denoiser"):
            tiny.call(pipe)


def test_another_pipeline_with_the_same_denoiser_is_not_guided_by_chance(pipe):
    other = diffusers.StableDiffusion3Pipeline.from_pipe(pipe)
    other.set_progress_bar_config(disable=True)
    with vsf.guide(pipe, "wheels"):
        with pytest.raises(vsf.NotGuidedError, match="not by the pipeline that is guided"):
            tiny.call(other)
        with pytest.raises(vsf.AlreadyGuidedError), vsf.guide(other, "wheels"):
            pass


@pytest.mark.parametrize("option", [{"is_causal": True}, {"dropout_p": 0.1}])
def test_attention_that_guidance_cannot_follow_is_refused(pipe, option):
    class Special(processors.JointAttnProcessor2_0):
        def __call__(self, attn, hidden_states, encoder_hidden_states=None, **_):
            x = torch.cat([hidden_states, encoder_hidden_states], 1)[:, None]
            return F.scaled_dot_product_attention(x, x, x, **option)

    with vsf.guide(pipe, "wheels"):
        pipe.transformer.transformer_blocks[0].attn.set_processor(Special())
        with pytest.raises(vsf.UnsupportedAttentionError, match=f"attends with {next(iter(option))}"):
            tiny.call(pipe)


def test_gradient_checkpointing_is_refused():
    model = tiny.sd3_transformer()
    model.enable_gradient_checkpointing()
    inputs = {"encoder_hidden_states": torch.randn(1, 5, 32), "pooled_projections": torch.randn(1, 32)}
    with (
        vsf.guide(model, negative=vsf.Negative((torch.randn(3, 32),))),
        pytest.raises(vsf.UnsupportedAttentionError, match="disable_gradient_checkpointing"),
    ):
        model(torch.randn(1, 4, 8, 8), timestep=torch.tensor([500.0]), **inputs)


def test_rows_that_do_not_divide_among_the_negatives_are_refused():
    model = tiny.sd3_transformer()
    inputs = {"encoder_hidden_states": torch.randn(3, 5, 32), "pooled_projections": torch.randn(3, 32)}
    negative = vsf.Negative((torch.randn(3, 32), torch.randn(2, 32)))
    with vsf.guide(model, negative=negative), pytest.raises(vsf.LayoutError, match="3 conditional rows"):
        model(torch.randn(3, 4, 8, 8), timestep=torch.tensor([500.0]), **inputs)


def test_a_denoiser_on_its_own_has_no_encoder(pipe):
    with pytest.raises(vsf.PromptError, match="cannot encode texts"), vsf.guide(pipe.transformer, "wheels"):
        pass
    with pytest.raises(vsf.PromptError, match="attach needs a pipeline"):
        vsf.attach(pipe.transformer)


# attach and detach ------------------------------------------------------------------------------------------------


def test_an_attached_pipeline_takes_the_negative_from_its_own_argument(pipe, plain, guided):
    report = vsf.attach(pipe, method=STRONG)
    assert torch.equal(tiny.call(pipe, negative_prompt="wheels"), guided)
    assert torch.equal(tiny.call(pipe, negative_prompt=["wheels"]), guided)
    assert torch.equal(tiny.call(pipe, negative_prompt=vsf.encode(pipe, "wheels")), guided)
    assert (report.steps, report.calls) == (6, 12)
    assert torch.equal(tiny.call(pipe), plain)
    assert report.steps == 6
    vsf.detach(pipe)


def test_under_cfg_an_attached_pipeline_has_the_empty_prompt_as_its_unconditional_one(pipe):
    with vsf.guide(pipe, "wheels", method=STRONG):
        expected = tiny.call(pipe, guidance_scale=3.0, negative_prompt="")
    vsf.attach(pipe, method=STRONG)
    assert torch.equal(tiny.call(pipe, guidance_scale=3.0, negative_prompt="wheels"), expected)


def test_detaching_leaves_nothing(pipe, plain):
    before = state(pipe)
    vsf.attach(pipe, method=STRONG)
    tiny.call(pipe, negative_prompt="wheels")
    vsf.detach(pipe)
    assert state(pipe) == before
    assert torch.equal(tiny.call(pipe), plain)


def test_an_attached_pipeline_forgets_the_negative_after_an_error(pipe, plain):
    def callback(*_):
        raise BoomError

    vsf.attach(pipe, method=STRONG)
    with pytest.raises(BoomError):
        tiny.call(pipe, negative_prompt="wheels", callback_on_step_end=callback)
    assert torch.equal(tiny.call(pipe), plain)


def test_an_attached_pipeline_forgets_negatives_that_were_refused(pipe, plain):
    vsf.attach(pipe, method=STRONG)
    with pytest.raises(vsf.PromptError, match="2 negatives for 1 prompts"):
        tiny.call(pipe, negative_prompt=["wheels", "trees"])
    assert torch.equal(tiny.call(pipe), plain)


def test_another_pipeline_with_the_denoiser_of_an_attached_one_runs_as_ever(pipe, plain):
    other = diffusers.StableDiffusion3Pipeline.from_pipe(pipe)
    other.set_progress_bar_config(disable=True)
    vsf.attach(pipe, method=STRONG)
    assert torch.equal(tiny.call(other), plain)


@pytest.mark.parametrize("name", ["negative_prompt_2", "negative_prompt_3"])
def test_other_negative_arguments_of_an_attached_pipeline_are_refused(pipe, name):
    vsf.attach(pipe)
    with pytest.raises(vsf.PromptError, match=f"{name}= has no meaning on an attached pipeline"):
        tiny.call(pipe, **{name: "wheels"})


@pytest.mark.parametrize("name", ["negative_prompt_embeds", "negative_pooled_prompt_embeds"])
def test_negative_embeddings_on_an_attached_pipeline_are_refused(pipe, name):
    vsf.attach(pipe)
    with pytest.raises(vsf.PromptError, match=f"{name}= has no meaning"):
        tiny.call(pipe, **{name: torch.zeros(1, 77, 32)})


def test_an_attached_pipeline_gains_the_argument_where_it_has_none(plain, guided):
    class WithoutNegative(diffusers.StableDiffusion3Pipeline):
        def __call__(self, prompt, **settings):
            assert "negative_prompt" not in settings
            return super().__call__(prompt, **settings)

    host = tiny.sd3(WithoutNegative)
    vsf.attach(host, method=STRONG)
    assert torch.equal(tiny.call(host, negative_prompt="wheels"), guided)


def test_only_an_attached_pipeline_can_be_detached(pipe):
    with pytest.raises(vsf.NotGuidedError, match="is not attached"):
        vsf.detach(pipe)
    with vsf.guide(pipe, "wheels"), pytest.raises(vsf.NotGuidedError, match="is not attached"):
        vsf.detach(pipe)


def test_an_attached_pipeline_that_nobody_holds_any_more_is_freed():
    pipe = tiny.sd3()
    vsf.attach(pipe)
    tiny.call(pipe, negative_prompt="wheels")
    denoiser = weakref.ref(pipe.transformer)
    del pipe
    gc.collect()
    assert denoiser() is None


def test_a_run_without_a_negative_on_an_attached_pipeline_reports_none(pipe):
    report = vsf.attach(pipe)
    tiny.call(pipe, negative_prompt="wheels")
    assert report.tokens
    tiny.call(pipe)
    assert report.tokens == ()


def test_under_autocast_a_model_with_query_norm_is_guided(pipe, plain):
    with torch.autocast("cpu", dtype=torch.bfloat16), vsf.guide(pipe, negative_prompt="wheels"):
        guided = tiny.call(pipe)
    assert guided.isfinite().all()
    assert difference(guided, plain) > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_pipelines_are_guided_and_an_empty_negative_changes_nothing(dtype):
    pipe = tiny.sd3().to(dtype)
    prompts = ["a red car", "a house"]
    plain = tiny.call(pipe, prompts)
    with vsf.guide(pipe, negative_prompt=["wheels", ""]):
        guided = tiny.call(pipe, prompts)
    assert guided.isfinite().all()
    assert not torch.equal(guided[0], plain[0])
    assert torch.equal(guided[1], plain[1])
