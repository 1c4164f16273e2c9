import { defineConfig } from "prisma/config";

export default defineConfig({
  schema: "prisma/schema.prisma",
  migrations: { path: "prisma/migrations" },
  // Not by env(), which wants it to be set: `prisma generate` runs where an image is built, and needs no database.
  datasource: { url: process.env.DATABASE_URL ?? "" },
});
