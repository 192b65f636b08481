"""The equations, in float64, one query row at a time; shares no code with the package. And random cases for them."""

from dataclasses import dataclass
from itertools import count
from math import inf, log

import torch
from hypothesis import strategies as st
from torch import Tensor

# A layout here is one label per token: "image", "positive", "shared", "kept", or the number of a negative prompt.
Label = str | int


def rows_of(lengths: list[tuple[Label, int]]) -> list[Label]:
    return [label for label, length in lengths for _ in range(length)]


def softmax_row(logits: Tensor, seen: Tensor, signed_values: Tensor) -> Tensor:
    """Σ exp(logit)·value / Σ exp(logit) over the seen keys; zero where there is none."""
    chosen = torch.nonzero(seen & (logits > -inf)).flatten()
    if len(chosen) == 0:
        return torch.zeros(signed_values.shape[-1], dtype=torch.float64)
    powers = torch.exp(logits[chosen] - logits[chosen].max())
    return torch.einsum("k,kc->c", powers, signed_values[chosen]) / powers.sum()


def sees(row: Label, key: Label) -> bool:
    """Who sees whom in joint attention, by the paper; shared tokens count as the model's own."""
    if row == "image":
        return True
    if isinstance(row, int):
        return key in ("image", "shared", "kept") or key == row
    return not isinstance(key, int)


@dataclass
class Case:
    """One attention call; labels per batch row, one list for all or one each."""

    query: Tensor
    key: Tensor
    value: Tensor
    lengths: list[list[tuple[Label, int]]]
    kind: str
    negative_valid: Tensor | None = None
    bias: Tensor | None = None
    scale: float | None = None
    weights: Tensor | None = None
    strength: float | Tensor = 1.0
    emphasis: list[Tensor | None] | None = None

    def labels(self, row: int) -> list[Label]:
        return rows_of(self.lengths[row])

    def row_labels(self, row: int) -> list[Label]:
        """The label of every query; kept tokens have none."""
        if self.kind == "cross":
            return ["image"] * self.query.shape[2]
        return [label for label in self.labels(row) if label != "kept"]

    def visible(self, row: int, image: int | None = None) -> Tensor:
        """Which keys have a weight, to an image row where its number is given, to other rows the least one of all."""
        return self.real(row) & torch.tensor([self.weight(row, label, image) > 0 for label in self.labels(row)])

    def real(self, row: int) -> Tensor:
        """Which keys are real tokens; those of a negative that weighs nothing anywhere are not."""
        labels = self.labels(row)
        real = torch.ones(len(labels), dtype=torch.bool)
        if self.negative_valid is not None:
            negative = [at for at, label in enumerate(labels) if isinstance(label, int)]
            for flag, at in enumerate(negative):
                real[at] = self.negative_valid[row, flag]
        if self.weights is None or self.weights.dim() == 3:
            return real
        return real & torch.tensor([self.weight(row, label) > 0 for label in labels])

    def weight(self, row: int, label: Label, image: int | None = None) -> float:
        """A key's weight to an image row, to other rows (None) the least of all."""
        if self.weights is None or not isinstance(label, int):
            return 1.0
        weight = self.weights[row, label]
        if weight.dim() == 1:
            weight = weight.min() if image is None else weight[image]
        return float(weight)

    def log_weights(self, row: int, image: int | None = None) -> Tensor:
        """What a key's weight adds to the logits of image rows."""
        weights = [self.weight(row, label, image) for label in self.labels(row)]
        return torch.tensor([log(weight) if weight > 0 else 0.0 for weight in weights], dtype=torch.float64)

    def fade(self, row: int, image: int | None = None) -> float:
        """min(1, Σ weights) of the negatives that have a real token."""
        real = self.visible(row, image)
        there = {label for label, seen in zip(self.labels(row), real, strict=True) if isinstance(label, int) and seen}
        return min(1.0, sum(self.weight(row, label, image) for label in there))

    def log_emphasis(self, row: int) -> Tensor:
        """What a positive word's weight adds to the logits of image rows."""
        given = None if self.emphasis is None else self.emphasis[row]
        if given is None:
            return torch.zeros(len(self.labels(row)), dtype=torch.float64)
        weights = iter(given.tolist())
        logs = [log(next(weights)) if label == "positive" else 0.0 for label in self.labels(row)]
        return torch.tensor(logs, dtype=torch.float64)

    def strengths(self, row: int) -> list[float]:
        """How strongly the method acts on each image row, in order."""
        images = self.row_labels(row).count("image")
        every = torch.as_tensor(self.strength, dtype=torch.float64)
        every = every[row] if every.dim() == 2 else every
        return every.expand(images).tolist()

    def logits(self) -> Tensor:
        scale = self.query.shape[-1] ** -0.5 if self.scale is None else self.scale
        logits = torch.einsum("bhqc,bhkc->bhqk", self.query.double(), self.key.double()) * scale
        if self.bias is None:
            return logits
        bias = self.bias
        if bias.dtype == torch.bool:
            bias = torch.where(bias, 0.0, -inf).double()
        return logits + bias.double()


