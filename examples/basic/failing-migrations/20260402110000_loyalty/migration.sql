-- CreateTable
CREATE TABLE "LoyaltyAccount" (
    "customerId" INTEGER NOT NULL,
    "points" INTEGER NOT NULL DEFAULT 0,

    CONSTRAINT "LoyaltyAccount_pkey" PRIMARY KEY ("customerId")
);

-- AddForeignKey
ALTER TABLE "LoyaltyAccount" ADD CONSTRAINT "LoyaltyAccount_customerId_fkey" FOREIGN KEY ("customerId") REFERENCES "Customer"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- Everybody starts with a welcome gift
INSERT INTO "LoyaltyAccount" ("customerId", "points") SELECT "id", 100 FROM "Customer";

-- AlterTable
ALTER TABLE "Customer" ADD COLUMN "loyaltyTier" TEXT NOT NULL;
