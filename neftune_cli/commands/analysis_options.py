"""Options on the analysis that a sweep declares: number of seeds, looks, primary metric, margin and arm."""

from typing import Annotated

from neftune_cli.commands.routing import Destination, Option

ANALYSIS = "Analysis"
_SPEC, _COMMAND = Destination.SPEC, Destination.COMMAND

Seeds = Annotated[
    str | None,
    Option(
        "--seeds",
        "Number of seeds, or a list of seeds such as 0,1,7 (default 3).",
        ANALYSIS,
        _SPEC,
        field="seeds",
        metavar="N|LIST",
    ),
]
UntilDecided = Annotated[
    bool | None,
    Option(
        "--until-decided/--fixed-seeds",
        "--until-decided: compare after 5, 8, 12 and 20 seeds (planned looks, see --looks), and stop adding seeds to "
        "an arm once it is better, worse or equivalent. --fixed-seeds (default): train a fixed number of seeds.",
        ANALYSIS,
        _SPEC,
        field="until_decided",
    ),
]
Looks = Annotated[
    str | None,
    Option(
        "--looks",
        "Numbers of seeds at which --until-decided compares the arms (default 5,8,12,20).",
        ANALYSIS,
        _SPEC,
        field="looks",
        metavar="LIST",
    ),
]
MaxSeeds = Annotated[
    int | None,
    Option(
        "--max-seeds",
        "Last look of --until-decided; earlier looks stay: 10 gives looks at 5, 8 and 10 seeds (default: the "
        "last look of --looks).",
        ANALYSIS,
        _SPEC,
        field="max_seeds",
        metavar="N",
    ),
]
PauseAt = Annotated[
    int | None,
    Option(
        "--pause-at",
        "End the command after the look at N seeds. The same command without it continues.",
        ANALYSIS,
        _COMMAND,
        metavar="N",
    ),
]
PrimaryMetric = Annotated[
    str | None,
    Option(
        "--metric",
        "Primary metric: the headline reports the result for it. Declared before the first trial (default eval_loss). "
        "module:function is a function of your own that scores each response.",
        ANALYSIS,
        _SPEC,
        field="analysis.metric",
        metavar="KEY",
    ),
]
PrimaryMargin = Annotated[
    str | None,
    Option(
        "--margin",
        "Equivalence margin of the primary metric: 0.02 (in its unit), 10% (of the baseline's mean) or '1% of gain' "
        "(of the improvement over the base model; the default for eval_loss).",
        ANALYSIS,
        _SPEC,
        field="analysis.margin",
        metavar="SIZE",
    ),
]
PrimaryArm = Annotated[
    str | None,
    Option(
        "--primary-arm",
        "Arm of the confirmatory test, by alpha or name. The other arms are then exploratory.",
        ANALYSIS,
        _SPEC,
        field="analysis.primary_arm",
        metavar="ARM",
    ),
]
Controls = Annotated[
    bool | None,
    Option(
        "--controls",
        "Add two arms that check the sweep: the baseline again (A/A comparison), and noise as large as the embeddings.",
        ANALYSIS,
        _SPEC,
        field="controls",
    ),
]
