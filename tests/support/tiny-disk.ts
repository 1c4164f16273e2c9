/** A file system of its own for a server's tablespace or for backups, which fills up soon. Only root may mount one. */
import { spawnSync } from "node:child_process";
import { chmodSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Cluster, temporaryDirectory } from "./cluster.ts";

export interface TinyDisk {
  readonly directory: string;
  /** As `mount` has it, such as `200m`. */
  grow(size: string): void;
}

/** Belongs to the account that the server runs as. Where none can be mounted, nothing is done, and said so. */
export async function onTinyDisk(
  size: string,
  cluster: Cluster,
  act: (disk: TinyDisk) => Promise<void>,
): Promise<void> {
  const directory = join(temporaryDirectory(), "disk");
  spawnSync("mkdir", [directory]);
  chmodSync(dirname(directory), 0o755);
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "tmpfs", directory]);
  if (mounted.status !== 0) {
    console.warn("a full disk is skipped, a tiny file system can't be mounted here");
    return;
  }
  try {
    spawnSync("chown", ["--reference", join(cluster.directory, "data"), directory]);
    await act({ directory, grow: (larger) => void spawnSync("mount", ["-o", `remount,size=${larger}`, directory]) });
  } finally {
    spawnSync("umount", [directory]);
  }
}
