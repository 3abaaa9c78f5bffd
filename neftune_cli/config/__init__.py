"""What a run is: frozen specs, how YAML files and flags become one, and the hash that identifies a trial."""
