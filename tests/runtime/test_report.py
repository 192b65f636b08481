"""What the report says a guided run did."""

import math

import pytest
import torch

import vsf
import vsf.families
from support import tiny_pipelines as tiny
from support.every_method import EVERY_METHOD, STRONG
from vsf.guidance import AttentionPlan
from vsf.runtime.report import UNSEEN, Report

IMAGES = 64


@pytest.fixture
def pipe():
    return tiny.sd3()


class Attentions:
    """Every guided attention call, computed again densely: mass on each negative token, and the relative change."""

    def __init__(self, monkeypatch):
        self.mass, self.change, real = [], [], AttentionPlan._attend

        def watching(plan, call, *rest):
            out = real(plan, call, *rest)
            rows = call.plan
            query, key, value = (x.double() for x in (call.query, call.key, call.value))
            positive, negatives, images = rows.layout.count(["positive"]), rows.layout.negative_lengths, IMAGES
            logits = query[:, :, :images] @ key.transpose(2, 3) / query.shape[-1] ** 0.5
            host = logits[..., : images + positive].softmax(-1) @ value[:, :, : images + positive]
            if rows.control.weights is not None:
                logs = rows.control.weights.double().log().repeat_interleave(torch.tensor(negatives), 1)
                logits[..., images + positive :] += logs[:, None, None]
            if rows.valid is not None:
                logits[..., images + positive :] += torch.where(rows.valid, 0.0, -torch.inf)[:, None, None]
            shares = logits.softmax(-1)[..., images + positive :].mean(1)
            self.mass.append(torch.stack([part.sum(-1) for part in shares.split(negatives, -1)], 1))
            moved = (out[:, :, :images] - host).flatten(1).norm(dim=1)
            self.change.append(moved / host.flatten(1).norm(dim=1))
            return out

        monkeypatch.setattr(AttentionPlan, "_attend", watching)


