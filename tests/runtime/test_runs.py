"""Whose call is it: threads, pipelines inside of pipelines, and parts that several of them share."""

import threading
from functools import partial

import diffusers
import pytest
import torch
from peft import LoraConfig, get_peft_model

import vsf
from families.models import tiny_flux, tiny_unet, tiny_wan
from support import tiny_pipelines as tiny

STRONG = vsf.ValueSignFlip(scale=2.0, offset=0.1)
NAG = vsf.NormalizedAttentionGuidance()
ENCODERS = ("tokenizer", "tokenizer_2", "tokenizer_3", "text_encoder", "text_encoder_2", "text_encoder_3")
WAN = {**tiny_wan.SETTINGS, **tiny_wan.TEXT, "num_frames": 1}
BUILDS = {
    "sd3": (tiny.sd3, tiny.SETTINGS),
    "flux": (tiny_flux.pipeline, tiny_flux.SETTINGS),
    "wan": (tiny_wan.pipeline, WAN),
    "sdxl": (tiny_unet.pipeline_xl, tiny_unet.SETTINGS),
}


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


def another(pipe):
    """Another pipeline with the same parts, but for its scheduler."""
    other = type(pipe)(**{**pipe.components, "scheduler": type(pipe.scheduler).from_config(pipe.scheduler.config)})
    other.set_progress_bar_config(disable=True)
    return other


def given_as_embeddings(pipe):
    """The prompt read before: a tokenizer that two threads share may not be used at once where nothing is guided."""
    with torch.no_grad():
        text, _, pooled, _ = pipe.encode_prompt(
            "a red car", None, None, do_classifier_free_guidance=False, max_sequence_length=24
        )
    return {"prompt_embeds": text, "pooled_prompt_embeds": pooled}


def run(pipe, settings, prompt="a red car", seed=0):
    found = pipe(prompt=prompt, generator=torch.Generator().manual_seed(seed), **settings)
    return next(iter(found.values()))


