"""What can go wrong with the provider, in words that can be told: one line, and never with its key."""

from __future__ import annotations

import re
from typing import Any

from pinch.errors import PinchError
from pinch.tiers import KIBIBYTE

ERROR_BYTES = 8 * KIBIBYTE
"""Bytes of an error's body that are read."""
ERROR_CHARACTERS = 300
OVERLONG = re.compile(r"context.?(length|size|window)", re.IGNORECASE)
"""How OpenAI, llama.cpp and vLLM say that a conversation is longer than the model's window."""
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
"""Statuses after which another attempt may go well."""


class NoProvider(PinchError):
    """The settings name no provider."""


class ProviderError(PinchError):
    """The provider did not answer, or not as it should."""

    def __init__(
        self, message: str, kind: str = "unknown", *, hint: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind
        """One of OpenClaw's: `timeout`, `rate_limit`, `context_length`, `refusal` or `unknown`."""
        self.retry_after_s = retry_after_s


def told(what: Any, status: int | None, key: str) -> ProviderError:
    """Return the error that a provider tells of, with a status or in an answer that had begun."""
    code, message = "", str(what)
    if isinstance(what, dict):
        code, message = f"{what.get('code') or ''} {what.get('type') or ''}", str(what.get("message") or what)
        if status is None and (found := re.match(r"[45]\d\d\b", code)):  # as some do where it was 200 already
            status = int(found[0])
    again = 0.0 if status in AGAIN else None
    said, kind, hint = shown(message, key), "unknown", ""
    if status == 429 or "rate_limit" in code:
        text, kind = f"the provider is asked too often: {said}", "rate_limit"
    elif OVERLONG.search(code) or OVERLONG.search(message[:ERROR_BYTES]):
        text, kind = f"the conversation is too long for the model: {said}", "context_length"
        hint = "lower [agents] context_tokens"
    elif status in {401, 403}:
        text, kind, hint = f"the provider refuses the key: {said}", "refusal", "look at [provider] key_file"
    elif "content_filter" in code or "content_policy" in code:
        text, kind = f"the provider refuses to answer: {said}", "refusal"
    elif status in range(300, 400):
        text = f"the provider answered {status}, and redirects are not followed"
        hint = "set [provider] base_url to where it leads"
    else:
        text = f"the provider answered {status}: {said}" if status else f"the provider failed: {said}"
        hint = "look at [provider] base_url, up to and with /v1, and model" if status == 404 else ""
    return ProviderError(text, kind, hint=hint, retry_after_s=again)


def no_answer(data: bytes, key: str) -> ProviderError:
    """Return the error of data that cannot be read as an answer."""
    found = shown(data[:ERROR_BYTES].decode("utf-8", "replace"), key, 80)
    return ProviderError(f"the provider sent something that is no answer: {found!r}", retry_after_s=0)


def unreachable(reason: str) -> ProviderError:
    """Return the error of a connection that could not be made or kept."""
    hint = "look at [provider] base_url and the network"
    return ProviderError(f"the provider cannot be reached or broke off: {reason}", hint=hint, retry_after_s=0)


def shown(text: str, key: str, characters: int = ERROR_CHARACTERS) -> str:
    """Return the beginning of what a provider said, in one line and without the key."""
    text = text[:ERROR_BYTES]
    hidden = text.replace(key, "***") if key else text
    return " ".join("".join(sign if sign.isprintable() else " " for sign in hidden).split())[:characters]


def too_long(limit: int) -> ProviderError:
    """Return the error of an answer that has more than `limit` bytes."""
    return ProviderError(
        f"the answer passed {limit // KIBIBYTE} KiB and was cut", hint="raise [provider] max_answer_kb, or ask for less"
    )
