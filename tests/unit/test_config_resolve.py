"""Specs from defaults, a file and options, and the messages for invalid files."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from neftune_cli.config.experiment_file import NumberDumper, NumberLoader
from neftune_cli.config.resolve import dump_spec, load_spec, resolve_sweep, resolve_valid_fields
from neftune_cli.config.spec import SweepSpec
from neftune_cli.errors import Problems, UsageError
from neftune_cli.sweeps.earlier_sweep import differences, merged

JSON_VALUES = "must be text, a finite number, true, false, null, or a list or mapping of these"


def experiment(folder: Path, text: str) -> Path:
    file = folder / "experiment.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_without_options_the_spec_has_the_documented_defaults() -> None:
    spec = resolve_sweep(None, {})
    assert (spec.model, spec.dataset, spec.seeds) == ("tiny", "bios", (0, 1, 2))
    assert [arm.name for arm in spec.arms] == ["alpha=0", "alpha=5", "alpha=10", "alpha=15"]


def test_options_override_the_file_and_the_file_overrides_the_defaults(tmp_path: Path) -> None:
    file = experiment(tmp_path, "train: {epochs: 7, learning_rate: 1.0e-4}\nseeds: [4]\narms: [{alpha: 1}]\n")
    spec = resolve_sweep(file, {"train": {"epochs": 2.0}, "alphas": [3.0]})
    assert (spec.train.epochs, spec.train.learning_rate, spec.train.batch_size) == (2.0, 1e-4, 16)
    assert (spec.seeds, [arm.alpha for arm in spec.arms]) == ((4,), [3.0])


def test_arms_are_named_overrides(tmp_path: Path) -> None:
    file = experiment(
        tmp_path,
        """
arms:
  - {alpha: 0}
  - {alpha: 5, noise: gaussian}
  - {name: weight decay, alpha: 0, train: {weight_decay: 0.1, epochs: 1}}
