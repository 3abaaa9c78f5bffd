"""What is said when a sweep ends otherwise than it should: what failed, why it stopped, and what to type next."""

from neftune_cli.commands.request import Request
from neftune_cli.config.typed import command_again
from neftune_cli.sweeps.runner import Outcome


def failures_told(request: Request, outcome: Outcome, *, retried: bool) -> str:
    """Return the reason of each failed trial, where more is to be read, and the command that runs them again."""
    again = command_again() if retried else command_again("--retry", "failed")
    lines = [f"{trial} failed: {reason}" for trial, reason in outcome.failed.items()]
    logs = f"Each one's log.txt is in {request.folder.path / 'trials'}. To run them again, when the cause is mended:"
    return "\n".join([*lines, logs, f"  {again}"])


def halt_told(halted: str) -> str:
    """Return why nothing could go on, whatever the trial, and the command that does."""
    return f"{halted}\nWhat is finished is kept. To go on, when that is mended:\n  {command_again()}"
