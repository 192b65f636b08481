"""Negatives for picture and sound apart."""

import pytest
import torch

import vsf
from families.harness import STRONG, call
from families.models import tiny_kandinsky6, tiny_ltx2, tiny_minimax_h3, tiny_wan
from vsf.families import find_family
from vsf.text.embeddings import Share

FAMILIES = {
    "ltx2": (tiny_ltx2, "transformer_blocks.0.attn2", "transformer_blocks.0.audio_attn2"),
    "kandinsky6": (
        tiny_kandinsky6,
        "visual_transformer_blocks.0.video_dec_block.cross_attention",
        "visual_transformer_blocks.0.audio_dec_block.cross_attention",
    ),
}
every_family = pytest.mark.parametrize("name", FAMILIES)


@pytest.fixture(scope="module")
def pipe():
    return tiny_ltx2.pipeline()


@pytest.fixture(scope="module")
def models():
    return {name: models.CASES[0].model() for name, (models, *_) in FAMILIES.items()}


def layer_outputs(name, models, shares=(), **options):
    """Return what the picture's and the sound's layer of the first block give, under negatives of three tokens each."""
    tiny, *layers = FAMILIES[name]
    return outputs(tiny.CASES[0], models[name], layers, shares, **options)


def outputs(case, model, layers, shares, **options):
    """Return what these layers give in one call."""
    seen = []
    handles = []
    for layer in layers:
        hook = model.get_submodule(layer).register_forward_hook(lambda module, args, output: seen.append(output))
        handles.append(hook)
    rows = torch.cat([case.text(3, seed=100 + number)[0] for number in range(len(shares))] or [torch.zeros(0, 1)])
    try:
        if shares:
            with vsf.guide(model, negative=vsf.Negative((rows,), shares=(shares,)), method=STRONG, **options):
                case.run(model, case.text())
        else:
            case.run(model, case.text())
    finally:
        for handle in handles:
            handle.remove()
    return seen


BOTH = (Share(3), Share(3, 0.5))


apart = pytest.mark.parametrize(
    ("shares", "options", "picture", "sound"),
    [
        ((Share(3, 1.0, 0.0),), {}, (Share(3),), ()),
        ((Share(3, 0.0, 1.0),), {}, (), (Share(3),)),
        ((Share(3, 1.0, 0.5), Share(3, 0.5, 2.0)), {}, BOTH, (Share(3, 0.5), Share(3, 2.0))),
        (BOTH, {"sound_strength": 0.0}, BOTH, ()),
        (BOTH, {}, BOTH, BOTH),
    ],
    ids=["picture alone", "sound alone", "two weights", "sound at strength 0", "both alike"],
)


@every_family
@apart
def test_layers_of_picture_and_sound_have_the_negatives_that_are_theirs(models, name, shares, options, picture, sound):
    of_picture, of_sound = layer_outputs(name, models, shares, **options)
    for output, place, alone in ((of_picture, 0, picture), (of_sound, 1, sound)):
        expected = layer_outputs(name, models, alone)[place]
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)
        if not alone:
            assert torch.equal(output, expected)
        else:
            assert not torch.allclose(output, layer_outputs(name, models)[place], atol=1e-4)


@every_family
def test_the_sound_has_a_strength_of_its_own(models, name):
    plain, full = layer_outputs(name, models), layer_outputs(name, models, BOTH)
    half = layer_outputs(name, models, BOTH, sound_strength=0.5)
    assert torch.equal(half[0], full[0])
    assert not torch.allclose(half[1], full[1], atol=1e-4)
    assert not torch.allclose(half[1], plain[1], atol=1e-4)


@every_family
def test_a_time_is_the_picture_s_and_the_sound_is_guided_all_along(models, name):
    full = layer_outputs(name, models, BOTH)
    picture, sound = layer_outputs(name, models, BOTH, frames=(0, 1))
    assert torch.equal(sound, full[1])
    assert not torch.allclose(picture, full[0], atol=1e-4)


def shared_outputs(model, shares=(), **options):
    """Return what the first block of MiniMax-H3 gives for the picture's tokens and for the sound's."""
    case = tiny_minimax_h3.CASES[1]  # key frames stand between text and sound
    frames, height, width, length, _, channels = tiny_minimax_h3.CLIP
    clip, sound = frames * height * width // 4, length * channels
    (output,) = outputs(case, model, ["transformer_blocks.0.attn"], shares, **options)
    return output[:, -clip:], output[:, -clip - sound : -clip]


