"""What training exports is, for stock diffusers and transformers, the very model that was trained."""

import copy
import json
import random
import warnings

import pytest
import torch
from torch.nn import functional as F

from vsf.tiny import read
from vsf.tiny.collapse_padding import collapse_padding
from vsf.tiny.training import export
from vsf.tiny.training.autoencoder import CHANNELS, Autoencoder, write_principal_code
from vsf.tiny.training.denoiser import Denoiser
from vsf.tiny.training.losses import sample, step_grid
from vsf.tiny.training.tokens import LENGTH, Tokenizer
from vsf.tiny.world.captions import caption
from vsf.tiny.world.scenes import sample_scene
from vsf.tiny.world.words import WORDS

CODE = export.Code(0.03, 3.7)


@pytest.fixture(scope="module", params=[(2, (0, 0, 0, 0)), (3, (0, 1, 2, 0))], ids=["linear", "residual"])
def exported(request, tmp_path_factory):
    """Our networks with the weights that were written, and the pipeline that stock diffusers reads."""
    depth, encoder_blocks = request.param
    torch.manual_seed(0)
    denoiser, autoencoder = Denoiser(depth, Tokenizer()), Autoencoder(encoder_blocks)
    for parameter in denoiser.parameters():
        if not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.03)  # modulations and the output start at nothing
    folder = tmp_path_factory.mktemp("export") / "tiny-base"
    export.save(folder, denoiser, autoencoder, CODE, {"teacher": 123})
    code, progress = export.load(folder, denoiser, autoencoder)
    assert (code, progress) == (CODE, {"teacher": 123})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return denoiser.eval(), autoencoder.eval(), read(folder)


@pytest.fixture(scope="module")
def captions():
    rng = random.Random(0)
    return [*(caption(sample_scene(rng), rng) for _ in range(6)), ""]


def test_no_weight_is_missing_or_left_over(exported):
    denoiser, autoencoder, pipe = exported
    pairs = [(denoiser.transformer, pipe.transformer), (autoencoder, pipe.vae)]
    pairs += list(zip(denoiser.encoders, (pipe.text_encoder, pipe.text_encoder_2), strict=True))
    for ours, theirs in pairs:
        expected = {name for name in theirs.state_dict() if not name.endswith("position_ids")}
        assert set(ours.state_dict()) == expected


def test_tokens_are_those_of_the_stock_tokenizer(exported, captions):
    tokenizer = Tokenizer()
    options = {"padding": "max_length", "max_length": LENGTH, "truncation": True, "return_tensors": "pt"}
    theirs = exported[2].tokenizer(captions, **options).input_ids
    assert theirs.tolist() == [tokenizer(text) for text in captions]


def test_every_word_is_one_token(exported):
    for word in (*WORDS, ","):
        assert len(exported[2].tokenizer(word).input_ids) == 3, word


def encode(pipe, tokens):
    outputs = [encoder(tokens, output_hidden_states=True) for encoder in (pipe.text_encoder, pipe.text_encoder_2)]
    rows = torch.cat([output.hidden_states[-2] for output in outputs], -1)
    return rows, torch.cat([output.text_embeds for output in outputs], -1)


