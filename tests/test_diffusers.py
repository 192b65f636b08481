"""VSFGuider, the extension point of diffusers, against vsf.guide on the same weights."""

import json
import sys

import diffusers
import pytest
import torch
from diffusers import modular_pipelines

import vsf
from families.harness import STRONG, difference
from families.models import tiny_per_block_pipelines as tiny
from families.models import tiny_wan
from families.models.tiny_per_block import hunyuan_video
from support.tiny_pipelines import sd3_transformer
from vsf.diffusers import VSFGuider
from vsf.guidance import METHODS

KNOBS = {"scale": 2.0, "offset": 0.1}
PLAIN = {"guidance_scale": 1.0}


def video(pipe, **settings):
    size = {"height": 64, "width": 96, "num_frames": 5, "num_inference_steps": 2, "output_type": "latent"}
    settings = {"negative_prompt": "wheels", **size, **settings}
    return pipe("a red car", generator=torch.Generator().manual_seed(0), **settings)[0]


def guider_video(guider, **settings):
    return video(tiny.hunyuan_video15_pipeline(guider), **settings)


def guided_video(method, **settings):
    pipe = tiny.hunyuan_video15_pipeline(diffusers.ClassifierFreeGuidance(**PLAIN))
    with vsf.guide(pipe, "wheels", method=method):
        return video(pipe, **settings)


@pytest.fixture(scope="module")
def plain():
    return guider_video(diffusers.ClassifierFreeGuidance(**PLAIN))


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("none", "cfg")])
def test_the_guider_gives_the_numbers_of_guide(name, plain):
    knobs = KNOBS if name == "vsf" else {}
    got = guider_video(VSFGuider(name, knobs))
    assert difference(got, guided_video(vsf.method(name, **knobs))) <= 1e-6  # the encoder's padding is masked, not cut
    assert difference(got, plain) > 1e-4


def test_from_the_same_embeddings_the_guider_gives_the_same_numbers_to_the_last_bit():
    pipe = tiny.hunyuan_video15_pipeline(diffusers.ClassifierFreeGuidance(**PLAIN))
    with torch.no_grad():
        embeddings, mask, *_ = pipe.encode_prompt("wheels")
    with vsf.guide(pipe, negative=vsf.Negative.from_padded(embeddings, mask), method=STRONG):
        expected = video(pipe)
    assert torch.equal(guider_video(VSFGuider(knobs=KNOBS)), expected)


def test_an_infinite_offset_changes_nothing(plain):
    assert torch.equal(guider_video(VSFGuider(knobs={"offset": float("inf")})), plain)


def test_a_disabled_guider_changes_nothing(plain):
    assert torch.equal(guider_video(VSFGuider(enabled=False)), plain)


def test_start_and_stop_are_fractions_of_the_steps(plain):
    first = guider_video(VSFGuider(knobs=KNOBS, stop=0.5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VSFGuider, "_is_on", lambda guider: guider._step == 0)
        assert torch.equal(first, guider_video(VSFGuider(knobs=KNOBS)))
    assert difference(first, guider_video(VSFGuider(knobs=KNOBS))) > 1e-4
    assert difference(first, plain) > 1e-4


def picture(pipe, **settings):
    size = {"height": 128, "width": 192, "num_inference_steps": 2, "output_type": "latent"}
    return pipe("a red car", generator=torch.Generator().manual_seed(0), **size, **settings)[0]


def test_a_picture_is_guided_alike():
    pipe = tiny.hunyuan_image_pipeline()
    with vsf.guide(pipe, "wheels", method=STRONG):
        expected = picture(pipe)
    got = picture(tiny.hunyuan_image_pipeline(VSFGuider(knobs=KNOBS)), negative_prompt="wheels")
    assert difference(got, expected) <= 1e-6


def test_what_a_pipeline_fills_up_with_zeros_is_no_negative():
    case = tiny_wan.CASES[0]
    model, text, negative = case.model(), case.text(), case.text(7, seed=100)
    with vsf.guide(model, negative=vsf.Negative((negative[0],)), method=STRONG):
        expected = case.run(model, text)
    guider = VSFGuider(knobs=KNOBS)
    guider.prepare_inputs({"encoder_hidden_states": (text, torch.nn.functional.pad(negative, (0, 0, 0, 5)))})
    guider.prepare_models(model)
    assert torch.equal(case.run(model, text), expected)


def test_an_error_in_the_denoiser_leaves_nothing_behind():
    guider = VSFGuider()
    pipe = tiny.hunyuan_video15_pipeline(guider)
    before = type(pipe.transformer)
    handle = pipe.transformer.register_forward_pre_hook(_fail)
    with pytest.raises(ZeroDivisionError):
        video(pipe)
    assert type(pipe.transformer) is before
    handle.remove()
    video(pipe)


def _fail(*_):
    raise ZeroDivisionError


def test_the_configuration_can_be_saved_and_loaded(tmp_path):
    VSFGuider("nag", {"scale": 3.0}, stop=0.5).save_pretrained(tmp_path)
    loaded = VSFGuider.from_pretrained(tmp_path)
    assert (loaded.config.method, loaded.config.knobs, loaded.config.stop) == ("nag", {"scale": 3.0}, 0.5)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("none", "cfg")])
