"""Win rate at equal lengths of the responses, after AlpacaEval 2 (arXiv 2404.04475)."""

import numpy as np

from neftune_cli.evidence.measurements import Floats

_PENALTY = 0.01
"""Weight of the squared slope, so that a slope is finite if lengths separate wins from losses."""


def length_controlled_win_rate(
    wins: Floats,  # (items,), 0 to 1
    length_differences: Floats,  # (items,), characters
) -> float | None:
    """Return the expected share of wins if both responses had the same length.

    A logistic regression explains the wins by tanh(difference / standard deviation of the differences), and the result
    is its prediction at a difference of 0. AlpacaEval 2 has one more term, the difficulty of each instruction, which it
    estimates from many other models.

    Args:
        wins: 1 for a win over the reference, 0 for a loss, a number between them for a tie or a weighted preference.
        length_differences: length of the response minus that of the reference.

    Returns:
        The win rate, 0 to 1; None if a constant difference in length cannot be told from a difference in quality.
    """
    spread = float(length_differences.std())
    if wins.min() == wins.max() or not length_differences.any():
        return float(wins.mean())
    if not spread:
        return None
    from sklearn.linear_model import LogisticRegression

    feature = np.tanh(length_differences / spread)[:, None]
    outcomes, weights = np.repeat([1, 0], len(wins)), np.concatenate([wins, 1 - wins])
    model = LogisticRegression(C=1 / _PENALTY)
    model.fit(np.concatenate([feature, feature]), outcomes, sample_weight=weights)
    return float(model.predict_proba([[0.0]])[0, 1])
