/**
 * The smallest app that a deploy can start: answers /health, and ends in order when it is asked to.
 */
import { createServer } from "node:http";

const port = Number(process.env.PORT ?? 3000);
const host = process.env.HOST ?? "127.0.0.1";

const server = createServer((request, response) => {
  const isHealth = request.url === "/health";
  response.writeHead(isHealth ? 200 : 404, { "content-type": "application/json" });
  response.end(JSON.stringify(isHealth ? { status: "ok" } : { status: "not found" }));
});

server.listen(port, host, () => console.log(`app: listening on port ${port}, process ${process.pid}`));

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.once(signal, () => {
    console.log(`app: ${signal}, closing`);
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}
