"""Preference data: pairs of a preferred and a rejected answer, and labels that say whether a completion is good."""

from collections.abc import Mapping, Sequence

from neftune_cli.config.values import columns_option
from neftune_cli.data.bad_rows import RowError
from neftune_cli.data.json_text import parse_cell
from neftune_cli.data.rows import RowValues, Table, has_content, is_blank
from neftune_cli.data.spellings import INPUT_COLUMNS, PROMPT_COLUMNS, QUESTION_COLUMNS, SYSTEM_COLUMNS
from neftune_cli.data.turns import list_in_text, listed_turns, role_of
from neftune_cli.errors import Problem
from neftune_cli.formatting import counted

PAIRS = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("preferred_output", "non_preferred_output"),
)
"""Columns of preferred and of rejected answers."""
PROMPTS = (*PROMPT_COLUMNS, "input")
LABELS = (
    "label",
    "kto_tag",
    "kto_label",
    "desirable",
    "is_desirable",
    "preferred",
    "is_preferred",
    "accepted",
    "is_accepted",
    "thumbs_up",
    "is_good",
)
"""Columns that can say whether a completion is good."""
GOOD = ("true", "1", "1.0", "yes", "good", "desirable", "accepted", "chosen", "preferred")
BAD = ("false", "0", "0.0", "no", "bad", "undesirable", "rejected")


def preference_problem(table: Table, prompts: Sequence[str] = PROMPTS) -> Problem | None:
    """Return the problem of a table that has preferred and rejected answers; None for other tables.

    Args:
        table: the rows.
        prompts: names that the column of the prompt can have, in lower case, in order of preference.
    """
    names = table.filled_names
    preferred, rejected = next((pair for pair in PAIRS if set(pair) <= set(names)), ("", ""))
    if not preferred:
        return None
    columns = f"columns {names[preferred]}, {names[rejected]}"
    what = f"{table.source} has preference data ({columns}), but training needs one completion per prompt."
    option = _columns_to_read(table, names, names[preferred], prompts)
    if not option:
        return Problem(what, 'Write the preferred answers as {"messages": [...]}.')
    return Problem(what, f"Use {option} to train on the preferred answers.")


def bad_completions(table: Table, column: str, option: str) -> Problem | None:
    """Return the problem of a column that divides the completions into good and bad ones, as data for KTO do.

    Args:
        table: the rows.
        column: a column that is not read.
        option: the option `--columns` that names the columns to read.
    """
    judged = [(row, value) for row in table.rows if (value := _judgment(row.value, column))]
    bad = [row for row, value in judged if value in BAD]
    if not bad or not all(value in GOOD or value in BAD for _, value in judged):
        return None
    marks = f"column '{column}' marks completions as bad ({counted(len(bad), 'row')} in all)"
    fix = f"Remove these rows, or use {option} to train on them as well."
    return Problem(f"{bad[0].position}: {marks}, but all rows would be trained on.", fix)


def _judgment(row: RowValues, column: str) -> str:
    try:
        value = row.get(column)
    except RowError:
        return "?"
    return str(value).strip().lower() if has_content(value) else ""


def _columns_to_read(table: Table, names: Mapping[str, str], preferred: str, prompts: Sequence[str]) -> str:
    """Return the option `--columns` for the preferred answers; empty if they are in an unknown form.

    Args:
        table: the rows.
        names: columns with values, by their name in lower case.
        preferred: column of the preferred answers.
        prompts: names that the column of the prompt can have.
    """
    answer = _first(table, preferred)
    others = {"system": SYSTEM_COLUMNS, "history": ("history",), "tools": ("tools",)}
    if isinstance(answer, list) and any(role_of(turn) == "user" for turn in answer):
        del others["history"]
        return columns_option({"messages": preferred, **_found(others, names)})
    if not isinstance(answer, str | list):
        return ""
    for prompt in (one for one in prompts if one in names):
        asked = _first(table, names[prompt])
        if isinstance(asked, str):
            questions = QUESTION_COLUMNS if prompt == "instruction" else ()
            others["input"] = tuple(one for one in (*INPUT_COLUMNS, *questions) if one != prompt)
        if isinstance(asked, str | list):
            return columns_option({"prompt": names[prompt], "completion": preferred, **_found(others, names)})
    return columns_option({"text": preferred}) if isinstance(answer, str) else ""


def _found(meanings: Mapping[str, Sequence[str]], names: Mapping[str, str]) -> dict[str, str]:
    """Return the first column with values for each meaning that has one."""
    found = ((meaning, [names[one] for one in columns if one in names]) for meaning, columns in meanings.items())
    return {meaning: present[0] for meaning, present in found if present}


def _first(table: Table, column: str) -> object:
    """Return the first value of a column, a list also if it is a list as JSON text; None for the text of one turn.

    A column with such text would be trained on as it is, with the keys of the turn.
    """
    try:
        value = next((row.value[column] for row in table.rows if not is_blank(row.value.get(column))), None)
        if not isinstance(value, str):
            return listed_turns(value)
        return None if _is_turn_in_text(value) else list_in_text(value, column) or value
    except RowError:
        return None


def _is_turn_in_text(text: str) -> bool:
    try:
        return text.lstrip().startswith("{") and isinstance(listed_turns(parse_cell(text)), list)
    except ValueError:
        return False
