"""The payment service: charges cards, declines some of them, and has one fault. Calls nobody."""

from hashlib import blake2b

from sp_proxy.demo.shop.messages import Answer, Request, problem

DECLINED = "tok_declined"
FAULTY = "tok_gateway_fault"
"""The token with which this service fails."""


class Payment:
    """One connection's service."""

    name = "payment"

    def answer(self, request: Request) -> Answer:
        """``POST /charge``."""
        if (request.method, request.target) != ("POST", "/charge"):
            return problem(404, "there is nothing here")
        charge = request.json()
        if not charge or not {"order_id", "amount", "currency", "card"} <= charge.keys():
            return problem(400, "order_id, amount, currency and card are needed")
        if request.headers.get("authorization", "") == "":
            return problem(401, "who is asking?")
        match charge["card"]:
            case {"token": token} if token == DECLINED:
                return problem(402, "payment declined", reason="insufficient_funds", order_id=charge["order_id"])
            case {"token": token} if token == FAULTY:
                return problem(500, "the card network did not answer", order_id=charge["order_id"])
        receipt = blake2b(f"{charge['order_id']} {charge['amount']}".encode(), digest_size=6).hexdigest()
        return Answer(201, {"charge_id": f"ch_{receipt}", "status": "captured", **charge})

    def close(self) -> None:
        """Nothing is held."""
