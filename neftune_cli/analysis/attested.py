"""What the trials of a sweep measured of their own noise, in one sentence."""

from collections.abc import Sequence

from neftune_cli.records import Attestation


def attestation_sentence(attestations: Sequence[Attestation]) -> str | None:
    """Return the sentence for all noisy trials together; None where none was measured.

    It says the worst of each figure, so that one odd trial isn't averaged away. Trials that deviate have failed and
    aren't among them.
    """
    noisy = [one for one in attestations if one.measured_calls]
    if not noisy:
        return None
    calls, measured = sum(one.calls for one in noisy), sum(one.measured_calls for one in noisy)
    return (
        f"Noise as measured in {measured} of {calls} training calls: RMS {_rms(noisy)} of the formula's, "
        f"{_real(noisy)} of real tokens and {_padding(noisy)} of padding noised, "
        f"{sum(one.evaluation_calls for one in noisy)} calls in evaluation, {max(one.hooks for one in noisy)} hook."
    )


def _rms(noisy: Sequence[Attestation]) -> str:
    return _range([one.rms for one in noisy if one.rms is not None], "{:.3f}")


def _real(noisy: Sequence[Attestation]) -> str:
    return _range([one.noised_share for one in noisy if one.noised_share is not None], "{:.0%}")


def _padding(noisy: Sequence[Attestation]) -> str:
    return _range([one.noised_padding or 0.0 for one in noisy], "{:.0%}")


def _range(values: Sequence[float], form: str) -> str:
    lowest, highest = form.format(min(values)), form.format(max(values))
    return lowest if lowest == highest else f"{lowest} to {highest}"
