"""`vsf generate`: draw images and save them with everything needed to draw them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vsf import tiny
from vsf.cli import console, inputs, outputs
from vsf.cli.options import NEGATIVE, OUT, PROMPT, SHARED, flag, knob_flags, takes
from vsf.errors import RequestError
from vsf.generate import Model, Request, Result, draw, provenance

EXAMPLE = "vsf generate 'a red car on snow' --negative wheels --scale 1.5 --seed 7 --out car.png"
FLAGS = [
    PROMPT,
    NEGATIVE,
    flag("method", str, "How the negative prompt acts; see vsf list methods."),
    flag("out", str, OUT, default="out"),
    flag("like", str, "Repeat the picture in this PNG file; flags replace single fields.", metavar="FILE.png"),
    *SHARED,
    *knob_flags(),
]


@takes(FLAGS)
def command(**flags: Any) -> None:
    """Draw images, guided away from a negative prompt."""
    quiet = bool(flags.pop("json"))
    given = inputs.with_config(flags)
    like, out = given.pop("like", None), str(given.pop("out", "out"))
    given = inputs.request_fields(given)
    past = provenance.read(Path(like)) if like else None
    fields = provenance.repeat(past, given) if past else given
    if "prompt" not in fields:
        raise RequestError('no prompt: say what to draw, as in vsf generate "a red car".')
    request = Request(**fields)
    files = outputs.plan(out, request.count, outputs.stem_of(request.prompt))
    _note(request, given, past)
    model = console.load_quietly(request, quiet=quiet)
    if past:
        provenance.check_weights(past, given, model)
    _draw_and_save(request, model, files, quiet)


def _note(request: Request, given: dict[str, Any], past: dict[str, Any] | None) -> None:
    """Say what is odd about a request and yet allowed."""
    asked = "knobs" in given or given.get("method", "none") != "none"
    for oddity in inputs.oddities(request, acts=asked) + (provenance.doubts(past, given) if past else []):
        console.note(oddity)
    if request.negative and request.method == "none":
        console.note("the method none leaves the negative prompt aside.")


def _seen(request: Request, result: Result) -> dict[str, str]:
    """What the judge of the little world makes of a picture; it knows nothing of other models' pictures."""
    if request.model not in tiny.MODELS:
        return {}
    from vsf.judges.scenes import describe

    return {"seen": describe(result.image, request.negative)}


def _draw_and_save(request: Request, model: Model, files: list[Path], quiet: bool) -> None:
    """Save each image as soon as it is finished; what is finished stays, and is reported, after Ctrl-C too."""
    done: list[dict[str, Any]] = []
    try:
        with console.steps(request.count, quiet=quiet) as progress:
            for file, result in zip(files, draw(request, model, progress), strict=True):
                provenance.write(file, result.image, result.metadata)
                done.append({"file": str(file), **_seen(request, result), **provenance.portable(result.metadata)})
    finally:
        if quiet:
            console.print_json(done)
        else:
            for entry in done:
                seen = f": the judge saw {entry['seen']}" if "seen" in entry else ""
                console.stdout.print(f"{entry['file']}  (seed {entry['seed']}){seen}", markup=False, soft_wrap=True)
