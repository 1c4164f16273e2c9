/** Fills an empty folder, the argument, with the stand-in for an image with musl: for MUSL_ROOT of the runtimes' tests. */
import { makeStandin } from "./standin.ts";

const [root] = process.argv.slice(2);
if (root === undefined) throw new Error("name an empty folder");
await makeStandin(root);
