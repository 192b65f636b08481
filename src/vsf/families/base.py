"""What a model family has to say about itself, and the answers that most of them share."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vsf.encode import Negative, NegativeRows, Share
from vsf.errors import KnobError, LayoutError, PromptError, UnsupportedAttentionError, UnsupportedPipelineError
from vsf.guidance import Guidance
from vsf.prompt import Prompt
from vsf.spans import Span, TokenLayout

Negatives = str | Mapping[str, float]
"""What one prompt should leave out: a text, or several with the weight of each."""


@dataclass(frozen=True, slots=True)
class Role:
    """How a layer attends: image and text together ("joint", and where the image tokens stand) or image to text."""

    kind: Literal["joint", "cross"]
    image: Literal["first", "last"] = "first"

    def layout(self, text: tuple[Span, ...], keys: int) -> TokenLayout:
        """Return the spans of a layer's keys, given those of its text."""
        if self.kind == "cross":
            return TokenLayout(text)
        image = Span("image", keys - sum(span.length for span in text))
        return TokenLayout((image, *text) if self.image == "first" else (*text, image))


@dataclass(frozen=True, slots=True)
class Encoded:
    """One prompt as its encoders made it: real tokens only, with their begin and end marks."""

    embeddings: Float[Tensor, "tokens channels"]
    special: Bool[Tensor, " tokens"]


@dataclass(frozen=True, slots=True)
class Injection:
    """A denoiser call with the negatives in its text.

    arguments: what to call the denoiser with. text: the spans of the text tokens, one tuple for all rows or one per
    row. valid: (batch, negative tokens of a row), which of them are real; None when all are. weights: (batch,
    negatives), None when all are 1.
    """

    arguments: dict[str, Any]
    text: tuple[tuple[Span, ...], ...]
    valid: Bool[Tensor, "batch tokens"] | None
    weights: Float[Tensor, "batch negatives"] | None = None

    @property
    def text_tokens(self) -> int:
        """Length of the text, negatives included."""
        return sum(span.length for span in self.text[0])


