"""`vsf generate`: draw images and save them with everything needed to draw them again.

Everything that can be refused without torch is refused before it is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsf.cli import console, effect, inputs, outputs
from vsf.cli.options import NEGATIVE, PRESET, PROMPT, SHARED, flag, knob_flags, out_flag, takes
from vsf.errors import RequestError
from vsf.generation import prompt_files
from vsf.generation.files import note_of, report_files
from vsf.generation.metadata import like, provenance
from vsf.generation.request import Request
from vsf.text.prompt import Prompt

if TYPE_CHECKING:
    from vsf.generation import Model, Result

EXAMPLE = "vsf generate 'a red car on snow' -n wheels --within subject --scale 4 --orthogonal --seed 1 -o car.png"
FLAGS = [
    PROMPT,
    NEGATIVE,
    flag("method", str, "How the negative prompt acts, also with knobs as in nag:tau=3; see vsf list methods."),
    out_flag("out"),
    PRESET,
    flag(
        "prompts",
        str,
        "Draw every prompt of a file: .txt with one a line, .jsonl or .json with prompt and negative.",
        metavar="FILE",
    ),
    flag("frames", int, "Draw a clip of this many frames into an .mp4 file, with a model that does."),
    flag("report", bool, "Write beside each picture what the negative did, with a heat map.", spelled="--report"),
    flag(
        "like",
        str,
        "Repeat this PNG picture or MP4 clip, also one of AUTOMATIC1111 or ComfyUI; flags replace single fields.",
        metavar="FILE",
    ),
    *SHARED,
    *knob_flags(),
]


@takes(FLAGS)
def command(**flags: Any) -> None:
    """Draw images, guided away from a negative prompt."""
    quiet = bool(flags.pop("json"))
    given = inputs.with_config(flags)
    prompts = _prompts(given)
    past_file, out, reporting = given.pop("like", None), str(given.pop("out", "out")), given.pop("report", False)
    if not isinstance(reporting, bool):
        raise RequestError(f"report has to be true or false, got {reporting!r}.")
    given = inputs.request_fields(given)
    past = like.read(Path(past_file).expanduser()) if past_file else None
    fields = past.repeat(given) if past else given
    inputs.check_model(fields)
    requests = [Request(**{**fields, "prompt": prompt}) for prompt in prompts or [fields.get("prompt", "")]]
    with _planned(requests, out, reporting=reporting) as files:
        _note(requests, given, past.doubts(given) if past else [])
        model = console.load_quietly(requests[0], quiet=quiet)
        if past:
            past.check_weights(given, model)
        _draw_and_save(requests, model, files, reporting=reporting, quiet=quiet)


def _prompts(given: dict[str, Any]) -> list[Prompt]:
    """Read the file of prompts, if one is given, and take its name out of what is given."""
    file = given.pop("prompts", None)
    if file is None:
        if "prompt" not in given and "like" not in given:
            raise RequestError('no prompt: say what to draw, as in vsf generate "a red car".')
        return []
    if "prompt" in given:
        raise RequestError("give a prompt, or a file of prompts with --prompts, not both.")
    return prompt_files.read(Path(str(file)).expanduser())


@contextmanager
def _planned(requests: Sequence[Request], out: str, *, reporting: bool) -> Iterator[list[Path]]:
    """Reserve where pictures or clips go, and what is written beside them; one for each image of each request."""
    stems = [outputs.stem_of(request.wanted.positive) for request in requests for _ in range(request.count)]
    clips = requests[0].frames is not None
    if clips:
        from vsf.generation import video

        video.check_encoder()
    most = max(len(request.wanted.negatives) for request in requests) if reporting else None
    with outputs.planned(out, stems, ".mp4" if clips else ".png", partial(_beside, clips, most)) as files:
        yield files


def _beside(clips: bool, negatives: int | None, file: Path) -> list[Path]:
    """Name what is written beside a picture: the note on how a clip was made, and the report on so many negatives."""
    reports = [] if negatives is None else report_files(file, negatives)
    return [*([note_of(file)] if clips else []), *reports]


def _note(requests: Sequence[Request], given: dict[str, Any], doubts: list[str]) -> None:
    """Say what is odd about the requests and yet allowed."""
    asked = given.keys() & {"knobs", "preset", "schedule", "mask", "within"} or given.get("method", "none") != "none"
    notes = [oddity for request in requests for oddity in inputs.oddities(request, acts=bool(asked))] + doubts
    for request in requests:
        if request.wanted.negatives and request.method == "none" and not request.host_negative:
            notes.append("method none ignores the negative prompt.")
    for note in dict.fromkeys(notes):
        console.note(note)


def _draw_and_save(
    requests: Sequence[Request], model: Model, files: list[Path], *, reporting: bool, quiet: bool
) -> None:
    """Save each image as soon as it is finished; what is finished stays, and is reported, after Ctrl-C too."""
    from vsf.cli import unread
    from vsf.generation import draw, report

    done: list[dict[str, Any]] = []
    names = iter(files)
    try:
        with unread.told(), console.steps(len(files), quiet=quiet) as progress:
            for request in requests:
                for note in unread.notes(request, model):
                    console.note(note)
                for result in draw(request, model, console.after(progress, len(done)), observe=reporting):
                    file = next(names)
                    _write(file, result)
                    entry = {"file": str(file), **_seen(request, result), **provenance.portable(result.metadata)}
                    if reporting:
                        entry["report"] = report.write(file, result)
                    effect.note_unseen(result, str(file))
                    done.append(entry)
    finally:
        if quiet:
            console.print_json(done)
        else:
            for entry in done:
                _print(entry)


def _write(file: Path, result: Result) -> None:
    """Save a clip, or a picture."""
    if result.frames:
        from vsf.generation import video

        video.write(file, result.frames, result.metadata)
    else:
        provenance.write(file, result.image, result.metadata)


def _seen(request: Request, result: Result) -> dict[str, str]:
    seen = effect.verdict(request.model, result, " ".join(result.negatives))
    return {"seen": seen} if seen else {}


def _print(entry: dict[str, Any]) -> None:
    seen = f": the judge saw {entry['seen']}" if "seen" in entry else ""
    lines = [f"{entry['file']}  (seed {entry['seed']}){seen}"]
    if "report" in entry:
        lines += [f"  {line}" for line in effect.sentences(Path(entry["file"]), entry["report"])]
    console.stdout.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
