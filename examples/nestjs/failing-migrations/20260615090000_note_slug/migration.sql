-- CreateTable
CREATE TABLE "Tag" (
    "name" TEXT NOT NULL,

    CONSTRAINT "Tag_pkey" PRIMARY KEY ("name")
);

-- AlterTable
ALTER TABLE "Note" ADD COLUMN "slug" TEXT NOT NULL;
