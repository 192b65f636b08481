"""Models by name: what is loaded, what identifies it, and what is refused."""

import json
import shutil

import diffusers
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from vsf.errors import RequestError, UnknownNameError, UnsupportedPipelineError
from vsf.generation import Lora, Request, generate, load
from vsf.generation.models import hash_folder


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def opened(model, **fields):
    return load(Request("a car", model=str(model), **fields))


def test_a_folder_gives_its_pipeline_and_the_hash_of_its_weights(folder, copy):
    model = opened(folder)
    assert isinstance(model.pipe, StableDiffusion3Pipeline)
    assert model.pipe.dtype == torch.float32
    assert model.origin["weights"] == hash_folder(copy)
    assert "model" not in model.origin


def test_a_folder_is_opened_in_the_dtype_that_is_asked_for(folder):
    pipe = opened(folder, dtype="bfloat16").pipe
    assert {part.dtype for part in (pipe.transformer, pipe.vae, pipe.text_encoder)} == {torch.bfloat16}


def test_other_weights_have_another_hash_and_so_have_swapped_ones(folder, copy):
    first, second = copy / "text_encoder/model.safetensors", copy / "text_encoder_2/model.safetensors"
    first_weights, second_weights = first.read_bytes(), second.read_bytes()
    first.write_bytes(second_weights)
    second.write_bytes(first_weights)
    assert hash_folder(copy) != hash_folder(folder)


@pytest.mark.parametrize("file", ["scheduler/scheduler_config.json", "tokenizer/tokenizer.json", "model_index.json"])
def test_settings_and_tokenizers_decide_pixels_and_so_belong_to_the_hash(folder, copy, file):
    (copy / file).write_text((copy / file).read_text() + " ")
    assert hash_folder(copy) != hash_folder(folder)


@pytest.mark.parametrize("name", ["vocab.txt", "spiece.model"])
def test_vocabularies_belong_to_the_hash_and_a_readme_does_not(folder, copy, name):
    (copy / "README.md").write_text("words")
    assert hash_folder(copy) == hash_folder(folder)
    (copy / "tokenizer" / name).write_text("words")
    assert hash_folder(copy) != hash_folder(folder)


@pytest.mark.parametrize("part", ["tokenizer", "scheduler", "vae"])
def test_a_folder_that_lacks_a_part_of_its_index_is_refused_by_name(copy, part):
    shutil.rmtree(copy / part)
    with pytest.raises(RequestError, match=f"not complete: its model_index.json names {part}, "):
        opened(copy)


def test_weights_that_are_not_safetensors_are_refused(copy):
    weights = copy / "transformer/diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(RequestError, match="safetensors"):
        opened(copy)


def test_encoder_weights_that_are_not_safetensors_are_refused(copy):
    weights = copy / "text_encoder/model.safetensors"
    torch.save({}, weights.with_name("pytorch_model.bin"))
    weights.unlink()
    with pytest.raises(RequestError, match="safetensors"):
        opened(copy)


@pytest.mark.parametrize(("entry", "home"), [("vae", "vae"), ("_class_name", ".")])
def test_code_that_travels_with_a_model_is_not_run(copy, tmp_path, entry, home):
    index = json.loads((copy / "model_index.json").read_text())
    index[entry] = ["own", "Own"]
    (copy / "model_index.json").write_text(json.dumps(index))
    proof = tmp_path / "proof"
    (copy / home / "own.py").write_text(f"open({str(proof)!r}, 'w')\nclass Own: pass\n")
    with pytest.raises(RequestError, match="custom code"):
        opened(copy)
    assert not proof.exists()


def test_a_pipeline_of_another_family_is_refused_before_its_weights_are_read(tmp_path):
    index = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UnsupportedPipelineError, match=r"DDPMPipeline\. Supported: sd3"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("pipeline", "denoiser", "reason"),
    [
        ("GlmImagePipeline", "GlmImageTransformer2DModel", "only the words in quotes"),
        ("MarigoldDepthPipeline", "UNet2DConditionModel", "it takes no prompt"),
        ("StableDiffusionPAGPipeline", "UNet2DConditionModel", "without perturbed attention"),
    ],
)
def test_a_pipeline_that_cannot_be_guided_is_refused_before_its_weights_are_read(tmp_path, pipeline, denoiser, reason):
    index = {"_class_name": pipeline, "denoiser": ["diffusers", denoiser]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UnsupportedPipelineError, match=f"{pipeline} cannot be guided: .*{reason}"):
        opened(tmp_path)


