"""`neftune push`: upload a kept model with a model card, or write both into a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neftune_cli.errors import Problem, Problems, UsageError, did_you_mean, first_line
from neftune_cli.formatting import and_more, quoted
from neftune_cli.models.files import missing_weights

if TYPE_CHECKING:
    from neftune_cli.records import TrialRecord
    from neftune_cli.reporting.shared_model import Files
    from neftune_cli.store import SweepFolder, TrialFolder

    FinishedTrial = tuple[TrialFolder, TrialRecord]

_KEEP = "Use --keep all or --keep best when you train. To train these arms again, give another --output."


def push(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Results folder of one sweep.")],
    arm: Annotated[
        str | None,
        typer.Option(metavar="ARM", help="Arm of the model, by alpha or name (default: the only arm with a model)."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Seed of the model (default: the lowest seed with a model).")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="OWNER/NAME", help="Repository on the Hugging Face Hub.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="New folder for the model and its card; needs no network.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Create the repository as a private one.")] = False,
) -> None:
    """Share a kept model with a model card: upload it (--to) or write a folder (--output).

    One of the two is required. The card has the verdict, the recipe, fingerprints, versions and the command. Models are
    kept by `neftune sweep --keep best|all` and by `neftune train`.
    """
    problems = Problems()
    problems.attempt(lambda: _check_target(to, output))
    found = problems.attempt(lambda: _kept_trial(path, arm, seed))
    problems.raise_any()
    assert found is not None
    from neftune_cli.reporting.shared_model import shared_files

    sweep, (folder, record) = found
    files = shared_files(sweep, folder, record, to)
    if output:
        _write(files, output)
        typer.echo(f"Wrote {output}", err=True)
    if to:
        typer.echo(f"Uploaded {_upload(files, to, record, private=private)}", err=True)


def _check_target(to: str | None, output: Path | None) -> None:
    """Check that the model can be written and uploaded, as far as this machine knows.

    Raises:
        UsageError: every problem.
    """
    problems = []
    if to is None and output is None:
        problems.append(Problem("There is no target.", "Add --to OWNER/NAME, or --output DIR."))
    if output is not None and (output.is_file() or (output.is_dir() and any(output.iterdir()))):
        problems.append(Problem(f"--output {output} exists.", "Use another folder, or delete it."))
    if to is not None:
        problems += _hub_problems(to)
    if problems:
        raise UsageError(*problems)


def _hub_problems(to: str) -> list[Problem]:
    from huggingface_hub import constants, get_token

    from neftune_cli.reporting.shared_model import REPOSITORY

    problems = []
    if not REPOSITORY.fullmatch(to):
        problems.append(Problem(f"--to {to} is not a repository.", "Use OWNER/NAME, for example --to ada/my-model."))
    if constants.HF_HUB_OFFLINE:
        problems.append(Problem(f"--to {to}: HF_HUB_OFFLINE is set.", "Unset it, or use --output DIR."))
    elif not get_token():
        problems.append(Problem(f"--to {to}: you are not logged in.", "Run `hf auth login`, or use --output DIR."))
    return problems


def _kept_trial(path: Path, arm: str | None, seed: int | None) -> "tuple[SweepFolder, FinishedTrial]":
    from neftune_cli.evidence.folders import sweeps_in

    sweeps = sweeps_in([path])
    if len(sweeps) > 1:
        fix = f"Use one of them, for example {sweeps[0].path}."
        raise UsageError(Problem(f"{path} contains {len(sweeps)} sweeps.", fix))
    return sweeps[0], _choose(path, sweeps[0].finished(), arm, seed)


def _choose(path: Path, finished: "Sequence[FinishedTrial]", arm: str | None, seed: int | None) -> "FinishedTrial":
    """Return the finished trial with a kept model that the options name.

    Raises:
        UsageError: there is no such arm, seed or model, or several arms have a model and none is named.
    """
    trained = [one for one in finished if one[1].seed is not None]
    if not trained:
        what = f"{path} has no finished training run."
        raise UsageError(Problem(what, "Wait for its first one, or train failed trials again with --retry failed."))
    kept = [one for one in trained if _has_model(one[0])]
    names = list(dict.fromkeys(record.arm for _, record in trained))
    if not kept and (arm is None or _arm(arm, trained)):
        raise UsageError(Problem(f"{path} has no kept model.{_without_weights(trained)}", _KEEP))
    with_model = list(dict.fromkeys(record.arm for _, record in kept))
    if arm is None and len(with_model) > 1:
        raise UsageError(Problem("Several arms have a model.", f"Use --arm with one of {quoted(with_model)}."))
    name = with_model[0] if arm is None else _arm(arm, trained)
    if name is None:
        fix = did_you_mean(str(arm), names) or f"Use one of {quoted(names)}."
        raise UsageError(Problem(f"--arm {arm}: {path} has no finished training run of this arm.", fix))
    if name not in with_model:
        fix = f"Use --arm with one of {quoted(with_model)}. --keep all keeps the models of all arms."
        lacking = _without_weights([one for one in trained if one[1].arm == name])
        raise UsageError(Problem(f"{path} has no kept model of the arm '{name}'.{lacking}", fix))
    return _of_seed(path, [one for one in trained if one[1].arm == name], name, seed)


def _has_model(folder: "TrialFolder") -> bool:
    return folder.model_path.is_dir() and not missing_weights(folder.model_path)


def _without_weights(trials: "Sequence[FinishedTrial]") -> str:
    """Return a sentence on the first trial whose folder of the model lacks weight files, "" if there is none."""
    for folder, record in trials:
        if folder.model_path.is_dir() and (names := missing_weights(folder.model_path)):
            model = f"The model of {record.arm}, seed {record.seed}"
            return f" {model} is incomplete: {names[0]} is missing{and_more(names)}."
    return ""


def _of_seed(path: Path, trained: "Sequence[FinishedTrial]", arm: str, seed: int | None) -> "FinishedTrial":
    kept = {record.seed: (folder, record) for folder, record in trained if _has_model(folder)}
    if seed is None:
        return kept[min(kept, key=lambda one: one or 0)]
    if seed in kept:
        return kept[seed]
    is_trained = any(record.seed == seed for _, record in trained)
    what = "has no kept model of" if is_trained else "has no finished training run of"
    seeds = sorted(one for one in kept if one is not None)
    fix = f"Use --seed {seeds[0]}." if len(seeds) == 1 else f"Use one of the seeds {', '.join(map(str, seeds))}."
    lacking = _without_weights([one for one in trained if one[1].seed == seed])
    raise UsageError(Problem(f"--seed {seed}: {path} {what} '{arm}' with this seed.{lacking}", fix))


def _arm(wanted: str, trained: "Sequence[FinishedTrial]") -> str | None:
    """Return the name of the arm with this name or alpha, None if there is not exactly one."""
    from neftune_cli.config.arm_names import arms_named

    matches = arms_named(wanted, {record.arm: record.alpha for _, record in trained})
    return matches[0] if len(matches) == 1 else None


def _write(files: "Files", output: Path) -> None:
    """Write all files into a folder, or none of them if the system refuses one."""
    import shutil
    from tempfile import TemporaryDirectory

    try:
        output.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".neftune-", dir=output) as folder:
            for name, content in files.items():
                target = Path(folder, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, bytes):
                    target.write_bytes(content)
                else:
                    shutil.copyfile(content, target)
            for written in list(Path(folder).iterdir()):
                written.rename(output / written.name)
    except OSError as error:
        raise UsageError(Problem(f"--output {output}: {error.strerror}.", "Use another folder.")) from None


def _upload(files: "Files", to: str, record: "TrialRecord", *, private: bool) -> str:
    """Upload all files in one commit, and return its address.

    Raises:
        UsageError: the upload failed, or a model for a private repository would be public.
    """
    import huggingface_hub

    api = huggingface_hub.HfApi()
    operations = [huggingface_hub.CommitOperationAdd(name, content) for name, content in files.items()]
    try:
        api.create_repo(to, private=private, exist_ok=True)
        if private and not api.repo_info(to).private:  # `create_repo` leaves an existing one as it is
            what = f"--private: the repository {to} exists and is public."
            raise UsageError(Problem(what, "Make it private on the Hub, or use another name."))
        done = api.create_commit(to, operations, commit_message=f"Add {record.arm}, seed {record.seed}")
    except UsageError:
        raise
    except Exception as error:  # errors of the hub client, its HTTP library and the file system
        fix = "Check the name and your token with `hf auth whoami`, and try again. Or use --output DIR."
        raise UsageError(Problem(f"--to {to}: the upload failed: {first_line(error)}.", fix)) from error
    return str(done.commit_url)
