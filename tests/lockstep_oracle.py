"""What value sign flip should give, found without ever putting positive and negative tokens into one sequence.

The stock model runs twice at once, in two threads: on the positive prompt and on the negative one. They meet at every
attention. There the image rows of the positive run also see the text keys of the negative run, shifted and with the
values turned round, in one dense softmax; the image rows of the negative run are replaced by those of the positive run.
"""

import threading
from contextlib import ExitStack
from queue import Queue
from unittest.mock import patch

import torch
import torch.nn.functional as F

PATIENCE = 30  # seconds a run waits for the other one


class Lockstep:
    def __init__(self, image_tokens, *, scale, offset):
        self.image_tokens, self.scale, self.offset = image_tokens, scale, offset
        self._here = threading.local()
        self._to_positive, self._to_negative = Queue(), Queue()

    def run(self, positive, negative):
        """Call both, each in a thread of its own, and return what `positive` returned."""
        outcome = {}

        def work(side, function):
            self._here.side = side
            try:
                with torch.no_grad():
                    outcome[side] = function()
            except BaseException as error:  # noqa: BLE001 - handed on to the caller's thread below
                outcome[side] = error

        with ExitStack() as stack:
            stack.enter_context(patch.object(F, "scaled_dot_product_attention", self._attention))
            threads = [threading.Thread(target=work, args=pair) for pair in [("+", positive), ("-", negative)]]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for result in outcome.values():
            if isinstance(result, BaseException):
                raise result
        return outcome["+"]

    def _attention(self, query, key, value, **_):
        images = self.image_tokens
        if key.shape[2] == images:  # image tokens among themselves: the same in both runs
            return dense_softmax(query, [(key, value, 1.0, 0.0)])
        text = dense_softmax(query[:, :, images:], [(key, value, 1.0, 0.0)])
        if self._here.side == "+":
            other_key, other_value = self._to_positive.get(timeout=PATIENCE)
            parts = [(key, value, 1.0, 0.0), (other_key, other_value, -self.scale, self.offset)]
            image = dense_softmax(query[:, :, :images], parts)
            self._to_negative.put(image)
        else:
            self._to_positive.put((key[:, :, images:], value[:, :, images:]))
            image = self._to_negative.get(timeout=PATIENCE)
        return torch.cat([image, text], 2)


def dense_softmax(query, parts):
    """One softmax in float64 over parts of (keys, values, gain on the values, logits taken off)."""
    query64 = query.double() / query.shape[-1] ** 0.5
    logits = torch.cat([query64 @ key.double().transpose(-1, -2) - offset for key, _, _, offset in parts], -1)
    values = torch.cat([gain * value.double() for _, value, gain, _ in parts], 2)
    return (logits.softmax(-1) @ values).to(query.dtype)


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
