/** Starts the app. `deploy -- node dist/main.js` becomes this process, so that `docker stop` reaches it. */
import "reflect-metadata";
import { NestFactory } from "@nestjs/core";
import { AppModule } from "./app.module.js";

const app = await NestFactory.create(AppModule);
// Close the server and the pool on SIGTERM, then exit: by default Nest would send itself the signal again, which has no
// effect on process 1 of a container.
app.enableShutdownHooks(["SIGTERM", "SIGINT"], { useProcessExit: true });
await app.listen(process.env.PORT ?? 3000, process.env.HOST ?? "0.0.0.0");
console.log(`app: listening at ${await app.getUrl()}, process ${process.pid}`);
