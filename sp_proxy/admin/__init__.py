"""The admin server: liveness, readiness, metrics, settings in force, drain."""