def test_a_pipeline_that_came_after_the_installed_diffusers_is_refused(tmp_path):
    index = {"_class_name": "Krea9Pipeline", "transformer": ["diffusers", "Krea2Transformer2DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UnsupportedPipelineError, match=f"diffusers {diffusers.__version__} has no Krea9Pipeline"):
        opened(tmp_path)


@pytest.mark.parametrize("index", ["not json", "[]", "{}"])
def test_a_broken_model_index_is_refused(tmp_path, index):
    (tmp_path / "model_index.json").write_text(index)
    with pytest.raises((RequestError, UnsupportedPipelineError)):
        opened(tmp_path)


def test_a_folder_without_a_model_index_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"no model_index\.json"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("tinny", UnknownNameError, 'Did you mean "tiny"'),
        ("./no/such/folder", RequestError, "neither a folder or file nor a hub id"),
        ("model.safetensors", RequestError, "neither a folder or file nor a hub id"),
        ("owner/name", RequestError, 'cannot fetch "owner/name" from the hub'),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(name, error, words):
    with pytest.raises(error, match=words):
        opened(name)


def test_a_checkpoint_has_to_be_readable_safetensors_of_a_known_family(tmp_path):
    pickled = tmp_path / "model.ckpt"
    torch.save({}, pickled)
    with pytest.raises(RequestError, match=r"has to be a \.safetensors file"):
        opened(pickled)
    broken = tmp_path / "broken.safetensors"
    broken.write_text("no tensors")
    with pytest.raises(RequestError, match="as safetensors"):
        opened(broken)
    foreign = tmp_path / "other.safetensors"
    save_file({"double_blocks.0.weight": torch.zeros(1)}, foreign)
    with pytest.raises(UnsupportedPipelineError, match="no family recognises"):
        opened(foreign)


def test_a_checkpoint_of_stable_diffusion_3_is_opened_by_its_pipeline(tmp_path, monkeypatch, folder):
    file = tmp_path / "sd3.safetensors"
    save_file({"model.diffusion_model.joint_blocks.0.weight": torch.zeros(1)}, file)
    calls = []

    def open_file(path, **settings):
        calls.append((path, settings))
        return StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)

    monkeypatch.setattr(StableDiffusion3Pipeline, "from_single_file", open_file)
    model = opened(file)
    assert calls == [(file, {"dtype": torch.float32})]
    assert len(model.origin["weights"]) == 64


def test_a_device_that_is_not_there_and_offload_without_a_gpu_are_refused(folder):
    with pytest.raises(RequestError, match='device "cuda:99" cannot be used'):
        opened(folder, device="cuda:99")
    with pytest.raises(RequestError, match="no GPU in use"):
        opened(folder, device="cpu", offload="model")


@pytest.fixture
def lora(folder, tmp_path):
    pipe = opened(folder).pipe
    pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    layers = get_peft_model_state_dict(pipe.transformer)
    StableDiffusion3Pipeline.save_lora_weights(
        tmp_path, transformer_lora_layers=layers, weight_name="style.safetensors"
    )
    return tmp_path / "style.safetensors"


def test_a_lora_acts_by_its_weight_and_is_known_by_its_hash(folder, lora):
    def image(*loras):
        request = Request("a car", model=str(folder), steps=2, size=(8, 8), loras=loras)
        (result,) = generate(request)
        return result

    plain, off, full, weighted = image(), image(Lora(lora, 0.0)), image(Lora(lora)), image(Lora(lora, 1.0))
    assert off.image.tobytes() == plain.image.tobytes() != full.image.tobytes()
    assert full.image.tobytes() == weighted.image.tobytes()
    (entry,) = full.metadata["loras"]
    assert entry["weight"] == 1.0
    assert len(entry["sha256"]) == 64
    assert "style" not in str(full.metadata)


def test_a_lora_that_matches_nothing_is_refused(folder, tmp_path):
    file = tmp_path / "other.safetensors"
    save_file({"unet.down.lora_A.weight": torch.zeros(1, 1), "unet.down.lora_B.weight": torch.zeros(1, 1)}, file)
    with pytest.raises(RequestError, match=r"LoRA.*other\.safetensors"):
        opened(folder, loras=(Lora(file),))
