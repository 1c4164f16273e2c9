import { Module } from "@nestjs/common";
import { HealthController } from "./health.controller.js";
import { NotesController } from "./notes.controller.js";
import { PrismaService } from "./prisma.service.js";

@Module({ controllers: [HealthController, NotesController], providers: [PrismaService] })
export class AppModule {}
