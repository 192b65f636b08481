"""The embedded model of vsf as ComfyUI's MODEL, CLIP, VAE and SIGMAS: workflows run without any checkpoint."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from vsf import tiny
from vsf.errors import UnsupportedPipelineError

from . import host

_THIRD_ENCODER_TOKENS = 256
"""Zero rows that diffusers puts where the tokens of SD3's third encoder would stand, which the model does not have."""
_ENCODERS = ("text_encoder", "text_encoder_2")


def load_model(name: str) -> Any:
    """Return the transformer as a MODEL: the host knows SD3 by its weights.

    Raises:
        UnsupportedPipelineError: the shape is not one that the host makes of such weights.
    """
    folder = tiny.folder(name) / "transformer"
    config = _config(folder)
    if config["num_attention_heads"] != config["num_layers"] or config["attention_head_dim"] != 64:
        raise UnsupportedPipelineError(
            f"ComfyUI's SD3 has 64 channels and one head for each layer; {name} has {config['num_attention_heads']} "
            f"heads of {config['attention_head_dim']} and {config['num_layers']} layers"
        )
    model = host.new_diffusion_model(str(folder / "diffusion_pytorch_model.safetensors"))
    if config["patch_size"] == 1:
        _keep_size(model)
    return model


def _keep_size(model: Any) -> None:
    """Correct the host's SD3 for patches of one latent pixel: it rounds sizes as if a patch were two wide."""
    denoiser = model.model.diffusion_model
    place, picture = denoiser.cropped_pos_embed, denoiser.unpatchify
    patches = {
        "cropped_pos_embed": lambda size, **options: place([length - 1 for length in size], **options),
        "unpatchify": lambda x, hw: picture(x, [length - 1 for length in hw]),
    }
    for name, patch in patches.items():
        model.add_object_patch(f"diffusion_model.{name}", patch)


def load_clip(name: str) -> Any:
    """Return both text encoders as a CLIP."""
    folder = tiny.folder(name)
    weights = [host.load_torch_file(str(folder / part / "model.safetensors")) for part in _ENCODERS]
    parameters = sum(tensor.numel() for state in weights for tensor in state.values())
    target = SimpleNamespace(clip=Encoders, tokenizer=Tokenizer, params={"folder": folder})
    clip = host.new_clip(target, parameters=parameters, tokenizer_data={"folder": folder})
    words = "text_model.embeddings.token_embedding.weight"
    for part, state in zip(_ENCODERS, weights, strict=True):
        encoder = getattr(clip.cond_stage_model, part)
        room = encoder.transformer.get_input_embeddings().weight.shape[0]  # as many words as OpenAI's CLIP has
        state[words] = F.pad(state[words], (0, 0, 0, room - len(state[words])))
        encoder.load_sd(state)
    return clip


class Tokenizer:
    """The same tokens for both encoders, filled up as the pipeline does."""

    def __init__(self, embedding_directory: str | None = None, tokenizer_data: Any = None) -> None:
        folder: Path = tokenizer_data["folder"]
        width = _config(folder / "text_encoder")["hidden_size"]
        self.tokenizer = host.SDTokenizer(
            str(folder / "tokenizer"), _prompt_tokens(folder), embedding_directory=embedding_directory,
            embedding_size=width,
        )  # fmt: skip

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **options: Any) -> dict[str, Any]:
        """Return (token, weight) of every chunk."""
        return {"l": self.tokenizer.tokenize_with_weights(text, return_word_ids, **options)}

    def untokenize(self, pairs: Any) -> Any:
        """Return the words of tokens."""
        return self.tokenizer.untokenize(pairs)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing, as there is nothing to save."""
        return {}


class Encoders(nn.Module):
    """Rows of both encoders side by side, and a mask of those that are words."""

    def __init__(self, folder: Path, device: Any = "cpu", dtype: Any = None, model_options: Any = None) -> None:
        super().__init__()
        self.dtypes = {dtype}
        self.tokens = _prompt_tokens(folder)
        for part in _ENCODERS:
            config = _config(folder / part)
            marks = {"start": config["bos_token_id"], "end": config["eos_token_id"], "pad": config["pad_token_id"]}
            encoder = host.SDClipModel(
                device, self.tokens, layer="hidden", layer_idx=-2, textmodel_json_config=config, dtype=dtype,
                special_tokens=marks, layer_norm_hidden_state=False,
                model_options={**(model_options or {}), "model_name": part},
            )  # fmt: skip
            self.add_module(part, encoder)

    def encode_token_weights(self, pairs: dict[str, Any]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Encode the first chunk, all of what the model was trained to read."""
        chunk = pairs["l"][:1]
        outs = [getattr(self, part).encode_token_weights(chunk) for part in _ENCODERS]
        text = torch.cat([out[0] for out in outs], -1)
        pooled = torch.cat([out[1] for out in outs], -1)
        end = getattr(self, _ENCODERS[0]).special_tokens["end"]
        words = [token for token, *_ in chunk[0]].index(end) + 1
        mask = (torch.arange(self.tokens + _THIRD_ENCODER_TOKENS) < words)[None].long()
        return F.pad(text, (0, 0, 0, _THIRD_ENCODER_TOKENS)), pooled, {"attention_mask": mask}

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """Hand options on to both."""
        for part in _ENCODERS:
            getattr(self, part).set_clip_options(options)

    def reset_clip_options(self) -> None:
        """Hand the reset on to both."""
        for part in _ENCODERS:
            getattr(self, part).reset_clip_options()


