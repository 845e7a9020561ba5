"""Performance analytics and tuning for web applications on PostgreSQL.

Importing this package imports nothing else: applications load only
`perfcore.collect`, the dashboard loads the rest.
"""

__version__ = "0.1.0"
