"""One guided denoiser call, independent of the host that makes it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vsf.attention.layout import Span, TokenLayout
from vsf.attention.partial import HostAttention
from vsf.controls.grid import Grid
from vsf.controls.region import Region
from vsf.errors import KnobError
from vsf.guidance import AttentionPlan, Control, Guidance, HostCall, Observation
from vsf.hosting.role import Role

Record = Callable[[str, Observation], None]
"""record(name, observation), called for each observed layer."""

_OfTokens = Float[Tensor, "batch key_heads tokens channels"]
KeysAndValues = tuple[_OfTokens, _OfTokens]


class GuidedCall:
    """Guides the attention layers during one denoiser call.

    The plan for layers of one shape is made in the first of them and kept for the others.

    Attributes:
        calls: attention calls in which the method acted so far; those in compiled code are not counted.
        knows_sizes: whether the spans hold the image too, so that the sizes of an attention call say all.
    """

    def __init__(
        self,
        method: Guidance,
        text: Sequence[tuple[Span, ...]],
        *,
        valid: Bool[Tensor, "batch negative_tokens"] | None = None,
        weights: Float[Tensor, "batch negatives"] | None = None,
        sound_weights: Float[Tensor, "batch negatives"] | None = None,
        unguided: tuple[int, ...] | None = None,
        strength: float | Tensor = 1.0,
        sound_strength: float = 1.0,
        region: Region | None = None,
        places: Sequence[Sequence[Region | None]] | None = None,
        grid: Grid | None = None,
        emphasis: Sequence[Float[Tensor, " positive_tokens"] | None] | None = None,
        inactive: Collection[str] = (),
        negative_keys: Mapping[str, KeysAndValues] | None = None,
        record: Record | None = None,
    ) -> None:
        """Take the settings of the call, before its layers run.

        Args:
            method: the guidance.
            text: the spans of the text tokens, negatives among them, once for all batch rows or for each.
            valid: which of a row's negative tokens are real; None when all are.
            weights: of each row's negatives; None when all are 1.
            sound_weights: the same in layers whose image tokens are no part of the picture, and on tokens of sound
                that the grid tells of; None where they do not differ.
            unguided: the batch rows that have no negative; None where that is not known.
            strength: how strongly the method acts, a number or a tensor without axes.
            sound_strength: a factor of it where the sound's weights count.
            region: where it acts; needs a grid.
            places: where each negative of each batch row acts, None for everywhere; needs a grid.
            grid: how the image tokens of the finest layers lie in the picture.
            emphasis: for each batch row the weights of its positive tokens, None where all are 1.
            inactive: names of the layers in which the method is off.
            negative_keys: the keys and values of the negatives in each layer, where the host's call has no such tokens.
                They are appended there; `text` has the negatives last.
            record: called for each layer that has a name; None observes nothing.

        Raises:
            KnobError: a region without a grid.
        """
        if (region is not None or places is not None) and grid is None:
            raise KnobError("a region needs a grid, to say which image token lies in it")
        self.method = method
        self.text = tuple(text)
        self.strength = strength
        self.inactive = frozenset(inactive)
        self.record = record
        self.calls = 0
        self._valid = valid
        self._weights = weights
        self._sound_weights = weights if sound_weights is None else sound_weights
        self._sound_strength = sound_strength
        self._places = places
        self._unguided = unguided
        self._emphasis = emphasis
        self._region = region
        self._grid = grid
        layout = TokenLayout(self.text[0])
        in_the_call = layout if negative_keys is None else layout.without_negatives()
        self._tokens = in_the_call.tokens
        self._rows = in_the_call.of_rows().tokens
        self._image = layout.count(["image"])
        self._negative_keys = negative_keys
        self._latest_bias: tuple[Tensor, Tensor] | None = None
        self._is_off = not isinstance(strength, Tensor) and strength == 0
        self.knows_sizes = any(span.kind == "image" for span in self.text[0])
        self._plans: dict[object, AttentionPlan] = {}
        self._causal_mask: Tensor | None = None

    def sees_text(self, role: Role, queries: int, keys: int) -> bool:
        """Tell whether an attention call of these sizes may be the one that sees the text of this denoiser call.

        Args:
            role: how the layer attends.
            queries: how many rows attend.
            keys: how many tokens they attend to.
        """
        if role.kind == "cross":
            return keys == self._tokens and (not self.knows_sizes or queries == self._image)
        # Where tokens attend to one another there are as many queries as keys that are not kept; calls of an adapter
        # have fewer keys.
        if role.kind == "text" or self.knows_sizes:
            return keys == self._tokens and queries == self._rows
        return queries == keys > self._tokens

    def attend(
        self,
        role: Role,
        query: Float[Tensor, "batch heads queries channels"],
        key: Float[Tensor, "batch key_heads keys channels"],
        value: Float[Tensor, "batch key_heads keys channels"],
        *,
        bias: Float[Tensor, "..."] | Bool[Tensor, "..."] | None = None,
        scale: float | None = None,
        causal: bool = False,
        name: str | None = None,
        host: HostAttention | None = None,
    ) -> Float[Tensor, "batch heads queries channels"]:
        """Guide one attention call that sees the text.

        Args:
            role: how the layer attends.
            query: all rows, those of the negatives among them where text attends too.
            key: of all tokens; fewer heads are shared by groups of the queries'.
            value: as the keys.
            bias: the host's own mask, boolean (True = visible) or added to the logits.
            scale: of the logits; None = 1/√channels.
            causal: whether no text token sees those behind it, in a layer of the role "text" without a mask.
            name: of the layer, for `inactive` and `record`.
            host: the host's own attention; None is torch's.

        Returns:
            The output of every row.

        Raises:
            LayoutError: the shapes do not fit the spans.
        """
        kind: Literal["joint", "cross"] = "cross" if role.kind == "cross" else "joint"
        if causal:
            bias = self._none_behind(key)
        if self._negative_keys is not None:
            assert name is not None
            negative_key, negative_value = self._negative_keys[name]
            bias = self._extended(bias, negative_key.shape[2])
            key = torch.cat([key, negative_key], 2)
            value = torch.cat([value, negative_value], 2)
        call = HostCall(query, key, value, kind, bias, scale, host)
        acts = not self._is_off and role.kind != "text" and name not in self.inactive
        if torch.compiler.is_compiling():
            # A plan that is kept would be an input of the compiled code, with guards on everything in it; one that is
            # made while compiling turns into constants and operations of the code.
            return self._plan(role, call, acts=acts).attend(call)
        self.calls += acts
        shape = (role.kind, role.image, role.picture, acts, query.shape, key.shape, value.shape, query.dtype)
        plan = self._plans.get(shape)
        if plan is None:
            plan = self._plans[shape] = self._plan(role, call, acts=acts)
        if self.record is None or name is None or not acts or not role.picture:
            return plan.attend(call)
        return plan.attend(call, partial(self.record, name))

    def _plan(self, role: Role, call: HostCall, *, acts: bool) -> AttentionPlan:
        """Plan for the layers that attend like this one."""
        layouts = [role.layout(spans, call.key.shape[2]) for spans in self.text]
        images = call.query.shape[2] if call.kind == "cross" else layouts[0].count(["image"])
        strength = self._strength_on(images, role, call.query.device) if acts else 0.0
        weights = self._weights_on(images, role, call) if acts else None  # they count where the method acts alone
        control = Control(weights, strength, self._emphasis, self._unguided)
        layout = layouts if len(layouts) > 1 else layouts[0]
        return AttentionPlan(self.method, call, layout, negative_valid=self._valid, control=control)

    def _none_behind(self, key: Tensor) -> Bool[Tensor, "tokens tokens"]:
        """Return the mask of a causal layer, which hides the tokens behind each; the same one for all layers.

        No text sees another, so the mask of the whole sequence is also that of each text in it.
        """
        mask = self._causal_mask
        if mask is None:
            mask = torch.ones(key.shape[2], key.shape[2], dtype=torch.bool, device=key.device).tril()
            if not torch.compiler.is_compiling():
                self._causal_mask = mask
        return mask

    def _extended(self, bias: Tensor | None, tokens: int) -> Tensor | None:
        """Let a mask show so many further keys; the same one for all layers that share the host's."""
        if bias is None or bias.shape[-1] == 1:
            return bias
        latest = self._latest_bias
        if latest is None or latest[0] is not bias:
            latest = bias, F.pad(bias, (0, tokens), value=bias.dtype == torch.bool)
            if not torch.compiler.is_compiling():
                self._latest_bias = latest
        return latest[1]

    def _strength_on(self, tokens: int, role: Role, device: torch.device) -> float | Tensor:
        """Return the strength in a layer of this many image tokens: a number, or where it differs one for each."""
        if not role.picture:
            return self.strength * self._sound_strength
        grid = self._grid
        if grid is None or (self._region is None and (self._sound_strength == 1 or not grid.sound)):
            return self.strength
        strength = torch.ones(tokens, device=device)
        if self._region is not None:
            strength = self._region.on_tokens(tokens, grid, device)
        return self.strength * torch.where(_is_sound(tokens, grid, device), self._sound_strength * strength, strength)

    def _weights_on(self, tokens: int, role: Role, call: HostCall) -> Tensor | None:
        """Return the negatives' weights in a layer of this many image tokens, where they differ one for each."""
        if not role.picture:
            return self._sound_weights
        grid = self._grid
        sound_differs = self._sound_weights is not self._weights
        if grid is None or (self._places is None and not (sound_differs and grid.sound)):
            return self._weights
        query = call.query
        wide_dtype = torch.promote_types(query.dtype, torch.float32)
        negatives = max(len(TokenLayout(spans).negative_lengths) for spans in self.text)
        of_places = torch.ones(len(query), negatives, tokens, dtype=wide_dtype, device=query.device)
        for row, regions in enumerate(self._places or ()):
            for number, region in enumerate(regions):
                if region is not None:
                    of_places[row, number] = region.on_tokens(tokens, grid, query.device)
        of_picture = of_places if self._weights is None else of_places * self._weights[..., None]
        if not sound_differs:
            return of_picture
        assert self._sound_weights is not None
        of_sound = of_places * self._sound_weights[..., None]
        return torch.where(_is_sound(tokens, grid, query.device), of_sound, of_picture)


def _is_sound(tokens: int, grid: Grid, device: torch.device) -> Bool[Tensor, " tokens"]:
    """Tell which of a layer's image tokens are sound."""
    rank = torch.arange(tokens, device=device)
    return (rank >= grid.before - grid.sound) & (rank < grid.before)
