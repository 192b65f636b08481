"""The embedded model of vsf as ComfyUI's MODEL, CLIP, VAE and SIGMAS, for workflows without any checkpoint."""

import json
from collections.abc import Mapping, Sequence
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
from .interfaces import Chunk, Clip, ModelPatcher, Options, Tokens

_THIRD_ENCODER_TOKENS = 256
"""Rows of zeros that diffusers appends for SD3's third encoder, which the model lacks."""
_ENCODERS = ("text_encoder", "text_encoder_2")


def load_model(name: str) -> ModelPatcher:
    """Return the transformer as a MODEL; the host recognises SD3 by its weights.

    Raises:
        UnsupportedPipelineError: The host would infer another shape from these weights.
    """
    folder = tiny.folder(name) / "transformer"
    config = _config(folder)
    if config["num_attention_heads"] != config["num_layers"] or config["attention_head_dim"] != 64:
        raise UnsupportedPipelineError(
            f"ComfyUI's SD3 has 64 channels and one head for each layer; {name} has {config['num_attention_heads']} "
            f"heads of {config['attention_head_dim']} and {config['num_layers']} layers"
        )
    model: ModelPatcher = host.new_diffusion_model(str(folder / "diffusion_pytorch_model.safetensors"))
    if config["patch_size"] == 1:
        _keep_size(model)
    return model


def _keep_size(model: ModelPatcher) -> None:
    """Correct the host's SD3 for patches of one latent pixel: it rounds sizes up as if a patch were two wide."""
    denoiser: Any = model.model.diffusion_model
    crop = denoiser.cropped_pos_embed
    unpatchify = denoiser.unpatchify

    def cropped_pos_embed(size: Sequence[int], **options: Any) -> Tensor:
        return crop([length - 1 for length in size], **options)

    def unpatchify_exactly(x: Tensor, hw: Sequence[int]) -> Tensor:
        return unpatchify(x, [length - 1 for length in hw])

    model.add_object_patch("diffusion_model.cropped_pos_embed", cropped_pos_embed)
    model.add_object_patch("diffusion_model.unpatchify", unpatchify_exactly)


def load_clip(name: str) -> Clip:
    """Return both text encoders as a CLIP."""
    folder = tiny.folder(name)
    weights = {part: host.load_torch_file(str(folder / part / "model.safetensors")) for part in _ENCODERS}
    parameters = 0
    for state in weights.values():
        parameters += sum(tensor.numel() for tensor in state.values())
    target = SimpleNamespace(clip=Encoders, tokenizer=Tokenizer, params={"folder": folder})
    clip: Any = host.new_clip(target, parameters=parameters, tokenizer_data={"folder": folder})
    embedding = "text_model.embeddings.token_embedding.weight"
    for part, state in weights.items():
        encoder = getattr(clip.cond_stage_model, part)
        # The host gives the encoder as many embeddings as the vocabulary of OpenAI's CLIP has words.
        vocabulary = encoder.transformer.get_input_embeddings().weight.shape[0]
        state[embedding] = F.pad(state[embedding], (0, 0, 0, vocabulary - len(state[embedding])))
        encoder.load_sd(state)
    return clip


class Tokenizer:
    """The tokenizer of both encoders, which pads prompts as the pipeline does."""

    def __init__(self, embedding_directory: str | None = None, tokenizer_data: Mapping[str, Any] = {}) -> None:
        folder: Path = tokenizer_data["folder"]
        width = _config(folder / "text_encoder")["hidden_size"]
        self.tokenizer = host.SDTokenizer(
            str(folder / "tokenizer"),
            _prompt_tokens(folder),
            embedding_directory=embedding_directory,
            embedding_size=width,
        )

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **options: Any) -> dict[str, Any]:
        """Return (token, weight) pairs of every chunk."""
        return {"l": self.tokenizer.tokenize_with_weights(text, return_word_ids, **options)}

    def untokenize(self, pairs: Chunk) -> Any:
        """Return each token with its word."""
        return self.tokenizer.untokenize(pairs)

    def state_dict(self) -> dict[str, Any]:
        """Return an empty dictionary, as there is nothing to save."""
        return {}


