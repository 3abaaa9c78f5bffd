"""Names of the roles and keys of turns in data sets."""

from collections.abc import Mapping
from typing import Any

ASSISTANT = "assistant"
TOOL_CALL_ROLES = ("function_call", "tool_call")
"""Roles of ShareGPT turns whose text is a tool call of the assistant."""
ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter"),
    ASSISTANT: (ASSISTANT, "gpt", "model", "ai", "bot", "chatgpt", "bard", "bing", *TOOL_CALL_ROLES),
    "tool": ("tool", "function", "observation", "function_response", "tool_response", "ipython"),
}
"""Roles of chat templates, each with its names in data sets, in lower case."""
ROLE_OF = {name: role for role, names in ROLES.items() for name in names}

ROLE_KEYS = ("role", "from", "speaker")
CONTENT_KEYS = ("content", "value", "text")
REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
WEIGHT_KEYS = ("weight", "train", "loss")
TOOL_CALL_KEYS = ("tool_calls", "function_call")
TOOL_TURN_KEYS = ("name", "tool_call_id")
MEDIA = {"image": "images are not read", "audio": "audio is not read", "video": "videos are not read"}
"""Names of columns, of keys of a turn and of parts of a turn that are not read, each with a clause for messages."""


def is_conversation(items: list[Any]) -> bool:
    """Return whether the items of a list are turns of a conversation: objects with a role."""
    return bool(items) and all(isinstance(item, Mapping) and any(key in item for key in ROLE_KEYS) for item in items)
