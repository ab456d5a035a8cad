"""``sp-proxy dev``: a developer's application, run with its traffic captured. See docs/local.md."""
