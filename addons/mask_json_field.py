"""Mask fields of JSON bodies by name, at any depth, before anything is sent. Without it nothing is sent (``required``)."""

required = True
FIELDS = {"iban", "date_of_birth"}


def exchange(ex):
    """Both bodies. What looks like JSON and cannot be read whole is left out."""
    for message in (ex.request, ex.response):
        if "json" not in message.headers.get("content-type", "") or not message.content:
            continue
        value = message.json()
        if value is None:
            message.content = ""
        elif mask(value):
            message.set_json(value)


def mask(value):
    """Mask in place; whether anything was."""
    found = False
    if isinstance(value, dict):
        for key in value:
            if key in FIELDS:
                value[key] = "[masked]"
                found = True
            else:
                found |= mask(value[key])
    elif isinstance(value, list):
        for item in value:
            found |= mask(item)
    return found
