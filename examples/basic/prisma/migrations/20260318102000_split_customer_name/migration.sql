-- AlterTable
ALTER TABLE "Customer" ADD COLUMN "givenName" TEXT,
ADD COLUMN "familyName" TEXT;

-- The last word is the family name; a single word is a given name
UPDATE "Customer"
SET "givenName" = regexp_replace(trim("name"), '\s+\S+$', ''),
    "familyName" = coalesce(substring(trim("name") FROM '\s+(\S+)$'), '');

-- AlterTable
ALTER TABLE "Customer" ALTER COLUMN "givenName" SET NOT NULL,
ALTER COLUMN "familyName" SET NOT NULL,
DROP COLUMN "name";
