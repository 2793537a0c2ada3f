/** The command `sluice`: runs what the command line says, and turns whatever goes wrong into a line and an exit status. */
import { UblkError } from "../ublk/errors.ts";
import { parserFor } from "./commands.ts";
import { complain, EXIT } from "./output.ts";

const words = process.argv.slice(2);
const json = words.includes("--json");

try {
  await parserFor(words, json).parseAsync();
} catch (error) {
  complain(json, error);
  process.exitCode = error instanceof UblkError && error.code === "EUSAGE" ? EXIT.usage : EXIT.failed;
}
