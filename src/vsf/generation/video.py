"""Clips: how long they may be, and frames in an MP4 file with a note beside it on how they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsf.errors import RequestError
from vsf.generation.files import atomic_write, note_of
from vsf.generation.metadata import provenance
from vsf.generation.models import takes

if TYPE_CHECKING:
    from PIL.Image import Image

FRAMES_PER_SECOND = 16  # what Wan was trained on; nothing but the file says so


def check_frames(pipe: Any, frames: int | None) -> None:
    """Raise RequestError unless a pipeline of clips is asked for a length that it has, and one of pictures for none."""
    name = type(pipe).__name__
    if not takes(pipe, "num_frames"):
        if frames is not None:
            raise RequestError(f"{name} draws pictures, not clips; leave --frames out.")
        return
    if frames is None:
        raise RequestError(f"{name} draws clips; say how long with --frames, as in --frames 17 --out clip.mp4.")
    ratios = (getattr(pipe, name, None) for name in ("vae_scale_factor_temporal", "vae_temporal_compression_ratio"))
    step = next((int(ratio) for ratio in ratios if ratio), 1)
    if (frames - 1) % step:
        nearest = max(1, round((frames - 1) / step) * step + 1)
        raise RequestError(f"clips of this model have a multiple of {step} frames and one more; ask for {nearest}.")


def write(clip: Path, frames: Sequence[Image], metadata: Mapping[str, Any]) -> None:
    """Save frames as an MP4 file that is there in full or not at all, with a note beside it, which comes first.

    Raises:
        RequestError: imageio-ffmpeg is not installed, or a file cannot be written.
    """
    with atomic_write(note_of(clip)) as part:
        note = json.dumps(provenance.portable(metadata), indent=1, ensure_ascii=False)
        part.write_text(note + "\n", encoding="utf-8")
    with atomic_write(clip) as part:
        _encode(part, frames)


def check_encoder() -> None:
    """Raise RequestError when clips cannot be written here."""
    if find_spec("imageio_ffmpeg") is None:
        raise RequestError("writing a clip needs ffmpeg; install it with: pip install imageio-ffmpeg")


def _encode(file: Path, frames: Sequence[Image]) -> None:
    """Write H.264; an odd side loses a pixel, because the format has none. Raises OSError when it fails."""
    from imageio_ffmpeg import count_frames_and_secs, write_frames  # type: ignore[import-untyped]

    width, height = (side - side % 2 for side in frames[0].size)
    writer = write_frames(
        str(file),
        (width, height),
        fps=FRAMES_PER_SECOND,
        codec="libx264",
        quality=8,
        macro_block_size=2,
        output_params=["-f", "mp4"],
        ffmpeg_log_level="error",
    )
    writer.send(None)
    for frame in frames:
        writer.send(frame.convert("RGB").crop((0, 0, width, height)).tobytes())
    writer.close()
    if not file.is_file() or count_frames_and_secs(str(file))[0] != len(frames):  # ffmpeg fails in silence
        raise OSError("ffmpeg did not finish the clip; is there room left?")
