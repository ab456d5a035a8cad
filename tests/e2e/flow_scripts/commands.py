"""A command, called by the addon itself: mitmproxy's documentation, section Commands."""

import logging

from mitmproxy import command, ctx


class Numbered:
    def __init__(self):
        self.number = 0

    @command.command("numbered.next")
    def next(self) -> int:
        self.number += 1
        return self.number

    def running(self):
        logging.getLogger(__name__).info("numbered is running")

    def request(self, flow):
        flow.request.headers["x-number"] = str(ctx.master.commands.call("numbered.next"))


addons = [Numbered()]
