-- The rows of the shop. Skewed as in life: squaring a random number favours the low ids.

-- step: Filling categories | 1
INSERT INTO public.categories
SELECT n,
       initcap((%(rooms)s::text[])[1 + n %% cardinality(%(rooms)s::text[])]) || ' '
       || (%(nouns)s::text[])[1 + n / cardinality(%(rooms)s::text[])] || 's'
FROM generate_series(1, %(categories)s) AS n;
-- step: Filling suppliers | 1
INSERT INTO public.suppliers
SELECT n, 'SUP-' || lpad(n::text, 6, '0'), 'Supplier ' || n,
       (ARRAY['DE', 'FR', 'IN', 'JP', 'PT', 'US'])[1 + n %% 6]
FROM generate_series(1, %(suppliers)s) AS n;
-- step: Filling customers | 20
INSERT INTO public.customers (id, email, name, country, created_at)
SELECT n, 'Shopper' || n || '@Mail.example',
       (%(first_names)s::text[])[1 + n %% cardinality(%(first_names)s::text[])] || ' '
       || (%(last_names)s::text[])[1 + (n / 20) %% cardinality(%(last_names)s::text[])],
       (ARRAY['DE', 'FR', 'IN', 'JP', 'PT', 'US'])[1 + n %% 6],
       now() - interval '800 days' * (1 - n::float8 / %(customers)s)
FROM generate_series(1, %(customers)s) AS n;
-- step: Filling products | 60
INSERT INTO public.products
    (id, category_id, supplier_id, title, description, attributes, price_cents, stock)
SELECT n, 1 + n %% %(categories)s, 1 + n %% %(suppliers)s,
       initcap(color) || ' ' || material || ' ' || noun,
       'A ' || color || ' ' || material || ' ' || noun || ', made for the '
       || (%(rooms)s::text[])[1 + n %% cardinality(%(rooms)s::text[])]
       || ' and finished by hand. It lasts for years, cleans with a damp cloth and comes with '
       || 'everything needed to put it up.',
       jsonb_build_object('color', color, 'material', material, 'brand', 1 + (n * 7) %% %(brands)s,
                          'size', (ARRAY['S', 'M', 'L', 'XL'])[1 + n %% 4]),
       300 + n * 37 %% 19700, 5 + n %% 500
FROM (
    SELECT n,
           (%(colors)s::text[])[1 + floor(random() * cardinality(%(colors)s::text[]))] AS color,
           (%(materials)s::text[])
               [1 + floor(random() * cardinality(%(materials)s::text[]))] AS material,
           (%(nouns)s::text[])[1 + floor(random() * cardinality(%(nouns)s::text[]))] AS noun
    FROM generate_series(1, %(products)s) AS n
) AS words;
-- step: Filling orders | 50
INSERT INTO public.orders
    (id, customer_id, status, source, total_cents, note, created_at, closed_at)
SELECT n, 1 + floor(%(customers)s * power(random(), 2)),
       CASE WHEN open THEN 'pending'
            ELSE (ARRAY['delivered', 'delivered', 'delivered', 'delivered', 'delivered',
                        'delivered', 'shipped', 'shipped', 'cancelled', 'returned'])
                 [1 + floor(random() * 10)] END,
       (ARRAY['web', 'web', 'app', 'phone'])[1 + n %% 4],
       500 + floor(random() * 40000), NULL, at,
       CASE WHEN NOT open THEN at + interval '2 days' * random() END
FROM (
    SELECT n, n > %(orders)s * 0.995 AS open,
           now() - interval '400 days' * (1 - n::float8 / %(orders)s) AS at
    FROM generate_series(1, %(orders)s) AS n
) AS numbered;
-- step: Filling order items | 130
INSERT INTO public.order_items (id, order_id, product_id, quantity, unit_price_cents)
SELECT n, 1 + (n - 1)::bigint * %(orders)s / %(order_items)s,
       1 + floor(%(products)s * power(random(), 2)), 1 + n %% 3, 300 + n %% 19700
FROM generate_series(1, %(order_items)s) AS n;
-- step: Filling payments | 30
INSERT INTO public.payments (id, order_id, provider, state, amount_cents, created_at)
SELECT id, id, (ARRAY['card', 'transfer', 'wallet'])[1 + id %% 3],
       CASE WHEN closed_at IS NULL THEN 'open' ELSE 'paid' END, total_cents, created_at
FROM public.orders;
-- step: Filling invoices | 30
INSERT INTO public.invoices (id, order_id, number, issued_at)
SELECT id, id, 'INV-' || lpad(id::text, 9, '0'), created_at FROM public.orders;
-- step: Filling shipments | 35
INSERT INTO public.shipments (id, order_id, tracking_code, carrier, shipped_at)
SELECT id, id, 'PC-' || left(md5(id::text), 12),
       (ARRAY['courier', 'post', 'pickup'])[1 + id %% 3], closed_at
FROM public.orders WHERE closed_at IS NOT NULL;
-- step: Filling reviews | 35
INSERT INTO public.reviews (id, product_id, customer_id, rating, body, created_at)
SELECT n, 1 + floor(%(products)s * power(random(), 2)), 1 + floor(%(customers)s * random()),
       1 + floor(random() * 5),
       (ARRAY['Just as described.', 'Arrived late, but well packed.', 'I would buy it again.',
              'Smaller than it looks in the pictures.'])[1 + n %% 4],
       now() - interval '400 days' * (1 - n::float8 / %(reviews)s)
FROM generate_series(1, %(reviews)s) AS n;
-- step: Filling wishlists | 15
INSERT INTO public.wishlist_items (id, customer_id, product_id, added_at)
SELECT n, 1 + floor(%(customers)s * random()), 1 + floor(%(products)s * random()),
       now() - interval '200 days' * random()
FROM generate_series(1, %(wishlist_items)s) AS n;
-- step: Filling carts | 2
INSERT INTO public.cart_items (customer_id, product_id, quantity)
SELECT n, 1 + (n * 31) %% %(products)s, 1 + n %% 3 FROM generate_series(1, %(cart_items)s) AS n;
-- step: Filling stock movements | 2
INSERT INTO public.stock_movements (warehouse_id, supplier_code, product_id, quantity, moved_at)
SELECT 1 + n %% 3, 'SUP-' || lpad((1 + n %% %(suppliers)s)::text, 6, '0'),
       1 + n %% %(products)s, n %% 40, now() - interval '400 days'
FROM generate_series(1, %(stock_movements)s / 10) AS n;
-- Its statistics stay as they are here: three warehouses, a tenth of the rows.
-- step: Filling stock movements | 1
ANALYZE public.stock_movements;
-- step: Filling stock movements | 8
INSERT INTO public.stock_movements (warehouse_id, supplier_code, product_id, quantity, moved_at)
SELECT 4 + n %% 3, 'SUP-' || lpad((1 + n %% %(suppliers)s)::text, 6, '0'),
       1 + n %% %(products)s, n %% 40, now() - interval '100 days' * random()
FROM generate_series(1, %(stock_movements)s - %(stock_movements)s / 10) AS n;
