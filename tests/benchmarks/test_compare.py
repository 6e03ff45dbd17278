"""Ratios of the runs of two commits."""

from bench.compare import ratios


def rows(table: str) -> list[str]:
    return table.splitlines()[2:]


def test_a_ratio_is_the_median_of_the_pairs() -> None:
    runs = [([{"cpu_us": old}], [{"cpu_us": new}]) for old, new in ((100, 90), (200, 100), (100, 110))]
    assert rows(ratios(runs)) == ["| cpu_us | 100 (100–200, n=3) | 100 (90–110, n=3) | 0.900 |"]


def test_parts_and_results_each_have_a_line() -> None:
    old = [{"via": "kafka", "cpu": {"api": 1.0}}, {"via": "rest", "cpu": {"api": 3.0}}]
    new = [{"via": "kafka", "cpu": {"api": 2.0}}, {"via": "rest", "cpu": {"api": 4.0}}]
    assert [row.split(" | ")[0] for row in rows(ratios([(old, new)]))] == ["| 1: cpu api", "| 2: cpu api"]


def test_a_constant_figure_is_omitted() -> None:
    run = {"webhooks": 100, "doubled": 0}
    assert rows(ratios([([run], [run])])) == []


def test_a_figure_of_one_commit_only_is_omitted() -> None:
    assert rows(ratios([([{"new": 1}], [{"newer": 1}])])) == []


def test_a_zero_has_no_ratio() -> None:
    assert rows(ratios([([{"doubled": 0}], [{"doubled": 2}])])) == ["| doubled | 0 (n=1) | 2 (n=1) | – |"]
