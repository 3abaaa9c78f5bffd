"""Checklist for papers, answered from the comparison and the files of the sweep."""
