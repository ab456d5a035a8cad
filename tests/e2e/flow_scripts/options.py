"""An addon with an option of its own, and what happens when it is set: mitmproxy's documentation, section Options."""

from mitmproxy import ctx, exceptions


class Marked:
    def load(self, loader):
        loader.add_option(name="mark", typespec=str, default="", help="What to add to responses")

    def configure(self, updates):
        if "mark" in updates and " " in ctx.options.mark:
            raise exceptions.OptionsError("mark must be one word")

    def response(self, flow):
        if ctx.options.mark:
            flow.response.headers["mark"] = ctx.options.mark


addons = [Marked()]
