.PHONY: demo test format

demo: .venv/.installed
	@.venv/bin/python -m perfcore demo

test: .venv/.installed-dev
	@.ci/system-packages postgresql-15 postgresql-15-hypopg chromium strace pgbouncer
	@.ci/check

format: .venv/.installed-dev
	.venv/bin/ruff format . && .venv/bin/ruff check --fix .

.venv/.installed: requirements.txt
	@.ci/environment requirements.txt && touch $@

.venv/.installed-dev: requirements-dev.txt requirements.txt
	@.ci/environment requirements-dev.txt && touch $@ .venv/.installed