def in_threads(*works):
    """Start all at once, and return for each what it returned or raised."""
    start, results = threading.Barrier(len(works)), [None] * len(works)

    def do(number, work):
        start.wait()
        try:
            results[number] = work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
            results[number] = error

    threads = [threading.Thread(target=do, args=each) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# Another pipeline with the same denoiser --------------------------------------------------------------------------


def calls(other, outputs):
    def callback(host, step, timestep, tensors):
        outputs.append(tiny.call(other))
        return tensors

    return callback


def test_a_pipeline_called_in_a_callback_of_an_attached_one_is_not_guided(pipe, plain, guided):
    outputs = []
    vsf.attach(pipe, method=STRONG)
    around = tiny.call(pipe, negative_prompt="wheels", callback_on_step_end=calls(another(pipe), outputs))
    assert torch.equal(around, guided)
    assert len(outputs) == 2
    assert all(torch.equal(output, plain) for output in outputs)


def test_a_pipeline_called_in_a_callback_inside_of_guide_is_refused(pipe):
    with vsf.guide(pipe, "wheels"), pytest.raises(vsf.NotGuidedError, match="not by the pipeline that is guided"):
        tiny.call(pipe, callback_on_step_end=calls(another(pipe), []))


def test_a_pipeline_called_by_a_scheduler_of_an_attached_one_is_not_guided(pipe, plain, guided):
    """It is no parameter of the pipeline's call, so that looking at callbacks alone would miss it."""
    other, outputs = another(pipe), []

    class Nosy(type(pipe.scheduler)):
        def step(self, *args, **kwargs):
            outputs.append(tiny.call(other))
            return super().step(*args, **kwargs)

    pipe.scheduler = Nosy.from_config(pipe.scheduler.config)
    vsf.attach(pipe, method=STRONG)
    assert torch.equal(tiny.call(pipe, negative_prompt="wheels"), guided)
    assert len(outputs) == 2
    assert all(torch.equal(output, plain) for output in outputs)


def test_the_denoiser_called_from_inside_of_its_own_guided_call_is_refused(pipe):
    pipe.transformer.pos_embed.register_forward_hook(lambda *_: tiny.call(other))
    other = another(pipe)
    vsf.attach(pipe)
    with pytest.raises(vsf.AlreadyGuidedError, match="another call of this denoiser is in flight"):
        tiny.call(pipe, negative_prompt="wheels")


def test_a_pipeline_made_of_pipelines_is_an_error_rather_than_guided_by_chance(pipe):
    class Both(diffusers.StableDiffusion3Pipeline):
        def __call__(self, *args, **kwargs):
            return self.first(*args, **kwargs)

    both = Both(**pipe.components)
    both.first = pipe
    with vsf.guide(both, "wheels"), pytest.raises(vsf.NotGuidedError, match="not by the pipeline that is guided"):
        tiny.call(both)


def test_an_attached_pipeline_may_call_itself(pipe, plain, guided):
    outputs = []

    def callback(host, step, timestep, tensors):
        if not outputs:
            scheduler, host.scheduler = host.scheduler, type(host.scheduler).from_config(host.scheduler.config)
            outputs.extend([None, tiny.call(host), tiny.call(host, negative_prompt="wheels")])
            host.scheduler = scheduler
        return tensors

    vsf.attach(pipe, method=STRONG)
    assert torch.equal(tiny.call(pipe, negative_prompt="wheels", callback_on_step_end=callback), guided)
    assert torch.equal(outputs[1], plain)
    assert torch.equal(outputs[2], guided)


def test_another_pipeline_in_another_thread_is_not_guided_while_an_attached_one_runs(pipe, plain, guided):
    other, embedded = another(pipe), given_as_embeddings(pipe)
    vsf.attach(pipe, method=STRONG)
    first, second = in_threads(
        lambda: [tiny.call(pipe, negative_prompt="wheels") for _ in range(5)],
        lambda: [tiny.call(other, None, **embedded) for _ in range(10)],
    )
    assert all(torch.equal(output, guided) for output in first)
    assert all(torch.equal(output, plain) for output in second)


def test_a_call_that_another_thread_began_before_is_not_guided(pipe, plain, guided):
    """It meets layers that stand in for the model's own, and has none of the negatives."""
    other, embedded = another(pipe), given_as_embeddings(pipe)
    inside, go_on, done = threading.Event(), threading.Event(), threading.Event()
    main, blocks = threading.get_ident(), pipe.transformer.transformer_blocks

    def wait(module, args):
        if threading.get_ident() != main and not inside.is_set():
            inside.set()
            go_on.wait()

    def release(module, args):
        if threading.get_ident() == main and not go_on.is_set():
            go_on.set()
            done.wait()

    blocks[0].register_forward_pre_hook(wait)
    blocks[1].register_forward_pre_hook(release)
    pipe.transformer.register_forward_hook(lambda *_: done.set() if threading.get_ident() != main else None)
    outputs = []
    thread = threading.Thread(target=lambda: outputs.append(tiny.call(other, None, **embedded)))
    thread.start()
    inside.wait()
    vsf.attach(pipe, method=STRONG)
    assert torch.equal(tiny.call(pipe, negative_prompt="wheels"), guided)
    thread.join()
    assert torch.equal(outputs[0], plain)


def test_one_attached_pipeline_in_two_threads_is_refused_in_one(pipe, guided):
    inside, go_on = threading.Event(), threading.Event()

    def callback(host, step, timestep, tensors):
        inside.set()
        go_on.wait()
        return tensors

    def second():
        inside.wait()
        try:
            return tiny.call(pipe, negative_prompt="wheels")
        finally:
            go_on.set()

    vsf.attach(pipe, method=STRONG)
    first, other = in_threads(lambda: tiny.call(pipe, negative_prompt="wheels", callback_on_step_end=callback), second)
    assert torch.equal(first, guided)
    assert isinstance(other, vsf.AlreadyGuidedError)
    assert "one guided pipeline per thread" in str(other)


def test_two_calls_of_a_compiled_denoiser_never_meet_when_one_is_guided(pipe):
    other, inside, go_on = another(pipe), threading.Event(), threading.Event()
    pipe.transformer.compile(backend="eager")

    def wait(module, args):
        inside.set()
        go_on.wait()

    def second():
        inside.wait()
        try:
            return tiny.call(other)
        finally:
            go_on.set()

    vsf.attach(pipe)
    pipe.transformer.register_forward_pre_hook(torch.compiler.disable(wait))
    _, refused = in_threads(lambda: tiny.call(pipe, negative_prompt="wheels"), second)
    assert isinstance(refused, vsf.AlreadyGuidedError)
    assert "in flight" in str(refused)


# Threads that enter, run and leave ------------------------------------------------------------------------------


def guide_and_run(pipe, settings, negative, method, seed):
    with vsf.guide(pipe, negative, method=method):
        return run(pipe, settings, seed=seed)


def assert_two_threads_do_not_meet(name, rounds):
    build, settings = BUILDS[name]
    first, second = build(), build()
    for encoder in ENCODERS:
        if hasattr(first, encoder):
            setattr(second, encoder, getattr(first, encoder))
    jobs = [(first, settings, "wheels", STRONG, 1), (second, settings, "an old tree", NAG, 2)]
    works = [partial(guide_and_run, *job) for job in jobs]
    expected = [work() for work in works]
    plain = run(first, settings)
    for _ in range(rounds):
        got = in_threads(*works)
        assert all(torch.equal(*pair) for pair in zip(got, expected, strict=True))
    assert torch.equal(run(first, settings), plain)


def assert_one_denoiser_is_guided_once(name, rounds, *, same):
    build, settings = BUILDS[name]
    first = build()
    second = first if same else another(first)
    jobs = [(first, settings, "wheels", STRONG, 1), (second, settings, "an old tree", NAG, 2)]
    works = [partial(guide_and_run, *job) for job in jobs]
    expected = [work() for work in works]
    plain, classes = run(first, settings), [type(part) for part in vars(first).values()]
    for _ in range(rounds):
        got = in_threads(*works)
        finished = [
            isinstance(output, torch.Tensor) and torch.equal(output, expected[at]) for at, output in enumerate(got)
        ]
        assert any(finished)
        assert all(
            done or isinstance(output, vsf.AlreadyGuidedError) for done, output in zip(finished, got, strict=True)
        )
        assert [type(part) for part in vars(first).values()] == classes
    assert torch.equal(run(first, settings), plain)


@pytest.mark.parametrize("name", BUILDS)
def test_two_threads_with_shared_encoders_get_what_each_gets_alone(name):
    assert_two_threads_do_not_meet(name, 3)


@pytest.mark.parametrize("same", [True, False], ids=["one pipeline", "two pipelines"])
@pytest.mark.parametrize("name", BUILDS)
def test_of_two_threads_with_one_denoiser_one_is_guided_and_the_other_told(name, same):
    assert_one_denoiser_is_guided_once(name, 3, same=same)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", BUILDS)
def test_two_threads_do_not_meet_in_two_hundred_rounds(name):
    assert_two_threads_do_not_meet(name, 200)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", BUILDS)
def test_one_denoiser_is_guided_by_one_thread_at_a_time_in_two_hundred_rounds(name):
    assert_one_denoiser_is_guided_once(name, 100, same=True)
    assert_one_denoiser_is_guided_once(name, 100, same=False)


def test_encoding_in_one_thread_leaves_what_an_attached_pipeline_reads_in_another_alone(pipe):
    """The stand-in for a tokenizer's call leaves padding out, which a pipeline in another thread wants."""
    other = tiny.sd3()
    for encoder in ENCODERS:
        setattr(other, encoder, getattr(pipe, encoder))
    once, rows = tiny.call(other, num_inference_steps=1), vsf.encode(pipe, "wheels").embeddings[0]
    vsf.attach(other)
    drawn, encoded = in_threads(
        lambda: [tiny.call(other, num_inference_steps=1) for _ in range(20)],
        lambda: [vsf.encode(pipe, "wheels").embeddings[0] for _ in range(60)],
    )
    assert all(torch.equal(picture, once) for picture in drawn)
    assert all(torch.equal(got, rows) for got in encoded)


# A denoiser that was replaced or wrapped ------------------------------------------------------------------------


def test_a_denoiser_replaced_after_attach_is_named(pipe, plain):
    vsf.attach(pipe)
    pipe.transformer = torch.compile(pipe.transformer, backend="eager")
    with pytest.raises(vsf.NotGuidedError, match=r"pipe\.transformer was replaced after the pipeline was guided"):
        tiny.call(pipe, negative_prompt="wheels")
    assert torch.equal(tiny.call(pipe), plain)
    vsf.detach(pipe)
    with vsf.guide(pipe, "wheels"):
        assert not torch.equal(tiny.call(pipe), plain)


def test_a_denoiser_inside_of_a_wrapper_is_named_and_what_to_do(pipe, guided):
    wrapped = get_peft_model(pipe.transformer, LoraConfig(target_modules=["to_k"], init_lora_weights=True))
    pipe.transformer = wrapped
    expected = "transformer is a PeftModel around a SD3Transformer2DModel"
    with pytest.raises(vsf.UnsupportedPipelineError, match=expected), vsf.guide(pipe, "wheels"):
        pass
    pipe.transformer = pipe.transformer.get_base_model()
    with vsf.guide(pipe, "wheels", method=STRONG):
        assert torch.equal(tiny.call(pipe), guided)  # a new LoRA adds zeros
    vsf.attach(pipe, method=STRONG)
    pipe.transformer = wrapped
    with pytest.raises(vsf.NotGuidedError, match=r"pipe\.transformer was replaced"):
        tiny.call(pipe, negative_prompt="wheels")
