"""A judge that asks a vision-language model behind any endpoint of the OpenAI protocol."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsf.errors import RequestError
from vsf.generation.files import atomic_write
from vsf.judges import wording
from vsf.judges.base import Case, Judge, LanguageModelOptions, Verdict
from vsf.options import option

if TYPE_CHECKING:
    from vsf.judges.completion import Usage

KEY_ENV = "OPENAI_API_KEY"
HOPELESS = 12  # failures in a row, before the first answer, after which an endpoint is given up
PAID_HOST = "api.openai.com"  # the client's own choice if no endpoint is given
LONGEST_PAUSE = 300.0  # seconds; the most that is waited when an endpoint asks for a pause
LONGEST_TIMEOUT = 86_400.0  # seconds
_CACHED = ("positive", "negative", "quality", "reason", "tokens", "cost", "final", "checks")


@dataclass(frozen=True, kw_only=True)
class EndpointOptions:
    """The endpoint of a language model, and the key for it."""

    endpoint: str | None = option("Where the language model answers, such as http://localhost:8000/v1.")
    key_env: str | None = option("The environment variable that holds the API key.", shown=KEY_ENV)

    def __post_init__(self) -> None:
        if self.key_env and not self.key():
            raise RequestError(f'--key-env names the environment variable "{self.key_env}", which is not set or empty.')

    def key(self) -> str:
        """Read the API key from the environment; "" if there is none, because many endpoints need none."""
        return os.environ.get(self.key_env or KEY_ENV, "")


@dataclass(frozen=True, kw_only=True)
class OpenAIOptions(LanguageModelOptions, EndpointOptions):
    """Ask a vision-language model behind an endpoint that speaks OpenAI's protocol."""

    price: str | None = option("US dollars per million tokens read, and written, such as 0.2,0.6.")
    timeout: float = option("Seconds that such a judge may take to answer; then it is asked again.", default=90.0)

    def __post_init__(self) -> None:
        EndpointOptions.__post_init__(self)
        self.prices()
        if not 0 < self.timeout <= LONGEST_TIMEOUT:
            raise RequestError(
                f"--timeout is in seconds, more than 0 and at most {LONGEST_TIMEOUT:g}, got {self.timeout:g}."
            )

    def prices(self) -> tuple[float, float] | None:
        """Return the price per million tokens read, and written. Raises RequestError if it is malformed."""
        return number_pair("--price", self.price) if self.price else None

    def judge(self, cache: Path | None = None) -> Judge:
        """Make the judge. Raises RequestError without a model, or without a key that the endpoint surely needs."""
        model = self.required_model()
        return OpenAIJudge(model, self.endpoint, self.key(), self.prices(), cache, timeout=self.timeout)


