"""What requests may cost, and what they have cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Budget:
    """Limits on calls and cost; one budget serves all that one model is asked in one stage.

    Attributes:
        max_calls, max_cost: limits; None is no limit.
        input_price, output_price: of a million tokens; None where the cost is not known.
        in_flight: calls under way; `reserved` is what they may cost at most.
    """

    max_calls: int | None = None
    max_cost: float | None = None
    input_price: float | None = None
    output_price: float | None = None
    calls: int = 0
    spent: float = 0.0
    reserved: float = 0.0
    in_flight: int = 0

    def reserve(self, upper_bound: float) -> None:
        """Sets aside what a call can cost at most."""
        self.calls += 1
        self.in_flight += 1
        self.reserved += upper_bound

    def release(self, upper_bound: float) -> None:
        """Ends a call. Nothing stays reserved when none is under way, whatever the sums of floats say."""
        self.in_flight -= 1
        self.reserved = self.reserved - upper_bound if self.in_flight else 0.0

    def covers(self, upper_bound: float) -> bool:
        """Whether a call that can cost so much fits into `max_cost` beside the calls under way."""
        return self.max_cost is None or self.spent + self.reserved + upper_bound <= self.max_cost

    @property
    def calls_are_used_up(self) -> bool:
        return self.max_calls is not None and self.calls >= self.max_calls

    def cost(self, input_tokens: int | None, output_tokens: int | None) -> float | None:
        """Price of a reply; None where prices or tokens are not known."""
        if self.input_price is None or self.output_price is None or input_tokens is None or output_tokens is None:
            return None
        return (input_tokens * self.input_price + output_tokens * self.output_price) / 1e6

    def upper_bound(self, body_bytes: int, max_tokens: int) -> float:
        """What a request can cost at most: no tokenizer of bytes makes more tokens than there are bytes."""
        return self.cost(body_bytes, max_tokens) or 0.0
