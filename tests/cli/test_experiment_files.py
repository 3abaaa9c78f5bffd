"""Invalid experiment files: every problem at once, with its line and a fix."""

from pathlib import Path

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.store import SweepFolder
from tests.command_line import Neftune


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.csv.gz", "mine.json"])
@pytest.mark.parametrize("command", ["sweep", "preview"])
def test_a_data_file_in_place_of_an_experiment_is_refused(
    neftune: Neftune, tmp_path: Path, command: str, name: str
) -> None:
    (tmp_path / name).write_text("[]")
    result = neftune(command, name)
    assert result.err == (f"Error: {name} is a data file, not an experiment in YAML.\n  Use --dataset {name}.\n")
    assert result.code == 2


def test_a_second_data_file_is_added_to_the_first_by_a_comma(neftune: Neftune, tmp_path: Path) -> None:
    for name in ("a.jsonl", "my b.jsonl"):
        (tmp_path / name).write_text('{"prompt": "How much is 1 + 1?", "completion": "2"}\n')
    result = neftune("preview", "--dataset", "a.jsonl", "my b.jsonl")
    assert "Error: my b.jsonl is a data file, not an experiment in YAML.\n  Use --dataset 'a.jsonl,my b.jsonl'.\n" in (
        result.err
    )
    assert result.code == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "arms: [{alpha: five}]",
            "invalid.yaml, line 1: arm 1: alpha must be a number; 'five' was given.\n  Use alpha: 5.",
        ),
        (
            "arms: [{alpha: 5, train: 3}]",
            "arm 1: train must be a mapping of fields; 3 was given.\n  Use train: {epochs: 3}.",
        ),
        ("arms: [{name: base, alpha: 0}]", "'base' is reserved for the base model"),
        ("arms: [{alpha: 5, nose: gaussian}]", "arm 1 has no field 'nose'.\n  Did you mean 'noise'?"),
        ("seeds: [-1]", "item 1 of seeds must be 0 or larger; -1 was given.\n  Use seeds: 3."),
        (
            "train: {learning_rate: .inf}",
            "train.learning_rate must be a finite number; inf was given.\n  Use learning_rate: 0.001.",
        ),
        ("train: {sft: 3}", "train.sft must be a mapping of fields.\n  Use sft: {weight_decay: 0.1}."),
        (
            "train: {fp16: maybe}",
            "invalid.yaml, line 1: the SFTConfig field 'fp16' must be true or false, not 'maybe'.",
        ),
        ("train: {loss_type: mse}", "the SFTConfig field 'loss_type' must be one of nll, dft, chunked_nll, not 'mse'."),
        ("train: {fp16: true}", "'fp16' has no effect without a CUDA device.\n  Remove it."),
        ("train: {activation_offloading: true}", "'activation_offloading' needs an accelerator.\n  Remove it."),
        (
            "train: {warmup_ratio: 0.03}",
            "no field 'warmup_ratio'.\n  Use warmup_steps=0.03: a number below 1 is a share of the steps.",
        ),
        (
            "train: {accelerator_config: {gradient_accumulation_kwargs: {num_steps: 2}}}",
            "must not set the num_steps of gradient accumulation.\n  Use gradient_accumulation_steps.",
        ),
        ("train: {bf16: true}", "'bf16' is set by neftune.\n  Use --precision bfloat16 or float32."),
        ("train: {pad_token: '<|pad|>'}", "'pad_token' cannot be set."),
        ("train: {packing_strategy: wrapped}", "which determine the noise.\n  Use packing_strategy=bfd."),
        (
            "train: {packing: true, packing_strategy: bfd_split}",
            "invalid.yaml, line 1: packing_strategy=bfd_split is the same as bfd in neftune, because examples "
            "are cut to --max-length first.\n  Use packing_strategy=bfd.",
        ),
        ("train: {length_column_name: size}", "the SFTConfig field 'length_column_name' has no effect in neftune."),
        ("train: {logging_steps: 100}", "the SFTConfig field 'logging_steps' cannot be set."),
        ("evaluation: {max_tokens: 5}", "Did you mean 'max_new_tokens'?"),
    ],
)
def test_an_invalid_experiment_is_reported(neftune: Neftune, tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "invalid.yaml").write_text(text)
    result = neftune("sweep", "invalid.yaml")
    assert expected in result.err
    assert (result.code, result.out, [path.name for path in tmp_path.iterdir()]) == (2, "", ["invalid.yaml"])


def test_a_field_of_the_recipe_among_other_fields_is_refused(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "twice.yaml").write_text(
        "train:\n"
        "  learning_rate: 0.001\n"
        "  sft:\n"
        "    learning_rate: 1\n"
        "arms:\n"
        "  - {name: short, alpha: 5, train: {sft: {max_length: 9}}}\n"
    )
    result = neftune("sweep", "twice.yaml", "--dry-run", "--no-estimate")
    assert result.err == (
        "Error: twice.yaml, line 4: train.sft: learning_rate is not one of the other SFTConfig fields.\n"
        "  Use train: {learning_rate: 1}, without sft.\n"
        "Error: twice.yaml, line 6: train.sft: max_length is not one of the other SFTConfig fields.\n"
        "  Use train: {max_length: 9}, without sft.\n"
    )
    assert result.code == 2


