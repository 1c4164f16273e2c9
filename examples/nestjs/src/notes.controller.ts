import { Body, Controller, Get, Post } from "@nestjs/common";
import type { Note } from "./generated/prisma/client.js";
import { PrismaService } from "./prisma.service.js";

@Controller("notes")
export class NotesController {
  constructor(private readonly prisma: PrismaService) {}

  @Get()
  list(): Promise<Note[]> {
    return this.prisma.note.findMany({ orderBy: [{ pinned: "desc" }, { id: "asc" }], take: 100 });
  }

  @Post()
  create(@Body() body: { text?: unknown }): Promise<Note> {
    return this.prisma.note.create({ data: { text: String(body?.text ?? "") } });
  }
}
