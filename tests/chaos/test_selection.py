"""Which scenarios of chaos a landing plays."""

from chaos.scenarios import scenarios
from chaos.selection import BY_DAY, chosen

NAMES = [scenario.name for scenario in scenarios(long=False)]


def test_a_commit_always_plays_the_same_two() -> None:
    drawn = chosen(NAMES, "3f786850e387550fdab836ed7e6dc881de23001b")
    assert len(drawn) == BY_DAY
    assert chosen(NAMES, "3f786850e387550fdab836ed7e6dc881de23001b") == drawn


def test_every_scenario_is_drawn_by_some_commit() -> None:
    assert {name for commit in range(400) for name in chosen(NAMES, f"{commit:040x}")} == set(NAMES)
