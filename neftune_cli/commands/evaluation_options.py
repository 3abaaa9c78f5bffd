"""Options of `sweep` and `train` on the measurements of trained models."""

from typing import Annotated

from neftune_cli.commands.routing import Destination, Option
from neftune_cli.config import choices

EVALUATION = "Evaluation"
"""Title of the group in `--help`."""
_SPEC = Destination.SPEC

MaxNewTokens = Annotated[
    int | None,
    Option(
        "--max-new-tokens",
        "Maximum length of a generated response in tokens (default 96 for bios, else 128).",
        EVALUATION,
        _SPEC,
        field="evaluation.max_new_tokens",
        metavar="N",
    ),
]
RepetitionPenalty = Annotated[
    float | None,
    Option(
        "--repetition-penalty",
        "Repetition penalty of greedy generation (default 1.0 for bios, else 1.2).",
        EVALUATION,
        _SPEC,
        field="evaluation.repetition_penalty",
        metavar="P",
    ),
]
Decoding = Annotated[
    choices.DecodingName | None,
    Option(
        "--decoding",
        "Generation of responses: with a preallocated cache, or with transformers (default preallocated).",
        EVALUATION,
        _SPEC,
        field="evaluation.decoding",
    ),
]

CurveExamples = Annotated[
    int | None,
    Option(
        "--curve-examples",
        "Measure the loss curves on N held-out and N training examples, the same in all arms. All examples are still "
        "used after the last epoch and after each epoch with a new lowest loss (default: all examples, every epoch).",
        EVALUATION,
        _SPEC,
        field="evaluation.curve_examples",
        metavar="N",
    ),
]

ProbeExamples = Annotated[
    int | None,
    Option(
        "--probe-examples",
        "Maximum number of training examples whose noise-off loss and responses are measured (default: losses of 120, "
        "responses of 64).",
        EVALUATION,
        _SPEC,
        field="evaluation.probe_examples",
        metavar="N",
    ),
]
LmEval = Annotated[
    str | None,
    Option(
        "--lm-eval",
        "Tasks of lm-evaluation-harness for the base model and each trained model: names, YAML files, or folders of "
        "YAML files. Needs `pip install '.[lm-eval]'`.",
        EVALUATION,
        _SPEC,
        field="evaluation.lm_eval",
        parser_name="parse_tasks",
        metavar="TASKS",
    ),
]
LmEvalLimit = Annotated[
    int | None,
    Option(
        "--lm-eval-limit",
        "Maximum number of documents of each of these tasks (default all).",
        EVALUATION,
        _SPEC,
        field="evaluation.lm_eval_limit",
        metavar="N",
    ),
]
