import { Controller, Get } from "@nestjs/common";

@Controller("health")
export class HealthController {
  /** Whether this process serves. The database is `health-check`'s question, so that a liveness probe may ask here. */
  @Get()
  read(): { status: "ok" } {
    return { status: "ok" };
  }
}
