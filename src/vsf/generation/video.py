"""Clips: check their length, and write them as MP4 with their metadata in a sidecar."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vsf.errors import RequestError
from vsf.generation.files import atomic_write, sidecar, write_json
from vsf.generation.metadata import Metadata, provenance
from vsf.generation.models import takes

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from PIL.Image import Image

FRAMES_PER_SECOND = 16  # what Wan was trained on; no setting of a model says so


def check_frames(pipe: DiffusionPipeline, frames: int | None) -> None:
    """Check the length of a clip against the pipeline.

    Raises:
        RequestError: a pipeline of clips got no length or one that it cannot draw, or one of pictures got a length.
    """
    name = type(pipe).__name__
    if not takes(pipe, "num_frames"):
        if frames is not None:
            raise RequestError(f"{name} draws pictures, not clips; leave --frames out.")
        return
    if frames is None:
        raise RequestError(f"{name} draws clips; say how long with --frames, as in --frames 17 --out clip.mp4.")
    # The VAE keeps the first frame as it is and compresses each further group of `step` frames into one latent frame.
    ratio = getattr(pipe, "vae_scale_factor_temporal", None) or getattr(pipe, "vae_temporal_compression_ratio", None)
    step = int(ratio or 1)
    if (frames - 1) % step:
        nearest = max(1, round((frames - 1) / step) * step + 1)
        raise RequestError(f"clips of this model have a multiple of {step} frames and one more; ask for {nearest}.")


def write(clip: Path, frames: Sequence[Image], metadata: Metadata) -> None:
    """Write frames as an MP4 file, atomically, after the sidecar with their metadata.

    Raises:
        RequestError: imageio-ffmpeg is not installed, or a file cannot be written.
    """
    # The sidecar comes first: a process that is killed in between leaves no clip without its metadata.
    write_json(sidecar(clip), provenance.portable(metadata))
    with atomic_write(clip) as part:
        _encode(part, frames)


def check_encoder() -> None:
    """Check that clips can be written.

    Raises:
        RequestError: imageio-ffmpeg is not installed.
    """
    if find_spec("imageio_ffmpeg") is None:
        raise RequestError("writing a clip needs ffmpeg; install it with: pip install imageio-ffmpeg")


def _encode(file: Path, frames: Sequence[Image]) -> None:
    """Encode frames as H.264, which has no odd sides: they lose a pixel.

    Raises:
        OSError: ffmpeg failed.
    """
    from imageio_ffmpeg import count_frames_and_secs, write_frames  # type: ignore[import-untyped]

    width, height = (side - side % 2 for side in frames[0].size)
    writer = write_frames(
        str(file),
        (width, height),
        fps=FRAMES_PER_SECOND,
        codec="libx264",
        quality=8,
        macro_block_size=2,
        output_params=["-f", "mp4"],  # the name of a temporary file does not end in .mp4
        ffmpeg_log_level="error",
    )
    writer.send(None)  # starts the generator
    for frame in frames:
        writer.send(frame.convert("RGB").crop((0, 0, width, height)).tobytes())
    writer.close()
    # ffmpeg fails without an exception.
    if not file.is_file() or count_frames_and_secs(str(file))[0] != len(frames):
        raise OSError("ffmpeg did not finish the clip; is there room left?")
