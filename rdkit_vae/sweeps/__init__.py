"""Many trainings into one folder: processes, progress, verification and repair."""
