"""Finds out how many requests a server takes at once.

Additive increase, multiplicative decrease (Chiu & Jain 1989), on the share of refusals instead of on each: a single
429, 503 or time-out may be chance, and the limit must not collapse under a server that merely fails now and then.
It grows while few requests are refused, stands while some are, and shrinks where many are. Below `_FEW` refusals the
server is as good as never idle, so nothing is lost by not going further.

Once the server has refused many, requests go out evenly, at a rate a little above the one at which it has lately
replied. Else those that went out together come back together and go out together again, and a server that counts
requests per second refuses most of each volley though it is idle in between.

A whole round of time-outs halves the limit and is followed by a pause: many servers on one machine work on one request
after the other, and some finish those that nobody waits for any more before they come to the next.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math

_START = 8.0
_FEW, _MANY = 0.25, 0.40  # shares of refused requests
_SHRINK = 0.8
_WINDOW = 30.0  # requests, at least, over which the share is taken: of fewer it is mostly chance
_STEP = 3.0  # places per round trip
_AHEAD = 1.15  # times the rate of replies, so that the pace can rise until the server refuses
_MEMORY = 3.0  # seconds over which that rate is taken
_ALL_REFUSED = 5  # refusals in a row after which everybody waits, not only the one who was told to


class Concurrency:
    """A gate that lets a changing number of requests through, those with the smallest priority number first.

    Args:
        most: never more than this at once.
        start: limit to begin with; what an earlier session with the same model found.
    """

    def __init__(self, most: int, start: float = _START) -> None:
        self._most = float(most)
        self.limit = min(start, self._most)
        self.active = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._tickets = itertools.count()
        self._refused_share = 0.0
        self._since_change = 0
        self._settled = False
        self._refusals_in_a_row = self._time_outs_in_a_row = 0
        self._closed_until = 0.0
        self._took = 0.0  # seconds that a place is taken for by what gets a reply, on average
        self._replies, self._counted_at = 0.0, 0.0  # of the last `_MEMORY` seconds, the older the less
        self._next = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    async def enter(self, priority: int) -> None:
        """Waits for a place."""
        loop = asyncio.get_running_loop()
        place: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (priority, next(self._tickets), place))
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # admitted at the moment it was given up
                self.leave()
            raise

    def leave(
        self,
        *,
        refused: bool | None = None,
        wait: float | None = None,
        slow: bool = False,
        timed_out: bool = False,
        took: float = 0.0,
    ) -> None:
        """Gives the place back and learns from what happened.

        Args:
            refused: whether the server said that it had too much to do; None teaches nothing.
            wait: seconds that it asked to wait.
            slow: whether the reply took so long that more at once would run into the time limit.
            timed_out: whether nothing came within the time limit.
            took: seconds from entering to leaving.
        """
        self.active -= 1
        if refused is not None:
            if not refused:
                self._took += (took - self._took) / max(_WINDOW, 2 * self.limit)
                self._replies = self._lately() + 1
                self._counted_at = asyncio.get_running_loop().time()
            self._learn(refused, slow)
            self._refusals_in_a_row = self._refusals_in_a_row + 1 if refused else 0
            if wait and self._refusals_in_a_row >= _ALL_REFUSED:
                self.hold(wait)
            self._time_outs_in_a_row = self._time_outs_in_a_row + 1 if timed_out else 0
            if self._time_outs_in_a_row >= max(2, int(self.limit)):
                self.limit = max(1.0, self.limit / 2)
                self._time_outs_in_a_row, self._since_change, self._settled = 0, 0, True
                self.hold(took)
        self._admit()

    def hold(self, seconds: float) -> None:
        """Lets nobody in for so long."""
        loop = asyncio.get_running_loop()
        self._closed_until = max(self._closed_until, loop.time() + seconds)
        loop.call_later(seconds, self._admit)

    def _learn(self, refused: bool, slow: bool) -> None:
        window = max(_WINDOW, 2 * self.limit)
        self._refused_share += (float(refused) - self._refused_share) / window
        self._since_change += 1
        if self._refused_share > _MANY:
            if self._since_change >= window / 2:  # what was sent before the last change has to come back first
                self.limit = max(1.0, self.limit * _SHRINK)
                self._since_change, self._settled = 0, True
                self._refused_share = (_FEW + _MANY) / 2
        elif not refused and not slow and self._refused_share < _FEW and self.active + 1 >= int(self.limit) * 0.8:
            # Doubles in every round trip until the server has refused many, then grows by up to `_STEP`, the less the
            # nearer the share of refusals comes to where it stands.
            step = _STEP * (1 - self._refused_share / _FEW) / self.limit if self._settled else 1.0
            self.limit = min(self._most, self.limit + step)

    def _admit(self) -> None:
        loop = asyncio.get_running_loop()
        if self._closed_until and loop.time() < self._closed_until - 1e-3:
            return
        while self._waiting and self.active < int(self.limit):
            early = self._next - loop.time()
            if early > 1e-3:
                if self._alarm is None:
                    self._alarm = loop.call_later(early, self._paced)
                return
            _, _, place = heapq.heappop(self._waiting)
            if not place.done():
                self.active += 1
                self._next = loop.time() + (self._distance() if self._settled else 0.0)
                place.set_result(None)

    def _lately(self) -> float:
        """Replies of the last seconds."""
        return self._replies * math.exp((self._counted_at - asyncio.get_running_loop().time()) / _MEMORY)

    def _distance(self) -> float:
        """Seconds between two requests; never more than would fill all places evenly."""
        even_distance = self._took / self.limit
        lately = self._lately()
        return min(even_distance, _MEMORY / (_AHEAD * lately)) if lately else even_distance

    def _paced(self) -> None:
        self._alarm = None
        self._admit()
