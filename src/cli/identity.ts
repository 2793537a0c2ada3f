/** `sluice identity`: its commands, and what they print. */
import type { Argv } from "yargs";
import type { HostIdentity } from "../control/host-identity.ts";
import { UblkError } from "../ublk/errors.ts";
import { print, table } from "./output.ts";
import { page, type Act } from "./page.ts";

function withHost<T>(command: Argv<T>): Argv<T & { name: string }> {
  return command.positional("name", { type: "string", demandOption: true, describe: "name of the host" });
}

/** The commands below `sluice identity`. */
export function identityCommands(command: Argv, json: boolean, act: Act): Argv {
  return command
    .usage("$0 identity ACTION")
    .command(
      "show",
      "the name and the fingerprint of this host",
      (show) =>
        page(
          show,
          "identity show",
          [
            "Prints what this host is called and the fingerprint of its key: what other hosts have to be told. The",
            "key is made when it is asked for first.",
          ],
          ["$0 identity show --json", "for a program"],
        ),
      act(async () => {
        const { hostIdentity } = await import("../control/host-identity.ts");
        const identity = await hostIdentity();
        print(json, shownOf(identity), () => table(factsOf(identity)));
      }),
    )
    .command(
      "trust <name> <fingerprint>",
      "take whoever has this key for the host NAME",
      (trust) =>
        page(
          withHost(trust).positional("fingerprint", {
            type: "string",
            demandOption: true,
            describe: "what sluice identity show prints there",
          }),
          "identity trust NAME FINGERPRINT",
          [
            "Pins the key of another host: whoever has it is NAME from then on, for mirrors that name this host. It counts",
            "from the next connection on, also for daemons that run. Get the fingerprint by a way that you trust.",
          ],
          ["$0 identity trust backup $(ssh backup sluice identity show --json | jq -r .fingerprint)", "by SSH"],
        ),
      act(async ({ name, fingerprint }) => {
        const { trustPeer } = await import("../control/peers.ts");
        await trustPeer({ name, fingerprint });
        print(json, { name, fingerprint }, () => `${name} is whoever has the key ${fingerprint}`);
      }),
    )
    .command(
      "list",
      "the hosts that are known here",
      (list) => page(list, "identity list", ["The hosts whose keys are pinned here, with their fingerprints."]),
      act(async () => {
        const { readPeers } = await import("../control/peers.ts");
        const pins = readPeers();
        const rows = pins.map((pin) => [pin.name, pin.fingerprint]);
        print(json, pins, () => table([["NAME", "FINGERPRINT"], ...rows]));
      }),
    )
    .command(
      "forget <name>",
      "know a host no more",
      (forget) =>
        page(withHost(forget), "identity forget NAME", [
          "Takes away the pin of a host. A connection that stands goes on; the next one is refused.",
        ]),
      act(async ({ name }) => {
        const { forgetPeer } = await import("../control/peers.ts");
        await forgetPeer(name);
        print(json, { forgotten: name }, () => `${name} is not known here any more`);
      }),
    )
    .command(
      "new",
      "give this host another key",
      (renew) =>
        page(renew, "identity new [--force]", [
          "Makes a key for this host. One that exists is replaced only with --force: whoever knows this host by it",
          "refuses it until the new one is pinned there, and daemons here have the old one until their next start.",
        ]).option("force", { type: "boolean", default: false, describe: "replace the key that there is" }),
      act(async ({ force }) => {
        const { hasIdentity, hostIdentity, replaceIdentity } = await import("../control/host-identity.ts");
        const isThere = hasIdentity();
        if (isThere && !force) {
          throw new UblkError(
            "EEXIST",
            "this host has a key, which others may know it by: --force replaces it, for good",
          );
        }
        const identity = isThere ? await replaceIdentity() : await hostIdentity();
        print(json, shownOf(identity), () =>
          [table(factsOf(identity)), ...(isThere ? whatNow(identity) : [])].join("\n"),
        );
      }),
    )
    .demandCommand(1, "name an action: show, trust, list, forget or new");
}

/** All but the key. */
function shownOf({ name, fingerprint }: HostIdentity): { readonly name: string; readonly fingerprint: string } {
  return { name, fingerprint };
}

function factsOf({ name, fingerprint }: HostIdentity): [string, string][] {
  return [
    ["name", name],
    ["fingerprint", fingerprint],
    ["at other hosts", `sluice identity trust ${name} ${fingerprint}`],
  ];
}

function whatNow({ name, fingerprint }: HostIdentity): string[] {
  return [
    "",
    "The old key is gone. Now, at each host that knows this one, with the name that it has there:",
    `  sluice identity forget ${name} && sluice identity trust ${name} ${fingerprint}`,
    "and here: start the daemons of mirrored volumes, and sluice receive, again.",
  ];
}
