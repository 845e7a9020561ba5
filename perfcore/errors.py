"""The errors Perfcore raises on purpose.

    PerfcoreError
    ├── ConfigurationError     a setting is missing, misspelt or ill-typed
    ├── ServerError            the embedded PostgreSQL cannot be prepared, started or stopped
    ├── MigrationError         the store's schema and this program do not fit each other
    ├── StoreUnavailable       the store cannot be reached
    ├── TargetUnavailable      a watched database cannot be reached or lacks a right
    ├── StatementRefused       a statement is not safe to plan or to execute
    ├── PlanningFailed         the planner answered with an error, or not at all
    ├── PlanUnreadable         what was pasted is not a plan, or too large for one
    ├── TrialFailed            a trial in the lab cannot be carried out
    ├── ChangeRefused          an index change must not be made as things stand
    └── DecisionRefused        what a person decided about a suggestion cannot be kept

A message names the thing, shows the value and gives the remedy.
"""


class PerfcoreError(Exception):
    """Perfcore cannot do what was asked."""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip())
        self.hint = hint


class ConfigurationError(PerfcoreError):
    """A setting is missing, misspelt or ill-typed."""


class ServerError(PerfcoreError):
    """The embedded PostgreSQL cannot be prepared, started or stopped."""


class MigrationError(PerfcoreError):
    """The store's schema and this program do not fit each other."""


class StoreUnavailable(PerfcoreError):
    """The store cannot be reached."""


class TargetUnavailable(PerfcoreError):
    """A watched database cannot be reached or lacks a right."""


class StatementRefused(PerfcoreError):
    """The statement is not safe to plan or to execute."""


class PlanningFailed(PerfcoreError):
    """The planner gave no plan for the statement."""


class PlanUnreadable(PerfcoreError, ValueError):
    """What was pasted cannot be read as a plan."""


class TrialFailed(PerfcoreError):
    """The trial in the lab cannot be carried out."""


class ChangeRefused(PerfcoreError):
    """The index change must not be made as things stand."""


class DecisionRefused(PerfcoreError, ValueError):
    """What a person decided about a suggestion cannot be kept."""
