"""Markers in the texts of examples: those of chat templates, and those of images, audio and video."""

import re
from collections.abc import Iterator

from neftune_cli.data.examples import Example
from neftune_cli.data.turns import Remark, media_clause

_CHAT = re.compile(
    r"<\|(?:im_start|im_end|user|assistant|system|end|start_header_id|begin_of_text|eot_id|endoftext)\|>"
    r"|<\uff5c(?:User|Assistant)\uff5c>|\[/?INST\]|<start_of_turn>|### (?:Instruction|Response):"
)
_MEDIA = re.compile(r"<(image|audio|video)>|<\|(image|audio|video)(?:_pad)?\|>")
_RENDERED = "Prompts contain chat markers such as '{}', and the template adds its own"
_USE_RAW = "Use --raw if the prompts are rendered already."


def rendered_prompt(prompt: str) -> Iterator[Remark]:
    """Yield a remark if a prompt that the template renders contains chat markers already."""
    if marker := _CHAT.search(prompt):
        yield Remark(_RENDERED.format(marker.group()), _USE_RAW)


def marker_remarks(example: Example) -> Iterator[Remark]:
    """Yield remarks on markers of media, which are trained as text, and on chat markers in plain text."""
    texts = [*(turn["content"] for turn in example.turns), example.raw_prompt, example.completion]
    if marker := next((found for text in texts if (found := _MEDIA.search(text))), None):
        unread = media_clause(marker[1] or marker[2])
        yield Remark(f"Texts contain '{marker.group()}', which is trained as text, since {unread}")
    if not example.has_prompt and (marker := _CHAT.search(example.completion)):
        yield Remark(f"Texts contain chat markers such as '{marker.group()}', which are special tokens of some models")
