"""The printed tables: whole at 80 columns, and folded, shortened or left whole at other widths."""

# ruff: noqa: RUF001  (the tables have true minus signs and dashes in them)

import io
import re

import pytest
from rich.console import Console

from neftune_cli.analysis.comparison import Comparison, compare_arms
from neftune_cli.records import TrialRecord
from neftune_cli.reporting.documents import Format, document
from neftune_cli.reporting.tables import print_comparison

Records = list[TrialRecord]

MINUS = "−"
AT_80_COLUMNS = """\
bios, compared with alpha=0

Loss

              train loss                         train loss
arm          noisy, nats        vs alpha=0  noise off, nats        vs alpha=0
─────────────────────────────────────────────────────────────────────────────
base                   –                             4.1000
alpha=0  0.8100 ± 0.0100                    0.7050 ± 0.0050
alpha=5  0.9100 ± 0.0100  +0.1000 ± 0.0000  0.7570 ± 0.0082  +0.0520 ± 0.0035

         held-out loss ↓                      perplexity ↓
arm                 nats        vs alpha=0        held-out      vs alpha=0
──────────────────────────────────────────────────────────────────────────
base              4.2000                            66.686
alpha=0  1.5100 ± 0.0100                     4.527 ± 0.045
alpha=5  1.5070 ± 0.0101  −0.0030 ± 0.0017   4.513 ± 0.046  −0.014 ± 0.008

Generation on held-out prompts

         exact match ↑                      ROUGE-L ↑
arm             0 to 1      vs alpha=0         0 to 1      vs alpha=0
─────────────────────────────────────────────────────────────────────
base             0.000                          0.100
alpha=0  0.420 ± 0.020                  0.610 ± 0.010
alpha=5  0.430 ± 0.026  +0.010 ± 0.010  0.620 ± 0.010  +0.010 ± 0.010

              length               repetition ↓
arm       characters   vs alpha=0  % of 2-grams    vs alpha=0
─────────────────────────────────────────────────────────────
base           400.0                      60.00
alpha=0  104.0 ± 4.0               11.00 ± 1.00
alpha=5  114.0 ± 5.3  +10.0 ± 2.0  10.67 ± 1.53  −0.33 ± 1.15

         log-diversity ↑                    truncated ↓
arm                           vs alpha=0         0 to 1      vs alpha=0
───────────────────────────────────────────────────────────────────────
base               5.000                          0.900
alpha=0    8.100 ± 0.100                  0.000 ± 0.000
alpha=5    8.167 ± 0.115  +0.067 ± 0.058  0.010 ± 0.010  +0.010 ± 0.010

Mean ± standard deviation over seeds; differences from alpha=0 are taken seed by
seed. Losses in nats per completion token. ↓ lower is good, ↑ higher is good, no
arrow: neither by itself.
Noise norm / embedding norm at the median length: 0% (alpha=0), 9.7% (alpha=5).
Seeds of every arm: 0, 1, 2.
Not defined for this data: BLEU.
Not in these numbers: alpha=5,seed=3 failed: out of memory

Held-out loss: alpha=5 is lower than alpha=0 by 0.0030 on average over 3 paired
seeds (lower in 3 of 3, spread of the differences 0.0017). Noise-off training
loss: alpha=5 is higher than alpha=0 by 0.0520 on average over 3 paired seeds
(higher in 3 of 3, spread of the differences 0.0035). Spreads are over the seeds
of this one model, data set and recipe; no test has been made.
"""
"""Its numbers were computed by hand from the rows in conftest.py."""


@pytest.fixture
def comparison(hand_made_records: Records) -> Comparison:
    return compare_arms("bios", hand_made_records, unfinished=["alpha=5,seed=3 failed: out of memory"])


def test_at_80_columns(comparison: Comparison) -> None:
    assert _printed(comparison, width=80) == AT_80_COLUMNS


