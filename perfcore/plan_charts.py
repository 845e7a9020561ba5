"""Plans to Plotly figures, as plain dicts: where the time goes, step by step.

A figure's vertical unit is the pixel, its texts stand at pixels from its left edge, and what
they may take of it is reckoned for the narrowest place that it is shown in: so nothing overlaps
at any width. Plans come from anywhere: every name and condition in them is escaped, because
Plotly reads texts as a kind of HTML.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from perfcore import plan_words
from perfcore.fitting import amount, fit, kb, ms, percent, plain, unwrapped, width
from perfcore.plan import Plan, PlanNode
from perfcore.plan_details import details, own_blocks
from perfcore.plan_shares import Share, shares
from perfcore.plan_shares import is_timed as is_timed
from perfcore.types import TimeRange

Figure = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of a theme: texts at least 4.5:1 on its background, marks at least 3:1."""

    ink: str
    muted: str
    alert: str
    line: str
    track: str
    band: str
    paper: str
    heats: tuple[str, str, str, str] = ("#e5484d", "#e0742b", "#c98a0c", "#6b8ab0")
    kept: str = "#12a06a"
    badge: str = "#c2410c"
    use: str = "#3b82f6"


LIGHT = Palette(
    ink="#0f172a",
    muted="#5b6779",
    alert="#b8400b",
    line="#b6c0ce",
    track="rgba(132,145,165,0.18)",
    band="rgba(59,130,246,0.11)",
    paper="#ffffff",
)
DARK = Palette(
    ink="#e2e8f0",
    muted="#9fb0c7",
    alert="#f7a072",
    line="#4a5a75",
    track="rgba(132,145,165,0.22)",
    band="rgba(59,130,246,0.22)",
    paper="#1a2438",
)
# A step with this share of the whole, or more, has the heat of the same place.
_HEAT_FROM = (0.4, 0.15, 0.05, 0.0)


# Where the drawing is shown at its narrowest: half of a page of 1440 px, or one of 900 px.
NARROWEST_PX = 466
_NUMBERS_PX = 138  # the column of shares at the right
_LEFT_PX = 12
_STEP_PX = 18  # indentation of a level, less where the levels are many
_ALL_STEPS_PX = 150
_TITLE_PX, _LINE_PX, _GAP_PX, _QUIET_PX = 19, 16, 12, 21
_HEAD_PX = 24
_TITLE_SIZE, _LINE_SIZE = 13.5, 12
_BADGE_PX = 17
_RATIO_PX = 56
# From this many nodes on, steps that take next to nothing are drawn on one line.
_MANY_NODES = 25
_QUIET_SHARE = 0.005
_MISESTIMATE = 10.0
_MOST_MARKS = 4


@dataclass(slots=True)
class _Line:
    text: str  # escaped
    is_title: bool = False
    kept: float | None = None  # draws a bar of rows kept and removed before the text


@dataclass(slots=True)
class _Row:
    """A node as it will be drawn."""

    node: PlanNode
    depth: int
    share: Share
    numbers: list[int]  # of what is said of it
    is_quiet: bool
    is_short: bool  # its conditions take one line each
    is_cut: bool  # a LIMIT above did not want all of its rows
    left: float  # px: where its dot stands
    top: float = 0.0  # px below the figure's top
    lines: list[_Line] = field(default_factory=list)

    @property
    def words_left(self) -> float:
        return self.left + 12 + _BADGE_PX * len(self.numbers) + (3 if self.numbers else 0)

    @property
    def height(self) -> float:
        if self.is_quiet:
            return _QUIET_PX
        return max(_TITLE_PX + _LINE_PX * (len(self.lines) - 1), 34) + _GAP_PX

    @property
    def dot_y(self) -> float:
        return self.top + (_QUIET_PX if self.is_quiet else _TITLE_PX) / 2


