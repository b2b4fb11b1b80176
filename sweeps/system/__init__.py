"""What knows nothing of sweeps: files, locks, processes, signals, text for terminals."""
