-- Keys and indexes, the good ones and the planted ones; what is missing is listed in docs/demo.md.

-- step: Indexing categories | 1
ALTER TABLE public.categories ADD PRIMARY KEY (id);
-- step: Indexing suppliers | 1
ALTER TABLE public.suppliers ADD PRIMARY KEY (id);
-- step: Indexing customers | 6
ALTER TABLE public.customers ADD PRIMARY KEY (id);
-- step: Indexing customers | 12
CREATE UNIQUE INDEX customers_email_key ON public.customers (email);
-- step: Indexing products | 4
ALTER TABLE public.products ADD PRIMARY KEY (id);
-- step: Indexing products | 4
CREATE INDEX products_category_id_idx ON public.products (category_id);
-- step: Indexing orders | 10
ALTER TABLE public.orders ADD PRIMARY KEY (id);
-- step: Indexing orders | 12
CREATE INDEX orders_source_idx ON public.orders (source);
-- step: Indexing order items | 30
ALTER TABLE public.order_items ADD PRIMARY KEY (id);
-- step: Indexing payments | 10
ALTER TABLE public.payments ADD PRIMARY KEY (id);
-- step: Indexing payments | 10
CREATE INDEX payments_order_id_idx ON public.payments (order_id);
-- step: Indexing invoices | 10
ALTER TABLE public.invoices ADD PRIMARY KEY (id);
-- step: Indexing invoices | 12
CREATE UNIQUE INDEX invoices_number_key ON public.invoices (number);
-- step: Indexing shipments | 10
ALTER TABLE public.shipments ADD PRIMARY KEY (id);
-- step: Indexing shipments | 10
CREATE INDEX shipments_order_id_idx ON public.shipments (order_id);
-- step: Indexing reviews | 8
ALTER TABLE public.reviews ADD PRIMARY KEY (id);
-- step: Indexing reviews | 10
CREATE INDEX reviews_created_at_id_idx ON public.reviews (created_at, id);
-- step: Indexing reviews | 10
CREATE INDEX reviews_product_id_idx ON public.reviews (product_id);
-- step: Indexing reviews | 10
CREATE INDEX reviews_product_idx ON public.reviews (product_id);
-- step: Indexing wishlists | 5
ALTER TABLE public.wishlist_items ADD PRIMARY KEY (id);
-- step: Indexing wishlists | 6
CREATE INDEX wishlist_items_product_id_idx ON public.wishlist_items (product_id);
-- step: Indexing carts | 1
ALTER TABLE public.cart_items ADD PRIMARY KEY (customer_id, product_id);
-- step: Indexing stock movements | 3
ALTER TABLE public.stock_movements ADD PRIMARY KEY (id);
-- step: Checking references | 4
ALTER TABLE public.products ADD FOREIGN KEY (category_id) REFERENCES public.categories (id);
-- step: Checking references | 4
ALTER TABLE public.products ADD FOREIGN KEY (supplier_id) REFERENCES public.suppliers (id);
-- step: Checking references | 10
ALTER TABLE public.orders ADD FOREIGN KEY (customer_id) REFERENCES public.customers (id);
-- step: Checking references | 40
ALTER TABLE public.order_items ADD FOREIGN KEY (order_id) REFERENCES public.orders (id);
-- step: Checking references | 40
ALTER TABLE public.order_items ADD FOREIGN KEY (product_id) REFERENCES public.products (id);
-- step: Checking references | 10
ALTER TABLE public.payments ADD FOREIGN KEY (order_id) REFERENCES public.orders (id);
-- step: Checking references | 10
ALTER TABLE public.invoices ADD FOREIGN KEY (order_id) REFERENCES public.orders (id);
-- step: Checking references | 10
ALTER TABLE public.shipments ADD FOREIGN KEY (order_id) REFERENCES public.orders (id);
-- step: Checking references | 10
ALTER TABLE public.reviews ADD FOREIGN KEY (product_id) REFERENCES public.products (id);
-- step: Checking references | 10
ALTER TABLE public.wishlist_items ADD FOREIGN KEY (product_id) REFERENCES public.products (id);
-- Rows counted late would look like rows changed after the analysis.
-- step: Vacuuming and analysing | 1
SELECT pg_catalog.pg_stat_force_next_flush();
-- step: Vacuuming and analysing | 60
VACUUM (ANALYZE) public.categories, public.suppliers, public.customers, public.products,
    public.orders, public.order_items, public.payments, public.invoices, public.shipments,
    public.reviews, public.wishlist_items, public.cart_items;
