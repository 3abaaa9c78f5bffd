"""Many trials: the plan a spec means, who runs it, and what is shown meanwhile."""
