"""Every statement the shop sends, with bound parameters as an ordinary application writes them."""

from __future__ import annotations

from sqlalchemy import text

NEWEST_IDS = text(
    "SELECT (SELECT max(id) FROM customers) AS customers, (SELECT max(id) FROM products) AS "
    "products, (SELECT max(id) FROM orders) AS orders, (SELECT max(id) FROM reviews) AS reviews"
)

# Asked by every visitor, the same for all of them, and changed by nobody for hours.
CATEGORY_COUNTS = text("""
    SELECT c.id, c.name, count(p.id) AS products
    FROM categories c LEFT JOIN products p ON p.category_id = c.id
    GROUP BY c.id, c.name ORDER BY c.name
""")
CATEGORY = text("SELECT id, name FROM categories WHERE id = :id")
CATEGORY_PRODUCTS = text("""
    SELECT id, title, price_cents FROM products WHERE category_id = :category_id
    ORDER BY id LIMIT 25
""")
# Sent once for each product of a listing.
PRODUCT_RATING = text("""
    SELECT count(*) AS reviews, avg(rating) AS rating FROM reviews WHERE product_id = :product_id
""")

PRODUCT = text("""
    SELECT p.id, p.title, p.description, p.attributes, p.price_cents, p.stock, s.name AS supplier
    FROM products p JOIN suppliers s ON s.id = p.supplier_id WHERE p.id = :id
""")
PRODUCTS_BY_ATTRIBUTES = text("""
    SELECT id, title, price_cents FROM products
    WHERE attributes @> CAST(:attributes AS jsonb) ORDER BY price_cents LIMIT 40
""")
PRODUCTS_BY_TEXT = text("""
    SELECT id, title, price_cents FROM products
    WHERE description ILIKE :pattern ORDER BY price_cents LIMIT 40
""")
REVIEWS_PAGE = text("""
    SELECT id, product_id, customer_id, rating, body, created_at FROM reviews
    ORDER BY created_at DESC, id DESC LIMIT 20 OFFSET :offset
""")
ADD_REVIEW = text("""
    INSERT INTO reviews (product_id, customer_id, rating, body)
    VALUES (:product_id, :customer_id, :rating, :body) RETURNING id
""")

CUSTOMER = text("SELECT id, email, name, country, created_at FROM customers WHERE id = :id")
CUSTOMER_BY_EMAIL = text("""
    SELECT id, email, name, country, created_at FROM customers WHERE lower(email) = lower(:email)
""")
ADD_CUSTOMER = text("""
    INSERT INTO customers (email, name, country) VALUES (:email, :name, :country)
    ON CONFLICT (email) DO NOTHING RETURNING id
""")
CUSTOMER_ORDERS = text("""
    SELECT id, status, total_cents, created_at, closed_at FROM orders
    WHERE customer_id = :customer_id AND status = :status ORDER BY created_at DESC LIMIT 20
""")
CART = text("""
    SELECT c.product_id, c.quantity, p.title, p.price_cents
    FROM cart_items c JOIN products p ON p.id = c.product_id WHERE c.customer_id = :customer_id
""")
ADD_TO_CART = text("""
    INSERT INTO cart_items (customer_id, product_id, quantity)
    VALUES (:customer_id, :product_id, :quantity)
    ON CONFLICT (customer_id, product_id)
    DO UPDATE SET quantity = cart_items.quantity + excluded.quantity
""")
EMPTY_CART = text("DELETE FROM cart_items WHERE customer_id = :customer_id")

ORDER = text("""
    SELECT id, customer_id, status, total_cents, created_at, closed_at FROM orders WHERE id = :id
""")
ORDER_ITEMS = text("""
    SELECT i.product_id, i.quantity, i.unit_price_cents, p.title
    FROM order_items i JOIN products p ON p.id = i.product_id WHERE i.order_id = :order_id
""")
INVOICE = text("""
    SELECT v.number, v.issued_at, i.product_id, i.quantity, i.unit_price_cents
    FROM invoices v JOIN order_items i ON i.order_id = v.order_id WHERE v.number = :number
""")
SHIPMENT = text("""
    SELECT order_id, carrier, shipped_at FROM shipments WHERE tracking_code = :tracking_code
""")
FULFILMENT_QUEUE = text("""
    SELECT id, customer_id, total_cents, created_at FROM orders
    WHERE closed_at IS NULL ORDER BY created_at LIMIT 50
""")
PRICES = text("SELECT id, price_cents FROM products WHERE id = ANY(:ids)")
ADD_ORDER = text("""
    INSERT INTO orders (customer_id, status, source, total_cents)
    VALUES (:customer_id, :status, :source, :total_cents) RETURNING id
""")
ADD_ORDER_ITEM = text("""
    INSERT INTO order_items (order_id, product_id, quantity, unit_price_cents)
    VALUES (:order_id, :product_id, :quantity, :unit_price_cents)
""")
ADD_INVOICE = text("INSERT INTO invoices (order_id, number) VALUES (:order_id, :number)")
ADD_PAYMENT = text("""
    INSERT INTO payments (order_id, provider, state, amount_cents)
    VALUES (:order_id, :provider, :state, :amount_cents)
""")
PAY = text("UPDATE payments SET state = :state WHERE order_id = :order_id")
TAKE_STOCK = text("UPDATE products SET stock = stock - :quantity WHERE id = :id")
CLOSE_ORDER = text("""
    UPDATE orders SET status = :status, closed_at = now() WHERE id = :id AND closed_at IS NULL
""")
ADD_SHIPMENT = text("""
    INSERT INTO shipments (order_id, tracking_code, carrier)
    VALUES (:order_id, :tracking_code, :carrier)
""")

CUSTOMER_VALUE = text("""
    SELECT customer_id, id AS order_id, running_cents
    FROM (SELECT customer_id, id, sum(total_cents)
                 OVER (PARTITION BY customer_id ORDER BY created_at, id) AS running_cents
          FROM orders WHERE created_at >= :since) AS running
    ORDER BY running_cents DESC LIMIT 20
""")
UNWISHED_PRODUCTS = text("""
    SELECT id, title, price_cents FROM products
    WHERE id NOT IN (SELECT product_id FROM wishlist_items) ORDER BY id LIMIT 50
""")
WAREHOUSE_SUPPLIERS = text("""
    SELECT s.name, sum(m.quantity) AS quantity
    FROM stock_movements m JOIN suppliers s ON s.code = m.supplier_code
    WHERE m.warehouse_id = :warehouse_id GROUP BY s.name ORDER BY quantity DESC LIMIT 20
""")
