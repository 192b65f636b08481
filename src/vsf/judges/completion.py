"""Tolerant parsing of OpenAI-protocol completions: endpoints leave out or bend many of the fields."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Count = Annotated[int | None, Field(ge=0)]


class Message(BaseModel):
    """The text that the model wrote, or its reason for refusing."""

    model_config = ConfigDict(from_attributes=True)

    content: str | None = None
    refusal: str | None = None


class Choice(BaseModel):
    """One of the answers of a completion, and why it ended."""

    model_config = ConfigDict(from_attributes=True)

    message: Message
    finish_reason: str | None = None


class Usage(BaseModel):
    """Token counts, and US dollars if the endpoint reports them; None if it does not say."""

    model_config = ConfigDict(from_attributes=True)

    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Count = None
    cost: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None


def choice(completion: object) -> Choice | None:
    """Return the first choice of a completion, or None if there is none or it cannot be parsed."""
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices:
        return None
    try:
        return Choice.model_validate(choices[0])
    except ValidationError:
        return None


def usage(completion: object) -> Usage:
    """Return the tokens and the cost of a completion, as far as the endpoint reports them."""
    try:
        return Usage.model_validate(getattr(completion, "usage", None) or {})
    except ValidationError:
        return Usage()