@torch.no_grad()
def test_velocity_is_that_of_a_plain_call_with_256_filler_rows(exported, captions):
    denoiser, _, pipe = exported
    tokens = torch.tensor([Tokenizer()(text) for text in captions])
    latents, sigma = torch.randn(len(tokens), CHANNELS, 16, 16), torch.rand(len(tokens))
    rows, pooled = encode(pipe, tokens)
    plain = pipe.transformer(latents, F.pad(rows, (0, 0, 0, 256)), pooled, sigma * 1000, return_dict=False)[0]
    torch.testing.assert_close(denoiser(latents, sigma, tokens), plain, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_velocity_of_bare_texts_is_that_of_their_words_alone(exported, captions):
    denoiser, _, pipe = exported
    tokenizer = Tokenizer()
    tokens = torch.tensor([tokenizer(text) for text in captions])
    latents, sigma = torch.randn(len(tokens), CHANNELS, 16, 16), torch.rand(len(tokens))
    rows, pooled = encode(pipe, tokens)
    ours = denoiser(latents, sigma, tokens, torch.ones(len(tokens), dtype=torch.bool))
    for index, row in enumerate(tokens):
        words = int((row == tokenizer.end).int().argmax()) + 1
        here = slice(index, index + 1)
        alone = pipe.transformer(latents[here], rows[here, :words], pooled[here], sigma[here] * 1000, return_dict=False)
        torch.testing.assert_close(ours[here], alone[0], atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_the_autoencoder_is_the_stock_one(exported):
    _, autoencoder, pipe = exported
    pixels, latents = torch.rand(2, 3, 128, 128) * 2 - 1, torch.randn(2, CHANNELS, 16, 16)
    torch.testing.assert_close(autoencoder.encoder(pixels), pipe.vae.encode(pixels).latents)
    torch.testing.assert_close(autoencoder.decoder(latents), pipe.vae.decode(latents).sample)


@pytest.mark.parametrize("steps", [2, 4, 8, 28])
def test_sigmas_are_the_schedulers(exported, steps):
    scheduler = exported[2].scheduler
    scheduler.set_timesteps(steps)
    torch.testing.assert_close(step_grid(steps), scheduler.sigmas)


@torch.no_grad()
def test_a_picture_of_the_stock_pipeline_is_our_sampler_s(exported, captions):
    denoiser, autoencoder, pipe = exported
    pipe.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 4, "guidance_scale": 0, "height": 128, "width": 128, "output_type": "pt"}
    theirs = pipe(captions[:2], generator=torch.Generator().manual_seed(0), **options).images
    noise = torch.randn(2, CHANNELS, 16, 16, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([Tokenizer()(text) for text in captions[:2]])
    latents = sample(lambda z, sigma: denoiser(z, sigma, tokens), 4, noise)
    ours = autoencoder.decoder(latents / CODE.scale + CODE.shift) / 2 + 0.5
    torch.testing.assert_close(ours.clamp(0, 1), theirs, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_collapsed_filler_rows_draw_the_same_picture_here_too(exported, captions):
    """One row for 256, with two-pixel patches: what `collapse_padding` does to the shipped models holds for these."""
    pipe = copy.deepcopy(exported[2])
    pipe.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 4, "guidance_scale": 3.0, "height": 128, "width": 128, "output_type": "pt"}
    pictures = []
    for _ in range(2):
        pictures.append(pipe(captions[:2], generator=torch.Generator().manual_seed(0), **options).images)
        collapse_padding(pipe)
    torch.testing.assert_close(pictures[0], pictures[1], atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("blocks", [(0, 0, 0, 0), (0, 1, 2, 0)])
def test_the_encoder_starts_as_the_principal_code_exactly(blocks):
    """Against a singular value decomposition of the patches in float64, which shares no code with it."""
    pixels = torch.rand(24, 3, 32, 32) * 2 - 1
    pixels[:, :, :, :16] = pixels[:, :, :1, :16]  # something to compress
    encoder = Autoencoder(blocks).encoder
    write_principal_code(encoder, pixels)
    codes = encoder(pixels).double()
    grid = pixels.double().reshape(24, 3, 4, 8, 4, 8).permute(0, 2, 4, 1, 3, 5).reshape(-1, 192)
    centred = grid - grid.mean(0)
    _, spreads, axes = torch.linalg.svd(centred, full_matrices=False)
    projected = centred @ axes[:16].T
    ours = codes.permute(0, 2, 3, 1).reshape(-1, 16)
    scales = ours.std(0) / projected.std(0)
    signs = (ours * projected).sum(0).sign()
    torch.testing.assert_close(ours, projected * scales * signs, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(scales / scales[0], (spreads[0] / spreads[:16]).sqrt(), atol=0, rtol=1e-3)


def test_an_export_is_whole_or_the_one_before(tmp_path, monkeypatch):
    """A run that is stopped while it exports leaves the older folder as it was."""
    denoiser, autoencoder = Denoiser(1, Tokenizer()), Autoencoder()
    folder = tmp_path / "tiny-base"
    export.save(folder, denoiser, autoencoder, CODE, {"teacher": 1})

    def stop(path, content):
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "_json", stop)
    with pytest.raises(KeyboardInterrupt):
        export.save(folder, denoiser, autoencoder, CODE, {"teacher": 2})
    assert json.loads((folder / export.PROGRESS).read_text()) == {"teacher": 1}