def plan_tree(
    plan: Plan,
    *,
    palette: Palette = LIGHT,
    marks: Mapping[int, Sequence[int]] | None = None,
    chosen: int | None = None,
    width_px: int = NARROWEST_PX,
) -> Figure:
    """Return the plan as a tree of steps, each with its own share of the time or the cost.

    A node is named by its place in `walk()`: `marks` are the numbers that stand at it, `chosen`
    is highlighted, and it is the point of that number in the first trace. Texts are cut to what
    a figure of `width_px` has room for.
    """
    rows = _rows(plan, marks or {}, palette, width_px)
    height = rows[-1].top + rows[-1].height
    shapes: list[dict[str, Any]] = []
    notes = _head(plan, palette)
    for place, row in enumerate(rows):
        if place == chosen:
            shapes += _highlight(row, palette)
        shapes += [*_bar(row, palette), _dot(row, palette), *_ratio_bars(row, palette)]
        notes += [*_words(row, palette), *_number_words(row, plan, palette)]
        for n, number in enumerate(row.numbers):
            x = row.left + 12 + _BADGE_PX * n + _BADGE_PX / 2 - 1
            shapes.append(_circle(x, row.dot_y, 7.5, palette.badge))
            notes.append(_note(x, row.dot_y, str(number), 11, "#ffffff", anchor="center"))
    return {
        "data": [_hover(plan, rows, palette)],
        "layout": {
            "height": height,
            "margin": {"l": 0, "r": 0, "t": 0, "b": 0, "pad": 0},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "showlegend": False,
            "bargap": 0,
            "xaxis": {"visible": False, "fixedrange": True, "range": [0, 1]},
            "yaxis": {"visible": False, "fixedrange": True, "range": [-height, 0]},
            "annotations": notes,
            "shapes": _connectors(rows, palette) + shapes,
            "dragmode": False,
            "hovermode": "closest",
            "hoverlabel": _hover_look(palette),
        },
    }


def _hover_look(palette: Palette) -> dict[str, Any]:
    return {
        "align": "left",
        "bgcolor": palette.paper,
        "bordercolor": palette.line,
        "font": {"size": 12, "color": palette.ink},
    }


def _rows(
    plan: Plan, marks: Mapping[int, Sequence[int]], palette: Palette, width_px: int
) -> list[_Row]:
    walked = list(plan.root.walk())
    deepest = max(depth for depth, _ in walked)
    step = min(_STEP_PX, _ALL_STEPS_PX / max(1, deepest))
    top: float = _HEAD_PX
    rows: list[_Row] = []
    trail: list[_Row] = []
    for place, ((depth, node), share) in enumerate(zip(walked, shares(plan), strict=True)):
        numbers = list(marks.get(place, ()))[:_MOST_MARKS]
        is_short = len(walked) > _MANY_NODES and share.part < _HEAT_FROM[1] and not numbers
        is_quiet = is_short and share.part < _QUIET_SHARE
        del trail[depth:]
        is_cut = bool(trail) and _cuts(trail[-1])
        left = _LEFT_PX + step * depth
        row = _Row(node, depth, share, numbers, is_quiet, is_short, is_cut, left, top)
        row.lines = _lines(row, palette, width_px)
        rows.append(row)
        trail.append(row)
        top += row.height
    return rows


# These read all that lies below them, however few of their own rows are wanted.
_READ_ALL = {"Sort", "Hash", "Aggregate", "WindowAgg", "SetOp", "ModifyTable", "Bitmap Heap Scan"}


def _cuts(above: _Row) -> bool:
    """Say whether a step may leave its child before the child's last row."""
    kind = above.node.node_type
    return kind == "Limit" or (above.is_cut and kind not in _READ_ALL)