def reference(case: Case, method_row, text_too: bool = False, fades: bool = False) -> Tensor:
    """Guided attention; `method_row(logits, values, labels, real)` is the method, on one row of all heads.

    Weights come in as ln w on the logits, strength as Z⁺ + m·(combined − Z⁺). With `text_too` the method acts on every
    row, on those without a place in the picture with the least strength of all. With `fades` the method is called with
    fade=min(1, Σ weights of the negatives that have a real token).
    """
    logits, values = case.logits(), case.value.double()
    out = torch.zeros(*case.query.shape[:3], case.value.shape[3], dtype=torch.float64)
    for batch in range(out.shape[0]):
        keys, strengths = case.labels(batch), case.strengths(batch)
        least, places, images = min(strengths), iter(strengths), count()
        for at, row in enumerate(case.row_labels(batch)):
            image = next(images) if row == "image" else None
            real = case.visible(batch, image)
            own = logits[batch, :, at] + (case.log_emphasis(batch) if row == "image" else 0.0)
            seen = torch.tensor([row == "image" or sees(row, key) for key in keys])
            seen = seen & (real if row == "image" else case.real(batch))
            left_alone = seen & ~is_negative(keys) if row == "image" else seen
            unguided = attend(own, values[batch], left_alone)
            strength = next(places) if row == "image" else least if text_too else 0.0
            weighted = own + case.log_weights(batch, image)
            more = {"fade": case.fade(batch, image)} if fades else {}
            acts = strength and bool((real & is_negative(keys)).any())
            guided = method_row(weighted, values[batch], keys, real, **more) if acts else unguided
            out[batch, :, at] = unguided + strength * (guided - unguided)
    return out


def attend(logits: Tensor, values: Tensor, seen: Tensor) -> Tensor:
    """One row of all heads: (heads, keys), (heads, keys, channels) -> (heads, channels)."""
    return torch.stack([softmax_row(one, seen, value) for one, value in zip(logits, values, strict=True)])


def is_negative(keys: list[Label]) -> Tensor:
    return torch.tensor([isinstance(key, int) for key in keys], dtype=torch.bool)


def unguided_row(logits, values, keys, real):
    return attend(logits, values, real & ~is_negative(keys))


def under_negative_row(logits, values, keys, real):
    return attend(logits, values, real & torch.tensor([key != "positive" for key in keys], dtype=torch.bool))


def flip_row(alpha: float, beta: float):
    """softmax([Q Kpᵀ/√d, Q Knᵀ/√d − β]) · [Vp; −α Vn]"""

    def row(logits, values, keys, real):
        negative = is_negative(keys)
        signed = torch.where(negative[:, None], -alpha * values, values)
        return attend(logits - torch.where(negative, beta, 0.0).double(), signed, real)

    return row


def along(vector: Tensor, direction: Tensor) -> Tensor:
    """The part of a (heads, channels) vector that points along another, heads concatenated."""
    square = float((direction * direction).sum())
    return direction * (float((vector * direction).sum()) / square) if square > 0 else torch.zeros_like(vector)


