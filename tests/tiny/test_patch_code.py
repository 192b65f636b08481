"""The encoder's convolutions compute the principal components of 8 x 8 patches, nothing else."""

import random

import pytest
import torch

from vsf.tiny import model, patch_code
from vsf.tiny.data import to_pixels
from vsf.tiny.renderer import render
from vsf.tiny.scenes import sample_scene


@pytest.fixture(scope="module")
def pixels():
    rng = random.Random(0)
    images = [torch.tensor(list(render(sample_scene(rng)).tobytes()), dtype=torch.uint8) for _ in range(64)]
    return to_pixels(torch.stack(images).reshape(-1, 64, 64, 3))


@pytest.fixture(scope="module")
def latents(pixels):
    vae = model.autoencoder()
    patch_code.write_encoder(vae, pixels)
    with torch.no_grad():
        return vae.encode(pixels).latents * vae.config.scaling_factor


def test_the_encoder_projects_each_patch_on_the_code(pixels, latents):
    rows, mean = patch_code.principal_code(pixels, 16)
    patch = pixels[5, :, 16:24, 40:48].reshape(-1)
    assert torch.allclose(latents[5, :, 2, 5], rows @ (patch - mean), atol=1e-4)


def test_the_code_keeps_as_much_of_the_patches_as_any_16_numbers_can(pixels, latents):
    """The squared error of the best linear read-out equals the sum of the discarded squared singular values."""
    cells = [(y, x) for y in range(8) for x in range(8)]
    patches = torch.cat([pixels[:, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].flatten(1) for y, x in cells]).double()
    codes = torch.cat([latents[:, :, y, x] for y, x in cells]).double()
    centred = patches - patches.mean(0)
    best = torch.linalg.svdvals(centred)[16:].square().sum()
    read_out = torch.linalg.lstsq(codes, centred).solution
    assert (centred - codes @ read_out).square().sum() == pytest.approx(best.item(), rel=1e-3)


def test_latents_have_about_unit_spread(latents):
    assert 0.8 < latents.std() < 1.2
    assert latents.mean().abs() < 0.05
