"""N+1 as object mappers make it: the place is the application's line, whatever is in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from flask import Flask, render_template, render_template_string
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from perfcore.collect import PerfcoreMiddleware, PerfcoreWSGIMiddleware, Recorder, watch
from perfcore.collect.batching import Limits
from tests.collect.conftest import Rows
from tests.frameworks.asking import Ask, asgi, wsgi

_CUSTOMERS = 6


class Base(AsyncAttrs, DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"))
    customer: Mapped[Customer] = relationship()


@pytest.fixture
def recorder(make_recorder: Callable[..., Recorder]) -> Recorder:
    return make_recorder(limits=Limits(n_plus_one_ms=0))


@pytest.fixture
def shop(dsn: str) -> Iterator[str]:
    """The DSN of a shop with an order for each customer."""
    dsn = dsn.replace("postgresql:", "postgresql+psycopg:")
    engine = sa.create_engine(dsn)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for number in range(_CUSTOMERS):
            session.add(Order(id=number, customer=Customer(id=number)))
        session.commit()
    yield dsn
    engine.dispose()


def _places(ask: Ask, recorder: Recorder, rows: Rows) -> list[str]:
    """Ask twice, and return where the second request repeated its look-up, and the callers."""
    for _ in range(2):
        assert ask("/orders").status == 200
        assert recorder.flush(20)
    assert recorder.self_errors.value == 0
    found = rows(
        "SELECT location, requests, calls FROM repetitions JOIN statement_texts "
        "USING (fingerprint) WHERE text LIKE '%FROM customers%' AND location <> ''"
    )
    [(place, requests, calls)] = found
    assert (requests, calls) == (1, _CUSTOMERS)
    return [p.rpartition("/")[2] for p in str(place).split(" ← ")]


def _at(function: Any, line: int) -> str:
    code = function.__code__
    return f"test_repetitions.py:{code.co_firstlineno + line} in {code.co_qualname}"


def test_a_lazy_attribute_is_found_in_the_loop_that_reads_it(
    shop: str, recorder: Recorder, rows: Rows
) -> None:
    engine = sa.create_engine(shop)
    watch(engine)
    app = FastAPI()

    @app.get("/orders")
    def orders() -> int:
        with Session(engine) as session:
            total = 0
            for order in session.scalars(sa.select(Order)):
                total += order.customer.id
        return total

    app.add_middleware(PerfcoreMiddleware, recorder=recorder)
    assert _places(asgi(app), recorder, rows) == [_at(orders, 5)]
    engine.dispose()


def test_an_async_session_tells_it_on_both_sides_of_its_greenlet(
    shop: str, recorder: Recorder, rows: Rows
) -> None:
    app = FastAPI()

    @app.get("/orders")
    async def orders(way: str = "") -> int:
        engine = create_async_engine(shop)
        watch(engine)
        total = 0
        async with AsyncSession(engine) as session:
            for order in (await session.scalars(sa.select(Order))).all():
                total += (await order.awaitable_attrs.customer).id
        await engine.dispose()
        return total

    app.add_middleware(PerfcoreMiddleware, recorder=recorder)
    assert _places(asgi(app), recorder, rows) == [_at(orders, 7)]


def test_what_runs_inside_of_the_greenlet_is_nearer(
    shop: str, recorder: Recorder, rows: Rows
) -> None:
    app = FastAPI()

    def total_of(session: Session) -> int:
        orders = session.scalars(sa.select(Order)).all()
        return sum(order.customer.id for order in orders)

    @app.get("/orders")
    async def orders() -> int:
        engine = create_async_engine(shop)
        watch(engine)
        async with AsyncSession(engine) as session:
            total = await session.run_sync(total_of)
        await engine.dispose()
        return total

    app.add_middleware(PerfcoreMiddleware, recorder=recorder)
    here, caller = _places(asgi(app), recorder, rows)
    assert here == _at(total_of, 2) + ".<locals>.<genexpr>"
    assert caller == _at(total_of, 2)


@pytest.mark.parametrize("in_a_file", [False, True])
def test_a_template_is_a_place_or_leads_to_the_view_that_renders_it(
    shop: str, recorder: Recorder, rows: Rows, tmp_path: Path, in_a_file: bool
) -> None:
    engine = sa.create_engine(shop)
    watch(engine)
    app = Flask(__name__, template_folder=str(tmp_path))
    source = "{% for o in found %}{{ o.customer.id }}{% endfor %}"
    (tmp_path / "orders.html").write_text(source)

    @app.get("/orders")
    def orders() -> str:
        with Session(engine) as session:
            found = session.scalars(sa.select(Order)).all()
            if in_a_file:
                return render_template("orders.html", found=found)
            return render_template_string(source, found=found)

    app.wsgi_app = PerfcoreWSGIMiddleware(app.wsgi_app, recorder=recorder)  # type: ignore[method-assign]
    expected = "orders.html in root" if in_a_file else _at(orders, 6)
    assert _places(wsgi(app), recorder, rows) == [expected]
    engine.dispose()
