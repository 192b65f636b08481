"""Guide a live pipeline: one family and one method put onto it, and taken off with nothing left behind."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from torch import nn

from vsf.controls.region import Region
from vsf.controls.schedule import Schedule
from vsf.errors import KnobError, NotGuidedError, PromptError, UnknownNameError
from vsf.families import find_family
from vsf.families.base.encode_negatives import Negatives, unread_words
from vsf.families.base.reading import chosen_options
from vsf.families.base.unread import Unread
from vsf.guidance import Guidance
from vsf.guidance import method as make_method
from vsf.patching.swaps import ENCODING, owner_of
from vsf.runtime.report import Report
from vsf.runtime.session import Session, encoded
from vsf.text.embeddings import Negative
from vsf.text.prompt import Prompt


@contextmanager
def guide(
    pipe: Any,
    negative_prompt: Prompt | Sequence[Prompt] | Negatives | Sequence[Negatives] | None = None,
    *,
    negative: Negative | None = None,
    within: str | Sequence[str] | None = None,
    method: str | Guidance = "vsf",
    schedule: Schedule | None = None,
    mask: Any = None,
    observe: bool = False,
    **options: Any,
) -> Iterator[Report]:
    """Guide every call of a diffusers pipeline inside the block away from a negative prompt.

    pipe: a pipeline of a supported family. Its own `negative_prompt=` argument stays with classifier-free guidance.
        Also a denoiser on its own, together with `negative`; then every batch row is guided.
    negative_prompt: one text for all prompts, or one per prompt; "" leaves its images as they are, to the last bit,
        and so does None, which is none here as everywhere in diffusers.
        Instead of a text also several with their weights, {"wheels": 1.0, "lights": 0.5}; they do not see each other,
        weight w adds ln w to the negative's logits, and 0 leaves it out. A `vsf.Prompt`, or one per prompt, brings
        its negatives and the weights of its own words; the pipeline is then called with `prompt.positive`.
    negative: the same from `vsf.encode`, for pipelines whose text encoders are freed.
    within: what the negative belongs to, a text with {} in its place, for all prompts or for each: "a red car with {}".
        It is encoded there, so that it means the wheels of this car, and only its own tokens (and marks) act.
    method: a name, or an instance such as `vsf.ValueSignFlip(scale=1.5)`.
    schedule: in which steps and layers, and how strongly, such as `vsf.Schedule(end=0.75)`; everywhere by default.
    mask: where in the picture: a tensor (height, width) of numbers from 0 to 1, a PIL image (white = 1), or a box
        (left, top, right, bottom) in fractions.
    observe: note in every layer how much the image looks at each negative and what that changes, for the report; it
        costs time and memory. `scale="auto"` observes anyway.
    options: how the negative prompt is read, where the pipeline is called with the same: `clip_skip`, `lora_scale`
        (what the call takes as `cross_attention_kwargs={"scale": ...}`), and what else its `encode_prompt` has to
        say about that. A call that reads its prompt otherwise ends in a PromptError.

    One guided pipeline per thread, with a denoiser of its own; encoders are shared safely. Other pipelines with this
    denoiser are refused inside of the block.

    Yields the Report. Raises UnsupportedPipelineError, UnsupportedAttentionError, AlreadyGuidedError, PromptError and
    KnobError before anything runs, NotGuidedError when a run turns out not to have been guided.
    """
    session = Session(pipe, *_settings(method, schedule, mask), observe)
    if negative_prompt is not None and negative is not None:
        raise PromptError("give either negative_prompt=, texts, or negative=, the result of vsf.encode")
    if negative is not None and (within is not None or options):
        name = "within" if within is not None else next(iter(options))
        raise PromptError(f"negative= is encoded already: give {name}= to vsf.encode")
    if negative is not None:
        session.use(negative)
    elif negative_prompt is not None:
        session.take(cast(Negatives, negative_prompt), within, chosen_options(pipe, options))
    try:
        session.install()
        yield session.report
    finally:
        session.uninstall()


def attach(
    pipe: Any,
    *,
    method: str | Guidance = "vsf",
    schedule: Schedule | None = None,
    mask: Any = None,
    observe: bool = False,
) -> Report:
    """Let the pipeline's own `negative_prompt=` argument feed the guidance, until `detach`.

    The argument takes texts as `guide` does, or a Negative from `vsf.encode`, and is added where a pipeline has none;
    `prompt=` also takes a `vsf.Prompt`, or one per prompt, with the negatives in it.
    Under classifier-free guidance the unconditional rows are those of the empty prompt. Other negative arguments
    (`negative_prompt_2`, embeddings) are refused with a PromptError. The negative is read as the call reads its prompt,
    with the same `clip_skip` and weight of LoRAs. A pipeline that is attached already goes on with
    the method, schedule, mask and observe given now; compiled code is kept.

    One guided pipeline per thread, with a denoiser of its own; encoders are shared safely. Other pipelines with this
    denoiser stay unguided.

    Returns the Report, which each run adds to. Raises as `guide` does.
    """
    if isinstance(pipe, nn.Module):
        raise PromptError("attach needs a pipeline, whose negative_prompt= it takes over; guide takes a denoiser")
    present = owner_of(pipe)
    if present is not None and present.takes_argument:
        present.change(*_settings(method, schedule, mask), observe)
        return present.report
    session = Session(pipe, *_settings(method, schedule, mask), observe)
    session.takes_argument = True
    session.install()
    return session.report


def detach(pipe: Any) -> None:
    """Undo `attach`. Raises NotGuidedError for a pipeline that is not attached."""
    session = owner_of(pipe)
    if session is None or not session.takes_argument:
        raise NotGuidedError(f"this {type(pipe).__name__} is not attached: vsf.attach(pipe) comes first")
    session.uninstall()


def encode(
    pipe: Any,
    negatives: Negatives | Sequence[Negatives],
    within: str | Sequence[str] | None = None,
    **options: Any,
) -> Negative:
    """Encode negative prompts with the pipeline's own encoders, without padding; "" becomes no token at all.

    negatives: one text or mapping from text to weight, for all prompts, or one per prompt. within and options, such as
    `clip_skip`: as `guide` takes them.

    Raises PromptError when the encoders are gone or prompts of this pipeline are read without such an option,
    UnsupportedPipelineError for an unknown pipeline, KnobError for `within` where the family does not tell which tokens
    words become.
    """
    return encoded(find_family(pipe), pipe, negatives, within, chosen_options(pipe, options))


def unread(pipe: Any, texts: str | Prompt | Sequence[str]) -> list[Unread]:
    """Return what a pipeline would not read of some texts: words beyond its limit, or unknown to its tokenizers.

    texts: one, several, or a `vsf.Prompt`, which stands for its positive text and its negatives. Texts that are read
    as a whole are left out, so that an empty list means that nothing is lost. Each entry has the `text`, the part that
    is `cut` off and the `unknown` words, and as a `str` says so. The encoders run once for each text.

    Raises PromptError for what encodes no texts, such as a pipeline whose encoders are gone, UnsupportedPipelineError
    for an unknown pipeline.
    """
    family = find_family(pipe)
    written = [texts.positive, *texts.negatives] if isinstance(texts, Prompt) else texts
    several = [written] if isinstance(written, str) else written
    with ENCODING:  # encoders may be shared with pipelines of other threads
        entries = [unread_words(family, pipe, text) for text in several if text.strip()]
    return [entry for entry in entries if entry]


def _settings(method: str | Guidance, schedule: Schedule | None, mask: Any) -> tuple[Guidance, Schedule, Region | None]:
    """Check what is asked for."""
    if not isinstance(schedule, Schedule | None):
        raise KnobError(f"schedule= takes a vsf.Schedule, got {schedule!r}")
    return _resolved(method), schedule or Schedule(), None if mask is None else Region(mask)


def _resolved(method: str | Guidance) -> Guidance:
    """Return the method meant. Raises UnknownNameError for what is neither a known name nor an instance."""
    if isinstance(method, str):
        return make_method(method)
    if not isinstance(method, Guidance):
        raise UnknownNameError(f"method= takes a name or an instance such as vsf.ValueSignFlip(), got {method!r}")
    return method
