"""Encode the negative prompts of one pipeline call, each alone or in its context."""

import warnings
from collections.abc import Mapping, Sequence

import torch

from vsf.errors import KnobError, PromptError
from vsf.families.base.family import Encoded, Family, class_names
from vsf.families.base.host import EncodingOptions, Pipeline
from vsf.families.base.reading import encoding_options, read_with, tokenized_with
from vsf.families.base.unread import Unread, UnreadWarning, listening
from vsf.text.context import GAP, contexts, own_tokens
from vsf.text.embeddings import Negative, Share
from vsf.text.prompt import Prompt

_Weight = float | tuple[float, float]
"""The weight of a negative, or one for the picture and one for the sound."""

Negatives = str | Mapping[str, float]
"""The negatives of one prompt: a text, or several texts with the weight of each."""


def encode_negatives(
    family: Family,
    pipe: Pipeline,
    negatives: Negatives | Sequence[Negatives],
    within: str | Sequence[str] | None = None,
    options: EncodingOptions | None = None,
    sound: Negatives | Sequence[Negatives] | None = None,
) -> Negative:
    """Encode the negatives of one prompt, or of several prompts, with the pipeline's own encoders.

    Each text is encoded on its own, because a batch would bring padding back, and `within` its context.

    Args:
        family: of the pipeline.
        pipe: holds the encoders.
        negatives: for one prompt, or one entry per prompt; "" and {} become no token at all.
        within: a text with {} where the negative belongs, for all prompts or for each; only the negative's own tokens
            are kept.
        options: of the pipeline's `encode_prompt`; by default those of a call without arguments.
        sound: negatives of a clip's sound, given like those of its picture, which then are for the picture alone; None
            where all are for both.

    Raises:
        PromptError: the pipeline cannot encode texts, `negatives` are not texts, or nothing of a negative is read.
        KnobError: with `within`, when it is not known which tokens are the negative's; with `sound`, where no layer is
            the sound's own.
    """
    require_encoding(family, pipe)
    weights_of_prompts: Sequence[Mapping[str, _Weight]] = _of_each_prompt(negatives)
    if sound is not None:
        check_sound(family)
        weights_of_prompts = _with_sound(_of_each_prompt(negatives), _of_each_prompt(sound))
    contexts_of_prompts = contexts(within, len(weights_of_prompts))
    if options is None:
        options = encoding_options(pipe, {})

    # A text may stand in several prompts; its tokens are the same in all that share a context.
    encoded: dict[tuple[str, str | None], Encoded] = {}
    for weights, context in zip(weights_of_prompts, contexts_of_prompts, strict=True):
        for text in weights:
            if (text, context) not in encoded:
                encoded[text, context] = _encode(family, pipe, text, context, options)

    entries_of_prompts = []
    for weights, context in zip(weights_of_prompts, contexts_of_prompts, strict=True):
        entries_of_prompts.append([encoded[text, context] for text in weights])
    return _concatenated(entries_of_prompts, weights_of_prompts, options)


def unread_words(family: Family, pipe: Pipeline, text: str) -> Unread:
    """Return the words of a prompt that its encoders do not read. The prompt must not be blank.

    Raises:
        PromptError: the pipeline cannot encode texts.
    """
    require_encoding(family, pipe)
    with read_with(pipe, encoding_options(pipe, {})), listening(pipe, text) as listener:
        family.encode(pipe, text)
    return listener.unread


def require_encoding(family: Family, pipe: Pipeline) -> None:
    """Raise PromptError for what cannot encode a prompt: denoisers, and modular pipelines of most families."""
    if isinstance(pipe, torch.nn.Module):
        raise PromptError("a denoiser cannot encode texts: pass negative=vsf.encode(pipe, texts) of its pipeline")
    if "ModularPipeline" in class_names(pipe) and not family.encodes_from_parts:
        raise PromptError(
            f"{type(pipe).__name__} reads prompts in blocks of its own: encode with an ordinary pipeline of the "
            f"same parts, such as {family.pipelines[0]}: negative = vsf.encode(ordinary, texts), then "
            "guide(pipe, negative=negative)"
        )


