"""What value sign flip should give, found without ever putting positive and negative tokens into one sequence.

The stock model runs twice at once, in two threads: on the positive prompt and on the negative one. They meet at every
attention. There the image rows of the positive run also see the text keys of the negative run, shifted and with the
values turned round, in one dense softmax; whatever is not text in the negative run is replaced by the positive run's.
"""

import re
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from queue import Queue
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F

PATIENCE = 60  # seconds a run waits for the other one

Order = tuple[str | tuple[str, int], ...]
"""A layer's tokens in sequence order: "image", "text", or a kind with its length, such as ("shared", 8).

The text's may be among the keys alone; those called "kept" are.
"""

CROSS: Order = ("text",)
"""Image rows that attend to the text alone."""


@dataclass
class Side:
    """One of the two runs: the model whose attention is watched, what to call, and its text tokens in the attention."""

    model: torch.nn.Module
    call: Callable[[], Any]
    text: int
    inbox: Queue = field(default_factory=Queue)


class Lockstep:
    """`layers` maps the pattern of a layer's name to the order of its tokens; other layers are left alone."""

    def __init__(self, layers: Mapping[str, Order], *, scale: float, offset: float):
        self.layers, self.scale, self.offset = layers, scale, offset
        self._here = threading.local()

    def run(self, positive: Side, negative: Side) -> Any:
        """Run both, each in a thread of its own, and return what the positive side's call returned."""
        sides, outcome = (positive, negative), {}

        def work(number):
            self._here.side, self._here.other = sides[number], sides[1 - number]
            self._here.is_positive, self._here.order = number == 0, None
            try:
                with torch.no_grad():
                    outcome[number] = sides[number].call()
            except BaseException as error:  # noqa: BLE001 - handed on to the caller's thread below
                outcome.setdefault("error", error)
                sides[1 - number].inbox.put(error)

        with ExitStack() as stack:
            stack.enter_context(patch.object(F, "scaled_dot_product_attention", self._attention(F)))
            for model in {id(side.model): side.model for side in sides}.values():
                self._watch(model, stack)
            threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if "error" in outcome:
            raise outcome["error"]
        return outcome[0]

    def _watch(self, model, stack):
        """Note in each thread which of the layers it is in."""
        found = 0
        for name, module in model.named_modules():
            for pattern, order in self.layers.items():
                if re.fullmatch(pattern, name) and hasattr(module, "processor"):
                    found += 1
                    enter = module.register_forward_pre_hook(partial(self._set, order))
                    leave = module.register_forward_hook(partial(self._set, None))
                    stack.callback(enter.remove)
                    stack.callback(leave.remove)
        assert found, f"no layer is called like {list(self.layers)}"

    def _set(self, order, *_):
        self._here.order = order

    def _attention(self, functional):
        stock = functional.scaled_dot_product_attention

        def attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **options):
            order, text = self._here.order, self._here.side.text
            if order is None or is_causal or not _is_about_text(order, query.shape[2], key.shape[2], text):
                return stock(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **options)
            if key.shape[1] != query.shape[1]:  # grouped queries: every key serves several heads
                key, value = (each.repeat_interleave(query.shape[1] // each.shape[1], 1) for each in (key, value))
            bias = _additive(attn_mask, query, key)
            return self._exchanged(query, key, value, bias, query.shape[-1] ** -0.5 if scale is None else scale)

        return attention

    def _exchanged(self, query, key, value, bias, scale):
        here = self._here
        is_text = _text_tokens(here.order, key.shape[2], here.side.text)
        asking = tuple(part for part in here.order if part[0] != "kept")
        text_asks = here.order != CROSS and query.shape[2] == key.shape[2] - _kept(here.order)
        rows = torch.zeros(query.shape[2], dtype=torch.bool)
        if text_asks:
            rows = _text_tokens(asking, query.shape[2], here.side.text)
        image = ~rows & ~_shared_rows(asking, query.shape[2], here.side.text)
        own = (key, value, 1.0, 0.0)
        out = dense_softmax(query, [(*own, bias)], scale)
        if here.is_positive:
            other_key, other_value, other_bias = _taken(here.side.inbox)
            theirs = (other_key, other_value, -self.scale, self.offset, other_bias)
            out[:, :, image] = dense_softmax(query[:, :, image], [(*own, bias[:, :, image]), theirs], scale)
            here.other.inbox.put(out[:, :, ~rows])
        else:
            here.other.inbox.put((key[:, :, is_text], value[:, :, is_text], bias[:, :, image][..., is_text]))
            out[:, :, ~rows] = _taken(here.side.inbox)
        return out


def dense_softmax(query, parts, scale):
    """One softmax in float64 over parts of (keys, values, gain on the values, logits taken off, bias)."""
    scaled = query.double() * scale
    logits = [scaled @ key.double().mT - offset + bias for key, _, _, offset, bias in parts]
    values = torch.cat([gain * value.double() for _, value, gain, _, _ in parts], 2)
    shares = torch.cat(logits, -1).softmax(-1).nan_to_num(0.0)  # a row that may see nothing gets nothing
    return (shares @ values).to(query.dtype)


def _taken(inbox):
    found = inbox.get(timeout=PATIENCE)
    if isinstance(found, BaseException):
        raise RuntimeError("the other side failed") from found
    return found


def _is_about_text(order, queries, keys, text):
    if order == CROSS:
        return keys == text
    others = keys - _kept(order)
    return queries in (others, others - text) and others > text


def _kept(order):
    """How many keys are said to have no rows."""
    return sum(part[1] for part in order if part[0] == "kept")


def _text_tokens(order, tokens, text):
    return _labelled(order, tokens, text, "text")


def _shared_rows(order, tokens, text):
    return _labelled(order, tokens, text, "shared") if order != CROSS else torch.zeros(tokens, dtype=torch.bool)


def _labelled(order, tokens, text, wanted):
    """Which tokens are of a kind; the image has all that the others leave."""
    known = {"text": text, "image": tokens - text - sum(part[1] for part in order if not isinstance(part, str))}
    spans = [(part, known[part]) if isinstance(part, str) else part for part in order]
    return torch.tensor([kind == wanted for kind, length in spans for _ in range(length)])


def _additive(mask, query, key):
    """The host's mask as something to add to the logits, of the logits' own shape."""
    shape = (*query.shape[:3], key.shape[2])
    if mask is None:
        return torch.zeros(1, 1, 1, 1, dtype=torch.float64).expand(shape)
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -torch.inf)
    return mask.double().expand(shape)


def unpadded_text(pipe, text):
    """Embeddings of one prompt for an SD3 pipeline, each encoder called on the real tokens alone."""
    rows = []
    with torch.no_grad():
        for tokenizer, encoder in ((pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)):
            ids = torch.tensor([tokenizer(text).input_ids])
            rows.append(encoder(ids, output_hidden_states=True).hidden_states[-2])
        both = torch.cat(rows, -1)
        width = pipe.transformer.config.joint_attention_dim
        out = [torch.cat([both, torch.zeros(*both.shape[:2], width - both.shape[-1])], -1)]
        if pipe.text_encoder_3 is not None:
            out.append(pipe.text_encoder_3(torch.tensor([pipe.tokenizer_3(text).input_ids]))[0])
    return torch.cat(out, 1)
