"""Names in data sets, in all spellings that are read: roles and keys of turns, media, and layouts."""

import re
from collections.abc import Mapping
from typing import Any

from neftune_cli.config.choices import ALPACA, MESSAGES, PROMPT_COMPLETION, TEXT

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
WEIGHT_KEYS = ("weight", "train", "training", "loss", "trainable", "learn", "loss_weight")
MASK_KEYS = (
    *("mask", "masked", "loss_mask", "completion_mask", "assistant_mask", "assistant_masks"),
    *("train_detail", "training_detail"),
)
"""Keys of turns, and names of columns, that give the loss of parts. They are refused."""
TOOL_CALL_KEYS = ("tool_calls", "function_call")
TOOL_TURN_KEYS = ("name", "tool_call_id")
FUNCTION_KEYS = ("functions", "tools", "function_calls")
"""Keys of turns with definitions and calls of functions in forms that are not read. They are refused."""
MEDIA = {"image": "images are not read", "audio": "audio is not read", "video": "videos are not read"}
"""Names of columns, of keys of a turn and of parts of a turn that are not read, each with a clause for messages."""

SYSTEM_COLUMNS = ("system", "system_prompt", "system_message")
INPUT_COLUMNS = ("input", "context")
"""Columns with the system turn and with the input of an instruction. Layouts that do not read them refuse them."""
QUESTION_COLUMNS = ("question", "query")
"""Columns that are the prompt of a layout without instruction, and the input of one with it."""
PROMPT_COLUMNS = ("prompt", "instruction", *QUESTION_COLUMNS)
"""Columns with what is asked. If two of them have different texts, both are needed."""
ANSWER_COLUMNS = ("completion", "response", "answer", "output")
"""Columns with the answer to learn, in order of preference."""

BARE_LIST = "list of turns"
"""Column of a row of a JSON file that is a list of turns itself, without an object around it."""
OTHER_LAYOUT_NAMES = {
    **dict.fromkeys(("sharegpt", "chatml", "chat", "openai", "conversation", "conversations"), MESSAGES),
    **dict.fromkeys(("instruct", "instruction", "instructions"), ALPACA),
    **dict.fromkeys(("completion", "completions", "qa"), PROMPT_COMPLETION),
    **dict.fromkeys(("plain", "plaintext", "raw", "pretraining"), TEXT),
}
"""Names that other programs have for layouts."""


TURN_KEYS = {
    *(
        *ROLE_KEYS,
        *CONTENT_KEYS,
        *REASONING_KEYS,
        *WEIGHT_KEYS,
        *MASK_KEYS,
        *TOOL_CALL_KEYS,
        *FUNCTION_KEYS,
        *TOOL_TURN_KEYS,
    )
}
END_OF_TURN = re.compile(
    r"(?:</s>|<\|(?:im_end|eot_id|eom_id|end|endoftext|end_of_text|return)\|>|<end_of_turn>|<turn\|>|<eos>"
    r"|<\uff5cend\u2581of\u2581sentence\uff5c>)\s*\Z"
)
"""End tokens of common models at the end of a text."""


def known_key(key: Any) -> Any:
    """Return the known key of a turn that a key is in another case or with surrounding spaces; others unchanged."""
    plain = key.strip().lower() if isinstance(key, str) else key
    return plain if plain in TURN_KEYS else key


def is_conversation(items: list[Any]) -> bool:
    """Return whether the items of a list are turns of a conversation: objects with a role."""
    return bool(items) and all(
        isinstance(item, Mapping) and any(known_key(key) in ROLE_KEYS for key in item) for item in items
    )
