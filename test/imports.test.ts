/**
 * Imports point down only: a folder imports from itself and from what stands below it, and no file imports in a circle. What all
 * commands load is little.
 */
import { readdir, readFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";

const SOURCE = fileURLToPath(new URL("../src", import.meta.url));
/** From the bottom up. */
const LAYERS = ["ublk", "nvram", "targets", "copy", "replication", "control", "cli"];

/** The relative imports of each file, static and dynamic, types included; paths are relative to src/. */
function importsOf(files: ReadonlyMap<string, string>): Map<string, { path: string; typeOnly: boolean }[]> {
  const found = new Map<string, { path: string; typeOnly: boolean }[]>();
  for (const [file, text] of files) {
    const imports = [...text.matchAll(/^(?:import|export) (type )?[^;]*?from "(\.[^"]+)";|import\("(\.[^"]+)"\)/gms)];
    found.set(
      file,
      imports.map(([, typeOnly, from, dynamic]) => ({
        path: join(dirname(file), from ?? dynamic ?? ""),
        // What is imported when it is needed cannot close a circle at load.
        typeOnly: typeOnly !== undefined || dynamic !== undefined,
      })),
    );
  }
  return found;
}

function layerOf(file: string): number {
  return LAYERS.indexOf(file.split("/")[0] ?? "");
}

function upwardImports(files: ReadonlyMap<string, string>): string[] {
  return [...importsOf(files)].flatMap(([file, imports]) =>
    imports
      .filter(({ path }) => layerOf(path) > layerOf(file) || layerOf(path) < 0)
      .map(({ path }) => `${file} imports ${path}`),
  );
}

function circles(files: ReadonlyMap<string, string>): string[] {
  const imports = importsOf(files);
  const done = new Set<string>();
  const found: string[] = [];
  const visit = (file: string, way: readonly string[]): void => {
    if (way.includes(file)) {
      found.push([...way.slice(way.indexOf(file)), file].join(" -> "));
      return;
    }
    if (done.has(file)) return;
    for (const { path, typeOnly } of imports.get(file) ?? []) if (!typeOnly) visit(path, [...way, file]);
    done.add(file);
  };
  for (const file of files.keys()) visit(file, []);
  return found;
}

/** What is loaded with a file, which is one of them. */
function loadedWith(file: string, files: ReadonlyMap<string, string>): Set<string> {
  const imports = importsOf(files);
  const loaded = new Set([file]);
  // A set that grows is gone through to its end.
  for (const each of loaded) {
    for (const { path, typeOnly } of imports.get(each) ?? []) if (!typeOnly) loaded.add(path);
  }
  return loaded;
}

/** Packages, and modules of Node.js, that are loaded with a text. */
function foreignIn(text: string): string[] {
  return [...text.matchAll(/^import (?!type )[^;]*?from "([^."][^"]*)";/gms)].map(([, name]) => name ?? "");
}

async function sources(): Promise<Map<string, string>> {
  const entries = await readdir(SOURCE, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !path.includes("node_modules") && !path.includes("/dist/"));
  return new Map(
    await Promise.all(paths.map(async (path) => [relative(SOURCE, path), await readFile(path, "utf8")] as const)),
  );
}

test("every import points down", async (t) => {
  const files = await sources();
  t.true(files.size > 30);
  t.deepEqual(upwardImports(files), []);
});

test("no imports in a circle", async (t) => {
  t.deepEqual(circles(await sources()), []);
});

test("all commands load what asks a daemon: no addon, no schema, no store, and no more of Node.js than that needs", async (t) => {
  const files = await sources();
  const loaded = loadedWith("cli/main.ts", files);
  t.true(loaded.has("cli/snapshots.ts") && loaded.has("control/client.ts"));
  t.true(loaded.size < 30, [...loaded].join(" "));
  t.false(loaded.has("ublk/native.ts"));
  const foreign = new Set([...loaded].flatMap((file) => foreignIn(files.get(file) ?? "")));
  const wanted = ["node:fs", "node:os", "node:path", "node:timers/promises", "node:util", "yargs"];
  t.deepEqual([...foreign].toSorted(), wanted);
});

test("ublk-ts needs nothing but Node.js", async (t) => {
  const foreign = [...(await sources())]
    .filter(([file]) => file.startsWith("ublk/"))
    .flatMap(([file, text]) => [...text.matchAll(/from "([^."][^"]*)"/g)].map(([, name]) => `${file}: ${name ?? ""}`))
    .filter((line) => !line.includes(": node:"));
  t.deepEqual(foreign, []);
});

test("the check finds an upward import, one of types, a dynamic one, and a circle", (t) => {
  const files = new Map([
    ["ublk/a.ts", 'import { b } from "../targets/b.ts";\n'],
    ["targets/b.ts", 'import type {\n  C,\n} from "../cli/c.ts";\nawait import("../control/d.ts");\n'],
    ["cli/c.ts", 'import { e } from "./e.ts";\n'],
    ["cli/e.ts", 'import { c } from "./c.ts";\n'],
  ]);
  t.deepEqual(upwardImports(files), [
    "ublk/a.ts imports targets/b.ts",
    "targets/b.ts imports cli/c.ts",
    "targets/b.ts imports control/d.ts",
  ]);
  t.deepEqual(circles(files), ["cli/c.ts -> cli/e.ts -> cli/c.ts"]);
  t.deepEqual(loadedWith("targets/b.ts", files), new Set(["targets/b.ts"]));
  t.deepEqual(loadedWith("ublk/a.ts", files), new Set(["ublk/a.ts", "targets/b.ts"]));
  t.deepEqual(foreignIn('import type { A } from "a";\nimport b, {\n  type C,\n} from "b";\n'), ["b"]);
});
