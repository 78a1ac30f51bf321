"""`pinch doctor`: one module for each thing that is checked."""

from pinch.cli.doctor.command import arguments, run

__all__ = ["arguments", "run"]