@EVERY_METHOD
def test_the_report_agrees_with_a_dense_computation(pipe, monkeypatch, method):
    dense = Attentions(monkeypatch)
    with vsf.guide(pipe, {"wheels": 0.5, "a leaf": 2.0}, method=method, observe=True) as report:
        tiny.call(pipe, num_inference_steps=3)
    assert report.tokens == (16, 15)
    expected = torch.stack([mass[0].mean(-1) for mass in dense.mass]).reshape(3, 2, 2)
    torch.testing.assert_close(report.mass().double(), expected, rtol=1e-4, atol=1e-7)
    expected = torch.stack([change[0] for change in dense.change]).reshape(3, 2)
    torch.testing.assert_close(report.change().double(), expected, rtol=1e-3, atol=1e-6)
    for number in (0, 1):
        heat = torch.stack([mass[0, number] for mass in dense.mass]).mean(0).reshape(8, 8)
        torch.testing.assert_close(report.heat_map(number).double(), heat, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("guidance_scale", [0.0, 3.0], ids=["alone", "with cfg"])
def test_each_prompts_negatives_are_reported_from_its_own_rows(pipe, guidance_scale):
    negatives = [{"wheels": 0.5, "hat": 2.0}, "", "a long green leaf"]
    prompts, latents = ["a red car", "a hat", "two old trees"], torch.randn(6, 4, 8, 8)
    settings = {"guidance_scale": guidance_scale, "num_images_per_prompt": 2, "num_inference_steps": 1}
    with vsf.guide(pipe, negatives, method=STRONG, observe=True) as report:
        tiny.call(pipe, prompts, latents=latents, **settings)
    assert report.tokens == (16, 10, 0, 35)
    own = []
    for index, numbers in [(0, [0, 1]), (2, [3])]:
        with vsf.guide(pipe, negatives[index], method=STRONG, observe=True) as alone:
            tiny.call(pipe, prompts[index], latents=latents[2 * index : 2 * index + 2], **settings)
        torch.testing.assert_close(report.mass()[..., numbers], alone.mass(), rtol=1e-4, atol=1e-6)
        for at, number in enumerate(numbers):
            torch.testing.assert_close(report.heat_map(number), alone.heat_map(at), rtol=1e-4, atol=1e-6)
        own.append(alone.change())
    torch.testing.assert_close(report.change(), (own[0] + own[1]) / 2, rtol=1e-4, atol=1e-6)
    assert bool(report.mass()[..., 2].isnan().all())  # an empty negative is not guided


def test_the_reference_layout_is_reported_too(pipe):
    negatives, method = ["wheels", "a hat"], vsf.ValueSignFlip(scale=2.0, layout="reference")
    with vsf.guide(pipe, negatives, method=method, observe=True) as report:
        tiny.call(pipe, ["a red car", "a tree"])
    assert report.mass().shape == (2, 2, 2)
    assert bool((report.mass() > UNSEEN).all())
    assert report.heat_map(1).shape == (8, 8)


def test_a_heat_map_is_averaged_over_steps_and_layers(pipe):
    with vsf.guide(pipe, "wheels", method=STRONG, observe=True) as report:
        tiny.call(pipe)
    assert float(report.heat_map().mean()) == pytest.approx(float(report.mass().mean()), rel=1e-5)


def test_a_report_tells_of_the_latest_run(pipe):
    with vsf.guide(pipe, "wheels", method=STRONG, observe=True) as report:
        tiny.call(pipe, height=16)
        tiny.call(pipe, num_inference_steps=1)
    assert report.steps == 3
    assert report.mass().shape == (1, 2, 1)
    assert report.heat_map().shape == (8, 8)


def test_a_denoiser_on_its_own_is_reported(pipe):
    inputs = {"encoder_hidden_states": torch.randn(2, 5, 32), "pooled_projections": torch.randn(2, 32)}
    with torch.no_grad(), vsf.guide(pipe.transformer, negative=vsf.encode(pipe, "wheels"), observe=True) as report:
        for height in (8, 4):
            pipe.transformer(torch.randn(2, 4, height, 8), timestep=torch.tensor([500.0]), **inputs)
    assert report.mass().shape == (2, 2, 1)
    assert report.heat_map().shape == (4, 8)


def test_the_report_says_in_words_what_happened(pipe):
    with vsf.guide(pipe, {"wheels": 1.0, "hat": 1e-30}, method=STRONG, observe=True) as report:
        tiny.call(pipe)
    text = str(report)
    assert f"output changed by {float(report.change().mean()):.1%}" in text
    assert f"negative 0 got {float(report.mass()[..., 0].mean()):.2%} of the attention" in text
    assert "negative 1 NEVER GOT ATTENTION" in text
    assert text.endswith(" s")
    assert report.seconds > 0


def test_the_report_says_when_nothing_changed(pipe):
    with vsf.guide(pipe, "wheels", method=vsf.ValueSignFlip(offset=math.inf), observe=True) as report:
        tiny.call(pipe)
    assert "THE OUTPUT NEVER CHANGED" in str(report)


def test_what_gradients_hide_is_said_to_be_hidden():
    model = tiny.sd3_transformer()
    inputs = {"encoder_hidden_states": torch.randn(1, 5, 32), "pooled_projections": torch.randn(1, 32)}
    with vsf.guide(model, negative=vsf.Negative((torch.randn(3, 32),)), observe=True) as report:
        model(torch.randn(1, 4, 8, 8), timestep=torch.tensor([500.0]), **inputs)
    assert "could not be observed" in str(report)
    assert bool(report.mass().isnan().all())
    with pytest.raises(vsf.NotGuidedError, match="was observed"):
        report.heat_map()


def test_a_heat_map_of_a_negative_that_is_not_there_is_refused(pipe):
    with vsf.guide(pipe, {"wheels": 1.0, "hat": 1.0}, observe=True) as report:
        tiny.call(pipe)
    for number in (2, -1):
        with pytest.raises(vsf.PromptError, match="numbered 0 to 1"):
            report.heat_map(number)


@pytest.mark.parametrize("ask", [Report.mass, Report.change, Report.heat_map])
def test_what_nobody_asked_to_observe_is_refused_and_not_told_as_nothing(pipe, ask):
    with vsf.guide(pipe, "wheels", method=STRONG) as report:
        tiny.call(pipe)
    assert report.calls == 4
    assert "attention not observed" in str(report)
    assert not any(word in str(report) for word in ("NEVER", "0.0%", "changed"))
    with pytest.raises(vsf.NotGuidedError, match="pass observe=True to vsf"):
        ask(report)


def test_observing_changes_no_picture(pipe):
    pictures = []
    for observe in (False, True):
        with vsf.guide(pipe, "wheels", method=STRONG, observe=observe):
            pictures.append(tiny.call(pipe))
    assert torch.equal(*pictures)


def test_an_attached_pipeline_observes_from_when_it_is_asked_to(pipe):
    report = vsf.attach(pipe, method=STRONG)
    tiny.call(pipe, negative_prompt="wheels")
    assert not report.observes
    vsf.attach(pipe, method=STRONG, observe=True)
    tiny.call(pipe, negative_prompt="wheels")
    assert float(report.mass().min()) > UNSEEN
    vsf.attach(pipe, method=vsf.ValueSignFlip(scale="auto"))
    tiny.call(pipe, negative_prompt="wheels")
    assert float(report.mass().min()) > UNSEEN


def test_a_run_that_is_not_observed_does_not_ask_where_image_tokens_lie(pipe, monkeypatch):
    """Reading that off positions waits for the device in some families."""
    monkeypatch.setattr(vsf.families.FAMILIES["sd3"], "grid", None)
    with vsf.guide(pipe, "wheels", method=STRONG) as report:
        tiny.call(pipe)
    assert report.steps == 2