class Autoencoder:
    """What VAEDecode and VAEEncode ask of a VAE, for an AutoencoderTiny of any shape."""

    def __init__(self, name: str) -> None:
        folder = tiny.folder(name) / "vae"
        config = _config(folder)
        state = load_file(folder / "diffusion_pytorch_model.safetensors")
        self.latent_format = host.latent_formats.SD3()
        self.scale = config["scaling_factor"]
        self.magnitude = config["latent_magnitude"]
        self.encoder = _filled(_encoder(config), state, "encoder.layers.")
        self.decoder = _filled(_decoder(config), state, "decoder.layers.")

    def decode(self, samples: Tensor, **_: Any) -> Tensor:
        """Return pictures (batch, height, width, 3) from 0 to 1 of latents as a workflow carries them."""
        latents = self.latent_format.process_in(samples.cpu().float()) / self.scale
        pictures: Tensor = self.decoder(torch.tanh(latents / self.magnitude) * self.magnitude)
        return pictures.clamp(0, 1).movedim(1, -1)

    def encode(self, pixels: Tensor) -> Tensor:
        """Return latents of pictures (batch, height, width, channels) from 0 to 1."""
        pictures = pixels.cpu().float()[..., :3].movedim(-1, 1)
        latents: Tensor = self.latent_format.process_out(self.encoder(pictures) * self.scale)
        return latents


class Block(nn.Module):
    """Three convolutions around which the input goes as well."""

    def __init__(self, width: int) -> None:
        super().__init__()
        first, second, third = (nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        self.conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolutions make of the input to it."""
        return torch.relu(self.conv(x) + x)


def _encoder(config: dict[str, Any]) -> nn.Sequential:
    """Lay the encoder out: a convolution, then for each level one that halves the picture, with its blocks behind."""
    layers: list[nn.Module] = []
    for level, (blocks, width) in enumerate(
        zip(config["num_encoder_blocks"], config["encoder_block_out_channels"], strict=True)
    ):
        if level == 0:
            layers.append(nn.Conv2d(config["in_channels"], width, 3, padding=1))
        else:
            layers.append(nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False))
        layers += [Block(width) for _ in range(blocks)]
    return nn.Sequential(*layers, nn.Conv2d(width, config["latent_channels"], 3, padding=1))


def _decoder(config: dict[str, Any]) -> nn.Sequential:
    """Lay the decoder out: for each level its blocks, then the picture doubled and a convolution."""
    widths, counts = config["decoder_block_out_channels"], config["num_decoder_blocks"]
    layers: list[nn.Module] = [nn.Conv2d(config["latent_channels"], widths[0], 3, padding=1), nn.ReLU()]
    for level, (blocks, width) in enumerate(zip(counts, widths, strict=True)):
        layers += [Block(width) for _ in range(blocks)]
        is_last = level == len(counts) - 1
        if not is_last:
            layers.append(nn.Upsample(scale_factor=config["upsampling_scaling_factor"]))
        out = config["out_channels"] if is_last else width
        layers.append(nn.Conv2d(width, out, 3, padding=1, bias=is_last))
    return nn.Sequential(*layers)


def _filled(layers: nn.Sequential, state: dict[str, Tensor], prefix: str) -> nn.Sequential:
    """Load the weights under a prefix, in float32. A file may have biases where the layout has none."""
    own = {key.removeprefix(prefix): tensor.float() for key, tensor in state.items() if key.startswith(prefix)}
    for number, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d) and layer.bias is None and f"{number}.bias" in own:
            layer.bias = nn.Parameter(torch.zeros(layer.out_channels))
    layers.load_state_dict(own)
    return layers.eval().requires_grad_(False)


def sigmas(name: str, steps: int) -> Tensor:
    """Return the noise levels that a model was made for, and 0 behind them.

    The scheduler of the pipeline shifts them twice, and stretches them so that the last one is `shift_terminal`.
    """
    config = _config(tiny.folder(name) / "scheduler", "scheduler_config.json")
    shift: float = config["shift"]
    last: float | None = config.get("shift_terminal")
    training_steps = config["num_train_timesteps"]

    def shifted(sigma: Tensor) -> Tensor:
        return sigma * shift / (1 + sigma * (shift - 1))

    lowest = float(shifted(torch.tensor(1 / training_steps)))
    levels = shifted(torch.linspace(1, lowest, steps))
    if last:
        removed = 1 - levels
        levels = 1 - removed * (1 - last) / removed[-1].clamp(min=1e-9)
    return torch.cat([levels, torch.zeros(1)])


def _prompt_tokens(folder: Path) -> int:
    """Return how many tokens a prompt is filled up to."""
    return int(_config(folder / "tokenizer", "tokenizer_config.json")["model_max_length"])


def _config(folder: Path, name: str = "config.json") -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))
