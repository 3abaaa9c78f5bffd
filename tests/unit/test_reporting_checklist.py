"""Checklist for papers: answers from full, empty and damaged files; what is unknown is to be filled in."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neftune_cli.analysis.results import Comparison, Departure, Verdict
from neftune_cli.evidence.measurements import AnalysisPlan, Evidence, TrialOrigin
from neftune_cli.metrics import Margin
from neftune_cli.reporting.checklist.design import first_notes
from neftune_cli.reporting.checklist.document import checklist, checklist_markdown, seed_table
from neftune_cli.reporting.checklist.files import RunFiles
from neftune_cli.reporting.output_formats import OutputFormat, document
from tests.comparisons import assessment, estimate, of_no_trials, summary
from tests.comparisons import comparison as compared
from tests.page_contents import comparison

SPEC = """
model: tiny
skip_bad_rows: true
train: {epochs: 3, lora_rank: 8}
seeds: [0, 1, 2, 3]
arms:
- {name: alpha=0, alpha: 0}
- {name: alpha=5, alpha: 5}
- {name: alpha=10, alpha: 10}
- {name: alpha=15, alpha: 15}
"""
MANIFEST = {
    "versions": {"python": "3.11.2", "torch": "2.13.0"},
    "git": {"commit": "d59f943", "dirty": True},
    "hardware": {"device": "cuda", "precision": "bfloat16", "cores": 16},
    "workers": {"number": 2},
    "fingerprints": {"model": "b85e", "data": "ff51"},
    "notes": ["400 examples for training and 200 held out."],
    "truth": {"trials": {}, "seconds": 75.0, "peak_memory": None, "workers": 2, "source": "measured", "tokens": {}},
    "trials": {
        "a": {"seconds": 60.0, "peak_memory": 2_000_000_000, "parameters": 1_000, "trained_parameters": None},
        "b": {"seconds": 75.5, "peak_memory": 3_000_000_000, "parameters": 1_064, "trained_parameters": 64},
        "d": {"parameters": 1_128, "trained_parameters": 128},
        "c": {"seconds": None},
    },
}
FULL = RunFiles.read([SPEC], [json.dumps(MANIFEST)])
DAMAGED = (
    "",
    "{",
    "[1, 2]",
    "null",
    "seeds: [",
    "arms: 5",
    "arms: [5, null]",
    "\t: x",
    "train: 5",
    "a: !!python/name:os",
)
PLAN = AnalysisPlan(
    metric="eval_loss",
    margin=Margin(0.02),
    primary_arm="alpha=5",
    controls=("alpha=15",),
    looks=(5, 8, 12, 20),
    seeds=tuple(range(20)),
    looks_taken=2,
)
NOTHING = AnalysisPlan()


def test_design_is_answered_from_the_comparison_and_the_spec() -> None:
    answers = texts(comparison(), FULL)

    assert "16 fine-tuning runs: 4 arms with 4 seeds each. The model before" in answers["How many runs are behind each"]
    assert "Seeds: 0, 1, 2, 3." in answers["Which seeds were used"]
    assert "dropout, the initial weights of the LoRA adapters and the random draws" in answers["Which seeds were used"]
    assert (
        "Arms: alpha=0, alpha=5, alpha=10, alpha=15. Differences are arm minus alpha=0." in answers["How were the val"]
    )
    assert "Every arm that the sweep declares is reported." in answers["How were the val"]
    assert "9.0% (alpha=5)" in answers["How were the val"]
    assert "epochs 3, learning_rate 0.001, batch_size 16." in answers["Which hyperparameters"]
    assert "The primary metric is measured on 40 held-out examples." in answers["Which model and data"]
    assert "400 examples for training and 200 held out." in answers["Which model and data"]
    assert "Parameters: 1,064 and 1,128, adapters included. Trained: 64 and 128." in answers["Which model and data"]
    assert "Fingerprint of the model: b85e." in answers["Which model and data"]
    assert "Alpha multiplies these draws." in answers["Which randomness"]


def test_analysis_is_answered_from_the_comparison() -> None:
    answers = texts(comparison(), FULL)

    assert "Intervals of 95% are t intervals of the paired difference from alpha=0." in answers["How were intervals"]
    assert "crossed random factors" in answers["How were intervals"]
    assert "with the interval of 90%." in answers["How were intervals"]
    tests = answers["How many tests"]
    assert "3 arms are tested on the primary metric." in tests
    assert "Hommel's method, at a level of 5%" in tests
    assert "their trend over alpha and the difference of each arm." in tests
    assert "not adjusted over the 4 metrics" in tests
    excluded = answers["Were runs or data excluded"]
    assert "Missing from the numbers: alpha=15,seed=4 failed: out of memory" in excluded
    assert "were dropped and counted (skip_bad_rows)" in excluded
    assert "tiny on bios" in answers["For what do the conclusions hold"]


def test_a_paused_plan_is_not_called_complete() -> None:
    values = (1.5, 1.51, 1.52)
    undecided = estimate(values, values, assessment(0.0, 0.02))
    arms = summary("alpha=0", 0.0, {"eval_loss": estimate(values)}), summary("alpha=5", 5.0, {"eval_loss": undecided})
    paused = replace(compared(*arms), plan=AnalysisPlan(looks=(3, 5), seeds=tuple(range(5)), looks_taken=1))

    excluded = texts(paused, FULL)["Were runs or data excluded"]

    assert "Looks taken: 1 of 2. Not decided: alpha 5." in excluded
    assert "No trial is missing" not in excluded
    assert "No trial is missing" in texts(replace(comparison(), unfinished=()), FULL)["Were runs or data excluded"]


@pytest.mark.parametrize(
    ("verdict", "looks_taken", "seeds", "is_complete"),
    [
        ("better", 1, 3, True),
        ("inconclusive", 1, 3, False),
        ("inconclusive", 2, 5, True),
        ("inconclusive", 2, 4, False),  # a trial of the last look is lost
        (None, 0, 2, False),
    ],
)
def test_a_plan_is_called_complete_if_every_look_has_its_seeds(
    verdict: Verdict | None, looks_taken: int, seeds: int, is_complete: bool
) -> None:
    values = tuple(1.5 + 0.01 * seed for seed in range(seeds))
    assessed = replace(assessment(0.0, 0.02, verdict), looks_taken=looks_taken)
    arms = [
        summary("alpha=0", 0.0, {"eval_loss": estimate(values)}),
        summary("alpha=5", 5.0, {"eval_loss": estimate(values, values, assessed)}),
    ]
    plan = AnalysisPlan(looks=(3, 5), seeds=tuple(range(5)), looks_taken=looks_taken)

    excluded = texts(replace(compared(*arms), plan=plan), FULL)["Were runs or data excluded"]

    assert f"Looks taken: {looks_taken} of 2." in excluded
    assert ("No trial is missing" in excluded) == is_complete


def test_a_metric_that_was_chosen_later_is_not_called_declared() -> None:
    departure = Departure("metric not measured", "Results are exploratory.")
    chosen = replace(comparison(), plan=replace(PLAN, metric="bleu"), departures=(departure,))

    declared = texts(chosen, FULL)["Which choices"]

    assert declared.startswith("Results are exploratory. Primary metric: held-out loss (chosen when the results were ")


def test_resources_are_answered_from_the_manifest() -> None:
    answers = texts(comparison(), FULL)

    compute = answers["Which hardware"]
    assert "Hardware: device cuda, precision bfloat16, cores 16." in compute
    assert "Trials that ran at the same time: 2." in compute
    assert "Run time of 2 trials" in compute
    assert "2 min 16 s in total, 1 min 0 s to 1 min 16 s each." in compute
    assert "Elapsed time, with trials side by side: 1 min 15 s." in compute
    assert "Peak memory of a trial: 3.0 GB." in compute
    software = answers["Which software"]
    assert "Versions: python 3.11.2, torch 2.13.0." in software
    assert "Git commit of neftune: d59f943 with uncommitted changes." in software


@pytest.mark.parametrize("hardware", [{"device": "cuda", "gpus": "2 x NVIDIA L4 (22 GiB)"}, {"device": "cpu"}])
def test_accelerators_are_not_asked_for_if_they_are_known_or_absent(hardware: dict[str, str]) -> None:
    files = RunFiles.read([SPEC], [json.dumps({**MANIFEST, "hardware": hardware})])

    [compute] = [one for one in checklist(comparison(), files) if one.question.startswith("Which hardware")]

    assert compute.missing == ("the total compute of the project, with preliminary and failed experiments",)
    assert f"Hardware: {', '.join(f'{part} {value}' for part, value in hardware.items())}." in compute.statements


def test_unknown_facts_are_to_be_filled_in() -> None:
    of_nothing = {answer.question: answer.missing for answer in checklist(comparison(), RunFiles())}
    of_all = {answer.question: answer.missing for answer in checklist(replace(comparison(), plan=NOTHING), FULL)}

    def missing(found: dict[str, tuple[str, ...]], start: str) -> tuple[str, ...]:
        return next(texts for question, texts in found.items() if question.startswith(start))

    assert missing(of_nothing, "Which seeds") == ("what a seed changes in these runs",)
    assert missing(of_nothing, "Which hardware")[:2] == ("the hardware", "the run time")
    assert missing(of_nothing, "Which software")[0] == "the software and its versions"
    assert missing(of_nothing, "Which model")[1] == "the exact versions of the model and of the data"
    assert missing(of_nothing, "Which choices") == ("whether these choices were made before the results were seen",)
    assert missing(of_nothing, "Which randomness") == ("the randomness that runs with the same seed share",)
    assert missing(of_nothing, "Were runs") == ("runs that failed or were left out before the comparison",)
    assert missing(of_all, "Which seeds") == missing(of_all, "Which choices") == missing(of_all, "Were runs") == ()
    assert missing(of_all, "Which hardware")[0] == "the product name and the memory of the accelerators, if any"
    assert missing(of_all, "Which model") == ("the licenses, the sources and the languages of the data",)
    assert missing(of_nothing, "Which model")[0] == "the number of parameters, all and trained"
    assert any("the ranges, the number of settings tried" in text for text in missing(of_all, "Which hyperparameters"))


def test_notes_that_are_not_listed_are_counted() -> None:
    notes = [f"Note {number}." for number in range(23)]
    assert list(first_notes(notes[:20])) == notes[:20]
    assert list(first_notes(notes)) == [*notes[:20], "There are 3 more notes."]


def test_declared_choices() -> None:
    declared = texts(replace(comparison(), plan=PLAN), FULL)["Which choices"]

    assert "Primary metric: held-out loss (declared)." in declared
    assert "Equivalence margin: declared, 0.02." in declared
    assert "Primary arm: alpha=5. The other arms are exploratory." in declared
    assert "Controls that check the sweep, which are not part of the conclusion: alpha=15." in declared
    assert "planned after 5, 8, 12 and 20 seeds; 2 of 4 were taken." in declared
    tests = texts(replace(comparison(), plan=PLAN), FULL)["How many tests"]
    assert "adjusted for the 4 planned looks" in tests


def test_choices_that_were_not_declared_are_said_to_be_so() -> None:
    undeclared = texts(comparison(), FULL)["Which choices"]
    empty = texts(replace(comparison(), plan=NOTHING), FULL)["Which choices"]

    assert undeclared.startswith("No metric, margin, primary arm or looks were declared before the first trial.")
    assert "Primary metric, on which the conclusion is based: held-out loss." in undeclared
    assert "Primary metric: held-out loss (the default, not declared)." in empty
    assert "Equivalence margin: the default, not declared." in empty
    assert "Primary arm: none declared. All arms are tested together." in empty
    assert "Number of seeds: fixed. The tests assume that the trials are tested once." in empty


def hyperparameters(recipe: dict[str, Any], files: RunFiles) -> str:
    setting = replace(comparison().setting, recipe=recipe)
    return texts(replace(comparison(), setting=setting), files)["Which hyperparameters"]


def test_recipe_has_the_fields_that_are_set() -> None:
    recipe = {"epochs": 3.0, "max_steps": None, "sft": {"warmup_ratio": 0.1}}
    assert "overrides: epochs 3, warmup_ratio 0.1." in hyperparameters(recipe, FULL)


def test_a_number_of_steps_replaces_the_epochs() -> None:
    recipe = {"epochs": 3.0, "max_steps": 2, "lora_rank": 8, "sft": {"weight_decay": 0.1}}
    assert "overrides: max_steps 2, lora_rank 8, weight_decay 0.1." in hyperparameters(recipe, FULL)


def test_fixed_settings_are_named() -> None:
    answer = hyperparameters({"lora_rank": 8, "sft": {"weight_decay": 0.1}}, FULL)

    assert "LoRA has a lora_alpha of twice the rank, dropout 0, and adapters on all linear layers but" in answer
    assert "optim adamw_torch_fused, lr_scheduler_type linear, warmup_steps 0." in answer


def test_fixed_settings_of_another_tool_are_unknown() -> None:
    assert "TRL" not in hyperparameters({"learning_rate": 0.001}, RunFiles())


def test_arms_without_results_and_with_draws_of_their_own_are_named() -> None:
    more = SPEC + "- {name: again, repeat: 1}\n- {name: bell, noise: gaussian}\n"
    answers = texts(comparison(), RunFiles.read([more]))

    assert "These declared arms have no result in this comparison: again, bell." in answers["How were the val"]
    assert "These arms have random streams of their own: again." in answers["Which randomness"]
    assert (
        "Only arms with the same distribution of the noise share its draws: alpha=5, alpha=10, alpha=15, again "
        "(uniform); bell (gaussian)." in answers["Which randomness"]
    )


@pytest.mark.parametrize("stated", ["uniform", "gaussian"])
def test_arms_that_all_state_the_same_distribution_share_their_draws(stated: str) -> None:
    arms = "".join(f"- {{name: alpha={alpha}, alpha: {alpha}, noise: {stated}}}\n" for alpha in (5, 10))
    answers = texts(comparison(), RunFiles.read(["arms:\n- {name: alpha=0, alpha: 0}\n" + arms]))

    assert "distribution" not in answers["Which randomness"]


def test_roles_are_named_and_controls_are_not_counted() -> None:
    whole = comparison()
    first, *others, last = whole.arms
    found = last.estimates["eval_loss"]
    assert found is not None
    assert found.assessment is not None
    control = replace(found, assessment=replace(found.assessment, role="control"))
    whole = replace(whole, arms=(first, *others, replace(last, estimates={"eval_loss": control})), noise_tests={})

    assert "alpha=15 (control)." in texts(whole, FULL)["How were the val"]
    assert "2 arms are tested on the primary metric." in texts(whole, FULL)["How many tests"]
    assert "Each control is tested separately from the other arms." in texts(whole, FULL)["How many tests"]
    assert "tested first" not in texts(whole, FULL)["How many tests"]


def test_few_seeds_have_no_test() -> None:
    alone = compared(summary("alpha=0", 0.0, {"eval_loss": estimate((1.5,))}))

    assert "There is no test" in texts(alone, FULL)["How were intervals"]
    assert "1 fine-tuning run: 1 arm with 1 seed each." in texts(alone, FULL)["How many runs"]


def test_a_damaged_file_does_not_hide_those_of_other_sweeps() -> None:
    other = {**MANIFEST, "hardware": {"device": "cpu"}, "trials": {"d": {"seconds": 4.5}}}
    files = RunFiles.read([SPEC, SPEC, "arms: ["], [json.dumps(MANIFEST), "{", json.dumps(other)])

    assert len(files.specs) == len(files.manifests) == 2
    assert files.known(lambda one: one.git and one.git.commit) == ["d59f943"]
    assert files.known(lambda one: one.hardware and one.hardware.device) == ["cuda", "cpu"]
    assert files.numbers(lambda one: one.seconds) == [60.0, 75.5, 4.5]


@pytest.mark.parametrize("text", DAMAGED)
def test_damaged_files_are_unknown(text: str) -> None:
    answers = checklist(comparison(), RunFiles.read([text], [text]))

    assert len(answers) == 13
    assert all(answer.statements or answer.missing for answer in answers)


@settings(max_examples=40)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(
                    ["trials", "hardware", "versions", "git", "commit", "seconds", "truth", "notes", "workers"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_content_of_a_manifest_is_an_error(content: object) -> None:
    text = json.dumps(content)

    assert checklist_markdown(comparison(), RunFiles.read([text], [text])).endswith("|\n")


def test_values_by_seed() -> None:
    arms = (
        summary("alpha=0", 0.0, {"eval_loss": estimate((1.5, 1.25))}),
        summary("alpha=5", 5.0, {"eval_loss": estimate((float("inf"),))}),
        summary("alpha=9", 9.0, {"eval_loss": None}),
    )
    table = seed_table(compared(*arms))

    assert table.arms == ("alpha=0", "alpha=5", "alpha=9")
    assert table.rows == (("0", "1.5000", "not finite", "\N{EN DASH}"), ("1", "1.2500", *["\N{EN DASH}"] * 2))
    assert table.caption == "Held-out loss (nats) of each trial."


def test_values_by_seed_of_many_arms_are_in_several_tables() -> None:
    arms = [summary(f"alpha={n}", float(n), {"eval_loss": estimate((1 + n / 100,))}) for n in range(21)]
    parts = seed_table(compared(*arms)).parts

    assert [len(part.arms) for part in parts] == [7, 7, 7]
    assert parts[1].arms == tuple(f"alpha={n}" for n in range(7, 14))
    assert parts[1].rows == (("0", *(f"1.{n:02}00" for n in range(7, 14))),)
    assert seed_table(compared(*arms[:10])).parts == [seed_table(compared(*arms[:10]))]


def test_markdown_has_every_question_and_rectangular_tables() -> None:
    text = checklist_markdown(comparison(), FULL)
    rows = [line for line in text.splitlines() if line.startswith("|")]

    assert text.count("\n## ") == 13 + 1
    assert text.count("**To fill in:**") == sum(len(one.missing) for one in checklist(comparison(), FULL))
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}
    assert rows[0] == "| seed | alpha=0 | alpha=5 | alpha=10 | alpha=15 |"
    assert len(rows) == 2 + 4


@pytest.mark.parametrize(
    "name", ["a|b", "<script>alert(1)</script>", "[x](http://y)", "*b* `c` $d$", "a\nb\n# c", "\\|"]
)
def test_hostile_names_are_escaped(name: str) -> None:
    whole = comparison()
    hostile = replace(whole, arms=(*whole.arms[:-1], replace(whole.arms[-1], name=name)), sweep=name)
    text = checklist_markdown(
        hostile, RunFiles.read([f"arms: [{{name: {json.dumps(name)}}}]"], [json.dumps({"git": {"commit": name}})])
    )

    assert text.count("\n# ") == 0
    assert not re.search(r"(?<!\\)<", text)
    assert not re.search(r"(?<!\\)\[x", text)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows} == {6}


def test_document_reads_the_files_of_the_evidence(tmp_path: Path) -> None:
    evidence = Evidence(
        "bios",
        comparison().setting,
        (),
        {},
        TrialOrigin((str(tmp_path),), is_sweep=True),
        (SPEC,),
        manifest_texts=(json.dumps(MANIFEST),),
    )

    without_files = document([of_no_trials(comparison())], OutputFormat.CHECKLIST)
    assert without_files == checklist_markdown(comparison(), RunFiles())
    with_files = document([replace(of_no_trials(comparison()), evidence=evidence)] * 2, OutputFormat.CHECKLIST)
    assert with_files == "\n".join([checklist_markdown(comparison(), FULL)] * 2)


def texts(whole: Comparison, files: RunFiles) -> dict[str, str]:
    """Return the statements of each answer by the start of its question."""
    found = {answer.question: " ".join(answer.statements) for answer in checklist(whole, files)}
    return Starts(found)


class Starts(dict[str, str]):
    """Mapping that finds the only key with a start."""

    def __getitem__(self, start: str) -> str:
        (found,) = (value for key, value in self.items() if key.startswith(start))
        return found
