-- Retail analytics: one wide fact table in the order of time, and its dimensions.
SELECT setseed(0.17);

CREATE TABLE dates (
    id integer PRIMARY KEY, day date NOT NULL, week integer NOT NULL, month integer NOT NULL,
    quarter integer NOT NULL, year integer NOT NULL, is_holiday boolean NOT NULL
);
INSERT INTO dates
SELECT n, date '2023-01-01' + n, extract(week FROM date '2023-01-01' + n),
       extract(month FROM date '2023-01-01' + n), extract(quarter FROM date '2023-01-01' + n),
       extract(year FROM date '2023-01-01' + n), n % 40 = 0
  FROM generate_series(0, 1250) AS n;

CREATE TABLE stores (
    id integer PRIMARY KEY, name text NOT NULL, city text NOT NULL, region text NOT NULL,
    opened_on date NOT NULL
);
INSERT INTO stores
SELECT n, 'Store ' || n, 'City ' || n % 60, 'Region ' || n % 9, date '2015-01-01' + n * 7
  FROM generate_series(1, 400) AS n;

CREATE TABLE products (
    id integer PRIMARY KEY, sku text NOT NULL, name text NOT NULL, brand text NOT NULL,
    category text NOT NULL, price_cents integer NOT NULL, launched_on date NOT NULL
);
INSERT INTO products
SELECT n, 'SKU-' || n, 'Product ' || md5(n::text), 'Brand ' || floor(300 * power(random(), 2)),
       'Category ' || n % 25, 100 + n % 20000, date '2020-01-01' + n % 1800
  FROM generate_series(1, 40000) AS n;

CREATE TABLE customers (
    id integer PRIMARY KEY, email text NOT NULL, segment text NOT NULL, city text NOT NULL,
    born_on date, joined_on date NOT NULL
);
INSERT INTO customers
SELECT n, 'c' || n || '@shop.example', (ARRAY['new', 'loyal', 'vip', 'gone'])[
           CASE WHEN n % 50 = 0 THEN 3 ELSE 1 + n % 2 + 2 * (n % 7 = 0)::integer END],
       'City ' || n % 60, CASE WHEN n % 3 > 0 THEN date '1950-01-01' + n % 20000 END,
       date '2018-01-01' + n % 3000
  FROM generate_series(1, 120000) AS n;

CREATE TABLE sales (
    id bigint PRIMARY KEY, date_id integer NOT NULL, store_id integer NOT NULL,
    product_id integer NOT NULL, customer_id integer, promotion_id integer,
    quantity integer NOT NULL, amount_cents integer NOT NULL, discount_cents integer NOT NULL,
    sold_at timestamptz NOT NULL, channel text NOT NULL
);
INSERT INTO sales
SELECT n, n / 1200, 1 + floor(400 * power(random(), 2))::integer,
       1 + floor(40000 * power(random(), 3))::integer,
       CASE WHEN random() < 0.7 THEN 1 + floor(120000 * random())::integer END,
       CASE WHEN random() < 0.03 THEN 1 + floor(50 * random())::integer END,
       1 + floor(5 * random())::integer, 100 + floor(30000 * random())::integer,
       floor(500 * random())::integer,
       timestamptz '2023-01-01' + n * interval '72 seconds',
       (ARRAY['store', 'web', 'app'])[1 + floor(3 * power(random(), 2))::integer]
  FROM generate_series(1, 1500000) AS n;

CREATE TABLE returns (
    id integer PRIMARY KEY, sale_id bigint NOT NULL, date_id integer NOT NULL,
    reason text NOT NULL, amount_cents integer NOT NULL
);
INSERT INTO returns
SELECT n, 1 + floor(1500000 * random())::bigint, floor(1250 * random())::integer,
       (ARRAY['size', 'broken', 'late', 'other'])[1 + n % 4], 100 + n % 9000
  FROM generate_series(1, 90000) AS n;

CREATE TABLE inventory (
    date_id integer NOT NULL, store_id integer NOT NULL, product_id integer NOT NULL,
    on_hand integer NOT NULL, PRIMARY KEY (store_id, product_id, date_id)
);
INSERT INTO inventory
SELECT 1240 + n % 10, 1 + n / 10 % 400, 1 + n / 4000, (random() * 50)::integer
  FROM generate_series(0, 599999) AS n;

CREATE TABLE promotions (id integer PRIMARY KEY, name text NOT NULL, kind text NOT NULL);
INSERT INTO promotions SELECT n, 'Promotion ' || n, (ARRAY['coupon', 'bundle'])[1 + n % 2]
  FROM generate_series(1, 50) AS n;
