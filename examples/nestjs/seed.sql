INSERT INTO "Note" ("text", "pinned") SELECT 'Note ' || number, number % 10 = 0 FROM generate_series(1, 200) AS number;
