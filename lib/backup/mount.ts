/** On which mount a path lies, from the text of `/proc/self/mountinfo`. Pure. */

/** File systems that container engines put together from an image and a layer that is thrown away. */
const LAYERED: readonly string[] = ["overlay", "aufs", "fuse.fuse-overlayfs"];

/**
 * True when the path lies on a container's own layer and not on a volume.
 *
 * @param path absolute and without symbolic links
 * @see man 5 proc, `/proc/[pid]/mountinfo`
 */
export function isMountOfContainer(mountInfo: string, path: string): boolean {
  let longest = "";
  let type = "";
  for (const line of mountInfo.split("\n")) {
    const [before = "", after = ""] = line.split(" - ");
    const mountPoint = decodeOctal(before.split(" ")[4] ?? "");
    // A later mount on the same point covers the earlier one.
    if (mountPoint === "" || !isBelow(path, mountPoint) || mountPoint.length < longest.length) continue;
    longest = mountPoint;
    type = after.split(" ")[0] ?? "";
  }
  return LAYERED.includes(type);
}

function isBelow(path: string, mountPoint: string): boolean {
  return mountPoint === "/" || path === mountPoint || path.startsWith(`${mountPoint}/`);
}

/** Spaces and their like are written as three octal digits. */
function decodeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/gu, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
