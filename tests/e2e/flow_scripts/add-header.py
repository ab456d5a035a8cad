"""Add a header to each response: an addon class, as in the tutorial of mitmproxy's addon documentation."""


class AddHeader:
    def __init__(self):
        self.number = 0

    def response(self, flow):
        self.number += 1
        flow.response.headers["count"] = str(self.number)


addons = [AddHeader()]
