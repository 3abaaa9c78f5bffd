"""Answers of the checklist about the resources: hardware, run time and software."""

from collections.abc import Iterator, Mapping

from neftune_cli.formatting import counted, duration, listed, size
from neftune_cli.reporting.checklist.answer import Answer
from neftune_cli.reporting.checklist.files import RunFiles


def compute(files: RunFiles) -> Answer:
    """Return the answer about hardware and run time."""
    statements = [*_hardware(files), *_times(files)]
    known = {"the hardware": files.known("hardware"), "the run time": files.numbers("seconds")}
    return Answer(
        "Which hardware was used, and how long did the runs take?",
        "ACL C1; NeurIPS: compute resources",
        tuple(statements),
        (
            *(name for name, values in known.items() if not values),
            "the product name and the memory of the accelerators, if any",
            "the total compute of the project, with preliminary and failed experiments",
        ),
    )


def _hardware(files: RunFiles) -> Iterator[str]:
    for one in files.known("hardware"):
        if isinstance(one, Mapping):
            yield f"Hardware: {', '.join(f'{part} {value}' for part, value in one.items())}."
    if workers := [str(one) for one in files.known("workers", "number")]:
        yield f"Trials that ran at the same time: {' or '.join(workers)}."


def _times(files: RunFiles) -> Iterator[str]:
    seconds, peaks = files.numbers("seconds"), files.numbers("peak_memory")
    if not seconds:
        return
    yield (
        f"Run time of {counted(len(seconds), 'trial')} (one of them evaluates the model before fine-tuning): "
        f"{duration(sum(seconds))} in total, {duration(min(seconds))} to {duration(max(seconds))} each."
    )
    elapsed = [one for one in files.known("truth", "seconds") if isinstance(one, int | float)]
    if elapsed:
        yield f"Elapsed time, with trials side by side: {duration(sum(elapsed))}."
    if peaks:
        yield f"Peak memory of a trial: {size(int(max(peaks)))}."


def software(files: RunFiles) -> Answer:
    """Return the answer about versions and reproduction."""
    versions = [one for one in files.known("versions") if isinstance(one, Mapping)]
    statements = [f"Versions: {', '.join(f'{name} {value}' for name, value in one.items())}." for one in versions]
    if commits := files.known("git", "commit"):
        changed = " with uncommitted changes" if any(files.known("git", "dirty")) else ""
        statements.append(f"Git commit of neftune: {listed([str(one) for one in commits])}{changed}.")
    return Answer(
        "Which software was used, and can the runs be repeated?",
        "ACL C4; NeurIPS: reproducibility, open access to code",
        (
            *statements,
            *(
                ("sweep.yaml describes every run. The command “neftune sweep sweep.yaml” repeats them.",)
                if files.specs
                else ()
            ),
        ),
        (
            *(() if versions else ("the software and its versions",)),
            "the address of the code, of sweep.yaml and of the results",
        ),
    )