def test_the_scale_has_the_name_that_other_programs_pass(name):
    guider = VSFGuider(name, guidance_scale=2.0, guidance_rescale=0.0, start=0.25, stop=0.75)
    assert guider._method == vsf.method(name, scale=2.0)
    assert (guider._start, guider._stop) == (0.25, 0.75)


def test_a_modular_pipeline_is_saved_with_the_guider_and_loaded_by_its_config(tmp_path):
    VSFGuider("nag", guidance_scale=3.0, stop=0.5).save_pretrained(tmp_path / "guider")
    location = {"pretrained_model_name_or_path": str(tmp_path), "subfolder": "guider"}
    guider = modular_pipelines.ComponentSpec(name="guider", type_hint=VSFGuider, **location).load()
    pipe = modular_pipelines.WanBlocks().init_pipeline()
    pipe.update_components(guider=guider)
    pipe.save_pretrained(str(tmp_path))
    loaded = diffusers.ModularPipeline.from_pretrained(str(tmp_path))
    loaded.load_components(names=["guider"])
    assert isinstance(loaded.guider, VSFGuider)
    assert loaded.guider._method == vsf.method("nag", scale=3.0)
    assert loaded.guider.config.stop == 0.5


def test_without_the_import_the_error_names_it(tmp_path, monkeypatch):
    index = {"_class_name": "WanModularPipeline", "_blocks_class_name": "WanBlocks"}
    spec = {"type_hint": ["vsf.diffusers", "VSFGuider"], "pretrained_model_name_or_path": str(tmp_path)}
    index["guider"] = ["vsf.diffusers", "VSFGuider", spec]
    (tmp_path / "modular_model_index.json").write_text(json.dumps(index))
    monkeypatch.delitem(sys.modules, "vsf.diffusers")
    with pytest.raises(ValueError, match=r"import vsf\.diffusers before calling"):
        diffusers.ModularPipeline.from_pretrained(str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"guidance_rescale": 0.7}, vsf.KnobError, "nothing to rescale"),
        ({"knobs": {"scale": 1.0}, "guidance_scale": 2.0}, vsf.KnobError, "another name of the knob scale"),
        ({"method": "none", "guidance_scale": 2.0}, vsf.KnobError, "scale"),
        ({"guidance_scale": 99.0}, vsf.KnobError, "scale"),
        ({"method": "vsg"}, vsf.UnknownNameError, "vsg"),
        ({"knobs": {"strength": 1.0}}, vsf.KnobError, "strength"),
        ({"method": "cfg"}, vsf.KnobError, "ClassifierFreeGuidance"),
    ],
)
def test_what_the_guider_cannot_do_is_refused_when_it_is_made(arguments, error, text):
    with pytest.raises(error, match=text):
        VSFGuider(**arguments)


def test_a_negative_is_needed():
    guider = VSFGuider()
    guider.prepare_inputs({"encoder_hidden_states": (torch.zeros(1, 3, 16), None)})
    with pytest.raises(vsf.PromptError, match="pass negative_prompt="):
        guider.prepare_models(hunyuan_video())


def test_padding_that_no_mask_tells_from_words_is_refused():
    guider = VSFGuider()
    guider.prepare_inputs({"encoder_hidden_states": (torch.zeros(1, 3, 32), torch.ones(1, 3, 32))})
    with pytest.raises(vsf.PromptError, match="from padding"):
        guider.prepare_models(sd3_transformer())


def test_there_is_no_report_before_the_first_run():
    with pytest.raises(vsf.NotGuidedError, match="run the pipeline first"):
        VSFGuider().report  # noqa: B018
