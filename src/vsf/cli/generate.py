"""`vsf generate`: draw images and save them with everything needed to draw them again.

Everything that can be refused without torch is refused before torch is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsf.cli import console, feedback, index, inputs, outputs
from vsf.cli.drawing_options import CONTROLS_PANEL, OUT_HELP, OUT_SPELLINGS, DrawingOptions, PromptOptions
from vsf.cli.knob_flags import knob_flags
from vsf.cli.options import takes_options
from vsf.errors import RequestError
from vsf.generation import prompt_files
from vsf.generation.files import report_files, sidecar
from vsf.generation.metadata import like, provenance
from vsf.generation.request import Arguments, Request
from vsf.text.prompt import Prompt

if TYPE_CHECKING:
    from vsf.generation import Model, Result
from vsf.options import option

EXAMPLE = "vsf generate 'a red car on snow' -n wheels --within subject --scale 4 --orthogonal --seed 1 -o car.png"


@dataclass(frozen=True, kw_only=True)
class OwnOptions(PromptOptions):
    """The options that only `vsf generate` has, after the prompt."""

    method: str | None = option("How the negative prompt acts, also with knobs as in nag:tau=3; see vsf list methods.")
    out: str = option(OUT_HELP, default="out", also=OUT_SPELLINGS)
    preset: str | None = option(
        f"Knobs made for the model: {', '.join(index.preset_names())}; a knob's own flag wins; see vsf list presets."
    )
    prompts: str | None = option(
        "Draw every prompt of a file: .txt with one a line, .jsonl or .json with prompt and negative.", metavar="FILE"
    )
    frames: int | None = option("Draw a clip of this many frames into an .mp4 file, with a model that does.")
    seconds: str | None = option(
        "When in a clip the negative acts: 2-4, 2- or -4; 16 frames are a second.",
        metavar="START-STOP",
        rich_help_panel=CONTROLS_PANEL,
    )
    frame_range: str | None = option(
        "The same in frames, counted from 0: 32-64 is up to frame 63.",
        metavar="START-STOP",
        rich_help_panel=CONTROLS_PANEL,
    )
    negative_sound: list[str] | None = option(
        "What to keep out of the sound of a clip; then --negative is for the picture alone. Spelt like --negative.",
        metavar="TEXT|(TEXT:WEIGHT)",
        rich_help_panel=CONTROLS_PANEL,
    )
    sound_strength: float | None = option(
        "How strongly the negative acts in the sound, 0 to 1.", rich_help_panel=CONTROLS_PANEL
    )
    report: bool = option("Write beside each picture what the negative did, with a heat map.", default=False)
    like: str | None = option(
        "Repeat this PNG picture or MP4 clip, also one of AUTOMATIC1111 or ComfyUI; flags replace single fields.",
        metavar="FILE",
    )

    def __post_init__(self) -> None:
        if not isinstance(self.report, bool):  # from a config file
            raise RequestError(f"report has to be true or false, got {self.report!r}.")


@dataclass(frozen=True, kw_only=True)
class GenerateOptions(DrawingOptions, OwnOptions):
    """The options of `vsf generate`; their order in the help is that of the bases, last base first."""

    knobs: Mapping[str, object] = field(default_factory=dict)


@takes_options(GenerateOptions, knob_flags())
def command(options: GenerateOptions) -> None:
    """Draw images, guided away from a negative prompt."""
    prompts = _prompts(options)
    overrides = inputs.request_arguments(options)
    past = like.read(Path(options.like).expanduser()) if options.like else None
    arguments = past.repeat(overrides) if past else overrides
    inputs.check_model(arguments)
    requests = []
    for prompt in prompts or [arguments.get("prompt", "")]:
        requests.append(Request(**{**arguments, "prompt": prompt}))
    # The files are reserved, and tried out, before the model is loaded: that may take minutes.
    with _planned(requests, str(options.out), with_reports=options.report) as files:
        _print_warnings(requests, overrides, past.reproduction_warnings(overrides) if past else [])
        model = console.load_quietly(requests[0], quiet=options.json)
        if past:
            past.check_weights(overrides, model)
        _draw_and_save(requests, model, files, with_reports=options.report, quiet=options.json)


def _prompts(options: GenerateOptions) -> list[Prompt]:
    """Read the file of prompts; an empty list if none is given."""
    if options.prompts is None:
        if options.prompt is None and options.like is None:
            raise RequestError('no prompt: say what to draw, as in vsf generate "a red car".')
        return []
    if options.prompt is not None:
        raise RequestError("give a prompt, or a file of prompts with --prompts, not both.")
    return prompt_files.read(Path(str(options.prompts)).expanduser())


@contextmanager
def _planned(requests: Sequence[Request], out: str, *, with_reports: bool) -> Iterator[list[Path]]:
    """Reserve the files of all pictures or clips, in the order of drawing, and the files written beside them."""
    stems: list[str] = []
    for request in requests:
        stems += [outputs.stem_of(request.wanted.positive)] * request.count
    draws_clips = requests[0].frames is not None
    if draws_clips:
        from vsf.generation import video

        video.check_encoder()
    # The names of the reports' heat maps are numbered: those of the longest list of negatives cover all.
    most_negatives = max(len(request.wanted.negatives) for request in requests)
    companions = partial(_companions, draws_clips, most_negatives if with_reports else None)
    with outputs.planned(out, stems, ".mp4" if draws_clips else ".png", companions) as files:
        yield files


def _companions(is_clip: bool, negatives: int | None, file: Path) -> list[Path]:
    """Return the files written beside a picture or clip: the sidecar of a clip, and the report on so many negatives."""
    files = [sidecar(file)] if is_clip else []
    if negatives is not None:
        files += report_files(file, negatives)
    return files


def _print_warnings(requests: Sequence[Request], given: Arguments, reproduction_warnings: Sequence[str]) -> None:
    """Print everything that is odd about the requests, though allowed, once each."""
    controls = given.keys() & {
        "knobs",
        "preset",
        "schedule",
        "mask",
        "within",
        "seconds",
        "frame_range",
        "negative_sound",
    }
    is_guided = bool(controls) or given.get("method", "none") != "none"
    messages: list[str] = []
    for request in requests:
        messages += inputs.warnings(request, is_guided=is_guided)
    messages += reproduction_warnings
    for request in requests:
        if request.wanted.negatives and request.method == "none" and not request.host_negative:
            messages.append("method none ignores the negative prompt.")
    for message in dict.fromkeys(messages):
        console.note(message)


def _draw_and_save(
    requests: Sequence[Request], model: Model, files: Sequence[Path], *, with_reports: bool, quiet: bool
) -> None:
    """Save each image as soon as it is finished; after Ctrl-C the finished ones stay, and are printed."""
    from vsf.generation import draw, report

    entries: list[dict[str, Any]] = []
    free_files = iter(files)
    try:
        with feedback.library_warnings_off(), console.steps(len(files), quiet=quiet) as progress:
            for request in requests:
                for message in feedback.unread_messages(request, model):
                    console.note(message)
                for result in draw(request, model, console.after(progress, len(entries)), observe=with_reports):
                    file = next(free_files)
                    _save(file, result)
                    entry = {"file": str(file), **_seen(request, result), **provenance.portable(result.metadata)}
                    if with_reports:
                        entry["report"] = report.write(file, result)
                    feedback.note_unseen(result, str(file))
                    entries.append(entry)
    finally:
        if quiet:
            console.print_json(entries)
        else:
            for entry in entries:
                _print(entry)


def _save(file: Path, result: Result) -> None:
    if result.frames:
        from vsf.generation import video

        video.write(file, result.frames, result.metadata)
    else:
        provenance.write(file, result.image, result.metadata, result.prompt)


def _seen(request: Request, result: Result) -> dict[str, str]:
    verdict = feedback.verdict(request.model, result, " ".join(result.negatives))
    return {"seen": verdict} if verdict else {}


def _print(entry: Mapping[str, Any]) -> None:
    verdict = f": the judge saw {entry['seen']}" if "seen" in entry else ""
    lines = [f"{entry['file']}  (seed {entry['seed']}){verdict}"]
    if "report" in entry:
        for sentence in feedback.sentences(Path(entry["file"]), entry["report"]):
            lines.append(f"  {sentence}")
    console.stdout.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
