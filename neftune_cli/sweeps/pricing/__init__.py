"""What trials will take, from trials that were timed or from a few steps that are tried out, and how that is shown."""
