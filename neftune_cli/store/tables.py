"""Tables of the finished trials of a sweep as CSV text, which its folder writes."""

from collections.abc import Iterable, Sequence
from typing import Any

from neftune_cli.records import EVAL_METRICS, LOSS_METRICS, CurvePoint, Record, TrialRecord
from neftune_cli.store.trials import TrialFolder

LOSS_FILE, EVAL_FILE, CURVES_FILE = "loss.csv", "eval.csv", "curves.csv"
_KEY = ("arm", "alpha", "seed")
_CURVE_COLUMNS = tuple(CurvePoint.model_fields)
_SUBSET = "eval_examples"
"""The column that `curves.csv` has only if a trial measured a part of the examples."""


def csv_tables(finished: Sequence[tuple[TrialFolder, TrialRecord]]) -> dict[str, str]:
    """Return the text of loss.csv and eval.csv, with a row per trial, and of curves.csv, with a row per logged point.

    Args:
        finished: the finished trials with their records, in the order of the rows.
    """
    registered = dict.fromkeys(name for _, record in finished for name in record.eval.model_extra or ())
    curves = [{**_key(record), **point.model_dump()} for folder, record in finished for point in folder.curve()]
    measured = (name for name in _CURVE_COLUMNS if name != _SUBSET or any(row[name] for row in curves))
    return {
        LOSS_FILE: _csv((*_KEY, *LOSS_METRICS), (_row(record, record.loss) for _, record in finished)),
        EVAL_FILE: _csv((*_KEY, *EVAL_METRICS, *registered), (_row(record, record.eval) for _, record in finished)),
        CURVES_FILE: _csv((*_KEY, *measured), curves),
    }


def _csv(columns: tuple[str, ...], rows: Iterable[dict[str, Any]]) -> str:
    import pandas as pd

    counts = {name: "Int64" for name in ("seed", _SUBSET) if name in columns}
    frame = pd.DataFrame(rows, columns=list(columns)).astype(counts)
    return str(frame.to_csv(index=False, lineterminator="\n"))


def _row(record: TrialRecord, metrics: Record) -> dict[str, Any]:
    return {**_key(record), **metrics.model_dump()}


def _key(record: TrialRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _KEY}