""",
    )
    spec = resolve_sweep(file, {})
    recipes = [spec.recipe_of(arm) for arm in spec.arms]
    assert [arm.name for arm in spec.arms] == ["alpha=0", "alpha=5,noise=gaussian", "weight decay"]
    assert [spec.noise_of(arm).noise for arm in spec.arms] == ["uniform", "gaussian", "uniform"]
    assert recipes[2].sft == {"weight_decay": 0.1}
    assert recipes[2].epochs == 1.0
    assert recipes[0].sft == {}


def test_the_default_learning_rate_depends_on_model_and_lora() -> None:
    rates = [
        resolve_sweep(None, {"model": "x/y", "train": train}).train.learning_rate for train in ({}, {"lora_rank": 8})
    ]
    assert rates == [2e-5, 2e-4]


def error_of(folder: Path, text: str) -> str:
    """Return the message for an invalid experiment, without the path of the file."""
    file = experiment(folder, text)
    with pytest.raises(UsageError) as caught:
        resolve_sweep(file, {})
    return str(caught.value).replace(f"{file}, ", "").replace(f"{file}: ", "")


def test_all_problems_of_a_file_are_reported(tmp_path: Path) -> None:
    assert error_of(tmp_path, "modle: tiny\nseeds: 0\ntrain: {epochs: -1}\n").splitlines() == [
        "line 3: train.epochs must be larger than 0; -1 was given. Use epochs: 3.",
        "line 2: seeds must be a number of seeds, 1 to 10,000, or a list of seeds; 0 was given. "
        "Use seeds: 3, or seeds: [0, 1, 7].",
        "line 1: there is no field 'modle'. Did you mean 'model'?",
    ]


def test_a_date_is_no_number_of_seeds(tmp_path: Path) -> None:
    assert "must be a number of seeds, 1 to 10,000, or a list of seeds; 20231129 was given." in (
        error_of(tmp_path, "seeds: 20231129")
    )
    assert resolve_sweep(experiment(tmp_path, "seeds: [20231129]"), {}).seeds == (20231129,)
    assert len(resolve_sweep(experiment(tmp_path, "seeds: 10_000"), {}).seeds) == 10_000


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("alphas: [0, 5]", "Use arms: [{alpha: 0}, {alpha: 5}], or grid: {alpha: [0, 5]}."),
        ("alpha: 5", "Use arms: [{alpha: 0}, {alpha: 5}], or grid: {alpha: [0, 5]}."),
        ("lr: 0.1", "Use train: {learning_rate: ...}."),
        ("epochs: 3", "Use train: {epochs: ...}."),
        ("max_length: 64", "Use train: {max_length: ...}."),
        ("max_new_tokens: 5", "Use evaluation: {max_new_tokens: ...}."),
        ("model_name: tiny", "Did you mean 'model'?"),
        ("noisee: gaussian", "Did you mean 'noise'?"),
        ("arms: [{alpha: 5, trian: {epochs: 1}}]", "Did you mean 'train'?"),
        ("evaluation: {max_new_token: 5}", "Did you mean 'max_new_tokens'?"),
    ],
)
def test_a_wrong_field_name_is_reported_with_the_right_one(tmp_path: Path, text: str, fix: str) -> None:
    message = error_of(tmp_path, text)
    assert re.match(r"line 1: (there is|arm 1 has|evaluation has) no field", message)
    assert message.endswith(fix)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss: all", "loss must be last or all-assistant; 'all' was given. Did you mean 'all-assistant'?"),
        (
            "columns: 5",
            "columns must be a mapping of fields; 5 was given. "
            "Use columns: {'prompt': 'question', 'completion': 'answer'}.",
        ),
        ("columns: {prompt: 5}", "columns.prompt must be text; 5 was given. Put it in quotes: prompt: '5'."),
    ],
)
def test_an_invalid_field_of_the_data_is_reported_with_a_value(tmp_path: Path, text: str, message: str) -> None:
    assert error_of(tmp_path, text) == f"line 1: {message}"


def test_a_list_of_invalid_items_is_not_reported_as_empty(tmp_path: Path) -> None:
    assert error_of(tmp_path, "seeds: [-1]") == (
        "line 1: item 1 of seeds must be 0 or larger; -1 was given. Use seeds: 3."
    )


def test_an_unknown_field_without_a_similar_name_is_reported_with_all_names(tmp_path: Path) -> None:
    inputs = "model, dataset, format, train_examples, eval_examples, columns, split, eval_dataset, eval_split, raw"
    more = "loss, allow_special_tokens, skip_bad_rows, max_bad_share, template_time, load_in_4bit"
    noise = "noise, noise_scale, noise_schedule, noise_target"
    assert error_of(tmp_path, "zzz: 1") == (
        f"line 1: there is no field 'zzz'. Use {inputs}, {more}, {noise}, train, evaluation, seeds, arms, "
        "analysis or grid."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: 3\nmodel: tiny\nseeds: 4", "the field 'seeds' appears on line 1 and on line 3."),
        ("arms:\n  - alpha: 0\n  - alpha: 5\n    alpha: 6", "the field 'alpha' appears on line 3 and on line 4."),
        ("train: {epochs: 1, epochs: 2}", "the field 'epochs' appears twice on line 1."),
    ],
)
def test_a_repeated_field_is_reported_with_its_lines(tmp_path: Path, text: str, message: str) -> None:
    assert error_of(tmp_path, text) == f"{message} Remove one of the two."


@pytest.mark.parametrize("key", ["on", "3", "~", "1e2"])
def test_a_field_name_that_is_not_text_is_reported(tmp_path: Path, key: str) -> None:
    expected = f"the field '{key}' on line 2 is not text in YAML. Put it in quotes: '{key}'."
    assert error_of(tmp_path, f"seeds: 3\n{key}: 1") == expected
    assert error_of(tmp_path, f"train:\n  {key}: 1") == expected


@pytest.mark.parametrize("text", ["train: {optim_args: &a [*a]}", "arms: &a [*a]", f"seeds: {'[' * 2000}"])
def test_a_value_without_an_end_is_reported(tmp_path: Path, text: str) -> None:
    assert "the file is not valid YAML: " in error_of(tmp_path, text)


def test_numbers_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    text = (
        "train: {max_length: 0100, batch_size: 0o10, max_steps: 0x10}\nseeds: [007]\narms: [{alpha: 0}, {alpha: 010}]\n"
    )
    spec = resolve_sweep(experiment(tmp_path, text), {})
    assert (spec.train.max_length, spec.train.batch_size, spec.train.max_steps) == (100, 8, 16)
    assert (spec.seeds, spec.arms[1].alpha) == ((7,), 10.0)
    assert "train.learning_rate must be a number; '1:30' was given." in error_of(
        tmp_path, "train: {learning_rate: 1:30}"
    )


@given(st.text("0123456789abcdefox.:+-_eE", min_size=1, max_size=8))
def test_a_text_that_looks_like_a_number_stays_text(text: str) -> None:
    written = yaml.dump({"name": text}, Dumper=NumberDumper)
    for loader in (NumberLoader, yaml.SafeLoader):
        assert yaml.load(written, Loader=loader) == {"name": text}


@pytest.mark.parametrize(
    "text",
    [
        *(f"train: {{{field}: yes}}" for field in ("learning_rate", "epochs", "batch_size", "max_steps", "lora_rank")),
        *("train_examples: true", "max_bad_share: false", "seeds: [0, true]", "arms: [{repeat: true}]"),
        "evaluation: {repetition_penalty: on}",
        "analysis: {looks: [3, true]}",
    ],
)
def test_a_boolean_is_no_number(tmp_path: Path, text: str) -> None:
    assert " must be a number; " in error_of(tmp_path, text)


def test_a_setting_in_two_places_is_refused(tmp_path: Path) -> None:
    assert error_of(tmp_path, "train:\n  weight_decay: 0.2\n  sft: {weight_decay: 0.1}") == (
        "line 3: weight_decay is given both in train and in train.sft. Remove one of the two."
    )


def test_a_problem_is_reported_with_the_line_of_its_field(tmp_path: Path) -> None:
    text = "arms:\n  - alpha: 0\n  - alpha: 5\n    nois: gaussian\n  - name: long\n    train:\n      epochs: 0\n"
    assert error_of(tmp_path, text).splitlines() == [
        "line 4: arm 2 has no field 'nois'. Did you mean 'noise'?",
        "line 7: arm 'long': train.epochs must be larger than 0; 0 was given. Use epochs: 3.",
    ]


def test_the_other_fields_are_checked_if_some_are_left_out(tmp_path: Path) -> None:
    file, problems = experiment(tmp_path, "modle: x\nseeds: [-1]\ntrain: {epochs: 0, batch_size: 4}\n"), Problems()
    resolved = resolve_valid_fields(file, {}, problems)
    assert resolved is not None
    assert (resolved.spec.train.epochs, resolved.spec.train.batch_size, resolved.spec.seeds) == (3, 4, (0, 1, 2))
    assert len(problems.found) == 3


def test_fields_that_are_left_out_cause_no_further_problem(tmp_path: Path) -> None:
    text = "arms: [{name: 1, alpha: x}, {name: 2, alpha: 0}, {alpha: y}, {alpha: 0}]\n"
    assert [line.partition(";")[0] for line in error_of(tmp_path, text).splitlines()] == [
        "line 1: arm 1: alpha must be a number",
        "line 1: arm 3: alpha must be a number",
        "line 1: arm 1: name must be text",
        "line 1: arm 2: name must be text",
    ]


def test_a_problem_of_an_option_names_the_option_and_not_the_file(tmp_path: Path) -> None:
    file = experiment(tmp_path, "train: {epochs: 2, batch_size: 0}\n")
    with pytest.raises(UsageError) as caught:
        resolve_sweep(file, {"train": {"epochs": 0.0}})
    assert str(caught.value).splitlines() == [
        "--epochs must be larger than 0; 0 was given. Use --epochs 3.",
        f"{file}, line 1: train.batch_size must be larger than 0; 0 was given. Use batch_size: 16.",
    ]


def test_seeds_beside_the_looks_of_an_experiment_must_fit_them(tmp_path: Path) -> None:
    text = "analysis: {looks: [5, 8]}\nseeds: "
    assert error_of(tmp_path, f"{text}5") == (
        "the planned looks need 8 seeds, and there are 5. Remove seeds; the last look sets their number."
    )
    assert len(resolve_sweep(experiment(tmp_path, f"{text}8"), {}).seeds) == 8
    assert len(resolve_sweep(experiment(tmp_path, f"{text}5"), {"until_decided": True}).seeds) == 8


def test_a_limit_of_bad_rows_needs_the_option_that_drops_them() -> None:
    with pytest.raises(UsageError, match=r"^--max-bad-share has no effect without --skip-bad-rows\. Add --skip-bad-"):
        resolve_sweep(None, {"max_bad_share": 0.1})
    assert resolve_sweep(None, {"max_bad_share": 0.1, "skip_bad_rows": True}).max_bad_share == 0.1


def test_an_option_that_another_one_replaces_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        resolve_sweep(None, {"train": {"epochs": 2.0, "max_steps": 3}, "noise": "gaussian", "noises": ["uniform"]})
    assert str(caught.value).splitlines() == [
        "--epochs has no effect with --max-steps, which replaces it. Remove --epochs or --max-steps.",
        "--noise has no effect with --noises, which replaces it. Remove --noise or --noises.",
    ]


def test_an_option_overrides_the_field_of_an_experiment_that_it_replaces(tmp_path: Path) -> None:
    spec = resolve_sweep(experiment(tmp_path, "train: {epochs: 2}"), {"train": {"max_steps": 3}})
    assert (spec.train.epochs, spec.train.max_steps) == (2.0, 3)


def test_a_merged_mapping_can_be_overridden(tmp_path: Path) -> None:
    arms = "[{name: a, train: &a {epochs: 1, warmup_steps: 2}}, {name: b, train: {<<: *a, epochs: 5}}]"
    spec = resolve_sweep(experiment(tmp_path, f"arms: {arms}"), {})
    assert [arm.train for arm in spec.arms] == [{"epochs": 1, "warmup_steps": 2}, {"epochs": 5, "warmup_steps": 2}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "line 1: the file is not valid YAML: expected the node content, but found '<stream end>'."),
        ("seeds: 3\na: b: c", "line 2: the file is not valid YAML: mapping values are not allowed here."),
        ("a:\n\t- b", r"line 2: the file is not valid YAML: found character '\\t' that cannot start any token."),
        ("a: 2020-13-45", "the file is not valid YAML: month must be in 1..12"),
        ("a: \x00", "the file is not valid YAML: special characters are not allowed."),
        ("just words", "has no fields"),
        ("- alpha: 5", "has a list in place of fields"),
        ("? [1, 2]\n: 3", "line 1: the file is not valid YAML: found unhashable key."),
        ("seeds: [1, 1]", "these seeds are repeated: 1. Remove"),
        ("arms: [{alfa: 5}]", "line 1: arm 1 has no field 'alfa'. Did you mean 'alpha'?"),
        ("modle: tiny", "line 1: there is no field 'modle'. Did you mean 'model'?"),
        ("arms: []", "line 1: arms has no arm. Use arms: "),
        ("seeds: 3\nanalysis:\n  margin: 1%\n  looks: [6, 3]", "line 4: analysis.looks must increase. Use for example"),
        ("arms: 5", "line 1: arms must be a list of mappings"),
        ("arms: [{name: 5, alpha: 0}]", "line 1: arm 5: name must be text; 5 was given. Put it in quotes: name: '5'."),
        ("template_time: now", "template_time must be a time in ISO 8601; 'now' was given. Use template_time: '2026-"),
        ("arms: [{name: ' ', alpha: 5}]", "line 1: arm 1: name is empty. Give the arm a name, or remove the field "),
        ("arms: [{alpha: -1}]", "line 1: arm 1: alpha must be 0 or larger; -1 was given. Use alpha: 5."),
        ("arms: [{alpha: 1e7}]", "line 1: arm 1: alpha must be 1000000 or less; 10000000 was given. Use alpha: 5."),
        ("grid: {alpha: [0, 1e7]}", "line 1: grid: alpha must be 1000000 or less; 10000000 was given."),
        ("arms: [{alpha: 5}, {alpha: 5}]", "two arms have the same name: 'alpha=5'"),
        (
            "arms: [{name: b, train: {epochs: none}}]",
            "line 1: arm 'b': train.epochs must be a number; 'none' was given. Use epochs: 3.",
        ),
        ("train: 3", "line 1: train must be a mapping of fields; 3 was given"),
        ("train: false", "line 1: train must be a mapping of fields; false was given"),
        ("evaluation: 0", "line 1: evaluation must be a mapping of fields; 0 was given"),
        ("train: {sft: 0}", "train.sft must be a mapping of fields"),
        ("train: {lr_scheduler_kwargs: {since: 2024-01-01}}", f"train.lr_scheduler_kwargs {JSON_VALUES}"),
        ("train: {lr_scheduler_kwargs: [.inf]}", f"train.lr_scheduler_kwargs {JSON_VALUES}"),
        ("train: {weight_decay: .nan}", f"train.weight_decay {JSON_VALUES}"),
    ],
)
def test_an_invalid_file_is_reported(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_sweep(experiment(tmp_path, text), {})


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        resolve_sweep(tmp_path / "none.yaml", {})


def test_a_dumped_spec_is_loaded_unchanged() -> None:
    spec = resolve_sweep(None, {"train": {"lora_rank": 4, "weight_decay": 0.1}, "alphas": [0.0, 2.5]})
    assert load_spec(dump_spec(spec, schema_version=4)) == spec


def sweep(alphas: list[float], **options: object) -> SweepSpec:
    return resolve_sweep(None, {"alphas": alphas, **options})


def test_merged_sweeps_have_the_arms_and_seeds_of_both() -> None:
    both = merged(sweep([0.0, 10.0], seeds=[0, 3]), sweep([0.0, 5.0], seeds=[1]))
    assert [arm.alpha for arm in both.arms] == [0.0, 5.0, 10.0]
    assert both.seeds == (0, 1, 3)


def test_seeds_of_planned_looks_keep_their_order() -> None:
    """A look takes the first seeds, so a resumed sweep must not sort them."""
    analysis = {"looks": [3, 6]}
    spec = sweep([0.0, 5.0], seeds=[9, 1, 7, 3, 5, 2], analysis=analysis)
    assert merged(spec, spec).seeds == (9, 1, 7, 3, 5, 2)


def test_differences_are_listed_by_field() -> None:
    existing = sweep([0.0], train={"epochs": 3.0})
    requested = sweep([5.0], train={"epochs": 5.0, "weight_decay": 0.1})
    assert list(differences(existing, requested)) == [
        "train.epochs is 3.0 in the folder and 5.0 in this command",
        "train.weight_decay is not set in the folder and 0.1 in this command",
    ]
    assert not list(differences(sweep([0.0]), sweep([7.0])))


def test_numbers_with_an_exponent_and_without_a_point_are_numbers(tmp_path: Path) -> None:
    text = "train: {weight_decay: 1e-2, learning_rate: 1E-3}\narms: [{alpha: 0}, {alpha: 1e1}]\n"
    spec = resolve_sweep(experiment(tmp_path, text), {})
    assert spec.train.sft == {"weight_decay": 0.01}
    assert (spec.train.learning_rate, spec.arms[1].alpha) == (0.001, 10.0)


def test_a_text_that_looks_like_a_number_stays_a_text(tmp_path: Path) -> None:
    spec = resolve_sweep(experiment(tmp_path, "arms: [{name: '1e2', alpha: 0}, {alpha: 5}]\n"), {})
    written = experiment(tmp_path, dump_spec(spec, schema_version=1))
    assert resolve_sweep(written, {}).arms[0].name == "1e2"