class Encoders(nn.Module):
    """Both text encoders, their channels concatenated, with a mask of the tokens that are words."""

    def __init__(
        self,
        folder: Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        model_options: Options | None = None,
    ) -> None:
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

    def encode_token_weights(self, pairs: Tokens) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Encode the first chunk; the model was not trained to read more.

        Returns:
            Text (1, tokens, channels), the pooled text, and the mask in a dictionary.
        """
        chunk = pairs["l"][:1]
        first_encoder, second_encoder = (getattr(self, part) for part in _ENCODERS)
        first_text, first_pooled = first_encoder.encode_token_weights(chunk)[:2]
        second_text, second_pooled = second_encoder.encode_token_weights(chunk)[:2]
        text = torch.cat([first_text, second_text], -1)
        pooled = torch.cat([first_pooled, second_pooled], -1)
        end = first_encoder.special_tokens["end"]
        words = [token for token, *_ in chunk[0]].index(end) + 1
        mask = (torch.arange(self.tokens + _THIRD_ENCODER_TOKENS) < words)[None].long()
        return F.pad(text, (0, 0, 0, _THIRD_ENCODER_TOKENS)), pooled, {"attention_mask": mask}

    def set_clip_options(self, options: Options) -> None:
        """Pass options on to both encoders."""
        for part in _ENCODERS:
            getattr(self, part).set_clip_options(options)

    def reset_clip_options(self) -> None:
        """Reset the options of both encoders."""
        for part in _ENCODERS:
            getattr(self, part).reset_clip_options()


class Autoencoder:
    """The part of a VAE that VAEDecode and VAEEncode use, for an AutoencoderTiny of any shape."""

    def __init__(self, name: str) -> None:
        folder = tiny.folder(name) / "vae"
        config = _config(folder)
        state = load_file(folder / "diffusion_pytorch_model.safetensors")
        self.latent_format = host.latent_formats.SD3()
        self.scale = config["scaling_factor"]
        self.magnitude = config["latent_magnitude"]
        self.encoder = _load_weights(_encoder(config), state, "encoder.layers.")
        self.decoder = _load_weights(_decoder(config), state, "decoder.layers.")

    def decode(self, samples: Tensor, **_: Any) -> Tensor:
        """Decode latents, as workflows carry them, to pictures (batch, height, width, 3) from 0 to 1."""
        latents = self.latent_format.process_in(samples.cpu().float()) / self.scale
        pictures: Tensor = self.decoder(torch.tanh(latents / self.magnitude) * self.magnitude)
        return pictures.clamp(0, 1).movedim(1, -1)

    def encode(self, pixels: Tensor) -> Tensor:
        """Encode pictures (batch, height, width, channels) from 0 to 1, of which the first three channels count."""
        pictures = pixels.cpu().float()[..., :3].movedim(-1, 1)
        latents: Tensor = self.latent_format.process_out(self.encoder(pictures) * self.scale)
        return latents


class Block(nn.Module):
    """Three convolutions with a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        return torch.relu(self.conv(x) + x)


def _encoder(config: Options) -> nn.Sequential:
    """Build the encoder: a convolution, then for each further level one that halves the picture; blocks follow each."""
    layers: list[nn.Module] = []
    counts = config["num_encoder_blocks"]
    widths = config["encoder_block_out_channels"]
    for level, (blocks, width) in enumerate(zip(counts, widths, strict=True)):
        if level == 0:
            layers.append(nn.Conv2d(config["in_channels"], width, 3, padding=1))
        else:
            layers.append(nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False))
        layers += [Block(width) for _ in range(blocks)]
    return nn.Sequential(*layers, nn.Conv2d(width, config["latent_channels"], 3, padding=1))


def _decoder(config: Options) -> nn.Sequential:
    """Build the decoder: for each level its blocks, then, but on the last, an upsampling, then a convolution."""
    counts = config["num_decoder_blocks"]
    widths = config["decoder_block_out_channels"]
    layers: list[nn.Module] = [nn.Conv2d(config["latent_channels"], widths[0], 3, padding=1), nn.ReLU()]
    for level, (blocks, width) in enumerate(zip(counts, widths, strict=True)):
        layers += [Block(width) for _ in range(blocks)]
        is_last = level == len(counts) - 1
        if not is_last:
            layers.append(nn.Upsample(scale_factor=config["upsampling_scaling_factor"]))
        out = config["out_channels"] if is_last else width
        layers.append(nn.Conv2d(width, out, 3, padding=1, bias=is_last))
    return nn.Sequential(*layers)


def _load_weights(layers: nn.Sequential, state: dict[str, Tensor], prefix: str) -> nn.Sequential:
    """Load the weights under a prefix, in float32. A file may have biases for convolutions that are built without."""
    weights = {key.removeprefix(prefix): tensor.float() for key, tensor in state.items() if key.startswith(prefix)}
    for number, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d) and layer.bias is None and f"{number}.bias" in weights:
            layer.bias = nn.Parameter(torch.zeros(layer.out_channels))
    layers.load_state_dict(weights)
    return layers.eval().requires_grad_(False)


def sigmas(name: str, steps: int) -> Tensor:
    """Return the noise levels (steps + 1,) that the scheduler of a model's pipeline uses, the final 0 included.

    It shifts the lower end of the range and then all levels, so the lowest one twice, and stretches them so that the
    last one is `shift_terminal`.
    """
    config = _config(tiny.folder(name) / "scheduler", "scheduler_config.json")
    shift: float = config["shift"]
    terminal: float | None = config.get("shift_terminal")
    training_steps = config["num_train_timesteps"]

    def shifted(sigma: Tensor) -> Tensor:
        return sigma * shift / (1 + sigma * (shift - 1))

    lowest = float(shifted(torch.tensor(1 / training_steps)))
    levels = shifted(torch.linspace(1, lowest, steps))
    if terminal:
        removed = 1 - levels
        levels = 1 - removed * (1 - terminal) / removed[-1].clamp(min=1e-9)
    return torch.cat([levels, torch.zeros(1)])


def _prompt_tokens(folder: Path) -> int:
    """Return the number of tokens that a prompt is padded to."""
    return int(_config(folder / "tokenizer", "tokenizer_config.json")["model_max_length"])


def _config(folder: Path, name: str = "config.json") -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))
