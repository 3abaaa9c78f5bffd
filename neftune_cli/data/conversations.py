"""Conversations: turns that end with the assistant turn to learn, and the example of a conversation."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from neftune_cli.data.bad_rows import RowError
from neftune_cli.data.examples import Example, Message, content_id
from neftune_cli.data.spellings import ASSISTANT
from neftune_cli.data.tool_calls import in_key_order
from neftune_cli.data.turns import Remark, Turns

TURNS_LEFT_OUT = Remark("Turns after the last assistant turn to learn are not read")
OTHER_ROLES = Remark("Turns of other roles in the completion are not learned, only assistant turns are")


@dataclass(frozen=True)
class Conversation:
    """Turns of a row. The last one is an assistant turn with loss."""

    turns: tuple[Message, ...]
    tools: str = ""
    """Definitions of the tools, a list as JSON; empty without tools."""
    completion_turns: int = 1
    """Number of last turns that the data mark as the completion."""
    remarks: tuple[Remark, ...] = ()


def conversation(turns: Turns, place: str, *, system: str = "", tools: str = "") -> Conversation:
    """Return the conversation up to the last assistant turn with loss.

    Args:
        turns: turns of a column.
        place: name of the column, for messages: `column 'messages'`.
        system: system prompt from another column; empty if there is none.
        tools: definitions of the tools as JSON.

    Raises:
        RowError: no assistant turn carries loss, no user turn comes before it, or there are two system prompts.
    """
    last = _last_learned(turns, place)
    messages = turns.messages[: last + 1]
    require_user_turn(messages[:-1], place)
    left_out = (TURNS_LEFT_OUT,) if len(turns.messages) > len(messages) else ()
    return Conversation(with_system(system, messages, place), tools, 1, (*turns.remarks, *left_out))


def prompted(prompt: Turns, completion: Turns, places: tuple[str, str], *, system: str, tools: str) -> Conversation:
    """Return the conversation of a prompt and a completion, up to the last assistant turn with loss.

    Args:
        prompt: turns before the completion.
        completion: one or more turns. All of its assistant turns have loss.
        places: names of the two columns, for messages.
        system: system prompt from another column; empty if there is none.
        tools: definitions of the tools as JSON.

    Raises:
        RowError: no assistant turn of the completion carries loss, the prompt has no user turn, or there are two
            system prompts.
    """
    require_user_turn(prompt.messages, places[0])
    last = _last_learned(completion, places[1])
    learned = completion.messages[: last + 1]
    remarks = [*prompt.remarks, *completion.remarks]
    if len(learned) < len(completion.messages):
        remarks.append(TURNS_LEFT_OUT)
    if any(turn["role"] != ASSISTANT for turn in learned):
        remarks.append(OTHER_ROLES)
    turns = (*with_system(system, prompt.messages, places[0]), *learned)
    return Conversation(turns, tools, len(learned), tuple(remarks))


def example_of(found: Conversation) -> Example:
    """Return the example of a conversation. The id is the hash of everything that is trained on.

    Tool calls and tool definitions get one order of keys, since templates render it and the id does not depend on it.
    """
    *prompt, last = (_with_key_order(turn) for turn in found.turns)
    tools = in_key_order(json.loads(found.tools)) if found.tools else []
    final = Message(**{key: value for key, value in last.items() if key != "weight"})  # type: ignore[typeddict-item]
    more = {key: value for key, value in final.items() if key not in ("role", "content")}
    others = {
        "tools": tools or None,
        "final_turn": more,
        "completion_turns": found.completion_turns if found.completion_turns > 1 else None,
    }
    identity = content_id(prompt, last["content"], {name: other for name, other in others.items() if other})
    return Example(
        id=identity,
        prompt=tuple(prompt),
        completion=last["content"],
        cluster=identity,
        final_turn=final if more else None,
        tools=json.dumps(tools, ensure_ascii=False) if tools else "",
        completion_turns=found.completion_turns,
    )


def _with_key_order(turn: Message) -> Message:
    return {**turn, "tool_calls": in_key_order(turn["tool_calls"])} if "tool_calls" in turn else turn


def with_system(system: str, turns: Sequence[Message], place: str) -> tuple[Message, ...]:
    """Return the turns with a system turn in front, unless they have the same one already.

    Raises:
        RowError: the turns have another system prompt.
    """
    present = [turn["content"] for turn in turns if turn["role"] == "system"]
    if not system or [content.strip() for content in present] == [system.strip()]:
        return tuple(turns)
    if present:
        raise RowError(f"{place} and the system column have different system prompts.", "Remove one of them.")
    return (Message(role="system", content=system), *turns)


def require_user_turn(prompt: Sequence[Message], place: str) -> None:
    """Check that a user turn comes before the turn to learn.

    Raises:
        RowError: there is none.
    """
    if not any(turn["role"] == "user" for turn in prompt):
        raise RowError(f"{place} has no user turn before the last assistant turn.", "Add one, or remove the row.")


def _last_learned(turns: Turns, place: str) -> int:
    """Return the index of the last assistant turn with loss."""
    answers = [index for index, turn in enumerate(turns.messages) if turn["role"] == ASSISTANT]
    if not answers:
        raise RowError(f"{place} has no assistant turn (turns: {turns.roles}).", "Add one, or remove the row.")
    learned = [index for index in answers if turns.messages[index].get("weight") != 0]
    if not learned:
        what = f"{place} has nothing to learn: all assistant turns have the weight 0."
        raise RowError(what, "Give one of them the weight 1, or remove the row.")
    return learned[-1]
