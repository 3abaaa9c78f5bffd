"""What a sweep looks like while it runs: read from its files, drawn at a terminal or told line by line."""