def _lines(row: _Row, palette: Palette, width_px: int) -> list[_Line]:
    """Return the node's words: the first two lines leave room for the share at their right."""
    beside = width_px - _NUMBERS_PX - row.words_left - 14
    below = width_px - row.words_left - 6
    node = row.node
    first, named = _title_line(node, palette, beside, is_quiet=row.is_quiet)
    lines = [_Line(first, is_title=True)]
    if row.is_quiet:
        return lines
    if node.index and not named:
        lines.append(_Line("using " + html.escape(fit(node.index, beside - 34, _LINE_SIZE))))
    for text in _packed(_facts(row, palette), beside):
        lines.append(_Line(text))
    for name, text in plan_words.conditions(node)[:3]:
        rooms = [below if len(lines) + n >= 2 else beside for n in range(1 if row.is_short else 2)]
        lines += [_Line(t) for t in _wrapped(f"{name}:", text, rooms)]
    lines += _removed(node)
    return lines


def _title_line(
    node: PlanNode, palette: Palette, room: float, *, is_quiet: bool
) -> tuple[str, bool]:
    """Return the node's name and what it works on, and whether its index is part of it."""
    name, what = plan_words.title(node), plan_words.subject(node)
    prefix = str(node.properties.get("Subplan Name", ""))
    room -= width(name, _TITLE_SIZE) * 1.06
    text = f"<b>{html.escape(plain(name))}</b>"
    if prefix:
        prefix = fit(prefix, 120, _TITLE_SIZE) + ": "
        room -= width(prefix, _TITLE_SIZE)
        text = _coloured(palette.muted, html.escape(prefix)) + text
    if is_quiet:
        rows = f"  {amount(node.rows_out)} rows"
        room -= width(rows, _LINE_SIZE)
        if width(what, _TITLE_SIZE) > room:
            what = node.relation or what
        short = html.escape(fit(what, max(40.0, room), _TITLE_SIZE))
        return f"{text} {short}{_coloured(palette.muted, rows, 12)}", True
    if what:
        text += " " + html.escape(fit(what, max(60.0, room - 4), _TITLE_SIZE))
    with_index = f" using {plain(node.index)}" if node.index else ""
    if with_index and width(f"{what}{with_index}", _TITLE_SIZE) <= room - 8:
        return text + _coloured(palette.muted, html.escape(with_index), 12), True
    return text, False


def _facts(row: _Row, palette: Palette) -> list[tuple[str, str]]:
    """Return (plain, marked up) what is to be known of a step's rows, loops, blocks and disk."""
    node = row.node
    facts = [_rows_fact(node, palette, is_cut=row.is_cut)]
    if node.loops is not None and node.loops > 1:
        facts.append(_same(f"{node.loops:,} loops"))
    if node.workers_planned:
        launched = f"{node.workers_launched} of " if node.loops is not None else ""
        facts.append(_same(f"{launched}{node.workers_planned} workers"))
    hit, read = own_blocks(node, "shared_hit_blocks"), own_blocks(node, "shared_read_blocks")
    if hit or read:
        facts.append(_same(f"{hit:,} blocks hit" + (f", {read:,} read" if read else "")))
    if spilled := spill_words(node):
        facts.append((spilled, f"<b>{_coloured(palette.alert, spilled)}</b>"))
    if node.heap_fetches:
        facts.append(_same(f"{amount(node.heap_fetches)} heap fetches"))
    if node.lossy_heap_blocks:
        facts.append(_same(f"{node.lossy_heap_blocks:,} lossy blocks"))
    return facts


def _rows_fact(node: PlanNode, palette: Palette, *, is_cut: bool) -> tuple[str, str]:
    expected = amount(node.plan_rows)
    if node.loops == 0:
        return _same("never executed")
    if node.actual_rows is None:
        return _same(f"{expected} {_rows_word(node.plan_rows)} expected")
    text = f"{expected} → {amount(node.actual_rows)} {_rows_word(node.actual_rows)}"
    factor = node.misestimate or 1.0
    if factor < _MISESTIMATE or (is_cut and not node.is_underestimated):
        return _same(text)
    text += f" {'▲' if node.is_underestimated else '▼'} {amount(factor)}×"
    return text, f"<b>{_coloured(palette.alert, text)}</b>"


