"""Data: from files and data sets of the Hub to tokenized examples."""
