"""Values of options, as `--help` documents them."""

import pytest

from neftune_cli.config.values import parse_alphas, parse_noises, parse_seeds, parse_settings, parse_size, parse_snr
from neftune_cli.errors import UsageError


def test_alphas_keep_their_order() -> None:
    assert parse_alphas("0, 5,10.5") == [0.0, 5.0, 10.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,-5", "0 or larger; -5 was"),
        ("0,five", "'five' is not a number"),
        ("0,5,5.0", "5.0 appears twice"),
        ("nan", "0 or larger; nan was"),
        ("0,inf", "0 or larger; inf was"),
        ("0,1e300", "alpha must be 1000000 or less; 1e300 was given"),
        ("0,,5", "'' is not a number"),
    ],
)
def test_an_invalid_alpha_is_reported(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_alphas(text)
    assert message in caught.value.problems[0].what


def test_only_a_missing_alpha_is_the_default() -> None:
    assert parse_size(None, None) == ("alpha", 5.0)
    with pytest.raises(UsageError, match="--alpha: '' is not a number"):
        parse_size("", None)


def test_all_invalid_alphas_are_reported() -> None:
    with pytest.raises(UsageError) as caught:
        parse_alphas("-1,x,0,0")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", [0, 1, 2]), ("1", [0]), ("0,1,7", [0, 1, 7]), ("7,", [7]), ("5,3", [5, 3])]
)
def test_seeds_are_a_number_or_a_list(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["0", "-1", "a", "1,1", "1.5", "", ",3", "10001"])
def test_invalid_seeds_are_reported(text: str) -> None:
    with pytest.raises(UsageError):
        parse_seeds(text)


def test_a_date_is_a_seed_and_no_number_of_seeds() -> None:
    assert parse_seeds("20231129,") == [20231129]
    assert len(parse_seeds("10000")) == 10_000
    with pytest.raises(
        UsageError, match=r"must be 1 to 10,000; 20231129 was given\..* end the list with a comma: --seeds 20231129,"
    ):
        parse_seeds("20231129")


def test_settings_are_yaml_and_numbers_in_scientific_notation_are_numbers() -> None:
    pairs = ["weight_decay=0.1", "bf16=false", "lr_scheduler_type=cosine", "adam_epsilon=1e-6", "x=[1, a]"]
    assert parse_settings(pairs) == {
        "weight_decay": 0.1,
        "bf16": False,
        "lr_scheduler_type": "cosine",
        "adam_epsilon": 1e-6,
        "x": [1, "a"],
    }


def test_a_setting_without_a_value_is_reported() -> None:
    with pytest.raises(UsageError, match="--set =3: the name is missing"):
        parse_settings(["=3"])
    with pytest.raises(UsageError, match=r"^--set lr_end appears twice\. Use it once\.$"):
        parse_settings(["lr_end=1", " lr_end =1"])
    with pytest.raises(UsageError, match="--set bf16: the value is missing"):
        parse_settings(["bf16"])


@pytest.mark.parametrize(
    ("value", "reason"), [("a: b: c", "mapping values are not allowed here"), ("2020-13-45", "month must be in 1..12")]
)
def test_a_setting_that_is_not_yaml_is_reported_with_the_reason(value: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"--set x={value}: the value is not valid YAML: {reason}"):
        parse_settings([f"x={value}"])


def test_invalid_distributions_are_reported() -> None:
    assert parse_noises("uniform, gaussian") == ["uniform", "gaussian"]
    with pytest.raises(UsageError, match=r"(?s)'pink' was given.*--noises: uniform appears twice"):
        parse_noises("uniform,pink,uniform")


def test_invalid_signal_to_noise_ratios_are_reported() -> None:
    assert parse_snr("20, 10") == [20.0, 10.0]
    with pytest.raises(UsageError, match=r"0.1 was given \(noise 10 times the embedding norm\).* --snr 10"):
        parse_snr("0.1")
    with pytest.raises(UsageError, match=r"(?s)'x' is not a positive.*'nan' is not a positive.*10 appears twice"):
        parse_snr("x,nan,10,10")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-2", 0.01),
        ("1E3", 1000.0),
        ("-2.5e+1", -25.0),
        (".5e1", 5.0),
        ("1.e2", 100.0),
        ("1", 1),
        ("'1e-2'", "1e-2"),
        ("1e", "1e"),
        ("e2", "e2"),
        ("0x1e2", 0x1E2),
        ("[1e-2, 2]", [0.01, 2]),
        ("{lr: 3e-4}", {"lr": 3e-4}),
    ],
)
def test_numbers_with_an_exponent_are_read_as_in_yaml_1_2(text: str, value: object) -> None:
    assert parse_settings([f"x={text}"]) == {"x": value}