def _rows_word(count: float) -> str:
    return "row" if amount(count) == "1" else "rows"


def spill_words(node: PlanNode) -> str:
    """Return what a step wrote to disk for want of memory, empty where it did not."""
    temp = own_blocks(node, "temp_written_blocks") * 8
    if node.sort_is_on_disk:
        return f"{kb(node.sort_space_kb)} sorted on disk"
    if node.hash_batches > 1:
        size = node.disk_kb or temp
        return f"{node.hash_batches} batches" + (f", {kb(size)} on disk" if size else "")
    return f"{kb(temp)} on disk" if temp else ""


def _removed(node: PlanNode) -> list[_Line]:
    """Return how many rows each kind of filter kept, as a ratio to draw and in words."""
    lines = []
    for removed, what in (
        (node.rows_removed_by_filter, "filter"),
        (node.rows_removed_by_join_filter, "join filter"),
        (node.rows_removed_by_recheck, "recheck"),
    ):
        if removed >= 1:
            kept = node.rows_out / (node.rows_out + removed)
            text = f"keeps {percent(kept)}, {amount(removed)} removed by {what}"
            lines.append(_Line(text, kept=kept))
    return lines


def _head(plan: Plan, palette: Palette) -> list[dict[str, Any]]:
    if is_timed(plan):
        whole = plan.execution_ms if plan.execution_ms is not None else plan.root.total_ms
        told = f"own time, of {ms(whole or 0.0)}"
        rows = "rows per loop: expected → actual"
    else:
        told, rows = f"own cost, of {amount(plan.total_cost)}", "not executed: planner's estimates"
        if plan.root.actual_rows is not None:
            rows = "executed, its steps not timed · rows per loop: expected → actual"
    return [
        _note(0, 8, rows, 11.5, palette.muted),
        _note(0, 8, told, 11.5, palette.muted, anchor="right"),
    ]


def _words(row: _Row, palette: Palette) -> list[dict[str, Any]]:
    notes = []
    y = row.top
    ink = palette.muted if row.node.loops == 0 else palette.ink
    for line in row.lines:
        tall = _QUIET_PX if row.is_quiet else _TITLE_PX if line.is_title else _LINE_PX
        x = row.words_left + (_RATIO_PX + 7 if line.kept is not None else 0)
        size, colour = (_TITLE_SIZE, ink) if line.is_title else (_LINE_SIZE, palette.muted)
        notes.append(_note(x, y + tall / 2, line.text, size, colour))
        y += tall
    return notes


def _number_words(row: _Row, plan: Plan, palette: Palette) -> list[dict[str, Any]]:
    """Return the node's share in numbers, at the right edge."""
    if row.node.loops == 0:
        return []
    own = _own(row.share, is_timed(plan))
    colour = palette.ink if row.share.part >= _HEAT_FROM[2] else palette.muted
    strong = f"<b>{percent(row.share.part)}</b> · " if row.share.part >= 0.005 else ""
    return [_note(0, row.dot_y, strong + own, 12.5, colour, anchor="right")]


def _bar(row: _Row, palette: Palette) -> list[dict[str, Any]]:
    """Return the track and on it the node's share, below its numbers."""
    if row.is_quiet or row.node.loops == 0:
        return []
    y, full = row.top + _TITLE_PX + 4, _NUMBERS_PX
    track = _box(-full, 0, y, y + 8, palette.track, right=True)
    if row.share.part < 0.002:
        return [track]
    reached = -full + max(2.0, full * min(1.0, row.share.part))
    return [track, _box(-full, reached, y, y + 8, heat(row.share.part, palette), right=True)]


def _ratio_bars(row: _Row, palette: Palette) -> list[dict[str, Any]]:
    """Return for each filter a thin bar: what it kept, then what it threw away."""
    shapes = []
    y = row.top
    for line in row.lines:
        tall = _TITLE_PX if line.is_title else _LINE_PX
        if line.kept is not None:
            x, middle = row.words_left, y + tall / 2
            split = x + max(2.0 if line.kept else 0.0, _RATIO_PX * line.kept)
            shapes.append(_box(x, split, middle - 4, middle + 4, palette.kept))
            shapes.append(_box(split, x + _RATIO_PX, middle - 4, middle + 4, palette.line))
        y += tall
    return shapes


