"""Let a language model behind an OpenAI-compatible endpoint write new prompt pairs, storing them as they arrive."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError

from vsf.bench.run import jsonl
from vsf.bench.run.manifest import locked
from vsf.bench.suites.load import Entry, Pair, numbered
from vsf.bench.suites.near_duplicates import NearDuplicates, named
from vsf.errors import RequestError
from vsf.judges import completion
from vsf.judges.openai import require_key

if TYPE_CHECKING:
    import openai

LEAST_WORDS = 20
MOST_WORDS = 45
_FRUITLESS = 5  # requests in a row without a single new pair, after which the model is given up
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
    """A pair as the model writes it."""

    object: str = Field(min_length=1)
    part: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    question_positive: str = Field(min_length=1)
    question_negative: str = Field(min_length=1)


class _Answer(BaseModel):
    pairs: list[dict[str, Any]]


@dataclass(frozen=True)
class PairWriter:
    """A language model that writes pairs.

    Attributes:
        model: Its name at the endpoint.
        endpoint: Base URL; OpenAI's own if None.
        key: API key; never shown in a message, a log or a repr.
        batch: Pairs to ask for in a request.
        attempts: How often a request is tried while the endpoint is busy or unreachable.
        timeout: Seconds to wait for an answer.
        pause: Seconds before the second attempt, growing from there.

    Raises:
        RequestError: OpenAI's own endpoint without a key.
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
        """Ask for `count` pairs; malformed ones, or all of a malformed answer, are left out.

        Args:
            count: How many.
            taken: Objects that the model should leave alone.

        Raises:
            RequestError: The endpoint refuses the request, or could not be reached in all attempts.
        """
        import openai
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

        passing = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError, ValueError)
        attempts = Retrying(
            retry=retry_if_exception_type(passing),
            stop=stop_after_attempt(self.attempts),
            wait=wait_random_exponential(multiplier=self.pause, max=60 * self.pause),
            reraise=True,
        )
        task = _TASK.format(count=count, least=LEAST_WORDS, most=MOST_WORDS, taken=", ".join(taken) or "none so far")
        try:
            return _parse(attempts(self._call, task))
        except openai.APIStatusError as error:
            problem = f"it answered {error.status_code} ({type(error).__name__})"
        except (openai.APIError, ValueError) as error:  # the client lets errors of its JSON parser through
            problem = f"{type(error).__name__} in {self.attempts} attempts"
        # The endpoint's own message may quote the key, so it is not passed on.
        raise RequestError(
            f"the model {self.model} wrote nothing: {problem}. Check endpoint, model and key; what was written is kept."
        ) from None

    def _call(self, task: str) -> str:
        with self._client() as client:
            answer = client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": task}],
                response_format={"type": "json_object"},
            )
        choice = completion.choice(answer)
        text = (choice.message.content or "") if choice else ""
        return text.replace(self.key, "***") if self.key else text  # an endpoint may repeat what it was sent

    def _client(self) -> openai.OpenAI:
        import openai

        return openai.OpenAI(api_key=self.key or "none", base_url=self.endpoint, timeout=self.timeout, max_retries=0)


def extend(
    file: Path,
    count: int,
    writer: PairWriter,
    against: Sequence[Pair] = (),
    progress: Callable[[int, int], None] | None = None,
) -> list[Pair]:
    """Let a model write pairs until a suite has `count` of them.

    Every batch is stored as soon as it arrives, so a stopped call can be continued. A pair is dropped if it is a
    near-duplicate of another (see `near_duplicates`), if its prompt names the part, or if its length is wrong.

    Args:
        file: The suite, as JSON lines.
        count: How many pairs it should have.
        writer: The model.
        against: Further pairs that may not be repeated.
        progress: Called with the number of pairs so far, and the number asked for.

    Returns:
        All pairs of the suite.

    Raises:
        RequestError: The endpoint refuses or cannot be reached, the model brings nothing new time after time, another
            call is at work on the file, or it is damaged or cannot be written.
    """
    if count < 1 or writer.batch < 1:
        raise RequestError(f"count and batch have to be at least 1, got {count} and {writer.batch}.")
    # Ids continue those in the file, so two calls at once would give the same id twice.
    with locked(file.with_name(f".{file.name}.lock"), str(file), "wait for it, or name another file"):
        return _extend_locked(file, count, writer, against, progress)


def _extend_locked(
    file: Path,
    count: int,
    writer: PairWriter,
    against: Sequence[Pair],
    progress: Callable[[int, int], None] | None,
) -> list[Pair]:
    """Do the work of `extend` on a file that nobody else writes to."""
    entries = jsonl.read(file, Entry)
    pairs = numbered(entries, file)
    duplicates = NearDuplicates([*against, *pairs])
    fruitless_requests = 0
    while len(pairs) < count:
        if progress is not None:
            progress(len(pairs), count)
        known_objects = []
        for pair in [*against, *pairs]:
            if "object" in pair.about:
                known_objects.append(pair.about["object"])
        new_pairs: list[Pair] = []
        for draft in writer.drafts(writer.batch, known_objects[-_REMINDED:]):
            number = len(pairs) + len(new_pairs) + 1
            pair = _pair(draft, f"{file.stem}-{number:03d}")
            if number <= count and _is_fit(pair) and duplicates.find(pair) is None:
                duplicates.add(pair)
                new_pairs.append(pair)
        fruitless_requests = 0 if new_pairs else fruitless_requests + 1
        if fruitless_requests == _FRUITLESS:
            raise RequestError(
                f"{writer.model} wrote no new pair in {_FRUITLESS} requests; {len(pairs)} of {count} are kept in "
                f'"{file}". Ask again, or ask another model.'
            )
        jsonl.append(file, [Entry.model_validate(vars(pair)) for pair in new_pairs])
        pairs += new_pairs
    if progress is not None:
        progress(len(pairs), count)
    return pairs


def _parse(content: str) -> list[_Draft]:
    """Read the complete drafts of an answer; models like to put a fence or a remark around their JSON."""
    json_object = re.search(r"\{.*\}", content, re.DOTALL)
    try:
        records = _Answer.model_validate_json(json_object[0] if json_object else "").pairs
    except ValidationError:
        return []
    drafts = []
    for record in records:
        try:
            drafts.append(_Draft.model_validate(record))
        except ValidationError:
            continue  # one bad draft does not spoil the others of its answer
    return drafts


def _pair(draft: _Draft, pair_id: str) -> Pair:
    return Pair(
        id=pair_id,
        prompt=" ".join(draft.prompt.split()),
        negative=draft.part,
        question_positive=draft.question_positive,
        question_negative=draft.question_negative,
        about={"object": draft.object, "part": draft.part},
    )


def _is_fit(pair: Pair) -> bool:
    """Return True if the prompt has the right length and does not name the part."""
    return LEAST_WORDS <= len(pair.prompt.split()) <= MOST_WORDS and named(pair.negative, pair.prompt) is None
