"""The ASGI entry: one process serves the pages and the API.

`streamlit run app.py`, `python app.py` and `uvicorn app:app` all start it.
"""

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from perfcore import api
from perfcore.server.web import LoopbackOnly, SecurityHeaders, lifespan, store_engine

app = st.App(
    Path(__file__).parent / "perfcore" / "ui" / "shell.py",
    routes=api.routes(store_engine),
    exception_handlers=api.exception_handlers(),
    lifespan=lifespan,
    middleware=[Middleware(LoopbackOnly), Middleware(SecurityHeaders)],
)

if __name__ == "__main__":
    app.run()