def orthogonal_flip_row(alpha: float, beta: float):
    """Z⁺ + Δ − (⟨Δ,Z⁺⟩/⟨Z⁺,Z⁺⟩)·Z⁺"""

    def row(*inputs):
        positive = unguided_row(*inputs)
        change = flip_row(alpha, beta)(*inputs) - positive
        return positive + change - along(change, positive)

    return row


def centred_flip_row(alpha: float, beta: float):
    """Z⁺ + α·w·(Z⁺ − Z_N), head by head: w sums the negatives' softmax weights, Z_N is their mean value under them."""

    def row(logits, values, keys, real):
        negative = is_negative(keys)
        out = unguided_row(logits, values, keys, real)
        own = out.clone()
        for head in range(len(out)):
            shifted = (logits[head] - torch.where(negative, beta, 0.0).double()).masked_fill(~real, -inf)
            if not bool((shifted > -inf).any()):
                continue
            weights = torch.exp(shifted - shifted.max())
            weights = weights / weights.sum()
            of_negative = float(weights[negative].sum())
            if of_negative > 0:
                mean = torch.einsum("k,kc->c", weights[negative], values[head][negative]) / of_negative
                out[head] = own[head] + alpha * of_negative * (own[head] - mean)
        return out

    return row


def _where_any_negative(row):
    """A row of the batch without a real negative token is not guided."""

    def guarded(logits, values, keys, real, fade=1.0):
        if not bool((real & is_negative(keys)).any()):
            return unguided_row(logits, values, keys, real)
        return row(logits, values, keys, real, fade=fade)

    return guarded


def nag_row(scale: float, tau: float, alpha: float, order: int):
    """Z̃ = s·Z⁺ − (s−1)·Z⁻, its norm at most τ times that of Z⁺, then α·Z̃ + (1−α)·Z⁺; weights lessen s − 1"""

    def row(*inputs, fade):
        positive, negative = unguided_row(*inputs), under_negative_row(*inputs)
        beyond = (scale - 1) * fade
        guided = (1 + beyond) * positive - beyond * negative
        before = float((positive.abs() ** order).sum() ** (1 / order))
        after = float((guided.abs() ** order).sum() ** (1 / order))
        if after > 0:
            guided = guided * min(after, tau * before) / after
        return alpha * guided + (1 - alpha) * positive

    return _where_any_negative(row)


def nasa_row(scale: float):
    def row(*inputs, fade):
        return unguided_row(*inputs) - scale * fade * under_negative_row(*inputs)

    return _where_any_negative(row)


def ong_row(scale: float):
    def row(*inputs, fade):
        positive, negative = unguided_row(*inputs), under_negative_row(*inputs)
        return positive - scale * fade * (negative - along(negative, positive))

    return _where_any_negative(row)


# ------------------------------------------------------------------------------------------------------ random cases


@st.composite
def spans(draw, kind: str, total: int | None = None) -> list[tuple[Label, int]]:
    """Spans in any order, of any length, filled up with image (cross: positive) tokens to a total."""
    filler = "image" if kind == "joint" else "positive"
    lengths = draw(
        st.lists(st.tuples(st.sampled_from([filler, "positive", "shared", "negative"]), st.integers(0, 4)), max_size=5)
    )
    used = sum(length for _, length in lengths)
    wanted = used + draw(st.integers(1, 5)) if total is None else total
    while used > wanted - (kind == "joint"):
        used -= lengths.pop()[1]
    lengths.insert(draw(st.integers(0, len(lengths))), (filler, wanted - used))
    number, numbered = 0, []
    for label, length in lengths:
        numbered.append((number if label == "negative" else label, length))
        number += label == "negative"
    return numbered


