"""Stands in for the build system of a source archive that is only downloaded."""
