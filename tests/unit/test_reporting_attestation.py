"""Sentence on the noise that the trials measured, with the extremes over all trials."""

from neftune_cli.records import Attestation
from neftune_cli.reporting.footnotes import attestation_sentence


def attested(rms: float | None, *, padding: float | None = 0.0, calls: int = 75, measured: int = 8) -> Attestation:
    return Attestation(
        calls=calls,
        measured_calls=measured,
        rms=rms,
        noise_to_embedding=0.09,
        noised_share=1.0,
        noised_padding=padding,
        evaluation_calls=0,
        hooks=1,
    )


def test_sentence_has_the_extremes_of_all_trials() -> None:
    assert attestation_sentence([attested(0.9986), attested(1.0031, padding=None)]) == (
        "Noise was measured in 16 of 150 training forward passes. Its root mean square was 0.999 to 1.003 times the "
        "value of the formula. It was added to 100% of real tokens and 0% of padding tokens. Evaluation had 0 forward "
        "passes with noise. 1 hook added the noise."
    )


def test_noise_on_padding_tokens_is_reported() -> None:
    assert "0% to 100% of padding tokens" in (attestation_sentence([attested(1.0), attested(1.0, padding=1.0)]) or "")


def test_trials_without_noise_have_no_sentence() -> None:
    assert attestation_sentence([]) is None
    assert attestation_sentence([attested(None, calls=0, measured=0)]) is None