@dataclass(eq=False)
class OpenAIJudge:
    """Makes one call per image and asks for a structured answer.

    Attributes:
        model: Name of the model at the endpoint.
        endpoint: Base URL; OpenAI's own if None.
        key: API key; never shown in a message, a log or a repr.
        prices: US dollars per million tokens read, and written. An endpoint that reports the cost itself needs none.
        cache: Folder that keeps answers by image, question, wording and model, so that none is paid for twice.
        attempts: How often a call is tried.
        timeout: Seconds to wait for an answer.
        pause: Seconds before the second attempt, growing from there, unless the endpoint asks for another pause.
    """

    model: str
    endpoint: str | None = None
    key: str = field(default="", repr=False)
    prices: tuple[float, float] | None = None
    cache: Path | None = None
    attempts: int = 6
    timeout: float = 90.0
    pause: float = 1.0
    batch = 1
    waits = True

    def __post_init__(self) -> None:
        import openai

        self.name = f"openai:{self.model}"
        self.version = wording.VERSION
        # The client wants some key, even for an endpoint that needs none. Retries are left to `_call_patiently`.
        self._client = openai.OpenAI(
            api_key=self.key or "none", base_url=self.endpoint, timeout=self.timeout, max_retries=0
        )
        require_key(self._client.base_url.host, self.key)
        self._lock = threading.Lock()
        self._calls = 0
        self._was_answered = False

    def __call__(self, cases: Sequence[Case]) -> list[Verdict]:
        """Ask about each image. A refusal, a malformed answer or none is unscored and says so in its reason.

        Raises:
            RequestError: The key or the model's name is refused, or the endpoint has never answered.
        """
        return [self._cached_or_asked(case) for case in cases]

    def _cached_or_asked(self, case: Case) -> Verdict:
        """Return the cached verdict, with its cost when it was bought, or ask the endpoint."""
        image = case.png()
        if self.cache is None:
            return self._ask(case, image)
        subject = [self.endpoint or "", self.model, wording.VERSION, wording.task(case)]
        key = hashlib.sha256(json.dumps(subject).encode() + image).hexdigest()
        file = self.cache / key[:2] / f"{key}.json"
        cached = _read(file)
        if cached is not None:
            return cached
        verdict = self._ask(case, image)
        if verdict.is_scored:  # asking again may bring an answer to the others
            _write(file, verdict)
        return verdict

    def _ask(self, case: Case, image: bytes) -> Verdict:
        import openai

        try:
            verdict = self._parse(self._call_patiently(case, image))
        except openai.BadRequestError as error:
            # The endpoint rejects this image or question and would do so again, so the verdict is final.
            verdict = Verdict.unscored(f"refused: {self._describe(error)}")
        except (openai.APIError, ValueError) as error:  # the client lets errors of its JSON parser through
            if _fails_every_call(error):
                # Not chained, because the original message may quote the key.
                raise RequestError(f"the judge's endpoint refuses every call: {self._describe(error)}") from None
            verdict = Verdict.unscored(f"no answer: {self._describe(error)}", final=False)
        self._give_up_if_hopeless(verdict)
        return verdict

    def _call_patiently(self, case: Case, image: bytes) -> Any:
        """Call the endpoint, again after trouble that may pass."""
        import openai
        from tenacity import Retrying, retry_if_exception, stop_after_attempt

        def may_pass(error: BaseException) -> bool:
            if _fails_every_call(error):
                return False
            passing = openai.APIConnectionError | openai.InternalServerError | openai.RateLimitError | ValueError
            return isinstance(error, passing)

        attempts = Retrying(
            stop=stop_after_attempt(self.attempts), wait=self._seconds, retry=retry_if_exception(may_pass), reraise=True
        )
        return attempts(self._call, case, image)

    def _call(self, case: Case, image: bytes) -> Any:
        url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
        picture = {"type": "image_url", "image_url": {"url": url}}
        text = {"type": "text", "text": wording.task(case)}
        schema = {"name": "verdict", "strict": True, "schema": wording.SCHEMA}
        completion = self._client.chat.completions.create(  # type: ignore[call-overload]
            model=self.model,
            messages=[{"role": "user", "content": [text, picture]}],
            response_format={"type": "json_schema", "json_schema": schema},
            temperature=0.0,
        )
        if isinstance(completion, str):  # what the client returns for a page of HTML, such as that of a busy gateway
            raise ValueError(f"no JSON but {completion[:80]!r}")
        return completion

    def _seconds(self, state: Any) -> float:
        """Return the seconds until the next attempt: as the endpoint asks for, or else growing ones with jitter."""
        from tenacity import wait_random_exponential

        response = getattr(state.outcome.exception(), "response", None)
        try:
            requested = float(response.headers["retry-after"])  # type: ignore[union-attr]
        except (AttributeError, KeyError, ValueError):
            return self.pause / 2 + float(wait_random_exponential(multiplier=self.pause, max=60)(state))
        return min(max(requested, 0.0), LONGEST_PAUSE)

    def _parse(self, completion: Any) -> Verdict:
        """Turn a completion into a verdict, with the tokens and dollars it took."""
        # Imported here, because listing the judges has to work without pydantic.
        from vsf.judges import completion as completions

        used = completions.usage(completion)
        choice = completions.choice(completion)
        tokens = used.total_tokens
        cost = self._cost(used)
        if choice is None:
            return Verdict.unscored("malformed answer: no choices that can be read", tokens=tokens, cost=cost)
        if choice.message.refusal or choice.finish_reason == "content_filter":
            reason = self._without_key(choice.message.refusal or "content filter")
            return Verdict.unscored(f"refused: {reason}", tokens=tokens, cost=cost)
        return wording.verdict(self._without_key(choice.message.content or ""), tokens=tokens, cost=cost)

    def _cost(self, used: Usage) -> float | None:
        if used.cost is not None or self.prices is None:
            return used.cost
        if used.prompt_tokens is None or used.completion_tokens is None:
            return None
        read_price, write_price = self.prices
        return (used.prompt_tokens * read_price + used.completion_tokens * write_price) / 1e6

    def _give_up_if_hopeless(self, verdict: Verdict) -> None:
        """Raise RequestError once HOPELESS calls were made and not one brought an answer that can be read."""
        with self._lock:  # several threads share one judge
            self._was_answered |= verdict.is_scored
            self._calls += 1
            is_hopeless = not self._was_answered and self._calls >= HOPELESS
        if is_hopeless:
            raise RequestError(f"{HOPELESS} calls and not one answer; the last: {verdict.reason}")

    def _describe(self, error: Exception) -> str:
        return self._without_key(f"{type(error).__name__}: {error}")[:300]

    def _without_key(self, text: str) -> str:
        """Hide the key in text from an endpoint, which may repeat parts of the request."""
        return text.replace(self.key, "***") if self.key else text


def number_pair(flag: str, text: str) -> tuple[float, float]:
    """Read two numbers with a comma between them. Raises RequestError that names the flag."""
    try:
        first, second = map(float, text.split(","))
    except ValueError as error:
        raise RequestError(f'{flag} has to be two numbers with a comma between them, got "{text}".') from error
    return first, second


def require_key(host: str, key: str) -> None:
    """Raise RequestError if OpenAI's own endpoint is to be asked without a key; other endpoints may need none."""
    if host == PAID_HOST and not key:
        raise RequestError(
            f"no API key for {PAID_HOST}: put it into the environment variable OPENAI_API_KEY, name another variable "
            "with --key-env, or name with --endpoint a server that needs no key."
        )


def _fails_every_call(error: BaseException) -> bool:
    """Return True if every other call would fail the same way: a wrong key or model, or no money left."""
    import openai

    # An exhausted account answers with the status of a rate limit, too, but waiting does not help.
    if isinstance(error, openai.RateLimitError):
        return error.code == "insufficient_quota"
    return isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError | openai.NotFoundError)


def _read(file: Path) -> Verdict | None:
    """Read a cached verdict; None if there is none, or it is damaged, which asking again repairs."""
    try:
        return Verdict(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _write(file: Path, verdict: Verdict) -> None:
    """Cache a verdict. Raises RequestError if it cannot be written."""
    fields = asdict(verdict)
    record = {name: fields[name] for name in _CACHED}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as part:
            part.write_text(json.dumps(record), encoding="utf-8")
    except OSError as error:
        raise RequestError(f'cannot keep an answer of the judge in "{file.parent}": {error.strerror}.') from error
