"""The demo: a small shop of three services, a daemon beside each, the backend, traffic, and a live table."""
