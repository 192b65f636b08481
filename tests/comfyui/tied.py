"""The reference: two ordinary rows of the untouched model, (image, positive) and (image, negative), in lockstep.

Every attention computes the image rows' output in float64 from the keys of both rows, by formulas written from the
papers, and gives it to both. No negative is ever appended to a positive, so positions, padding, refiners and pooling
are the model's own, and nothing is shared with the code under test.
"""

import torch
from torch import Tensor

from comfyui.cases import Case

Keys = tuple[Tensor, Tensor]


def attend(query: Tensor, *parts: Keys) -> Tensor:
    """Softmax over the keys of all parts."""
    keys, values = (torch.cat(tensors, 2) for tensors in zip(*parts, strict=True))
    return (query @ keys.mT * query.shape[-1] ** -0.5).softmax(-1) @ values


def image_rows(method, query: Tensor, seen: Keys, positive: Keys, negative: Keys) -> Tensor:
    """Return a method's output for queries that see `seen` besides the texts."""
    unguided = attend(query, seen, positive)
    if method.name in ("vsf", "negpip"):
        keys = torch.cat([seen[0], positive[0], negative[0]], 2)
        logits = query @ keys.mT * query.shape[-1] ** -0.5
        logits[..., -negative[0].shape[2] :] -= getattr(method, "offset", 0.0)
        out = logits.softmax(-1) @ torch.cat([seen[1], positive[1], -method.scale * negative[1]], 2)
        return unguided + across(out - unguided, unguided) if getattr(method, "orthogonal", False) else out
    if method.name == "vsf-centred":
        keys = torch.cat([seen[0], positive[0], negative[0]], 2)
        logits = query @ keys.mT * query.shape[-1] ** -0.5
        logits[..., -negative[0].shape[2] :] -= method.offset
        share = logits.softmax(-1)[..., -negative[0].shape[2] :].sum(-1, keepdim=True)
        return unguided + method.scale * share * (unguided - attend(query, negative))
    other = attend(query, seen, negative)
    if method.name == "nasa":
        return unguided - method.scale * other
    if method.name == "ong":
        return unguided - method.scale * across(other, unguided)
    order = 1 if method.norm == "l1" else 2
    away = method.scale * unguided - (method.scale - 1) * other
    grown = length(away, order) / length(unguided, order)
    held = away * grown.clamp(max=method.tau) / grown
    return method.alpha * held + (1 - method.alpha) * unguided


def length(rows: Tensor, order: int) -> Tensor:
    """Return the norm of each row over the channels of all heads."""
    return rows.abs().pow(order).sum((1, 3), keepdim=True).pow(1 / order)


def across(rows: Tensor, along: Tensor) -> Tensor:
    """Return the part of each row, all heads together, that is orthogonal to another."""
    return rows - along * (rows * along).sum((1, 3), keepdim=True) / (along * along).sum((1, 3), keepdim=True)


class Tied:
    """An attention override that keeps the image rows of both batch rows equal."""

    def __init__(self, case: Case, method, text: int) -> None:
        self.case = case
        self.method = method
        self.text = text + -text % case.text_multiple
        self.seen = 0

    def __call__(self, func, q, k, v, heads, *args, **options):
        axis = 2 if options.get("skip_reshape") else 1
        joint = self.text + self.case.image + self.case.filling
        queries = q.shape[axis]
        keys = k.shape[axis]
        sees_text = keys == self.text != queries if self.case.kind == "cross" else queries == keys == joint
        if not sees_text:
            return func(q, k, v, heads, *args, **options)
        self.seen += 1
        if axis == 1:
            width = q.shape[2] // heads
            q, k, v = (rows.reshape(2, rows.shape[1], -1, width).transpose(1, 2) for rows in (q, k, v))
        k, v = (rows.repeat_interleave(q.shape[1] // rows.shape[1], 1) for rows in (k, v))
        attend_rows = self._cross if self.case.kind == "cross" else self._joint
        out = attend_rows(q.double(), k.double(), v.double()).to(q)
        return out if options.get("skip_output_reshape") else out.transpose(1, 2).flatten(2)

    def _cross(self, q, k, v):
        nothing = (k[:1, :, :0], v[:1, :, :0])
        image = image_rows(self.method, q[:1], nothing, (k[:1], v[:1]), (k[1:], v[1:]))
        return torch.cat([image, image])

    def _joint(self, q, k, v):
        whole = self.case.image + self.case.filling
        text_at, image_at = (whole, 0) if self.case.image_first else (0, self.text)
        text = slice(text_at, text_at + self.text)
        seen = slice(image_at, image_at + whole)
        picture = slice(image_at, image_at + self.case.image)
        filling = slice(picture.stop, seen.stop)
        keys = [(k[row : row + 1, :, text], v[row : row + 1, :, text]) for row in (0, 1)]
        image_keys = (k[:1, :, seen], v[:1, :, seen])
        image = image_rows(self.method, q[:1, :, picture], image_keys, *keys)
        out = torch.empty_like(q)
        out[:, :, picture] = image
        guides_text = self.method.name == "negpip"  # the one method that changes the text's rows, too

        def other_rows(query, text_keys):
            return (
                image_rows(self.method, query, image_keys, *keys)
                if guides_text
                else attend(query, image_keys, text_keys)
            )

        for row in (0, 1):
            out[row : row + 1, :, text] = other_rows(q[row : row + 1, :, text], keys[row])
        out[:, :, filling] = other_rows(q[:1, :, filling], keys[0])
        return out


def tied_call(model, case: Case, x, t, positive, negative, method, conds) -> Tensor:
    """Make one call of the untouched model under the reference; positive and negative are equally long."""
    reference = Tied(case, method, positive.shape[1])
    options = {"optimized_attention_override": reference, "cond_or_uncond": [0], "sigmas": t}
    two_conds = {name: torch.cat([cond, cond]) if torch.is_tensor(cond) else cond for name, cond in conds.items()}
    texts = torch.cat([positive, negative])
    two = model.apply_model(
        torch.cat([x, x]), torch.cat([t, t]), c_crossattn=texts, transformer_options=options, **two_conds
    )
    assert reference.seen, "the reference saw no attention"
    assert torch.equal(two[0], two[1]) or float((two[0] - two[1]).abs().max()) < 1e-5
    return two[:1]
