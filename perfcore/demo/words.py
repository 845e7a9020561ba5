"""The words and codes that the shop's data and its visitors have in common."""

from __future__ import annotations

import hashlib

COLORS = (
    "amber", "black", "blue", "bronze", "coral", "cream", "green", "grey",
    "indigo", "ivory", "olive", "orange", "purple", "red", "teal", "white",
)  # fmt: skip
MATERIALS = (
    "acacia", "aluminium", "bamboo", "beech", "brass", "canvas", "ceramic", "cherry", "copper",
    "cork", "cotton", "denim", "enamel", "felt", "glass", "granite", "hemp", "iron", "leather",
    "linen", "marble", "oak", "pewter", "porcelain", "silk", "slate", "steel", "walnut", "wicker",
    "wool",
)  # fmt: skip
NOUNS = (
    "apron", "basket", "bench", "blanket", "board", "bottle", "bowl", "box", "brush", "cabinet",
    "candle", "carafe", "chair", "clock", "coaster", "cushion", "desk", "fork", "frame", "funnel",
    "grater", "hammer", "hook", "jar", "kettle", "knife", "ladder", "lamp", "lantern", "mirror",
    "mug", "notebook", "pan", "pillow", "planter", "plate", "rack", "rug", "saw", "scale",
    "shelf", "spoon", "stool", "table", "teapot", "tongs", "towel", "tray", "vase", "whisk",
)  # fmt: skip
ROOMS = (
    "attic", "balcony", "bath", "bedroom", "garage", "garden", "hall", "kitchen", "nursery",
    "office",
)  # fmt: skip
FIRST_NAMES = (
    "Ada", "Amir", "Ana", "Ben", "Chen", "Dana", "Eli", "Fatima", "Hugo", "Ines", "Ivan", "Jun",
    "Kofi", "Lena", "Maya", "Nils", "Olga", "Priya", "Rosa", "Tom",
)  # fmt: skip
LAST_NAMES = (
    "Abe", "Bauer", "Costa", "Diaz", "Eriksen", "Fischer", "Garcia", "Haas", "Ito", "Jensen",
    "Khan", "Lopez", "Meyer", "Novak", "Okafor", "Petrov", "Quinn", "Rossi", "Silva", "Tanaka",
)  # fmt: skip
BRANDS = 250
# The warehouses in use; the table's statistics date from when there were only 1, 2 and 3.
OPEN_WAREHOUSES = (4, 5, 6)
ORDER_STATUSES = ("pending", "shipped", "delivered", "cancelled", "returned")


def email(customer_id: int) -> str:
    """Return a customer's e-mail address as it was registered, capitals and all.

    >>> email(7)
    'Shopper7@Mail.example'
    """
    return f"Shopper{customer_id}@Mail.example"


def invoice_number(order_id: int) -> str:
    """Return the number on an order's invoice.

    >>> invoice_number(42)
    'INV-000000042'
    """
    return f"INV-{order_id:09d}"


def tracking_code(order_id: int) -> str:
    """Return the carrier's code for the parcel of an order.

    >>> tracking_code(1)
    'PC-c4ca4238a0b9'
    """
    return f"PC-{hashlib.md5(str(order_id).encode(), usedforsecurity=False).hexdigest()[:12]}"
