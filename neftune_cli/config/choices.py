"""Types of fields with a fixed set of values, names of data layouts, and constants that training and reports share.

This module imports neither pydantic nor an implementation, so that `--help` can list the values at once.
"""

from typing import Any, Literal, get_args

from neftune_cli.errors import Problem, UsageError

NoiseScale = Literal["paper", "hf"]
"""The length L in the formula: the real tokens of the example, or the padded length of its row, as in transformers."""
NoiseTarget = Literal["all", "prompt", "completion"]
"""Real tokens that get noise: all, or by their labels the prompt (ignored by the loss) or the completion."""
LearnedTurns = Literal["last", "all-assistant"]
Precision = Literal["auto", "float32", "bfloat16"]
DecodingName = Literal["preallocated", "transformers"]
ProjectionMethod = Literal["tsne", "pca", "umap"]

LARGEST_SEED = 2**32 - 1
"""The largest seed of numpy's generators."""
LORA_SETTINGS = (
    "LoRA has a lora_alpha of twice the rank, dropout 0, and adapters on all linear layers but the language modeling "
    "head and routers"
)
"""Fixed settings of LoRA, as a sentence without its full stop."""
SFT_DEFAULTS = {"optim": "adamw_torch_fused", "lr_scheduler_type": "linear", "warmup_steps": 0, "weight_decay": 0}
"""Values of fields of SFTConfig that papers report, where the recipe does not set them."""
IGNORED_LABEL = -100
"""Label of a token that the loss ignores: the convention of torch's cross entropy and of all trainers."""


def check_choice(name: str, value: str, literal: Any) -> None:
    """Check that a value is one of the values of a `Literal` type.

    Raises:
        UsageError: it is not. The message lists the values.
    """
    if value not in get_args(literal):
        raise UsageError(Problem(f"{name} {value!r} is unknown.", f"Use one of: {', '.join(get_args(literal))}."))


ALPACA, PROMPT_COMPLETION, MESSAGES, TEXT = "alpaca", "prompt-completion", "messages", "text"
_LAYOUTS = [ALPACA, PROMPT_COMPLETION, MESSAGES, TEXT]


def layout_names() -> tuple[str, ...]:
    """Return the names of all layouts in order of preference."""
    return tuple(_LAYOUTS)


def prefer_layout(name: str) -> None:
    """Put the name of a layout, which may be new, before all others in this process."""
    if name in _LAYOUTS:
        _LAYOUTS.remove(name)
    _LAYOUTS.insert(0, name)