@pytest.mark.parametrize(("width", "rules"), [(80, 5), (120, 4), (160, 3), (300, 2)])
def test_wider_terminals_need_fewer_tables(comparison: Comparison, width: int, rules: int) -> None:
    assert _printed(comparison, width).count("\n────") == rules


@pytest.mark.parametrize("width", range(50, 200, 7))
def test_no_number_is_cut_and_no_row_is_wrapped(comparison: Comparison, width: int) -> None:
    text = _printed(comparison, width)

    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert sorted(_numbers(text)) == sorted(_numbers(_printed(comparison, 300)))


def test_a_very_narrow_terminal_drops_the_spreads(comparison: Comparison) -> None:
    text = _printed(comparison, width=37)

    assert re.search(rf"^alpha=5 +1\.5070 +{MINUS}0\.0030$", text, re.MULTILINE)
    assert not re.search(r"\d ± \d", text)


def test_one_seed_has_no_spread(hand_made_records: Records) -> None:
    text = _printed(compare_arms("bios", [hand_made_records[1], hand_made_records[4]]), width=160)

    assert "1.5000" in text
    assert not re.search(r"\d ± \d", text)


def test_one_arm_has_no_differences(hand_made_records: Records) -> None:
    text = _printed(compare_arms("bios", hand_made_records[:4]), width=160)

    assert text.startswith("bios\n")
    assert "vs" not in text


def test_a_long_baseline_name_does_not_widen_the_columns(hand_made_records: Records) -> None:
    renamed = [record.model_copy(update={"arm": "alpha=0,weight_decay=0.1"}) for record in hand_made_records[1:4]]

    text = _printed(compare_arms("bios", [*renamed, *hand_made_records[4:]]), width=100)

    assert "vs baseline" in text
    assert text.startswith("bios, compared with alpha=0,weight_decay=0.1\n")


def test_markup_in_names_is_printed_as_it_is(hand_made_records: Records) -> None:
    renamed = [record.model_copy(update={"arm": "[red]5[/red]"}) for record in hand_made_records[4:]]

    assert "[red]5[/red]  0.9100" in _printed(compare_arms("bios", [*hand_made_records[:4], *renamed]), width=160)


def test_different_seeds_and_notes_are_in_the_footnotes(hand_made_records: Records) -> None:
    noted = [record.model_copy(update={"notes": ("2 examples were cut.",)}) for record in hand_made_records[:-1]]

    text = _printed(compare_arms("bios", noted), width=160)

    assert "\nSeeds: 0, 1, 2 (alpha=0); 0, 1 (alpha=5).\n" in text
    assert text.count("2 examples were cut.") == 1


def test_a_document_is_plain_and_whole(comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _printed(comparison, width=120)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")

    text = document([comparison, comparison], Format.TABLE)

    assert "\x1b" not in text
    assert text.count("\nbios, compared with alpha=0\n") == 1  # the other one opens the document
    assert text.count("\n────") == 8  # loss and generation tables, each folded once, of two sweeps
    assert document([comparison], Format.TABLE) == expected


def test_terminals_without_colour_get_none(comparison: Comparison) -> None:
    text = io.StringIO()
    print_comparison(Console(file=text, width=80, force_terminal=True, color_system="truecolor"), comparison)

    codes = set(re.findall(r"\x1b\[([\d;]*)m", text.getvalue()))
    # Bold, dim and underlined carry everything: 30 and above would be colours.
    assert codes
    assert all(int(code or 0) < 30 for group in codes for code in group.split(";"))


def _printed(comparison: Comparison, width: int) -> str:
    text = io.StringIO()
    print_comparison(Console(file=text, width=width), comparison)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def _numbers(text: str) -> list[str]:
    """Return the numbers in the rows of the tables."""
    rows = [line for line in text.splitlines() if re.match(r"(base|alpha=\d) {2,}", line)]
    return [number for row in rows for number in re.findall(rf"[+{MINUS}]?\d+\.\d+", row)]
