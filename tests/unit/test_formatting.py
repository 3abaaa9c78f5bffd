"""Formatted durations, sparklines and text of a terminal, compared with values by hand."""

from neftune_cli.formatting import condensed, duration, rough_duration, sparkline, terminal_text


def test_durations_are_formatted_in_words() -> None:
    assert [duration(seconds) for seconds in (0, 59.6, 75, 3660)] == ["0 s", "1 min 0 s", "1 min 15 s", "1 h 1 min"]
    spans = [rough_duration(seconds) for seconds in (0, 12, 57, 58, 60, 100, 3599, 86400)]
    assert spans == ["5 s", "10 s", "55 s", "1 min", "1 min", "2 min", "1 h 0 min", "24 h 0 min"]


def test_a_sparkline_is_scaled_to_its_range() -> None:
    assert sparkline(range(8), 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([2.0, 2.0], 8) == "▅▅"
    assert sparkline([], 8) == ""
    assert sparkline(range(800), 4) == "▁▃▆█"
    assert sparkline(range(6), 8, ascii_only=True) == "_.-=*#"


def test_condensing_keeps_the_mean() -> None:
    assert condensed([1.0, 3.0, 5.0, 7.0, 9.0, 11.0], 3) == (2.0, 6.0, 10.0)
    assert condensed([1.0, 3.0], 3) == (1.0, 3.0)


def test_control_characters_are_replaced() -> None:
    assert terminal_text("a\x1b[31mb\nc\x9bd\u202ee") == "a?[31mb c?d?e"
