"""Options of how trials are run: where, how often they are kept, and what happens when one fails."""

from typing import Annotated

from neftune_cli.commands.options.panel import option
from neftune_cli.config import running

DryRun = Annotated[bool, option("--dry-run", help_="Show the plan with its price, train nothing.", panel="Run")]
HourlyRate = Annotated[
    float | None,
    option("--hourly-rate", help_="With --dry-run: what the machine costs an hour.", panel="Run", metavar="R"),
]
Estimate = Annotated[
    bool,
    option(
        "--estimate/--no-estimate",
        help_="Try a few steps out first, for the time left and the memory (default --estimate).",
        panel="Run",
    ),
]
Workers = Annotated[
    str,
    option(
        "--workers",
        help_="Trials side by side; auto: as many as machine and model allow (default auto). "
        "0 runs the trials in this process, one after the other, for debuggers.",
        panel="Run",
        metavar="N|auto",
    ),
]
Retry = Annotated[running.Retry | None, option("--retry", help_="Run failed trials again too.", panel="Run")]
FailFast = Annotated[bool, option("--fail-fast", help_="Stop the others when a trial fails.", panel="Run")]
OnOom = Annotated[
    running.OnOom,
    option(
        "--on-oom",
        help_="Out of memory: fail, or begin anew with half the batch and twice the accumulation (default fail).",
        panel="Run",
    ),
]
StopOnDivergence = Annotated[
    bool,
    option(
        "--stop-on-divergence/--no-stop-on-divergence",
        help_="End a training whose loss is no finite number (default --stop-on-divergence).",
        panel="Run",
    ),
]
Keep = Annotated[
    running.Keep,
    option(
        "--keep",
        help_="Trained models to keep; best: the one with the lowest held-out loss of all arms and seeds "
        "(default none).",
        panel="Run",
    ),
]
CheckpointSteps = Annotated[
    int | None,
    option("--checkpoint-steps", help_="A checkpoint every so many steps too.", panel="Run", metavar="N"),
]
CheckpointMinutes = Annotated[
    float,
    option("--checkpoint-minutes", help_="A checkpoint every so many minutes (default 2).", panel="Run", metavar="M"),
]
