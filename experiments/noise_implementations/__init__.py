"""What our noise and the installed transformers' own do, measured side by side; docs/noise.md explains the table."""
