"""New pairs from any language model behind an OpenAI-compatible endpoint, kept as they come in."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError

from vsf.bench.run import jsonl as journal
from vsf.bench.run.manifest import locked
from vsf.bench.suites.load import Entry, Pair
from vsf.bench.suites.near_duplicates import Library, named
from vsf.errors import RequestError
from vsf.judges import completion
from vsf.judges.openai import require_key

if TYPE_CHECKING:
    import openai

LEAST_WORDS, MOST_WORDS = 20, 45
_FRUITLESS = 5  # batches in a row without a single new pair, after which the model has nothing more to say
_REMINDED = 60  # objects that a request tells the model to leave alone

_TASK = """\
Write {count} test cases for an image model. Each names an object and one part that such an object nearly always has,
large enough to be noticed when it is gone. The case asks for a picture of the object without that part, but only
through a separate negative prompt: the prompt itself describes a picture of the object, and neither names the part nor
hints that anything is missing.

A prompt has between {least} and {most} words. It tells what the object does or where it is, from which side the part
would be seen, the light, and a medium or style. Let subjects, places, styles and sentence openings differ from case to
case: machines, animals, plants, food, buildings, clothes, tools, people at work, creatures of legend.

Each case has two yes-or-no questions about a finished picture. question_positive: is the object there, no matter
whether the part is? question_negative: is the part missing, or not visible?

Leave these objects alone, they are taken: {taken}.

Answer with one JSON object and nothing else:
{{"pairs": [{{"object": "...", "part": "...", "prompt": "...", "question_positive": "...",
"question_negative": "..."}}]}}
"""


class _Draft(BaseModel):
    """A case as the model writes it."""

    object: str = Field(min_length=1)
    part: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    question_positive: str = Field(min_length=1)
    question_negative: str = Field(min_length=1)


class _Answer(BaseModel):
    pairs: list[dict[str, Any]]


@dataclass(frozen=True)
class Author:
    """The model that writes.

    key: never shown anywhere. batch: pairs to a request. A request is tried `attempts` times, with pauses that grow
    from `pause` seconds, where the endpoint is busy or cannot be reached.
    """

    model: str
    endpoint: str | None = None
    key: str = field(default="", repr=False)
    batch: int = 10
    attempts: int = 6
    timeout: float = 120.0
    pause: float = 1.0

    def __post_init__(self) -> None:
        with self._client() as client:
            require_key(client.base_url.host, self.key)

    def drafts(self, count: int, taken: Sequence[str]) -> list[_Draft]:
        """Up to `count` cases; those of an answer that is malformed, in whole or in part, are left out.

        Raises:
            RequestError: the endpoint refuses the request, or could not be reached in all attempts.
        """
        import openai
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

        attempts = Retrying(
            retry=retry_if_exception_type(
                (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError, ValueError)
            ),
            stop=stop_after_attempt(self.attempts),
            wait=wait_random_exponential(multiplier=self.pause, max=60 * self.pause),
            reraise=True,
        )
        task = _TASK.format(count=count, least=LEAST_WORDS, most=MOST_WORDS, taken=", ".join(taken) or "none so far")
        try:
            return _read(attempts(self._call, task))
        except openai.APIStatusError as error:
            told = f"it answered {error.status_code} ({type(error).__name__})"
        except (openai.APIError, ValueError) as error:  # the client passes on what the JSON parser says
            told = f"{type(error).__name__} in {self.attempts} attempts"
        # What the endpoint itself says may quote the key, so it is not passed on.
        raise RequestError(
            f"the model {self.model} wrote nothing: {told}. Check endpoint, model and key; what was written is kept."
        ) from None

    def _call(self, task: str) -> str:
        with self._client() as client:
            answer = client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": task}],
                response_format={"type": "json_object"},
            )
        choice = completion.choice(answer)
        written = (choice.message.content or "") if choice else ""
        return written.replace(self.key, "***") if self.key else written  # an endpoint may repeat what it was given

    def _client(self) -> openai.OpenAI:
        import openai

        return openai.OpenAI(api_key=self.key or "none", base_url=self.endpoint, timeout=self.timeout, max_retries=0)


def extend(
    file: Path, count: int, author: Author, against: Sequence[Pair] = (), tick: Callable[[int, int], None] | None = None
) -> list[Pair]:
    """Let a model write pairs until the suite in `file` has `count` of them, and return them all.

    Every batch is appended as soon as it is there, so a stopped call goes on where it was. A pair is dropped when it is
    like one of the file or of `against` (see `likeness`), when its prompt names the part, or when it is too short or
    too long. `tick` is told how many pairs there are, and how many there will be.

    Raises:
        RequestError: the endpoint refuses or cannot be reached, the model brings nothing new time after time, another
            call is at work on the file, or it is damaged or cannot be written.
    """
    if count < 1 or author.batch < 1:
        raise RequestError(f"count and batch have to be at least 1, got {count} and {author.batch}.")
    # Ids are counted on from what the file holds, so two calls at once would give the same id twice.
    with locked(file.with_name(f".{file.name}.lock"), str(file), "wait for it, or name another file"):
        return _extended(file, count, author, against, tick)


def _extended(
    file: Path, count: int, author: Author, against: Sequence[Pair], tick: Callable[[int, int], None] | None
) -> list[Pair]:
    """Do the work of `extend` on a file that nobody else writes to."""
    pairs = [entry.pair(f"{file.stem}-{number:03d}") for number, entry in enumerate(journal.read(file, Entry), 1)]
    library, fruitless = Library([*against, *pairs]), 0
    while len(pairs) < count:
        if tick is not None:
            tick(len(pairs), count)
        taken = [pair.about["object"] for pair in [*against, *pairs] if "object" in pair.about]
        found: list[Pair] = []
        for draft in author.drafts(author.batch, taken[-_REMINDED:]):
            pair = _pair(draft, f"{file.stem}-{len(pairs) + len(found) + 1:03d}")
            if len(pairs) + len(found) < count and _fit(pair) and library.like(pair) is None:
                library.add(pair)
                found.append(pair)
        fruitless = 0 if found else fruitless + 1
        if fruitless == _FRUITLESS:
            raise RequestError(
                f"{author.model} wrote no new pair in {_FRUITLESS} requests; {len(pairs)} of {count} are kept in "
                f'"{file}". Ask again, or ask another model.'
            )
        journal.append(file, [Entry.model_validate(vars(pair)) for pair in found])
        pairs += found
    if tick is not None:
        tick(len(pairs), count)
    return pairs


def _read(content: str) -> list[_Draft]:
    """The cases of an answer that are complete; models like to put a fence or a remark around their JSON."""
    found = re.search(r"\{.*\}", content, re.DOTALL)
    try:
        listed = _Answer.model_validate_json(found[0] if found else "").pairs
    except ValidationError:
        return []
    drafts = []
    for fields in listed:
        try:
            drafts.append(_Draft.model_validate(fields))
        except ValidationError:
            continue
    return drafts


def _pair(draft: _Draft, name: str) -> Pair:
    return Pair(
        id=name,
        prompt=" ".join(draft.prompt.split()),
        negative=draft.part,
        question_positive=draft.question_positive,
        question_negative=draft.question_negative,
        about={"object": draft.object, "part": draft.part},
    )


def _fit(pair: Pair) -> bool:
    """Whether the prompt has the right length and keeps the part to itself."""
    return LEAST_WORDS <= len(pair.prompt.split()) <= MOST_WORDS and named(pair.negative, pair.prompt) is None