@pytest.mark.parametrize("command", ["sweep", "preview"])
def test_fields_without_effect_are_reported_with_the_other_problems(
    neftune: Neftune, tmp_path: Path, command: str
) -> None:
    (tmp_path / "unused.yaml").write_text(
        "train:\n"
        "  truncation_mode: keep_end\n"
        "  epoch: 3\n"
        "arms:\n"
        "  - {alpha: 0}\n"
        "  - {alpha: 5, train: {save_steps: 9}}\n"
        "  - {name: packed, alpha: 5, train: {packing: true, shuffle_dataset: true}}\n"
        "  - {name: plain, alpha: 5, train: {shuffle_dataset: true}}\n"
    )
    result = neftune(command, "unused.yaml")
    errors = [line.partition("the SFTConfig field ")[2] or line for line in result.err.splitlines()[::2]]
    unused = [one for one in errors if one.endswith(" has no effect in neftune.")]
    assert unused == [
        f"{one!r} has no effect in neftune." for one in ("truncation_mode", "save_steps", "shuffle_dataset")
    ]
    assert any("SFTConfig has no field 'epoch'" in one for one in errors)
    assert (result.code, len(errors)) == (2, 4)


def test_a_field_without_effect_is_reported_with_its_place_and_a_fix(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "unused.yaml").write_text("arms:\n  - {alpha: 0}\n  - {alpha: 5, train: {run_name: mine}}\n")
    result = neftune("sweep", "unused.yaml", "--set", "eval_steps=10")
    assert result.err == (
        "Error: --set eval_steps: the SFTConfig field 'eval_steps' has no effect in neftune.\n  Remove it.\n"
        "Error: unused.yaml, line 3: arm 2: the SFTConfig field 'run_name' has no effect in neftune.\n  Remove it.\n"
    )
    assert result.code == 2


def test_an_earlier_sweep_with_a_field_without_effect_is_resumed(neftune: Neftune, tmp_path: Path) -> None:
    spec = resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0], "train": {"max_steps": 1, "save_steps": 9}})
    SweepFolder(tmp_path / "results" / "earlier").open(spec)
    resumed = neftune("sweep", "results/earlier/sweep.yaml", "--dry-run", "--no-estimate")
    assert resumed.code == 0
    assert "save_steps" not in resumed.err
    options = ("--alphas", "0,5", "--seeds", "0,", "--max-steps", "1", "--set", "save_steps=9")
    same = neftune("sweep", *options, "--output", "results/earlier", "--dry-run", "--no-estimate")
    assert same.code == 0
    elsewhere = neftune("sweep", *options, "--dry-run", "--no-estimate")
    assert (elsewhere.code, "'save_steps' has no effect" in elsewhere.err) == (2, True)


def test_all_problems_of_an_experiment_are_reported_with_their_lines(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(
        "model: ./none\n"
        "train:\n"
        "  epoch: 3\n"
        "  learning_rate: 0\n"
        "  sft: {fp16: maybe}\n"
        "seeds: [-1]\n"
        "arms:\n"
        "  - {alpha: five}\n"
        "  - {alpha: 5, nose: gaussian}\n"
        "  - {name: decayed, alpha: 0, train: {wieght_decay: 0.1, batch_size: 0}}\n"
        "grid:\n"
        "  alpha: [0, -1]\n"
        "  epochs: [1, 2]\n"
    )
    result = neftune("sweep", "wrong.yaml", "--set", "nonsense=1", "--epochs", "0")
    place = "Error: wrong.yaml, line"
    assert [line for line in result.err.splitlines() if line.startswith("Error: ")] == [
        f"{place} 8: arm 1: alpha must be a number; 'five' was given.",
        f"{place} 12: grid: alpha must be a finite number, 0 or larger; -1 was given.",
        f"{place} 13: a grid cannot vary 'epochs'.",
        "Error: --epochs must be larger than 0; 0 was given.",
        f"{place} 4: train.learning_rate must be larger than 0; 0 was given.",
        f"{place} 6: item 1 of seeds must be 0 or larger; -1 was given.",
        f"{place} 9: arm 2 has no field 'nose'.",
        f"{place} 10: arm 'decayed': train.batch_size must be larger than 0; 0 was given.",
        "Error: There is no model directory './none'.",
        f"{place} 5: the SFTConfig field 'fp16' must be true or false, not 'maybe'.",
        f"{place} 3: SFTConfig has no field 'epoch'.",
        "Error: --set nonsense: SFTConfig has no field 'nonsense'.",
        f"{place} 10: arm 'decayed': SFTConfig has no field 'wieght_decay'.",
    ]
    assert result.code == 2


def test_looks_in_a_wrong_order_hide_no_other_problem_of_the_analysis(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("analysis: {looks: [5, 3], margin: lots, metric: eval_los}\n")

    result = neftune("sweep", "x.yaml")

    assert result.code == 2
    assert result.err.count("Error: ") == 3
    assert all(
        word in result.err
        for word in ("x.yaml, line 1: analysis.looks must increase", "'lots' is not a margin", "'eval_los'")
    )
