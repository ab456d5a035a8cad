"""Delivery, in trio: one file a stage, from the frames of the workers to the backend's answer."""
