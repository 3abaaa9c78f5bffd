"""Where a trial is run, with torch: in a worker process, or in the process of the sweep itself."""