def _encode(family: Family, pipe: Pipeline, text: str, context: str | None, options: EncodingOptions) -> Encoded:
    """Encode one negative, alone or in its context, and warn of words that are not read.

    Raises:
        PromptError: none of the negative's words is read.
    """
    prompt = text if context is None else context.replace(GAP, text)
    with read_with(pipe, options), listening(pipe, prompt) as listener:
        encoded = family.encode(pipe, prompt)
    unread = listener.unread
    if set(text.split()) <= set(unread.unknown):
        raise PromptError(f"nothing is left of this negative prompt: {unread}; use other words")
    if unread:
        warnings.warn(str(unread), UnreadWarning, stacklevel=4)
    if context is None:
        return encoded
    characters = encoded.characters
    if characters is None:
        with tokenized_with(pipe, options):
            characters = family.characters(pipe, prompt)
    keep = own_tokens(text, context, characters, encoded.special)
    return Encoded(encoded.embeddings[keep], encoded.special[keep])


def _concatenated(
    entries_of_prompts: Sequence[Sequence[Encoded]],
    weights_of_prompts: Sequence[Mapping[str, _Weight]],
    options: EncodingOptions,
) -> Negative:
    """Put the negatives of each prompt one behind the other; a prompt without one has no token."""
    encoded = next((entries[0] for entries in entries_of_prompts if entries), None)
    channels = 0 if encoded is None else encoded.embeddings.shape[1]
    empty = Encoded(torch.zeros(0, channels), torch.zeros(0, dtype=torch.bool))
    embeddings = []
    special = []
    shares = []
    for entries, weights in zip(entries_of_prompts, weights_of_prompts, strict=True):
        embeddings.append(torch.cat([entry.embeddings for entry in entries or [empty]]))
        special.append(torch.cat([entry.special for entry in entries or [empty]]))
        counts = [len(entry.special) for entry in entries]
        shares.append(tuple(map(_share, counts, weights.values())) or (Share(0),))
    texts = tuple(map(tuple, weights_of_prompts))
    return Negative(tuple(embeddings), tuple(special), tuple(shares), texts, options)


def check_sound(family: Family) -> None:
    """Raise KnobError for a family without attention layers of the sound's own."""
    if not family.has_sound:
        raise KnobError(
            f"no attention layer of {family.name} is for sound alone, so that sound cannot be guided apart: leave "
            "sound= and sound_strength= out"
        )


def _of_each_prompt(negatives: Negatives | Sequence[Negatives]) -> list[Mapping[str, float]]:
    """Return the weights of each prompt's negatives."""
    if isinstance(negatives, str) or not isinstance(negatives, Sequence):
        negatives = [negatives]
    return [_weights(entry) for entry in negatives]


def _with_sound(
    of_pictures: Sequence[Mapping[str, float]], of_sounds: Sequence[Mapping[str, float]]
) -> list[Mapping[str, _Weight]]:
    """Give each negative of each prompt two weights, of which one may be 0.

    Raises:
        PromptError: there are negatives of pictures and of sounds for different numbers of prompts.
    """
    prompts = max(len(of_pictures), len(of_sounds))
    if not {1, prompts}.issuperset({len(of_pictures), len(of_sounds)}):
        raise PromptError(
            f"{len(of_pictures)} negatives of the picture and {len(of_sounds)} of the sound: give as many"
        )
    pairs: list[Mapping[str, _Weight]] = []
    for prompt in range(prompts):
        picture = of_pictures[prompt % len(of_pictures)]
        sound = of_sounds[prompt % len(of_sounds)]
        texts = dict.fromkeys([*picture, *sound])
        pairs.append({text: (picture.get(text, 0.0), sound.get(text, 0.0)) for text in texts})
    return pairs


def _share(tokens: int, weight: _Weight) -> Share:
    return Share(tokens, *weight) if isinstance(weight, tuple) else Share(tokens, weight)


def _weights(negatives: object) -> Mapping[str, float]:
    """Return the weight of each negative of one prompt; None stands for no negative. Raises PromptError."""
    if negatives is None:
        return {}
    if isinstance(negatives, str):
        return {negatives: 1.0} if negatives.strip() else {}
    if isinstance(negatives, Mapping):
        return Prompt("", negatives).negatives
    raise PromptError(
        f"the negatives of a prompt are {{text: weight}}, or texts, got {type(negatives).__name__}; "
        "a vsf.Prompt has them as .negatives"
    )
