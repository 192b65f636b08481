"""What a completed call of the OpenAI protocol holds, read from whatever an endpoint made of that protocol."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Count = Annotated[int | None, Field(ge=0)]


class Message(BaseModel):
    """What the model said, or why it would not."""

    model_config = ConfigDict(from_attributes=True)

    content: str | None = None
    refusal: str | None = None


class Choice(BaseModel):
    """One answer, and why it ended where it does."""

    model_config = ConfigDict(from_attributes=True)

    message: Message
    finish_reason: str | None = None


class Usage(BaseModel):
    """Tokens, and US dollars where the endpoint counts them itself; None is not told."""

    model_config = ConfigDict(from_attributes=True)

    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Count = None
    cost: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None


def choice(completion: object) -> Choice | None:
    """The first choice; None where there is none that can be read."""
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices:
        return None
    try:
        return Choice.model_validate(choices[0])
    except ValidationError:
        return None


def usage(completion: object) -> Usage:
    """What the call used, as far as it is told."""
    try:
        return Usage.model_validate(getattr(completion, "usage", None) or {})
    except ValidationError:
        return Usage()
