"""Reports of a comparison: first screen, tables, exports, plots, HTML page, model card and checklist."""
