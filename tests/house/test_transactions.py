"""Within a transaction nothing but its own connection is waited for: no broker, no sleep, no second connection."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCKS = {"transaction", "reading", "apart"}


def test_a_transaction_waits_for_its_own_queries_alone() -> None:
    waits = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node).splitlines()[0]}"
        for folder in ("streams", "api")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for held, name in transactions(ast.parse(path.read_text()))
        for node in ast.walk(held)
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith)
        and node is not held
        and not names(node, name)
        # It waits for nothing: other tasks have a turn.
        and ast.unparse(node) != "await asyncio.sleep(0)"
    ]
    assert waits == []


def transactions(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Each part of a module that holds a connection, and its name there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncWith):
            for item in node.items:
                opened = item.context_expr
                if isinstance(opened, ast.Call) and getattr(opened.func, "attr", "") in BLOCKS:
                    yield node, ast.unparse(item.optional_vars) if item.optional_vars else ""
        elif isinstance(node, ast.AsyncFunctionDef):
            yield from ((node, one.arg) for one in node.args.args if is_connection(one))


def is_connection(argument: ast.arg) -> bool:
    return argument.annotation is not None and ast.unparse(argument.annotation) == "AsyncConnection"


def names(node: ast.AST, name: str) -> bool:
    """Whether what is waited for uses the connection."""
    waited = {ast.Await: "value", ast.AsyncFor: "iter"}.get(type(node))
    parts = [getattr(node, waited)] if waited else [item.context_expr for item in getattr(node, "items", [])]
    return any(isinstance(one, ast.Name) and one.id == name for part in parts for one in ast.walk(part))
