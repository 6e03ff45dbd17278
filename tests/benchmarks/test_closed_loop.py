"""The load generator that waits for deliveries."""

from bench.closed_loop import closed_loop


class Endpoint:
    """Receives up to `per_round` outstanding events a round, for `rounds` rounds."""

    def __init__(self, per_round: int, rounds: int) -> None:
        self._per_round = per_round
        self._rounds = rounds
        self.published: list[int] = []
        self.delivered = 0
        self.most_outstanding = 0

    def publish(self, number: int) -> None:
        self.published.append(number)
        self.most_outstanding = max(self.most_outstanding, len(self.published) - self.delivered)

    def take(self) -> None:
        self._rounds -= 1
        self.delivered += min(self._per_round, len(self.published) - self.delivered)

    def load(self, limit: int) -> int:
        return closed_loop(
            limit,
            delivered=lambda: self.delivered,
            publish=self.publish,
            pause=self.take,
            is_over=lambda: self._rounds == 0,
        )


def test_no_more_than_the_limit_is_outstanding() -> None:
    endpoint = Endpoint(per_round=3, rounds=50)
    endpoint.load(limit=10)
    assert endpoint.most_outstanding == 10


def test_events_are_published_as_fast_as_delivered() -> None:
    endpoint = Endpoint(per_round=3, rounds=50)
    assert endpoint.load(limit=10) == 10 + 49 * 3
    assert endpoint.published == list(range(157))


def test_an_endpoint_that_receives_nothing_gets_the_limit() -> None:
    assert Endpoint(per_round=0, rounds=5).load(limit=10) == 10


def test_nothing_is_published_after_the_end() -> None:
    assert Endpoint(per_round=1, rounds=0).load(limit=10) == 0
