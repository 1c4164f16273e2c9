/** The version of this program, and the commit that it was built from. */
import manifest from "../package.json" with { type: "json" };

/** Put in by the build. */
declare const BUILD_COMMIT: string;

export const VERSION: string = manifest.version;

/** For `--version`: a program that runs from source has its commit beside it. */
export const VERSION_LINE: string = typeof BUILD_COMMIT === "string" ? `${VERSION} (${BUILD_COMMIT})` : VERSION;
