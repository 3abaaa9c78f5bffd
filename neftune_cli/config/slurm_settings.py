"""Settings of SLURM jobs: the keys of `--slurm`, with the names that submitit and sbatch give them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from neftune_cli.errors import Problem, Problems, UsageError, did_you_mean

SlurmValue = str | int | bool
CLUSTERS = ("slurm", "local")
"""Values of the key `cluster`: jobs of SLURM, or processes on this machine, to try a command without SLURM."""

DEFAULT_MINUTES = 240
"""Time limit of a job. A trial that needs longer is requeued and continues from its checkpoint."""
SIGNAL_SECONDS = 90
"""Seconds between the signal to write a checkpoint and the time limit."""
EARLY_SECONDS = 60
"""Seconds by which SLURM may send this signal too early (manual of sbatch, --signal)."""


@dataclass(frozen=True)
class SlurmKey:
    """One key of `--slurm`."""

    example: str
    number: bool = False
    """Whether the value is a whole number, 1 or larger."""
    sbatch_only: bool = False
    """Whether submitit passes the value on to sbatch without a parameter of its own."""


SLURM_KEYS: Mapping[str, SlurmKey] = {
    "cluster": SlurmKey("local"),
    "partition": SlurmKey("gpu"),
    "time": SlurmKey("120", number=True),
    "account": SlurmKey("my-project"),
    "qos": SlurmKey("normal"),
    "gres": SlurmKey("gpu:1"),
    "gpus_per_node": SlurmKey("1", number=True),
    "cpus_per_task": SlurmKey("8", number=True),
    "mem": SlurmKey("32G", sbatch_only=True),
    "mem_per_cpu": SlurmKey("4G"),
    "mem_per_gpu": SlurmKey("32G"),
    "constraint": SlurmKey("a100"),
    "nodelist": SlurmKey("node[1-4]"),
    "exclude": SlurmKey("node7"),
    "dependency": SlurmKey("afterok:1234"),
    "comment": SlurmKey("first"),
    "mail_type": SlurmKey("END"),
    "mail_user": SlurmKey("me@example.org"),
    "signal_delay_s": SlurmKey("120", number=True),
    "reservation": SlurmKey("course", sbatch_only=True),
    "nice": SlurmKey("100", sbatch_only=True),
    "licenses": SlurmKey("tool:1", sbatch_only=True),
}
"""Keys of `--slurm`. A hyphen, as sbatch writes it, may stand for an underscore. `time` is in minutes.

`array_parallelism` is not among them, because `--workers` limits the trials in parallel.
"""


def parse_slurm(texts: Sequence[str]) -> dict[str, SlurmValue]:
    """Return the settings in texts such as `partition=gpu`. Of a repeated key, the last value counts.

    Raises:
        UsageError: a problem for each text that is not valid, or the time limit is too short for any training.
    """
    problems = Problems()
    pairs = [problems.attempt(partial(_pair, text)) for text in texts]
    problems.raise_any()
    settings = dict(pair for pair in pairs if pair)
    _check_time(int(settings.get("time", DEFAULT_MINUTES)), int(settings.get("signal_delay_s", SIGNAL_SECONDS)))
    return settings


def _check_time(minutes: int, signal_seconds: int) -> None:
    """Refuse a time limit at which a job may get the signal to write its checkpoint before it has started to train."""
    least = (signal_seconds + EARLY_SECONDS) // 60 + 1
    if minutes < least:
        what = (
            f"--slurm time={minutes} is too short: SLURM asks a trial to write its checkpoint up to "
            f"{signal_seconds + EARLY_SECONDS} seconds before this limit."
        )
        raise UsageError(Problem(what, f"Use --slurm time={least} or more, or a smaller --slurm signal-delay-s."))


def _pair(text: str) -> tuple[str, SlurmValue]:
    name, separator, value = (part.strip() for part in text.partition("="))
    if not (separator and name and value):
        raise UsageError(Problem(f"--slurm: {text!r} is not KEY=VALUE.", "Use for example --slurm partition=gpu."))
    key = name.replace("-", "_")
    if key not in SLURM_KEYS:
        what = f"--slurm has no key {name!r}. {did_you_mean(key, SLURM_KEYS)}".rstrip()
        raise UsageError(Problem(what, f"Use one of {', '.join(SLURM_KEYS)}."))
    if key == "cluster" and value not in CLUSTERS:
        raise UsageError(Problem(f"--slurm cluster must be slurm or local; {value!r} was given.", "Use cluster=slurm."))
    if not SLURM_KEYS[key].number:
        return key, value
    return key, _number(name, value)


def _number(name: str, value: str) -> int:
    if value.isascii() and value.isdigit() and int(value):
        return int(value)
    unit = " of minutes" if name == "time" else ""
    what = f"--slurm {name} must be a whole number{unit}, 1 or larger; {value!r} was given."
    raise UsageError(Problem(what, f"Use for example --slurm {name}={SLURM_KEYS[name.replace('-', '_')].example}."))