@st.composite
def cases(draw, dtype: torch.dtype) -> Case:
    kind = draw(st.sampled_from(["joint", "cross"]))
    batch, heads = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    channels = draw(st.sampled_from([8, 12, 40, 64, 256]))
    first = draw(spans(kind))
    keys = sum(length for _, length in first)
    ragged = draw(st.booleans())
    lengths = [first] + [draw(spans(kind, keys)) if ragged else first for _ in range(batch - 1)]
    queries = keys if kind == "joint" else draw(st.integers(1, 5))
    kept = draw(st.sampled_from([0, 0, 2, 3]))
    # a copy for every row: those of one layout may be one list
    lengths = [[*each[: len(each) // 2], ("kept", kept), *each[len(each) // 2 :]] for each in lengths]
    keys += kept
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def normal(tokens: int) -> Tensor:
        # as models hand it over: heads split out of the channels
        flat = torch.randn(batch, tokens, heads, channels, generator=random, dtype=torch.float64)
        return flat.to(dtype).transpose(1, 2)

    case = Case(normal(queries), normal(keys), normal(keys), lengths, kind)
    case.scale = draw(st.sampled_from([None, 0.3]))
    most = max(sum(isinstance(label, int) for label in case.labels(row)) for row in range(batch))
    if draw(st.booleans()):
        case.negative_valid = torch.rand(batch, most, generator=random) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    case.bias = draw(biases(case, random, dtype))
    return case


@st.composite
def biases(draw, case: Case, random: torch.Generator, dtype: torch.dtype) -> Tensor | None:
    """A host's mask under which every row still sees something, with and without the negatives."""
    style = draw(st.sampled_from(["none", "bool", "additive"]))
    if style == "none":
        return None
    full = (case.query.shape[0], case.query.shape[1], case.query.shape[2], case.key.shape[2])
    shape = tuple(1 if draw(st.booleans()) else size for size in full[:3]) + full[3:]
    shown = torch.rand(shape, generator=random) < 0.7
    for row in range(full[0]):
        labels = case.labels(row)
        if case.kind == "joint":
            shown[..., labels.index("image")] = True
        else:
            first = next((at for at, label in enumerate(labels) if not isinstance(label, int)), 0)
            shown[..., [first, *(at for at, label in enumerate(labels) if isinstance(label, int))]] = True
    if style == "bool":
        return shown
    noise = torch.randn(shape, generator=random, dtype=torch.float64).to(dtype)
    return noise.masked_fill(~shown, -inf) if draw(st.booleans()) else noise


@st.composite
def controlled(draw, dtype: torch.dtype) -> Case:
    """A case with weights, strength, or both; rows share one layout where the strength has a value per token."""
    case = draw(cases(dtype))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    batch = len(case.lengths)
    most = max(sum(isinstance(label, int) for label, _ in lengths) for lengths in case.lengths)
    levels = torch.tensor([0.0, 0.25, 0.5, 1.0, 2.5], dtype=torch.float64)
    if draw(st.booleans()):
        case.weights = levels[torch.randint(5, (batch, most), generator=random)]
    images = {case.row_labels(row).count("image") for row in range(batch)}
    if draw(st.booleans()) and len(images) == 1:
        case.weights = levels[torch.randint(5, (batch, most, *images), generator=random)]
    if draw(st.booleans()):
        counts = [case.labels(row).count("positive") for row in range(batch)]
        given = [levels[torch.randint(1, 5, (count,), generator=random)] for count in counts]
        case.emphasis = [weights if draw(st.booleans()) else None for weights in given]
    style = draw(st.sampled_from(["off", "part", "token", "both"]))
    if style in ("off", "part") or len(images) > 1:
        case.strength = 0.0 if style == "off" else 0.7
    else:
        shape = (images.pop(),) if style == "token" else (batch, images.pop())
        case.strength = torch.rand(shape, generator=random, dtype=torch.float64)
    return case


def real_rows(case: Case) -> Tensor:
    """(batch, queries): rows whose output means something, all but those of padded negative tokens."""
    if case.kind == "cross":
        return torch.ones(case.query.shape[0], case.query.shape[2], dtype=torch.bool)
    is_row = [[label != "kept" for label in case.labels(row)] for row in range(case.query.shape[0])]
    real = [case.real(row) for row in range(case.query.shape[0])]
    return torch.stack([of_keys[torch.tensor(rows)] for of_keys, rows in zip(real, is_row, strict=True)])
