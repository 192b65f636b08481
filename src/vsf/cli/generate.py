"""`vsf generate`: draw images and save them with everything needed to draw them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vsf import tiny
from vsf.cli import console, effect, inputs, outputs
from vsf.cli.options import NEGATIVE, OUT, PRESET, PROMPT, SHARED, flag, knob_flags, takes
from vsf.errors import RequestError
from vsf.generate import Model, Request, Result, draw, provenance, report, video

EXAMPLE = "vsf generate 'a red car on snow' --negative wheels --scale 1.5 --seed 7 --out car.png"
FLAGS = [
    PROMPT,
    NEGATIVE,
    flag("method", str, "How the negative prompt acts; see vsf list methods."),
    flag("out", str, OUT, default="out"),
    PRESET,
    flag("frames", int, "Draw a clip of this many frames into an .mp4 file, with a model that does."),
    flag("report", bool, "Write beside each picture what the negative did, with a heat map.", spelled="--report"),
    flag("like", str, "Repeat this PNG picture or MP4 clip; flags replace single fields.", metavar="FILE"),
    *SHARED,
    *knob_flags(),
]


@takes(FLAGS)
def command(**flags: Any) -> None:
    """Draw images, guided away from a negative prompt."""
    quiet = bool(flags.pop("json"))
    given = inputs.with_config(flags)
    like, out, reporting = given.pop("like", None), str(given.pop("out", "out")), given.pop("report", False)
    if not isinstance(reporting, bool):
        raise RequestError(f"report has to be true or false, got {reporting!r}.")
    given = inputs.request_fields(given)
    past = provenance.read(Path(like)) if like else None
    fields = provenance.repeat(past, given) if past else given
    if "prompt" not in fields:
        raise RequestError('no prompt: say what to draw, as in vsf generate "a red car".')
    request = Request(**fields)
    files = _plan(request, out)
    if reporting:
        outputs.check_names(name for file in files for name in report.files(file, len(request.wanted.negatives)))
    _note(request, given, past)
    model = console.load_quietly(request, quiet=quiet)
    if past:
        provenance.check_weights(past, given, model)
    _draw_and_save(request, model, files, reporting=reporting, quiet=quiet)


def _plan(request: Request, out: str) -> list[Path]:
    """Where pictures or clips go, those with the note on how they were made beside them."""
    stem = outputs.stem_of(request.wanted.positive)
    if request.frames is None:
        return outputs.plan(out, request.count, stem)
    video.check_encoder()
    clips = outputs.plan(out, request.count, stem, ".mp4")
    outputs.check_names(provenance.note_of(clip) for clip in clips)
    return clips


def _note(request: Request, given: dict[str, Any], past: dict[str, Any] | None) -> None:
    """Say what is odd about a request and yet allowed."""
    asked = given.keys() & {"knobs", "preset", "schedule", "mask", "within"} or given.get("method", "none") != "none"
    for oddity in inputs.oddities(request, acts=bool(asked)) + (provenance.doubts(past, given) if past else []):
        console.note(oddity)
    if request.wanted.negatives and request.method == "none" and not request.host_negative:
        console.note("the method none leaves the negative prompt aside.")


def _draw_and_save(request: Request, model: Model, files: list[Path], *, reporting: bool, quiet: bool) -> None:
    """Save each image as soon as it is finished; what is finished stays, and is reported, after Ctrl-C too."""
    done: list[dict[str, Any]] = []
    try:
        with console.steps(request.count, quiet=quiet) as progress:
            for file, result in zip(files, draw(request, model, progress, observe=reporting), strict=True):
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
        video.write(file, result.frames, result.metadata)
    else:
        provenance.write(file, result.image, result.metadata)


def _seen(request: Request, result: Result) -> dict[str, str]:
    """What the judge of the little world makes of a picture; it knows nothing of other models' pictures."""
    if request.model not in tiny.MODELS:
        return {}
    from vsf.judges.scenes import describe

    return {"seen": describe(result.image, " ".join(result.negatives))}


def _print(entry: dict[str, Any]) -> None:
    seen = f": the judge saw {entry['seen']}" if "seen" in entry else ""
    lines = [f"{entry['file']}  (seed {entry['seed']}){seen}"]
    if "report" in entry:
        lines += [f"  {line}" for line in effect.sentences(Path(entry["file"]), entry["report"])]
    console.stdout.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
