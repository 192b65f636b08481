"""A vision-language model behind any endpoint that speaks the OpenAI protocol."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from vsf.errors import RequestError
from vsf.judges import completion, wording
from vsf.judges.base import Case, Verdict

HOPELESS = 12  # failures in a row, before the first answer, after which an endpoint is given up
PAID_HOST = "api.openai.com"  # where the client asks if it is told nothing else
LONGEST_PAUSE = 300.0  # seconds; an endpoint that asks for a longer one is waited for no longer than this


@dataclass(eq=False)
class OpenAIJudge:
    """One call per image, with a structured answer.

    key: never shown anywhere. prices: US dollars per million tokens read, and written; an endpoint that reports the
    cost itself needs none. cache: a folder that keeps answers by image, question, wording and model, so that nothing is
    paid for twice. A call is tried `attempts` times, with growing pauses from `pause` seconds, or those that the
    endpoint asks for.
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

        self.name, self.version = f"openai:{self.model}", wording.VERSION
        self._client = openai.OpenAI(
            api_key=self.key or "none", base_url=self.endpoint, timeout=self.timeout, max_retries=0
        )
        require_key(self._client.base_url.host, self.key)
        self._lock, self._failures, self._answered = threading.Lock(), 0, False

    def __call__(self, cases: Sequence[Case]) -> list[Verdict]:
        """Ask about each image. A refusal, a malformed answer, or none is unscored and says so in its reason.

        Raises:
            RequestError: the key or the model's name is refused, or the endpoint has not answered a single time.
        """
        return [self._known(case) for case in cases]

    def _known(self, case: Case) -> Verdict:
        """The answer from the cache, with what it cost when it was bought, or else from the endpoint."""
        content = case.png()
        if self.cache is None:
            return self._ask(case, content)
        subject = [self.endpoint or "", self.model, wording.VERSION, wording.task(case)]
        key = hashlib.sha256(json.dumps(subject).encode() + content).hexdigest()
        file = self.cache / key[:2] / f"{key}.json"
        if (kept := _read(file)) is not None:
            return kept
        found = self._ask(case, content)
        if found.positive is not None:
            _write(file, found)
        return found

    def _ask(self, case: Case, content: bytes) -> Verdict:
        import openai

        try:
            verdict = self._read(self._call_patiently(case, content))
        except openai.BadRequestError as error:
            verdict = Verdict(None, None, None, f"refused: {self._told(error)}")
        except (openai.APIError, ValueError) as error:  # the client passes on what the JSON parser says
            if _is_for_all(error):
                raise RequestError(f"the judge's endpoint refuses every call: {self._told(error)}") from None
            verdict = Verdict(None, None, None, f"no answer: {self._told(error)}", final=False)
        self._count(verdict)
        return verdict

    def _call_patiently(self, case: Case, content: bytes) -> Any:
        import openai
        from tenacity import Retrying, retry_if_exception, stop_after_attempt

        def passing(error: BaseException) -> bool:
            if _is_for_all(error):
                return False
            trouble = openai.APIConnectionError | openai.InternalServerError | openai.RateLimitError | ValueError
            return isinstance(error, trouble)

        attempts = Retrying(
            stop=stop_after_attempt(self.attempts), wait=self._pause, retry=retry_if_exception(passing), reraise=True
        )
        return attempts(self._call, case, content)

    def _call(self, case: Case, content: bytes) -> Any:
        url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        picture = {"type": "image_url", "image_url": {"url": url}}
        text = {"type": "text", "text": wording.task(case)}
        schema = {"name": "verdict", "strict": True, "schema": wording.SCHEMA}
        completed = self._client.chat.completions.create(  # type: ignore[call-overload]
            model=self.model,
            messages=[{"role": "user", "content": [text, picture]}],
            response_format={"type": "json_schema", "json_schema": schema},
            temperature=0.0,
        )
        if isinstance(completed, str):
            raise ValueError(f"no JSON but {completed[:80]!r}")  # such as the page of a gateway that is busy
        return completed

    def _pause(self, state: Any) -> float:
        """Seconds until the next attempt: what the endpoint asks for, or else twice as long each time, and a bit."""
        from tenacity import wait_random_exponential

        response = getattr(state.outcome.exception(), "response", None)
        try:
            asked = float(response.headers["retry-after"])  # type: ignore[union-attr]
        except (AttributeError, KeyError, ValueError):
            return self.pause / 2 + float(wait_random_exponential(multiplier=self.pause, max=60)(state))
        return min(max(asked, 0.0), LONGEST_PAUSE)

    def _read(self, completed: Any) -> Verdict:
        """What a completed call says, and what it used."""
        used, choice = completion.usage(completed), completion.choice(completed)
        tokens, cost = used.total_tokens, self._cost(used)
        if choice is None:
            return Verdict(None, None, None, "malformed answer: no choices that can be read", tokens, cost)
        if choice.message.refusal or choice.finish_reason == "content_filter":
            reason = self._without_key(choice.message.refusal or "content filter")
            return Verdict(None, None, None, f"refused: {reason}", tokens, cost)
        return wording.verdict(self._without_key(choice.message.content or ""), tokens=tokens, cost=cost)

    def _cost(self, used: completion.Usage) -> float | None:
        if used.cost is not None or self.prices is None:
            return used.cost
        if used.prompt_tokens is None or used.completion_tokens is None:
            return None
        return (used.prompt_tokens * self.prices[0] + used.completion_tokens * self.prices[1]) / 1e6

    def _count(self, verdict: Verdict) -> None:
        """Give an endpoint up that fails time after time and has never given an answer that could be read."""
        with self._lock:
            self._answered |= verdict.positive is not None
            self._failures += 1
            hopeless = not self._answered and self._failures >= HOPELESS
        if hopeless:
            raise RequestError(f"{HOPELESS} calls and not one answer; the last: {verdict.reason}")

    def _told(self, error: Exception) -> str:
        return self._without_key(f"{type(error).__name__}: {error}")[:300]

    def _without_key(self, text: str) -> str:
        """An endpoint may repeat the key that it was given."""
        return text.replace(self.key, "***") if self.key else text


def require_key(host: str, key: str) -> None:
    """Raise RequestError where OpenAI's own endpoint is to be asked without a key; others may need none."""
    if host == PAID_HOST and not key:
        raise RequestError(
            f"no API key for {PAID_HOST}: put it into the environment variable OPENAI_API_KEY, name another variable "
            "with --key-env, or name with --endpoint a server that needs no key."
        )


def _is_for_all(error: BaseException) -> bool:
    """Whether every other call would fail the same way: a wrong key or model, or no money left."""
    import openai

    if isinstance(error, openai.RateLimitError):
        return error.code == "insufficient_quota"
    return isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError | openai.NotFoundError)


def _read(file: Path) -> Verdict | None:
    try:
        return Verdict(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):  # not there, or damaged, which asking again puts right
        return None


def _write(file: Path, verdict: Verdict) -> None:
    part = file.with_name(f".{uuid4().hex}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(asdict(verdict)), encoding="utf-8")
        os.replace(part, file)
    except OSError as error:
        raise RequestError(f'cannot keep an answer of the judge in "{file.parent}": {error.strerror}.') from error
