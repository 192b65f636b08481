"""The base class of guidance methods."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeVar

from jaxtyping import Float
from torch import Tensor

from vsf.attention.layout import Kind
from vsf.errors import KnobError
from vsf.guidance.fusion import Fusion
from vsf.guidance.partials import Numbers, Partials
from vsf.knobs import AUTO, knobs

# Not Self, which checkers of annotations at run time take in decorated classes only.
Method = TypeVar("Method", bound="Guidance")


class Guidance(ABC):
    """A rule for the attention output of image rows when there is a negative prompt.

    A method is a frozen dataclass whose fields are declared with `knob` and `choice`; creating one checks their values.
    It has to define `name` and `combine`; everything else has a default that most methods keep. Hosts read these
    members, and never look at a method's class or knobs.

    Raises:
        KnobError: a knob has a value that is not allowed.
    """

    __slots__ = ()

    name: ClassVar[str]
    """The name of the method in `vsf.method`, on the command line and in files."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
    """Published settings of the knobs under the names they are known by."""

    guided_rows: ClassVar[Collection[Kind]] = frozenset({"image"})
    """The rows on which the method acts in joint attention; the others see what the unguided model sees.

    Empty for a method that does nothing at all.
    """

    model_calls: ClassVar[int] = 1
    """How often the denoiser is called in each step; 2 where `mix` needs its output under the negative prompt too."""

    def __post_init__(self) -> None:
        for knob in knobs(type(self)):
            knob.check(getattr(self, knob.name))

    @abstractmethod
    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Compute the attention output of the partials' rows, in their dtype.

        Args:
            partials: the rows' attention over image, positive and negative prompt, computed on demand.
        """

    def fusion(self, numbers: Numbers) -> Fusion | None:
        """Name the fused kernel that computes the same as `combine`; None where there is no such kernel."""
        return None

    def mix(
        self,
        conditional: Float[Tensor, "batch ..."],
        unconditional: Float[Tensor, "batch ..."],
        strength: float | Float[Tensor, "..."] = 1.0,
    ) -> Float[Tensor, "batch ..."]:
        """Combine the two outputs of a method that calls the model twice.

        Args:
            conditional: the model's output under the positive prompt.
            unconditional: its output under the negative prompt.
            strength: a number, or a tensor that broadcasts to the outputs, such as a mask over the picture.

        Raises:
            KnobError: the method calls the model once.
        """
        raise KnobError(f'method "{self.name}" calls the model once: there are no two outputs to mix')

    @property
    def token_layout(self) -> Literal["paper", "reference"]:
        """The tokens that are added to the sequence.

        "paper": those of the negative. "reference": also an unflipped copy of the negative behind the positive prompt.
        """
        return "paper"

    @property
    def strips_special_tokens(self) -> bool:
        """True if the begin and end tokens of the negative prompt are left out."""
        return False

    @property
    def is_auto(self) -> bool:
        """True if each step chooses the scale from the attention of the step before (see `AutoScale`)."""
        return any(isinstance(value, str) and value == AUTO for value in self.knob_values().values())

    def with_knobs(self: Method, **values: Any) -> Method:
        """Return the method with other values of some knobs. Raises KnobError."""
        return replace(self, **values)  # type: ignore[type-var]  # every method is a dataclass

    def knob_values(self) -> dict[str, Any]:
        """Return the value of each knob, in order of declaration."""
        return {knob.name: getattr(self, knob.name) for knob in knobs(type(self))}
