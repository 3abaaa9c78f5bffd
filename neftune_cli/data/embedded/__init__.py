"""The bundled data set `bios`."""
