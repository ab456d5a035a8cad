"""The trio parent process: listeners, workers, exporter, signals, shutdown."""
