"""The look-up of stored answers, ``POST /v1/inject``, as both of its ends speak it."""