class Family(ABC):
    """One model architecture: where its attention is, how its text enters, how its prompts are encoded."""

    name: ClassVar[str]
    denoisers: ClassVar[tuple[str, ...]]
    """Class names of the models that predict the noise."""
    roles: ClassVar[tuple[tuple[str, Role], ...]]
    """Pattern of an attention module's name, and its role; modules that match none are not touched."""
    text: ClassVar[str] = "encoder_hidden_states"
    """The denoiser's argument that carries the text tokens, (batch, tokens, channels)."""
    has_reference_layout: ClassVar[bool] = False

    @abstractmethod
    def encode(self, pipe: Any, text: str) -> Encoded:
        """Encode one non-empty prompt with the pipeline's own encoders. Raises PromptError when they are gone."""

    @abstractmethod
    def grid(self, denoiser: nn.Module, arguments: Mapping[str, Any]) -> tuple[int, int]:
        """Return how many rows and columns of image tokens a denoiser call has; tokens go row by row."""

    def encode_all(self, pipe: Any, negatives: Negatives | Sequence[Negatives]) -> Negative:
        """Encode the negatives of one prompt, a text or {text: weight}, or of each; "" and {} have no token.

        Each text is encoded on its own, because a batch would bring padding back. Raises PromptError for anything else.
        """
        alone = isinstance(negatives, str) or not isinstance(negatives, Sequence)
        wanted = [_weights(own) for own in ([negatives] if alone else negatives)]
        texts = dict.fromkeys(text for weights in wanted for text in weights)
        encoded = {text: self.encode(pipe, text) for text in texts}
        width = next((one.embeddings.shape[1] for one in encoded.values()), 0)
        nothing = Encoded(torch.zeros(0, width), torch.zeros(0, dtype=torch.bool))
        found = [[encoded[text] for text in weights] or [nothing] for weights in wanted]
        shares = [[Share(len(encoded[text].special), weight) for text, weight in own.items()] for own in wanted]
        return Negative(
            tuple(torch.cat([one.embeddings for one in own]) for own in found),
            tuple(torch.cat([one.special for one in own]) for own in found),
            tuple(tuple(own or [Share(0)]) for own in shares),
        )

    def denoisers_of(self, target: Any) -> list[nn.Module]:
        """Return the models to guide: the target itself, or those among a pipeline's components."""
        components = [target] if isinstance(target, nn.Module) else getattr(target, "components", {}).values()
        return [part for part in components if set(class_names(part)) & set(self.denoisers)]

    def attention_layers(self, denoiser: nn.Module) -> dict[str, tuple[nn.Module, Role]]:
        """Find the attention layers to guide, by name. Raises UnsupportedAttentionError when there is none."""
        layers = {
            name: (module, role)
            for name, module in denoiser.named_modules()
            for pattern, role in self.roles
            if re.fullmatch(pattern, name) and hasattr(module, "processor")
        }
        if not layers:
            raise UnsupportedAttentionError(f"{type(denoiser).__name__} has no attention layer that can be guided")
        return layers

    def check(self, target: Any, method: Guidance) -> None:
        """Raise KnobError or UnsupportedPipelineError for what this family cannot do."""
        if getattr(method, "layout", "paper") == "reference" and not self.has_reference_layout:
            raise KnobError(f'layout="reference" exists for sd3 only, not for {self.name}; use layout="paper"')
        if hasattr(type(target), "do_perturbed_attention_guidance"):
            raise UnsupportedPipelineError(
                f"{type(target).__name__} swaps its attention processors during a run and cannot be guided; "
                "use the pipeline without perturbed attention"
            )

    def conditional_rows(self, pipe: Any, arguments: Mapping[str, Any]) -> list[bool]:
        """Tell for each row of a denoiser call whether it stands for the positive prompt.

        `pipe` is None when the denoiser is guided on its own; then every row does.
        """
        del pipe
        return [True] * len(arguments[self.text])

    def inject(self, arguments: Mapping[str, Any], negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives to the text tokens."""
        del layout
        text = arguments[self.text]
        added = negative.embeddings.shape[1]
        spans = (Span("positive", text.shape[1]), *(Span("negative", slot) for slot in negative.slots))
        joined = torch.cat([text, negative.embeddings], 1)
        return Injection({**arguments, self.text: joined}, (spans,), negative.valid(added), negative.weights)

    def fraction_done(self, pipe: Any) -> float:
        """Tell which fraction of a run's steps is done, 0 in the first. Raises KnobError if it cannot be told."""
        scheduler = pipe.scheduler
        if not hasattr(scheduler, "step_index"):
            raise KnobError(
                f"{type(scheduler).__name__} does not tell at which step it is, so start, end and curve of a schedule "
                "cannot be followed; use another scheduler, or a schedule of layers alone"
            )
        begin = getattr(scheduler, "begin_index", None) or 0
        step = begin if scheduler.step_index is None else scheduler.step_index
        return float((step - begin) / (len(scheduler.timesteps) - begin))


def _weights(negatives: object) -> Mapping[str, float]:
    """Return the weight of each negative of one prompt."""
    if isinstance(negatives, str):
        return {negatives: 1.0} if negatives.strip() else {}
    if isinstance(negatives, Mapping):
        return Prompt("", negatives).negatives
    raise PromptError(
        f"the negatives of a prompt are {{text: weight}}, or texts, got {type(negatives).__name__}; "
        "a vsf.Prompt has them as .negatives"
    )


def class_names(target: object) -> list[str]:
    """Return the class names of an object, of what it wraps when it is compiled, and of their bases."""
    return [cls.__name__ for cls in type(getattr(target, "_orig_mod", target)).__mro__]


def halves(rows: int) -> list[bool]:
    """Return the rows of classifier-free guidance in one batch: unconditional first. Raises LayoutError if odd."""
    if rows % 2:
        raise LayoutError(f"classifier-free guidance needs an even number of rows, got {rows}")
    return [False] * (rows // 2) + [True] * (rows // 2)
