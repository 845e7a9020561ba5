"""The REST API: GET questions to the store, answered as JSON, documented at /api/openapi.json.

It is mounted beside the pages, in the same process. Every answer is JSON, errors included:
`{"error", "field", "hint"}`. Fingerprints are 16 hex digits and queryids are strings, because
a JSON number loses the last digits of a 64-bit one in many clients.
"""

from perfcore.api.operations import OPERATIONS, Operation
from perfcore.api.routing import exception_handlers, routes

__all__ = ["OPERATIONS", "Operation", "exception_handlers", "routes"]
