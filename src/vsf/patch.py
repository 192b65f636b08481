"""The public functions that guide a live pipeline, and leave nothing behind when guidance ends."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from torch import nn

from vsf.controls.places import Places
from vsf.controls.region import Range
from vsf.controls.schedule import Schedule
from vsf.errors import KnobError, NotGuidedError, PromptError, UnknownNameError
from vsf.families import find_family
from vsf.families.base.encode_negatives import Negatives, unread_words
from vsf.families.base.reading import chosen_options
from vsf.families.base.unread import Unread
from vsf.guidance import Guidance
from vsf.guidance import method as make_method
from vsf.patching.hosts import Pipeline
from vsf.patching.swaps import ENCODING, owner_of
from vsf.runtime.report import Report
from vsf.runtime.session import Session, encode_locked
from vsf.text.embeddings import Negative
from vsf.text.prompt import Prompt


@contextmanager
def guide(
    pipe: Pipeline | nn.Module,
    negative_prompt: Prompt | Sequence[Prompt] | Negatives | Sequence[Negatives] | None = None,
    *,
    negative: Negative | None = None,
    within: str | Sequence[str] | None = None,
    sound: Negatives | Sequence[Negatives] | None = None,
    method: str | Guidance = "vsf",
    schedule: Schedule | None = None,
    mask: Any = None,
    frames: Range | Mapping[str, Range] | None = None,
    seconds: Range | Mapping[str, Range] | None = None,
    fps: float | None = None,
    sound_strength: float = 1.0,
    observe: bool = False,
    **options: Any,
) -> Iterator[Report]:
    """Guide every call of a diffusers pipeline inside the block away from a negative prompt.

    One guided pipeline per thread, with a denoiser of its own; encoders are shared safely. Other pipelines with this
    denoiser are refused inside the block.

    Args:
        pipe: a pipeline of a supported family. Its own `negative_prompt=` argument stays with classifier-free guidance.
            Also a denoiser on its own, together with `negative`; then every batch row is guided.
        negative_prompt: one text for all prompts, or one per prompt. "" leaves its images as they are, to the last bit,
            and so does None, which means no negative prompt as everywhere in diffusers. Instead of a text also several
            texts with their weights, {"wheels": 1.0, "lights": 0.5}: they do not see each other, weight w adds ln w to
            the negative's logits, and 0 leaves it out. A `vsf.Prompt`, or one per prompt, brings its negatives and the
            weights of its own words; the pipeline is then called with `prompt.positive`.
        negative: the same from `vsf.encode`, for pipelines whose text encoders are freed.
        within: the context of the negative, a text with {} in its place, for all prompts or for each: "a red car with
            {}". The negative is encoded there, so that it means the wheels of this car, and only its own tokens (and
            marks) act.
        method: a name, or an instance such as `vsf.ValueSignFlip(scale=1.5)`.
        schedule: in which steps and layers the method acts, and how strongly, such as `vsf.Schedule(end=0.75)`;
            everywhere by default.
        mask: where in the picture it acts: a tensor (height, width) of numbers from 0 to 1, or (frames, height, width)
            spread over a clip, a PIL image (white = 1), or a box (left, top, right, bottom) in fractions.
        frames: when in a clip it acts: the first frame, counted from 0, and the first in which it no longer does. None
            for either leaves it open.
        seconds: the same in seconds.
        fps: frames per second, where neither the pipeline nor its call tells, or to count otherwise than they do.
            `mask`, `frames` and `seconds` may also be given for single negatives, by their texts: seconds={"rain":
            (0, 2), "fog": (2, 4)}. A negative that is not named acts everywhere.
        sound: negatives of the sound in a clip with sound, given like `negative_prompt`, which then is for the picture
            alone. None: all are for both.
        sound_strength: how strongly the method acts in the sound, as a factor of its strength, 0 to 1. The sound is
            guided all the time, whatever the mask or time of the picture.
        observe: note in every layer how much the image looks at each negative and what that changes, for the report; it
            costs time and memory. `scale="auto"` observes anyway.
        options: how the negative prompt is encoded, where the pipeline is called with the same: `clip_skip`,
            `lora_scale` (what the call takes as `cross_attention_kwargs={"scale": ...}`), and other such arguments of
            its `encode_prompt`. A call that encodes its prompt otherwise ends in a PromptError.

    Yields:
        The report, which each run adds to.

    Raises:
        UnsupportedPipelineError: no family recognises the pipeline, or it cannot be guided.
        UnsupportedAttentionError: it holds an attention processor that cannot be guided.
        AlreadyGuidedError: it is guided already, or runs in another thread.
        PromptError: the negatives cannot be used with it.
        KnobError: the method, schedule, mask or time cannot.
        NotGuidedError: a run turned out not to have been guided; all others come before anything runs.
    """
    places = Places.of(mask, frames, seconds, fps, sound_strength)
    session = Session(pipe, *_settings(method, schedule), places, observe)
    if negative_prompt is not None and negative is not None:
        raise PromptError("give either negative_prompt=, texts, or negative=, the result of vsf.encode")
    if negative is not None and (within is not None or sound is not None or options):
        name = "within" if within is not None else "sound" if sound is not None else next(iter(options))
        raise PromptError(f"negative= is encoded already: give {name}= to vsf.encode")
    if negative is not None:
        session.use(negative)
    elif negative_prompt is not None or sound is not None:
        session.use_prompts(cast(Negatives, negative_prompt or ""), within, chosen_options(pipe, options), sound)
    try:
        session.install()
        yield session.report
    finally:
        session.uninstall()


def attach(
    pipe: Pipeline | nn.Module,
    *,
    method: str | Guidance = "vsf",
    schedule: Schedule | None = None,
    mask: Any = None,
    frames: Range | Mapping[str, Range] | None = None,
    seconds: Range | Mapping[str, Range] | None = None,
    fps: float | None = None,
    sound_strength: float = 1.0,
    observe: bool = False,
) -> Report:
    """Let the pipeline's own `negative_prompt=` argument feed the guidance, until `detach`.

    The argument takes texts as `guide` does, or a Negative from `vsf.encode`, and is added where a pipeline has none;
    `prompt=` also takes a `vsf.Prompt`, or one per prompt, with the negatives in it. Under classifier-free guidance the
    unconditional rows are those of the empty prompt. Other negative arguments (`negative_prompt_2`, embeddings) are
    refused with a PromptError. The negative is encoded as the call encodes its prompt, with the same `clip_skip` and
    weight of LoRAs.

    A pipeline that is attached already goes on with the settings given now; compiled code is kept. One guided pipeline
    per thread, with a denoiser of its own; encoders are shared safely. Other pipelines with this denoiser stay
    unguided.

    Args:
        pipe: a pipeline of a supported family.
        method: as `guide` takes it.
        schedule: as `guide` takes it.
        mask: as `guide` takes it.
        frames: as `guide` takes it.
        seconds: as `guide` takes it.
        fps: as `guide` takes it.
        sound_strength: as `guide` takes it.
        observe: as `guide` takes it.

    Returns:
        The report, which each run adds to.

    Raises:
        VsfError: as `guide` raises, partly when the pipeline is called.
    """
    if isinstance(pipe, nn.Module):
        raise PromptError("attach needs a pipeline, whose negative_prompt= it takes over; guide takes a denoiser")
    places = Places.of(mask, frames, seconds, fps, sound_strength)
    attached = owner_of(pipe)
    if attached is not None and attached.takes_argument:
        attached.change(*_settings(method, schedule), places, observe)
        return attached.report
    session = Session(pipe, *_settings(method, schedule), places, observe)
    session.takes_argument = True
    session.install()
    return session.report


def detach(pipe: Pipeline) -> None:
    """Undo `attach`.

    Raises:
        NotGuidedError: the pipeline is not attached.
    """
    session = owner_of(pipe)
    if session is None or not session.takes_argument:
        raise NotGuidedError(f"this {type(pipe).__name__} is not attached: vsf.attach(pipe) comes first")
    session.uninstall()


def encode(
    pipe: Pipeline,
    negatives: Negatives | Sequence[Negatives],
    within: str | Sequence[str] | None = None,
    *,
    sound: Negatives | Sequence[Negatives] | None = None,
    **options: Any,
) -> Negative:
    """Encode negative prompts with the pipeline's own encoders, without padding; "" becomes no token at all.

    Args:
        pipe: a pipeline of a supported family.
        negatives: one text or mapping from text to weight, for all prompts, or one per prompt.
        within: as `guide` takes it.
        sound: as `guide` takes it.
        options: as `guide` takes them.

    Raises:
        PromptError: the encoders are gone, or the pipeline encodes its prompts without such an option.
        UnsupportedPipelineError: no family recognises the pipeline.
        KnobError: `within` is given, and the family does not tell which tokens words become; or `sound`, and it has no
            layers of the sound's own.
    """
    return encode_locked(find_family(pipe), pipe, negatives, within, chosen_options(pipe, options), sound)


def unread(pipe: Pipeline, texts: str | Prompt | Sequence[str]) -> list[Unread]:
    """Return the words of some texts that a pipeline would not read: beyond its limit, or unknown to its tokenizers.

    The encoders run once for each text.

    Args:
        pipe: a pipeline of a supported family.
        texts: one, several, or a `vsf.Prompt`, which stands for its positive text and its negatives.

    Returns:
        An entry for each text that is not read as a whole, with the `text`, the part that is `cut` off and the
        `unknown` words; `str` of it says so in a sentence. An empty list means that nothing is lost.

    Raises:
        PromptError: nothing encodes texts, such as in a pipeline whose encoders are gone.
        UnsupportedPipelineError: no family recognises the pipeline.
    """
    family = find_family(pipe)
    if isinstance(texts, Prompt):
        texts = [texts.positive, *texts.negatives]
    elif isinstance(texts, str):
        texts = [texts]
    with ENCODING:  # encoders may be shared with pipelines of other threads
        entries = [unread_words(family, pipe, text) for text in texts if text.strip()]
    return [entry for entry in entries if entry]


def _settings(method: str | Guidance, schedule: Schedule | None) -> tuple[Guidance, Schedule]:
    """Check method and schedule, and return the objects that a session takes."""
    if not isinstance(schedule, Schedule | None):
        raise KnobError(f"schedule= takes a vsf.Schedule, got {schedule!r}")
    return _resolved(method), schedule or Schedule()


def _resolved(method: str | Guidance) -> Guidance:
    """Return the method. Raises UnknownNameError for anything but a known name or an instance."""
    if isinstance(method, str):
        return make_method(method)
    if not isinstance(method, Guidance):
        raise UnknownNameError(f"method= takes a name or an instance such as vsf.ValueSignFlip(), got {method!r}")
    return method
