"""Signal-to-noise ratios: the alpha of each arm that has a ratio, for the model and data of the sweep."""

from collections.abc import Callable

from pydantic import ValidationError

from neftune_cli.config.arms import arm_name
from neftune_cli.config.spec import ArmSpec, ResolvedEvaluation, SweepSpec, TrialSpec
from neftune_cli.errors import Problem, UsageError
from neftune_cli.training.prepared_data import PreparedData

DIGITS = 3
"""Significant digits of a computed alpha, which depends on a median."""


def with_alphas(
    spec: SweepSpec, evaluation: ResolvedEvaluation, prepared_data_of: Callable[[TrialSpec], PreparedData]
) -> tuple[SweepSpec, tuple[str, ...]]:
    """Return the spec with an alpha in place of each ratio, and one sentence for each.

    The ratio is the median norm of the training tokens' embeddings over the expected norm of one token's noise,
    alpha / sqrt(3 L), at the median length L of the training examples.

    Raises:
        UsageError: an arm has both a ratio and an alpha, or uses the noise scale `hf`, or two arms get the same alpha.

    """
    if not any(arm.snr for arm in spec.arms):
        return spec, ()
    for arm in spec.arms:
        _check(spec, arm)
    arms, notes = [], []
    for arm in spec.arms:
        if arm.snr is None:
            arms.append(arm)
            continue
        prepared = prepared_data_of(spec.trial(arm, spec.seeds[0], evaluation))
        arms.append(_with_alpha(arm, _alpha(arm.snr, prepared)))
        notes.append(_sentence(arm, arms[-1], prepared))
    return _revalidated(spec, arms), tuple(notes)


def _check(spec: SweepSpec, arm: ArmSpec) -> None:
    if arm.snr is None:
        return
    if arm.alpha is not None:
        raise UsageError(Problem(f"Arm {arm.name!r} has both alpha and snr.", "Give one of them."))
    if spec.noise_of(arm).noise_scale == "hf":
        what = f"Arm {arm.name!r}: with the noise scale hf the noise depends on padding, so there is no single ratio."
        raise UsageError(Problem(what, "Give an alpha, or use --noise-scale paper."))


def _alpha(snr: float, prepared: PreparedData) -> float:
    from neftune_cli.noise.lengths import token_noise_norm

    return float(f"{prepared.embedding_norm / token_noise_norm(1.0, prepared.median_length) / snr:.{DIGITS}g}")


def _with_alpha(arm: ArmSpec, alpha: float) -> ArmSpec:
    by_default = arm.name == arm_name(arm.model_dump())
    found = arm.model_copy(update={"alpha": alpha, "snr": None})
    return found.model_copy(update={"name": arm_name(found.model_dump())}) if by_default else found


def _sentence(requested: ArmSpec, found: ArmSpec, prepared: PreparedData) -> str:
    return (
        f"A signal-to-noise ratio of {requested.snr:g} corresponds to alpha {found.alpha:g}: embedding norm "
        f"{prepared.embedding_norm:.3g} at the median length of {prepared.median_length:g} tokens."
    )


def _revalidated(spec: SweepSpec, arms: list[ArmSpec]) -> SweepSpec:
    if all(arm.varies_only_alpha for arm in arms):
        arms.sort(key=lambda arm: arm.alpha or 0.0)
    try:
        return SweepSpec.model_validate({**spec.model_dump(by_alias=True), "arms": [arm.model_dump() for arm in arms]})
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(Problem(f"--snr: {message}.", "Leave out the ratio or the equal alpha.")) from None
