"""From what a user asks to see to a shift of embeddings, its map, and the files of both."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from neftune_cli.config.spec import default_recipe
from neftune_cli.data.examples import InstructionData
from neftune_cli.data.loading import load_data
from neftune_cli.data.tokenization import require_examples, tokenize
from neftune_cli.errors import Problems
from neftune_cli.geometry.projection.plot import draw_shift
from neftune_cli.geometry.projection.shift import Shift, ShownNoise, shift_tokens, to_csv
from neftune_cli.geometry.projection.token_groups import group_tokens
from neftune_cli.geometry.projection.token_map import Method, TokenMap, check_method, check_perplexity, project
from neftune_cli.models.loading import load_model
from neftune_cli.models.sources import ModelSource, find_model
from neftune_cli.noise.lengths import check_alpha
from neftune_cli.store import check_writable, write_files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PICTURE: Final = "projection.png"
POINTS: Final = "points.csv"


@dataclass(frozen=True)
class Wish:
    """What to show."""

    model: str = "tiny"
    dataset: str = "bios"
    layout: str | None = None
    length: int | None = None
    """Tokens of the example whose noise is shown; those of the data's median training example if None."""
    alpha: float = 5.0
    noise: str = "uniform"
    projection: Method = "tsne"
    points: int = 40
    """Tokens a group has at most."""
    perplexity: float = 30.0
    seed: int = 0


@dataclass(frozen=True)
class Visualization:
    """What was asked for, computed."""

    model: str
    noise: ShownNoise
    shift: Shift
    token_map: TokenMap
    notes: tuple[str, ...]
    """What the user should know of the model and of the groups."""


def visualize_noise(wish: Wish, folder: Path) -> Visualization:
    """Choose tokens, add the noise and project; the same wish gives the same numbers on one machine.

    The folder is the one that files shall go to; it is looked at before the work, and nothing is written yet.

    Raises:
        UsageError: whatever can't be found, read, projected or written; options, model and data are told together.
    """
    source, data = _found(wish, folder)
    loaded = load_model(source)
    tokens = group_tokens(loaded.tokenizer, most=wish.points, model=wish.model)
    check_perplexity(wish.projection, wish.perplexity, len(tokens.token_ids))
    length = wish.length or _median_length(data, loaded.tokenizer, wish.model)
    noise = ShownNoise(wish.alpha, length, wish.noise, wish.seed)
    shift = shift_tokens(loaded.model, tokens, noise)
    token_map = project(shift.before, shift.after, wish.projection, perplexity=wish.perplexity, seed=wish.seed)
    return Visualization(wish.model, noise, shift, token_map, (*loaded.notes, *tokens.notes))


def write_visualization(shown: Visualization, folder: Path) -> tuple[Path, ...]:
    """Write the picture and a row a token, replacing those of another time; return where they are.

    Raises:
        UsageError: the folder can't be written.
    """
    files: dict[str, str | bytes] = {
        PICTURE: draw_shift(shown.shift, shown.token_map, model=shown.model, noise=shown.noise),
        POINTS: to_csv(shown.shift, shown.token_map),
    }
    return write_files(folder, files)


def _found(wish: Wish, folder: Path) -> tuple[ModelSource, InstructionData | None]:
    """Look for everything that is named before anything is loaded."""
    problems = Problems()
    problems.attempt(lambda: check_alpha(wish.alpha))
    problems.attempt(lambda: check_method(wish.projection))
    problems.attempt(lambda: check_writable(folder))
    source = problems.attempt(lambda: find_model(wish.model))
    needed = wish.length is None
    data = problems.attempt(lambda: load_data(wish.dataset, layout=wish.layout)) if needed else None
    problems.raise_any()
    assert source is not None
    return source, data


def _median_length(data: InstructionData | None, tokenizer: "PreTrainedTokenizerBase", model: str) -> int:
    assert data is not None
    max_length = int(default_recipe(model, lora=False)["max_length"])
    tokenized = tokenize(data.train, tokenizer, max_length=max_length)
    require_examples(tokenized, "training", max_length)
    return round(median(len(example.input_ids) for example in tokenized.examples))
