/** Certificates for servers with TLS, made by the real openssl. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryDirectory } from "./cluster.ts";

export interface Certificates {
  /** The server's certificate, for `localhost` only, which is its own root; PEM. */
  readonly server: string;
  readonly key: string;
  readonly rootPath: string;
  /** A root that has nothing to do with the server's certificate. */
  readonly otherRoot: string;
  readonly otherRootPath: string;
}

export function makeCertificates(): Certificates {
  const directory = temporaryDirectory();
  const pathOf = (name: string) => join(directory, name);
  for (const name of ["server", "other"]) {
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"];
    const files = ["-keyout", pathOf(`${name}.key`), "-out", pathOf(`${name}.pem`)];
    const args = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    const { status, stderr } = spawnSync("openssl", [...args, ...subject, ...files], { encoding: "utf8" });
    if (status !== 0) throw new Error(`openssl failed: ${stderr}`);
  }
  return {
    server: readFileSync(pathOf("server.pem"), "utf8"),
    key: readFileSync(pathOf("server.key"), "utf8"),
    rootPath: pathOf("server.pem"),
    otherRoot: readFileSync(pathOf("other.pem"), "utf8"),
    otherRootPath: pathOf("other.pem"),
  };
}
