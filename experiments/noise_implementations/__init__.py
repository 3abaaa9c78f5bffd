"""Compare the noise of neftune with that of the installed transformers; docs/noise.md contains the table."""
