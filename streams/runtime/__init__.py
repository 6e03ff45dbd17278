"""Run stages as processes: settings in, wired parts out."""