def _dot(row: _Row, palette: Palette) -> dict[str, Any]:
    colour = palette.line if row.node.loops == 0 else heat(row.share.part, palette)
    return _circle(row.left, row.dot_y, 3 if row.is_quiet else 5, colour)


def heat(part: float, palette: Palette = LIGHT) -> str:
    """Return the colour of a share of the whole."""
    return next(c for least, c in zip(_HEAT_FROM, palette.heats, strict=True) if part >= least)


def _highlight(row: _Row, palette: Palette) -> list[dict[str, Any]]:
    top, bottom = -(row.top - 5), -(row.top + row.height - 7)
    band = {
        "type": "rect", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": top, "y1": bottom,
        "fillcolor": palette.band, "line": {"width": 0}, "layer": "below",
    }  # fmt: skip
    return [band, _box(0, 3, -top, -bottom, palette.badge)]


def _connectors(rows: Sequence[_Row], palette: Palette) -> list[dict[str, Any]]:
    """Return for each node with children the line down from it that branches to each of them."""
    shapes = []
    trail: list[_Row] = []
    children: dict[int, list[_Row]] = {}
    for row in rows:
        del trail[row.depth :]
        if trail:
            children.setdefault(id(trail[-1]), []).append(row)
        trail.append(row)
    for row in rows:
        if below := children.get(id(row)):
            x = row.left
            path = f"M{x},{-row.dot_y} V{-below[-1].dot_y}"
            path += "".join(f" M{x},{-c.dot_y} H{c.left}" for c in below)
            shapes.append(
                {
                    "type": "path", "path": path, "xref": "paper", "xsizemode": "pixel",
                    "xanchor": 0, "yref": "y", "layer": "below",
                    "line": {"color": palette.line, "width": 1.5},
                }
            )  # fmt: skip
    return shapes


def _hover(plan: Plan, rows: Sequence[_Row], palette: Palette) -> dict[str, Any]:
    """Return an unseen bar over each node's rectangle that tells everything of it."""
    return {
        "type": "bar",
        "orientation": "h",
        "x": [1.0] * len(rows),
        "y": [-(row.top + row.height / 2 - 5) for row in rows],
        "width": [row.height for row in rows],
        "marker": {"color": "rgba(0,0,0,0)", "line": {"width": 0}},
        "hoverinfo": "text",
        "hovertext": [details(row.node, row.share, plan) for row in rows],
        "textposition": "none",
        "selected": {"marker": {"opacity": 1}},
        "unselected": {"marker": {"opacity": 1}},
    }


def plan_icicle(plan: Plan, *, palette: Palette = LIGHT) -> Figure:
    """Return the plan as an icicle: each step as wide as it takes with its children."""
    walked = list(plan.root.walk())
    parts = shares(plan)
    deepest = max(depth for depth, _ in walked)
    trail: list[int] = []
    parents = []
    for place, (depth, _) in enumerate(walked):
        del trail[depth:]
        parents.append(str(trail[-1]) if trail else "")
        trail.append(place)
    return {
        "data": [
            {
                "type": "icicle",
                "ids": [str(n) for n in range(len(walked))],
                "parents": parents,
                "labels": [_icicle_label(node) for _, node in walked],
                "text": [f"{percent(p.part)} own" for p in parts],
                "values": [p.own for p in parts],
                "branchvalues": "remainder",
                "textinfo": "label+text",
                "hoverinfo": "text",
                "hovertext": [details(n, p, plan) for (_, n), p in zip(walked, parts, strict=True)],
                "marker": {
                    "colors": [_faded(heat(p.part, palette), 0.34) for p in parts],
                    "line": {"color": palette.line, "width": 1},
                },
                "textfont": {"size": 12, "color": palette.ink},
                "tiling": {"orientation": "v", "pad": 2},
                "pathbar": {"visible": False},
                "root": {"color": "rgba(0,0,0,0)"},
                "sort": False,
            }
        ],
        "layout": {
            "height": 8 + 58 * (deepest + 1),
            "margin": {"l": 0, "r": 0, "t": 4, "b": 4},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "uniformtext": {"minsize": 11, "mode": "hide"},
            "hoverlabel": _hover_look(palette),
        },
    }


