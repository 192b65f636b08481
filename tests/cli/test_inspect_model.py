"""`vsf doctor MODEL`: supported, refused and unknown models."""

import json

import pytest

from families.models import tiny_per_block_pipelines as tiny
from families.models import tiny_unet


@pytest.fixture(scope="session")
def known(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "lumina"
    tiny.lumina2_pipeline().save_pretrained(path)
    for weights in path.rglob("*.safetensors"):
        weights.unlink()  # they are not needed
    return path


def written(path, pipeline, denoiser, config, component="transformer"):
    """A folder with nothing but its descriptions."""
    index = {"_class_name": pipeline, component: ["diffusers", denoiser], "vae": [None, None]}
    (path / component).mkdir(parents=True)
    (path / "model_index.json").write_text(json.dumps(index))
    (path / component / "config.json").write_text(json.dumps({"_class_name": denoiser, **config}))
    return path


def test_a_known_model_is_told_with_the_layers_that_would_be_guided(vsf, known):
    code, out, err = vsf("doctor", known, "--json")
    (denoiser,) = json.loads(out)
    assert (code, err) == (0, "")
    assert (denoiser["pipeline"], denoiser["denoiser"]) == ("Lumina2Pipeline", "Lumina2Transformer2DModel")
    assert (denoiser["family"], denoiser["guided"]) == ("lumina2", True)
    layers = {"pattern": "layers.#.attn", "count": 2, "processor": "Lumina2AttnProcessor2_0", "obstacle": ""}
    assert denoiser["layers"] == [layers]
    code, out, _ = vsf("doctor", known)
    assert code == 0
    assert "layers.#.attn" in out
    assert "It can be guided." in out


def test_an_unknown_model_is_told_with_what_a_family_needs(vsf, tmp_path):
    sizes = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 3, "sample_size": 8}
    folder = written(tmp_path / "m", "DiTPipeline", "DiTTransformer2DModel", sizes)
    code, out, _ = vsf("doctor", folder, "--json")
    (denoiser,) = json.loads(out)
    assert (code, denoiser["family"], denoiser["guided"]) == (1, "", False)
    found = {layers["pattern"]: layers["count"] for layers in denoiser["layers"]}
    assert found == {"transformer_blocks.#.attn1": 3}
    assert "class_labels" in denoiser["arguments"]
    assert "add-a-family.md" in denoiser["missing"]
    code, out, _ = vsf("doctor", folder)
    assert code == 1
    assert "It cannot be guided: no family knows DiTTransformer2DModel" in out


def test_a_refused_pipeline_is_told_with_the_reason(vsf, tmp_path):
    config = {"in_channels": 4, "dim": 32, "n_layers": 1, "n_heads": 2, "n_kv_heads": 2, "axes_dims": [8, 4, 4]}
    folder = written(tmp_path / "m", "ZImageOmniPipeline", "ZImageTransformer2DModel", config)
    code, out, _ = vsf("doctor", folder, "--json")
    (denoiser,) = json.loads(out)
    assert code == 1
    assert denoiser["family"] == "z_image"
    assert "several texts" in denoiser["missing"]


@pytest.mark.parametrize(
    ("pipeline", "family"),
    [("StableDiffusionXLPipeline", "unet"), ("KolorsPipeline", "kolors"), ("MyPipeline", "unet")],
)
def test_families_that_share_a_denoiser_are_told_apart_by_the_pipeline(vsf, tmp_path, pipeline, family):
    folder = written(tmp_path / "m", pipeline, "UNet2DConditionModel", tiny_unet.SIZES, "unet")
    code, out, _ = vsf("doctor", folder, "--json")
    (denoiser,) = json.loads(out)
    assert (code, denoiser["family"]) == (0, family)


@pytest.mark.parametrize(
    ("pipeline", "changes", "reason"),
    [
        ("StableDiffusionPanoramaPipeline", {}, "it is deprecated in diffusers"),
        ("StableDiffusionPAGPipeline", {}, "without perturbed attention"),
        ("StableDiffusionPipeline", {"cross_attention_norm": "group_norm"}, "normalises all text tokens together"),
    ],
)
def test_what_keeps_a_model_of_a_known_family_from_being_guided_is_told(vsf, tmp_path, pipeline, changes, reason):
    folder = written(tmp_path / "m", pipeline, "UNet2DConditionModel", {**tiny_unet.SIZES, **changes}, "unet")
    code, out, _ = vsf("doctor", folder, "--json")
    (denoiser,) = json.loads(out)
    assert (code, denoiser["family"], denoiser["guided"]) == (1, "unet", False)
    assert reason in denoiser["missing"]


@pytest.mark.parametrize(
    ("name", "family", "guided"),
    [
        ("WanPipeline", "wan", True),
        ("KolorsPipeline", "kolors", True),
        ("tiny", "sd3", True),
        ("HunyuanVideoImageToVideoPipeline", "hunyuan_video", False),
        ("DiTPipeline", "", False),
    ],
)
def test_a_pipeline_is_told_by_its_class_and_an_embedded_model_by_its_name(vsf, name, family, guided):
    code, out, _ = vsf("doctor", name, "--json")
    (denoiser,) = json.loads(out)
    assert (code, denoiser["family"], denoiser["guided"]) == (int(not guided), family, guided)
    assert denoiser["layers"]


@pytest.mark.parametrize(
    ("name", "words"), [("HiDreamImagePipeline", "give the folder"), ("NoPipeline", "no pipeline class of diffusers")]
)
def test_what_cannot_be_told_by_its_name_is_refused(vsf, name, words):
    code, _, err = vsf("doctor", name)
    assert (code, words in err, "Traceback" in err) == (2, True, False)


def test_a_denoiser_that_this_diffusers_lacks_is_told(vsf, tmp_path):
    folder = written(tmp_path / "m", "NewPipeline", "BrandNewTransformerModel", {})
    code, out, _ = vsf("doctor", folder)
    assert code == 1
    assert "this diffusers has no BrandNewTransformerModel" in out


@pytest.mark.parametrize("content", [None, "{", "[]", '{"vae": ["diffusers", "AutoencoderKL"]}'])
def test_what_is_no_model_is_refused(vsf, tmp_path, content):
    if content is not None:
        (tmp_path / "model_index.json").write_text(content)
    code, _, err = vsf("doctor", tmp_path)
    assert code == 2
    assert "model_index.json" in err
    assert "Traceback" not in err
