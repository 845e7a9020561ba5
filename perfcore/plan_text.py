"""EXPLAIN's text format, read into the object that FORMAT JSON would have given.

Columns decide what belongs to what: a node hangs below the nearest line above whose arrow
stands further left, a property belongs to the node above it. So a plan survives psql's frame,
a lost first space and the quotes of a copied cell.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Raw = dict[str, Any]

_IDENTIFIER = r'"(?:[^"]|"")*"|[^\s".()]+'
_COST = r"\(cost=(?P<startup>[\d.]+)\.\.(?P<total>[\d.]+) rows=(?P<rows>\d+) width=(?P<width>\d+)\)"
_ACTUAL = (
    r"\((?:actual (?:time=(?P<first>[\d.]+)\.\.(?P<last>[\d.]+) )?rows=(?P<got>[\d.]+) "
    r"loops=(?P<loops>\d+)|(?P<never>never executed))\)"
)
_NUMBERS = re.compile(rf"(?:{_COST})?\s*(?:{_ACTUAL})?")
_SOME_NUMBERS = re.compile(rf"{_COST}|{_ACTUAL}")
_BEGIN_OF_NUMBERS = re.compile(r"\((?:cost=|actual |never executed\))")
_WORKER_ACTUAL = re.compile(r"actual (?:time=([\d.]+)\.\.([\d.]+) )?rows=([\d.]+) loops=(\d+)\s*$")
_ARROW = re.compile(r"(\s*)->\s+(.*)$")
_PROPERTY = re.compile(r"\s*([A-Z][\w/ -]{0,60}?):(?:\s+(.*))?$")
_LABEL = re.compile(r"\s*((?:InitPlan|SubPlan) \d+(?: \(returns [^)]*\))?|CTE \S.*)$")
_WORKER = re.compile(r"(\s*)Worker (\d+):\s*(.*)$")
_TARGET = re.compile(r"\s*(?:Foreign )?(?:Insert|Update|Delete|Merge) on (.*)$")
_TRIGGER = re.compile(
    r"\s*Trigger (?:(?P<name>for constraint )?(?P<what>.{1,200}?))"
    r"(?: for constraint (?P<other>.{1,200}?))?(?: on (?P<table>.{1,200}?))?: "
    r"(?:time=(?P<time>[\d.]+) )?calls=(?P<calls>[\d.]+)\s*$"
)
_JOIN = re.compile(
    r"(?:(Nested Loop)(?: (\w+(?: \w+)?) Join)?|(Merge|Hash)(?: (\w+(?: \w+)?))? Join)$"
)
_AGGREGATES = {
    "Aggregate": "Plain", "GroupAggregate": "Sorted", "HashAggregate": "Hashed",
    "MixedAggregate": "Mixed",
}  # fmt: skip
_WITHOUT_NUMBERS = re.compile(
    r"\s*(?:->\s+)?(?:Parallel |Async |Partial |Finalize )*(?:"
    r"(?:Seq|Index|Index Only|Bitmap Heap|Tid|Tid Range|Sample|Foreign|Function|CTE|Values|"
    r"Subquery|WorkTable|Named Tuplestore|Table Function) Scan\b|Nested Loop|(?:Merge|Hash) .*Join|"
    r"(?:Insert|Update|Delete|Merge) on \S+|Limit$|Sort$|Incremental Sort$|Unique$|Append$|"
    r"Merge Append$|Result$|ProjectSet$|Gather|(?:Group|Hash|Mixed)?Aggregate$|Group$|WindowAgg$|"
    r"Materialize$|Memoize$|LockRows$|(?:Hash)?SetOp|Recursive Union$|Custom Scan)"
)
_WHOLE = re.compile(
    r"Rows Removed by .*|Heap Fetches|Workers (?:Planned|Launched)|Planned Partitions|"
    r"Subplans Removed|Index Searches|Tuples Inserted|Conflicting Tuples|Query Identifier"
)
_FLAGS = {"Inner Unique", "Single Copy", "Disabled", "Async Capable"}
_LISTS = {"Output", "Sort Key", "Presorted Key", "Group Key", "Conflict Arbiter Indexes"}
_MILLISECONDS = {"Planning Time", "Execution Time", "Total runtime"}


@dataclass
class _Reader:
    """The document so far, and where the next line may belong."""

    document: Raw = field(default_factory=dict)
    stack: list[tuple[int, Raw]] = field(default_factory=list)  # column of the arrow, node
    label: str = ""  # the subplan's name that stands above the next node
    section: Raw | None = None  # a worker, JIT or Planning: what is indented below goes there
    section_column: int = 0
    last: tuple[Raw, str] | None = None  # the property that a line without a key goes on
    root_column: int = 0

    def take(self, line: str) -> None:
        column = len(line) - len(line.lstrip())
        if arrow := _ARROW.match(line):
            self.add_node(len(arrow[1]), arrow[2])
        elif not self.stack:
            self.add_node(column, line.strip())
            self.root_column = column
        elif label := _LABEL.match(line):
            self.pop(column)
            self.label = label[1].strip()
        elif worker := _WORKER.match(line):
            self.add_worker(len(worker[1]), int(worker[2]), worker[3])
        elif target := _TARGET.match(line):
            self.node.setdefault("Target Tables", []).append(_relation(target[1]))
        elif trigger := _TRIGGER.match(line):
            self.document.setdefault("Triggers", []).append(_trigger(trigger))
        else:
            self.add_line(column, line)

    @property
    def node(self) -> Raw:
        return self.stack[-1][1]

    def pop(self, column: int) -> None:
        while len(self.stack) > 1 and self.stack[-1][0] >= column:
            self.stack.pop()

    def add_node(self, column: int, text: str) -> None:
        node = read_node(text)
        self.section = self.last = None
        if not self.stack:
            self.document["Plan"] = node
        else:
            self.pop(column)
            parent = self.node
            siblings = parent.setdefault("Plans", [])
            node["Parent Relationship"] = _relationship(parent, siblings, self.label)
            if self.label:
                node["Subplan Name"] = self.label
            siblings.append(node)
        self.label = ""
        self.stack.append((column, node))

    def add_worker(self, column: int, number: int, text: str) -> None:
        workers = self.node.setdefault("Workers", [])
        worker: Raw = next((w for w in workers if w["Worker Number"] == number), {})
        if not worker:
            worker["Worker Number"] = number
            workers.append(worker)
        self.section, self.section_column = worker, column
        if actual := _WORKER_ACTUAL.match(text):
            worker.update(_actual(actual[1], actual[2], actual[3], actual[4]))
        elif text:
            self.add_line(column + 1, text)

    def add_line(self, column: int, line: str) -> None:
        found = _PROPERTY.match(line)
        if not found:
            if self.last and line.strip() and isinstance(self.last[0].get(self.last[1]), str):
                self.last[0][self.last[1]] += "\n" + line[min(column, self.root_column) :]
            return
        key, value = found[1], (found[2] or "").strip()
        if self.section is not None and column <= self.section_column:
            self.section = None
        if key in ("JIT", "Planning") and not value:
            owner = self.document if self.section is None else self.section
            self.section = owner.setdefault(key, {})
            self.section_column = column
        elif key in _MILLISECONDS:
            name = "Execution Time" if key == "Total runtime" else key
            if found := re.match(r"[\d.]+", value):
                self.document[name] = _number(found[0])
        elif key == "Settings" and column <= self.root_column + 1:
            self.document[key] = _settings(value)
        elif key in ("Query Identifier", "Serialization"):
            self.document[key] = _number(value)
        else:
            self.add_property(self.node if self.section is None else self.section, key, value)

    def add_property(self, owner: Raw, key: str, value: str) -> None:
        self.last = (owner, key)
        if key in ("Group Key", "Hash Key") and (key in owner or "Grouping Sets" in owner):
            sets = owner.setdefault("Grouping Sets", [])
            if not sets and key in owner:
                sets.append({key + "s": [owner.pop(key)]})
            sets.append({key + "s": [split_list(value)]})
        elif reader := _READERS.get(key):
            owner.update(reader(value))
        elif _WHOLE.fullmatch(key) and re.fullmatch(r"[\d.]+", value):
            owner[key] = _number(value)
        elif key in _FLAGS:
            owner[key] = value == "true"
        elif key in _LISTS:
            owner[key] = split_list(value)
        else:
            owner[key] = value


def read_text(lines: list[str]) -> Raw | None:
    """Return EXPLAIN's object from lines of the text format, None where they hold no plan.

    What stands before the first node and after a second plan's first line is left out.
    """
    start = _start(lines)
    if start is None:
        return None
    reader = _Reader()
    for number, line in enumerate(lines[start:]):
        column = len(line) - len(line.lstrip())
        is_root = column <= reader.root_column and "(cost=" in line and "->" not in line
        if number and is_root and not _PROPERTY.match(line):
            break
        if line.strip():
            reader.take(line)
    return reader.document


def _start(lines: list[str]) -> int | None:
    """Return the first line that is a node: by its numbers, else by its name."""
    for number, line in enumerate(lines):
        if _SOME_NUMBERS.search(line) and not line.lstrip().startswith("Worker "):
            return number
    return next((n for n, line in enumerate(lines) if _WITHOUT_NUMBERS.match(line)), None)


def read_node(text: str) -> Raw:
    """Return what one line of a node says, under the names of FORMAT JSON."""
    begin = _BEGIN_OF_NUMBERS.search(text)
    numbers = _NUMBERS.match(text, begin.start()) if begin else None
    node = _head(text[: begin.start()].strip() if begin else text.strip())
    if numbers and numbers["total"]:
        node |= {
            "Startup Cost": float(numbers["startup"]), "Total Cost": float(numbers["total"]),
            "Plan Rows": int(numbers["rows"]), "Plan Width": int(numbers["width"]),
        }  # fmt: skip
    if numbers and numbers["never"]:
        node |= _actual("0", "0", "0", "0")
    elif numbers and numbers["loops"]:
        node |= _actual(numbers["first"], numbers["last"], numbers["got"], numbers["loops"])
    return node


def _actual(first: str | None, last: str | None, rows: str, loops: str) -> Raw:
    times = {"Actual Startup Time": float(first), "Actual Total Time": float(last)} if (
        first is not None and last is not None
    ) else {}  # fmt: skip
    return {**times, "Actual Rows": float(rows) if "." in rows else int(rows),
            "Actual Loops": int(loops)}  # fmt: skip


def _head(head: str) -> Raw:
    """Return the node type and its objects."""
    node: Raw = {}
    for word, key in (("Async ", "Async Capable"), ("Parallel ", "Parallel Aware")):
        if head.startswith(word):
            head, node[key] = head.removeprefix(word), True
    partial = re.match(r"(Partial|Finalize) (?=\w*Aggregate)", head)
    if partial:
        head = head[partial.end() :]
    if head in _AGGREGATES:
        return node | {
            "Node Type": "Aggregate", "Strategy": _AGGREGATES[head],
            "Partial Mode": partial[1] if partial else "Simple",
        }  # fmt: skip
    if join := _JOIN.match(head):
        kind = join[1] or f"{join[3]} Join"
        return node | {"Node Type": kind, "Join Type": join[2] or join[4] or "Inner"}
    if change := re.match(r"(Foreign )?(Insert|Update|Delete|Merge) on (.*)$", head):
        kind = "Foreign Scan" if change[1] else "ModifyTable"
        return node | {"Node Type": kind, "Operation": change[2]} | _relation(change[3])
    if set_operation := re.match(r"(Hash)?SetOp\s*(.*)$", head):
        strategy = "Hashed" if set_operation[1] else "Sorted"
        return node | {
            "Node Type": "SetOp", "Strategy": strategy, "Command": set_operation[2],
        }  # fmt: skip
    if custom := re.match(r"Custom Scan \((.*?)\)(?: on (.*))?$", head):
        of = _relation(custom[2]) if custom[2] else {}
        return node | {"Node Type": "Custom Scan", "Custom Plan Provider": custom[1]} | of
    index = re.match(rf"(Index(?: Only)? Scan)( Backward)? using ({_IDENTIFIER}) on (.*)$", head)
    if index:
        return node | {
            "Node Type": index[1], "Scan Direction": "Backward" if index[2] else "Forward",
            "Index Name": unquoted(index[3]), **_relation(index[4]),
        }  # fmt: skip
    if scan := re.match(r"(.+? Scan)(?: on (.*))?$", head):
        reading = {"Operation": "Select"} if scan[1] == "Foreign Scan" else {}
        return node | {"Node Type": scan[1], **reading, **_scanned(scan[1], scan[2] or "")}
    return node | {"Node Type": head}


def _scanned(kind: str, words: str) -> Raw:
    if not words:
        return {}
    if kind == "Bitmap Index Scan":
        return {"Index Name": unquoted(words)}
    if kind in ("Subquery Scan", "Values Scan"):
        return {"Alias": unquoted(words)}
    found = _relation(words)
    for scan, key in (
        ("Function Scan", "Function Name"), ("Table Function Scan", "Table Function Name"),
        ("CTE Scan", "CTE Name"), ("WorkTable Scan", "CTE Name"),
        ("Named Tuplestore Scan", "Tuplestore Name"),
    ):  # fmt: skip
        if kind == scan:
            found[key] = found.pop("Relation Name", "")
    return found


def _relation(words: str) -> Raw:
    """Return the table in `schema.table alias`, quoted where SQL would quote it."""
    found = re.match(rf"(?:({_IDENTIFIER})\.)?({_IDENTIFIER})(?:\s+({_IDENTIFIER}))?", words)
    if not found:
        return {"Relation Name": words}
    name = unquoted(found[2])
    schema = {"Schema": unquoted(found[1])} if found[1] else {}
    return {"Relation Name": name, **schema, "Alias": unquoted(found[3]) if found[3] else name}


def unquoted(name: str) -> str:
    """Return an identifier as the catalogue has it.

    >>> unquoted('"Or""der"'), unquoted("orders")
    ('Or"der', 'orders')
    """
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def split_list(text: str) -> list[str]:
    """Return the items of a list of expressions: commas in brackets or quotes part nothing.

    >>> split_list("a, (b || ', '::text), f(x, y) DESC")
    ['a', "(b || ', '::text)", 'f(x, y) DESC']
    """
    items, depth, start = [], 0, 0
    for token in re.finditer(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[(\[]|[)\]]|, ", text):
        if token[0] in "([":
            depth += 1
        elif token[0] in ")]":
            depth -= 1
        elif token[0] == ", " and depth == 0:
            items.append(text[start : token.start()])
            start = token.end()
    return [*items, text[start:]]


def _relationship(parent: Raw, siblings: list[Raw], label: str) -> str:
    if label:
        return "SubPlan" if label.startswith("SubPlan") else "InitPlan"
    kind = parent["Node Type"]
    if kind in ("Append", "Merge Append", "BitmapAnd", "BitmapOr"):
        return "Member"
    if kind == "Subquery Scan":
        return "Subquery"
    is_second = any(s["Parent Relationship"] == "Outer" for s in siblings)
    return "Inner" if is_second else "Outer"


def _trigger(found: re.Match[str]) -> Raw:
    constraint = found["what"] if found["name"] else found["other"]
    name = "" if found["name"] else found["what"]
    trigger: Raw = {"Trigger Name": name} if name else {}
    if constraint:
        trigger["Constraint Name"] = constraint
    if found["table"]:
        trigger["Relation"] = found["table"]
    if found["time"]:
        trigger["Time"] = float(found["time"])
    return trigger | {"Calls": int(float(found["calls"]))}


def _settings(text: str) -> dict[str, str]:
    pairs = re.findall(r"([\w.]+) = '((?:[^']|'')*)'", text)
    return {name: value.replace("''", "'") for name, value in pairs}


def _pattern(pattern: str, *names: str) -> Callable[[str], Raw]:
    """Return a reader of numbers by a pattern, each group under its name."""
    compiled = re.compile(pattern)

    def read(text: str) -> Raw:
        found = compiled.match(text)
        groups = found.groups() if found else ()
        return {n: _number(g) for n, g in zip(names, groups, strict=False) if g is not None}

    return read


def _number(text: str) -> Any:
    """Return the number that the text is, or the text."""
    if re.fullmatch(r"-?\d{1,19}", text):
        return int(text)
    return float(text) if re.fullmatch(r"\d+\.\d+", text) else text


def _buffers(text: str) -> Raw:
    return {
        f"{part[0].title()} {name.title()} Blocks": int(number)
        for part in re.findall(r"(shared|local|temp)((?: \w+=\d+)+)", text)
        for name, number in re.findall(r"(\w+)=(\d+)", part[1])
    }


def _io_timings(text: str) -> Raw:
    """Return the times; before PostgreSQL 17 those of shared and local blocks were one."""
    found: Raw = {}
    for place, times in re.findall(
        r"(?:(shared/local|shared|local|temp) )?((?:\w+=[\d.]+ ?)+)", text
    ):
        prefix = f"{place.title()} " if place in ("shared", "local", "temp") else ""
        for name, number in re.findall(r"(read|write)=([\d.]+)", times):
            found[f"{prefix}I/O {name.title()} Time"] = float(number)
    return found


def _sort_groups(name: str) -> Callable[[str], Raw]:
    def read(text: str) -> Raw:
        count, _, rest = text.partition("  ")
        methods = re.match(r"Sort Methods?: (.*?)  ", rest + "  ")
        group: Raw = {"Group Count": _number(count.strip())}
        if methods:
            group["Sort Methods Used"] = methods[1].split(", ")
        for kind, average, peak in re.findall(
            r"Average (Memory|Disk): (\d+)kB  Peak (?:Memory|Disk): (\d+)kB", rest
        ):
            group[f"Sort Space {kind}"] = {
                "Average Sort Space Used": int(average), "Peak Sort Space Used": int(peak),
            }  # fmt: skip
        return {name: group}

    return read


def _sort_method(text: str) -> Raw:
    found = re.match(r"(.*?)\s+(Memory|Disk): (\d+)kB", text)
    if not found:
        return {"Sort Method": text}
    return {
        "Sort Method": found[1], "Sort Space Used": int(found[3]), "Sort Space Type": found[2],
    }  # fmt: skip


def _batches(text: str) -> Raw:
    return _pattern(
        r"(\d+)(?:\s+Memory Usage: (\d+)kB)?(?:\s+Disk Usage: (\d+)kB)?",
        "HashAgg Batches", "Peak Memory Usage", "Disk Usage",
    )(text)  # fmt: skip


def _planned_partitions(text: str) -> Raw:
    number, _, rest = text.partition("  Batches: ")
    return {"Planned Partitions": int(number), **(_batches(rest) if rest else {})}


def _storage(text: str) -> Raw:
    found = re.match(r"(\w+)\s+Maximum Storage: (\d+)kB", text)
    return {"Storage": found[1], "Maximum Storage": int(found[2])} if found else {"Storage": text}


def _heap_blocks(text: str) -> Raw:
    return {f"{k.title()} Heap Blocks": int(n) for k, n in re.findall(r"(exact|lossy)=(\d+)", text)}


def _wal(text: str) -> Raw:
    names = {"records": "WAL Records", "fpi": "WAL FPI", "bytes": "WAL Bytes"}
    return {names[k]: int(n) for k, n in re.findall(r"(records|fpi|bytes)=(\d+)", text)}


def _jit_options(text: str) -> Raw:
    return {"Options": {k: v == "true" for k, v in re.findall(r"(\w+) (true|false)", text)}}


def _jit_timing(text: str) -> Raw:
    times: Raw = {}
    for name, time, deform in re.findall(r"(\w+) ([\d.]+) ms(?: \(Deform ([\d.]+) ms\))?", text):
        times[name] = {"Deform": float(deform), "Total": float(time)} if deform else float(time)
    return {"Timing": times}


_READERS: dict[str, Callable[[str], Raw]] = {
    "Sort Method": _sort_method,
    "Full-sort Groups": _sort_groups("Full-sort Groups"),
    "Pre-sorted Groups": _sort_groups("Pre-sorted Groups"),
    "Buckets": _pattern(
        r"(\d+)(?: \(originally (\d+)\))?\s+Batches: (\d+)(?: \(originally (\d+)\))?"
        r"\s+Memory Usage: (\d+)kB",
        "Hash Buckets", "Original Hash Buckets", "Hash Batches", "Original Hash Batches",
        "Peak Memory Usage",
    ),
    "Batches": _batches,
    "Planned Partitions": _planned_partitions,
    "Hits": _pattern(
        r"(\d+)\s+Misses: (\d+)\s+Evictions: (\d+)\s+Overflows: (\d+)\s+Memory Usage: (\d+)kB",
        "Cache Hits", "Cache Misses", "Cache Evictions", "Cache Overflows", "Peak Memory Usage",
    ),
    "Storage": _storage,
    "Heap Blocks": _heap_blocks,
    "Buffers": _buffers,
    "I/O Timings": _io_timings,
    "WAL": _wal,
    "Functions": _pattern(r"(\d+)", "Functions"),
    "Options": _jit_options,
    "Timing": _jit_timing,
    "Memory": _pattern(r"used=(\d+)kB\s+allocated=(\d+)kB", "Memory Used", "Memory Allocated"),
}  # fmt: skip