@apart
def test_sound_that_shares_layers_with_the_picture_has_negatives_of_its_own(shares, options, picture, sound):
    model = tiny_minimax_h3.CASES[1].model()
    plain = shared_outputs(model)
    outputs = shared_outputs(model, shares, **options)
    for output, place, alone in ((outputs[0], 0, picture), (outputs[1], 1, sound)):
        torch.testing.assert_close(output, shared_outputs(model, alone)[place], rtol=1e-5, atol=1e-6)
        assert torch.equal(output, plain[place]) == (not alone)


def test_a_mask_and_a_strength_of_the_sound_go_together():
    model = tiny_minimax_h3.CASES[1].model()
    plain = shared_outputs(model)
    half = shared_outputs(model, BOTH, sound_strength=0.5)
    of_picture, of_sound = shared_outputs(model, BOTH, sound_strength=0.5, mask=torch.zeros(2, 3))
    assert torch.equal(of_picture, plain[0])
    torch.testing.assert_close(of_sound, half[1], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(of_sound, plain[1], atol=1e-4)


def test_a_whole_run_with_the_same_negatives_for_both_is_the_ordinary_one(pipe):
    settings = {**tiny_ltx2.SETTINGS, "num_inference_steps": 1}
    outputs = []
    for options in ({}, {"sound": "wheels"}, {"sound": "music"}):
        with vsf.guide(pipe, "wheels", method=STRONG, **options):
            outputs.append(call(pipe, "a red car", **settings))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_two_weights_are_encoded_for_each_negative(pipe):
    negative = vsf.encode(pipe, {"subtitles": 1.0, "noise": 0.5}, sound={"music": 2.0, "noise": 0.25})
    assert negative.texts == (("subtitles", "noise", "music"),)
    assert [share[1:] for share in negative.shares[0]] == [(1.0, 0.0), (0.5, 0.25), (0.0, 2.0)]
    rows = negative.rows([0, None], like=torch.zeros(2, 1, negative.embeddings[0].shape[1]))
    assert rows.weights.tolist() == [[1.0, 0.5, 0.0], [1.0, 1.0, 1.0]]
    assert rows.sound_weights.tolist() == [[0.0, 0.25, 2.0], [1.0, 1.0, 1.0]]


def test_a_negative_with_two_weights_keeps_them_when_it_is_stripped_and_joined(pipe):
    negative = vsf.encode(pipe, "wheels", sound="music")
    assert [share[1:] for share in negative.stripped().shares[0]] == [(1.0, 0.0), (0.0, 1.0)]
    joined = vsf.Negative.joined([(negative, 0.5)])
    assert [share[1:] for share in joined.shares[0]] == [(0.5, 0.0), (0.0, 0.5)]
    assert not negative.is_plain


def test_a_negative_that_weighs_nothing_anywhere_is_refused():
    with pytest.raises(vsf.PromptError, match="weights are above 0"):
        vsf.Negative((torch.zeros(2, 4),), shares=((Share(2, 0.0, 0.0),),))


def test_where_sound_has_no_layers_it_is_refused_by_name():
    pipe = tiny_wan.pipeline()
    assert not find_family(pipe).has_sound
    for options in ({"sound": "music"}, {"sound_strength": 0.5}):
        refused = pytest.raises(vsf.KnobError, match="no attention layer of wan is for sound alone")
        with refused, vsf.guide(pipe, "wheels", **options):
            pass


def test_a_strength_of_the_sound_out_of_its_range_is_refused(pipe):
    refused = pytest.raises(vsf.KnobError, match="sound_strength is a number from 0 to 1, got 2")
    with refused, vsf.guide(pipe, "wheels", sound_strength=2):
        pass


def test_a_strength_of_the_sound_is_refused_with_a_method_that_leaves_the_sound_alone(pipe):
    refused = pytest.raises(vsf.KnobError, match='method "cfg" mixes pictures alone')
    with refused, vsf.guide(pipe, "wheels", method="cfg", sound_strength=0.5):
        pass


def test_as_many_prompts_for_the_sound_as_for_the_picture(pipe):
    with pytest.raises(vsf.PromptError, match="2 negatives of the picture and 3 of the sound"):
        vsf.encode(pipe, ["a", "b"], sound=["a", "b", "c"])
