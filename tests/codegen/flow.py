"""The flow of control in machine code (SASS): loops, and loads under way at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

Instruction = tuple[int, str]  # address, text


def successors(body: list[Instruction]) -> list[list[int]]:
    """Of each instruction those that may come next."""
    index = {address: i for i, (address, _) in enumerate(body)}
    result = []
    for i, (_, text) in enumerate(body):
        after = [i + 1] if i + 1 < len(body) else []
        found = re.match(r"(@\S+\s+)?(BRA|JMP|CALL|EXIT|RET|KILL)\b\S*(.*)", text)
        if found is None:
            result.append(after)
            continue
        predicate, opcode, operands = found.groups()
        target = re.search(r"\b0x([0-9a-f]+)$", operands)
        known = (
            target is not None and opcode != "RET" and int(target[1], 16) in index
        )  # where RET leads, a register says
        taken = [index[int(target[1], 16)]] if target and known else []
        # `BRA P1, 0x120` and `BRA.DIV UR4, 0x120` have their condition among the operands.
        surely = not predicate and opcode != "CALL" and "," not in operands
        result.append(taken if surely else taken + after)
    return result


def innermost_loops(following: list[list[int]]) -> list[int | None]:
    """Of each instruction the innermost loop around it, named after the loop's first instruction."""
    loops: list[int | None] = [None] * len(following)

    def mark(nodes: Collection[int]) -> None:
        # A loop is a set of instructions that all reach each other; the loops in it are what remains without its first.
        for component in components(nodes, following):
            if len(component) > 1:  # one alone: the branch to itself that ends every kernel
                first = min(component)
                for i in component:
                    loops[i] = first
                mark(component - {first})

    mark(range(len(following)))
    return loops


def components(nodes: Collection[int], following: list[list[int]]) -> Iterator[set[int]]:
    """Strongly connected components: Tarjan's algorithm, without recursion."""
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    stacked: set[int] = set()
    for root in nodes:
        work = [] if root in order else [root]
        rest = {}
        while work:
            node = work[-1]
            if node not in order:
                order[node] = low[node] = len(order)
                stack.append(node)
                stacked.add(node)
                rest[node] = iter(following[node])
            for then in rest[node]:
                if then not in nodes:
                    continue
                if then not in order:
                    work.append(then)
                    break
                if then in stacked:
                    low[node] = min(low[node], low[then])
            else:
                work.pop()
                if work:
                    low[work[-1]] = min(low[work[-1]], low[node])
                if low[node] == order[node]:
                    component = set()
                    while node not in component:
                        component.add(stack.pop())
                    stacked -= component
                    yield component


def in_flight(body: list[Instruction], following: list[list[int]], loads: dict[int, int | None]) -> int:
    """The most of these loads that are under way at once: issued before what the first of them brings is asked for.

    `loads`: instruction -> loop; only those of the same loop count together.
    """
    most = 0
    for load, loop in loads.items():
        brought = set(range(_destination(body[load][1]), _destination(body[load][1]) + 4))
        seen, work, others = {load}, list(following[load]), set()
        while work:
            i = work.pop()
            if i in seen or brought & _sources(body[i][1]):
                continue
            seen.add(i)
            others.update({i} if i in loads and loads[i] == loop else ())
            work += following[i]
        most = max(most, 1 + len(others))
    return most


def opcode(text: str) -> list[str]:
    """`@P0 LDG.E.128 R4, ...` -> LDG, E, 128"""
    return re.sub(r"^@!?U?P\w+\s+", "", text).split()[0].split(".")


def _destination(text: str) -> int:
    return int(re.search(r"\bR(\d+)", text)[1])  # type: ignore[index]


def _sources(text: str) -> set[int]:
    operands = re.sub(r"^(@\S+\s+)?\S+\s*", "", text)
    if opcode(text)[0] not in ("STG", "STS", "STL", "ST", "RED", "BRA"):
        operands = re.sub(r"^R\d+\b[^,]*,?", "", operands)  # the destination
    return {int(n) for n in re.findall(r"\bR(\d+)", operands)}
