INSERT INTO "Customer" ("email", "givenName", "familyName") VALUES
  ('ada@example.com', 'Ada', 'Lovelace'), ('jiwoo@example.com', '지우', '김'), ('alan@example.com', 'Alan', 'Turing');
INSERT INTO "Product" ("name", "priceCents")
  SELECT 'Product ' || number, 100 * number FROM generate_series(1, 50) AS number;
INSERT INTO "Order" ("customerId", "status") SELECT 1 + number % 3, 'PAID' FROM generate_series(1, 200) AS number;
INSERT INTO "OrderItem" ("orderId", "productId", "quantity", "priceCents")
  SELECT number, 1 + number % 50, 1 + number % 4, 100 * (1 + number % 50) FROM generate_series(1, 200) AS number;
