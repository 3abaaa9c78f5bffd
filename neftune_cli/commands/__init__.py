"""Commands: one module for each, their options, and the request that the options make."""
