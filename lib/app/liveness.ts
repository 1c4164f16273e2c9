/** The signs that a deploy is at work, for those who watch the container: the heartbeat file and the probe port. */
import type { Event, Report } from "../events.ts";
import { makeStateFilePath, startHeartbeat } from "./heartbeat.ts";
import { startProbeServer } from "./probe-server.ts";
import { advanceProgress, makeProgress } from "./progress.ts";

export interface LivenessOptions {
  /** Empty: the place that health checks of the same migrations folder look at. */
  readonly stateFile: string;
  readonly migrationsDirectory: string;
  /** 0 for none. */
  readonly probePort: number;
  readonly now: () => Date;
  readonly tell: Report;
}

export interface Liveness {
  observe(event: Event): void;
  /** Takes the file away and gives the port back. Never rejects. */
  stop(): Promise<void>;
}

/** Never throws: a deploy that can't show itself still deploys, and says so. */
export async function startLiveness({ tell, now, ...options }: LivenessOptions): Promise<Liveness> {
  let progress = makeProgress(now());
  const path = options.stateFile === "" ? makeStateFilePath(options.migrationsDirectory) : options.stateFile;
  const heartbeat = startHeartbeat(path, progress, {
    now,
    onProblem: (reason) => tell({ kind: "warning", warning: { about: "state-file", path, reason } }),
  });
  const port = options.probePort;
  const probes =
    port === 0
      ? undefined
      : await startProbeServer(port, () => progress).catch((cause) => {
          const reason = (cause as { code?: string }).code ?? String(cause);
          tell({ kind: "warning", warning: { about: "probe-port", port, reason } });
          return undefined;
        });
  return {
    observe: (event) => {
      progress = advanceProgress(progress, event, now());
      heartbeat.update(progress);
    },
    stop: async () => {
      heartbeat.stop();
      await probes?.close();
    },
  };
}