def _icicle_label(node: PlanNode) -> str:
    label = f"<b>{html.escape(fit(plan_words.title(node), 160, 12))}</b>"
    what = plan_words.subject(node)
    return label + (f"<br>{html.escape(fit(what, 160, 12))}" if what else "")


def _note(
    x: float, y: float, text: str, size: float, colour: str, *, anchor: str = "left"
) -> dict[str, Any]:
    """Return a text whose middle is `y` px from the top, `x` px from the left or right edge."""
    return {
        "x": 1 if anchor == "right" else 0, "xref": "paper", "xanchor": anchor,
        "xshift": -x if anchor == "right" else x, "y": -y, "yref": "y", "yanchor": "middle",
        "showarrow": False, "borderpad": 0, "align": "left", "text": text,
        "font": {"size": size, "color": colour},
    }  # fmt: skip


def _box(
    x0: float, x1: float, y0: float, y1: float, colour: str, *, right: bool = False
) -> dict[str, Any]:
    """Return a filled rectangle, its sides in px from the left or right edge and from the top."""
    return {
        "type": "rect", "xref": "paper", "xsizemode": "pixel", "xanchor": 1 if right else 0,
        "x0": x0, "x1": x1, "yref": "y", "y0": -y0, "y1": -y1, "fillcolor": colour,
        "line": {"width": 0},
    }  # fmt: skip


def _circle(x: float, y: float, radius: float, colour: str) -> dict[str, Any]:
    return _box(x - radius, x + radius, y - radius, y + radius, colour) | {"type": "circle"}


def _same(text: str) -> tuple[str, str]:
    return text, html.escape(text)


def _packed(facts: Sequence[tuple[str, str]], room: float) -> list[str]:
    """Return the facts on as few lines as hold them."""
    lines: list[str] = []
    used = 0.0
    for text, marked in facts:
        size = width(f" · {text}", _LINE_SIZE)
        if lines and used + size <= room:
            lines[-1] += f" · {marked}"
            used += size
        else:
            lines.append(marked)
            used = size
    return lines


def _wrapped(label: str, text: str, rooms: Sequence[float]) -> list[str]:
    """Return a condition on as many lines as there are rooms, the last one cut if need be."""
    words = f"{label} {unwrapped(plain(text))}".split(" ")
    lines: list[str] = []
    for n, room in enumerate(rooms):
        line = words.pop(0) if words else ""
        if n == len(rooms) - 1:
            line = " ".join([line, *words])
            words = []
        while words and width(f"{line} {words[0]}", _LINE_SIZE) <= room:
            line += f" {words.pop(0)}"
        if not line:
            break
        lines.append(html.escape(fit(line, room, _LINE_SIZE, middle=False)))
    return lines


def _coloured(colour: str, marked: str, size: float | None = None) -> str:
    small = f";font-size:{size}px" if size else ""
    return f'<span style="color:{colour}{small}">{marked}</span>'


