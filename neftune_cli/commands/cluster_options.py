"""Options of the executors on clusters: SLURM and Ray."""

from typing import Annotated

from neftune_cli.commands.routing import Destination, Option

CLUSTER = "Cluster"
_RUN = Destination.RUN

Slurm = Annotated[
    list[str] | None,
    Option(
        "--slurm",
        "Setting of SLURM jobs for --executor slurm, for example partition=gpu, time=120 (minutes) or gres=gpu:1; may "
        "be repeated.",
        CLUSTER,
        _RUN,
        metavar="KEY=VALUE",
    ),
]
Detach = Annotated[
    bool,
    Option(
        "--detach",
        "End the command when all trials are submitted (--executor slurm). The same command later shows the results.",
        CLUSTER,
        _RUN,
    ),
]
Address = Annotated[
    str | None,
    Option(
        "--address",
        "Address of the Ray cluster for --executor ray; auto: the cluster of this machine (default auto, or a new "
        "cluster on this machine if there is none).",
        CLUSTER,
        _RUN,
        metavar="HOST:PORT",
    ),
]
GpusPerTrial = Annotated[
    float | None,
    Option(
        "--gpus-per-trial",
        "GPUs of each trial with --executor ray; 0.5 runs two trials on one GPU (default 1 if the cluster has GPUs).",
        CLUSTER,
        _RUN,
        metavar="N",
    ),
]
CpusPerTrial = Annotated[
    float | None,
    Option(
        "--cpus-per-trial",
        "CPU cores of each trial with --executor ray, which are also its threads (default 1).",
        CLUSTER,
        _RUN,
        metavar="N",
    ),
]
