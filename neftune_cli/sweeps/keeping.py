"""Which of the trained models stay on the disk."""

import shutil

from neftune_cli.store import SweepFolder, TrialFolder


def keep_best_model(folder: SweepFolder) -> TrialFolder | None:
    """Remove the models of all finished trials but the one with the lowest held-out loss; return that one, if any."""
    kept = [
        (record.loss.eval_loss, record.trial, place) for place, record in folder.finished() if place.model_path.is_dir()
    ]
    if not kept:
        return None
    *_, best = min(kept, key=lambda one: one[:2])
    for *_, place in kept:
        if place is not best:
            shutil.rmtree(place.model_path, ignore_errors=True)  # another process may be at it, too
    return best