def _faded(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def _own(share: Share, timed: bool) -> str:
    return ms(share.own) if timed else f"cost {amount(share.own)}"


@dataclass(frozen=True, slots=True)
class PlanUse:
    """A time in which a statement had one plan."""

    plan_id: int
    label: str
    seen_from: datetime
    seen_to: datetime
    calls: int
    mean_ms: float  # nan where nothing was counted


_USE_PX, _AXIS_PX = 44, 34


def plan_timeline(
    uses: Sequence[PlanUse],
    *,
    zone: ZoneInfo,
    span: TimeRange,
    chosen: int | None = None,
    palette: Palette = LIGHT,
) -> Figure:
    """Return a line per plan with a bar for each time it was in use; a use is a point.

    Plans are drawn in the order in which they come.
    """
    rows = {plan_id: n for n, plan_id in enumerate(dict.fromkeys(u.plan_id for u in uses))}
    height = _USE_PX * len(rows) + _AXIS_PX
    start, end = (at.astimezone(zone).replace(tzinfo=None) for at in (span.start, span.end))
    least = (end - start) / 200
    begins = [max(start, u.seen_from.astimezone(zone).replace(tzinfo=None)) for u in uses]
    ends = [min(end, u.seen_to.astimezone(zone).replace(tzinfo=None)) for u in uses]
    labels = {u.plan_id: u.label for u in uses}
    notes = []
    for plan_id, n in rows.items():
        text = html.escape(fit(labels[plan_id], NARROWEST_PX - 150, _LINE_SIZE, middle=False))
        strong = f"<b>{text}</b>" if plan_id == chosen else text
        y = _USE_PX * n + 10
        notes.append(_note(0, y, strong, _LINE_SIZE, palette.ink))
        mean = _mean_words([u for u in uses if u.plan_id == plan_id])
        notes.append(_note(0, y, mean, _LINE_SIZE, palette.muted, anchor="right"))
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "y": [-(_USE_PX * rows[u.plan_id] + 28) for u in uses],
                "base": [at.isoformat() for at in begins],
                "x": [
                    max(b - a, least).total_seconds() * 1000
                    for a, b in zip(begins, ends, strict=True)
                ],
                "width": [12] * len(uses),
                "marker": {
                    "color": [
                        palette.use if u.plan_id == chosen else palette.heats[3] for u in uses
                    ],
                    "cornerradius": 3,
                },
                "hoverinfo": "text",
                "hovertext": [_use_words(u, zone) for u in uses],
                "textposition": "none",
                "selected": {"marker": {"opacity": 1}},
                "unselected": {"marker": {"opacity": 1}},
            }
        ],
        "layout": {
            "height": height,
            "margin": {"l": 0, "r": 0, "t": 0, "b": _AXIS_PX, "pad": 0},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "showlegend": False,
            "xaxis": {
                "type": "date", "range": [start.isoformat(), end.isoformat()], "showgrid": True,
                "gridcolor": palette.track, "fixedrange": True, "nticks": 6, "tickangle": 0,
                "tickfont": {"size": 11, "color": palette.muted}, "zeroline": False,
                "automargin": False,
            },
            "yaxis": {
                "visible": False, "fixedrange": True, "range": [-_USE_PX * len(rows), 0],
            },
            "annotations": notes,
            "dragmode": False,
            "hovermode": "closest",
            "hoverlabel": _hover_look(palette),
        },
    }  # fmt: skip


def _mean_words(uses: Sequence[PlanUse]) -> str:
    counted = [u for u in uses if u.calls and not math.isnan(u.mean_ms)]
    calls = sum(u.calls for u in counted)
    if not calls:
        return "no call counted"
    mean = sum(u.calls * u.mean_ms for u in counted) / calls
    return f"<b>{ms(mean)}</b> mean of {amount(calls)} calls"


def _use_words(use: PlanUse, zone: ZoneInfo) -> str:
    first, last = use.seen_from.astimezone(zone), use.seen_to.astimezone(zone)
    lines = [
        f"<b>{html.escape(fit(use.label, 420, 12, middle=False))}</b>",
        f"in use {first:%d %b %H:%M:%S} to {last:%d %b %H:%M:%S}",
    ]
    if use.calls and not math.isnan(use.mean_ms):
        lines.append(f"{amount(use.calls)} calls meanwhile, {ms(use.mean_ms)} mean by the server")
    return "<br>".join(lines)
