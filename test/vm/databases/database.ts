/**
 * Databases under load, for tests in a guest. Transaction N adds row N to two tables, and writes an older row of both anew:
 * where 1 to N were committed, and none by half, the tables are equal and have the rows 1 to N.
 */
import type { ChildProcessByStdio } from "node:child_process";
import { once } from "node:events";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";

/** A program that reads SQL and prints what it is told to. */
export type Shell = ChildProcessByStdio<Writable, Readable, Readable>;

export interface Database {
  readonly name: string;
  /** Makes it in a directory, with SCHEMA, ready for its shell. */
  create(directory: string): Promise<void>;
  shell(directory: string): Shell;
  /** What a line has to say to the shell, so that it prints these words. */
  say(words: string): string;
  /** Opens a copy, whose directory this is: gives its last transaction. Throws where anything is wrong with it. */
  verify(directory: string): Promise<number>;
  /** Ends what `create` has started. */
  stop(): Promise<void>;
}

export const SCHEMA = ["one", "other"]
  .map((table) => `create table ${table} (n integer primary key, word text not null);`)
  .join(" ");

/** Four numbers, which are equal where no transaction is missing in between, and none is there by half. */
export const REPORT =
  "select count(*) || ' ' || coalesce(max(n), 0) || ' ' || (select count(*) from other)" +
  " || ' ' || (select count(*) from one join other using (n, word)) as report from one";

function transaction(number: number): string {
  const older = 1 + ((Math.imul(number, 0x9e37_79b1) >>> 0) % number);
  const word = `'${String(number).padEnd(200, "-")}'`;
  const changes = ["one", "other"].map(
    (table) =>
      `insert into ${table} values (${number}, ${word}); update ${table} set word = ${word} where n = ${older};`,
  );
  return `begin; ${changes.join(" ")} commit;`;
}

const ACKNOWLEDGED = "acknowledged ";

/** One transaction after the other: the next is begun when the last has been acknowledged. */
export class Load {
  /** The last one that was begun, and the last that is durable by what the database says. */
  begun = 0;
  acknowledged = 0;
  readonly #database: Database;
  readonly #shell: Shell;
  readonly #lines: Interface;
  readonly #ended: Promise<never>;
  #rests = true;

  constructor(database: Database, directory: string) {
    this.#database = database;
    this.#shell = database.shell(directory);
    let complaints = "";
    this.#shell.stderr.setEncoding("utf8").on("data", (text: string) => (complaints += text));
    this.#ended = once(this.#shell, "close").then(() => {
      throw new Error(`the shell of ${database.name} has ended: ${complaints}`);
    });
    this.#ended.catch(() => undefined);
    this.#lines = createInterface(this.#shell.stdout).on("line", (line) => {
      if (line !== `${ACKNOWLEDGED}${this.begun}`) return;
      this.acknowledged = this.begun;
      if (!this.#rests) this.#begin();
    });
  }

  #begin(): void {
    this.begun++;
    const said = this.#database.say(`${ACKNOWLEDGED}${this.begun}`);
    this.#shell.stdin.write(`${transaction(this.begun)}\n${said}\n`);
  }

  async #hears(): Promise<void> {
    await Promise.race([once(this.#lines, "line"), this.#ended]);
  }

  /** Begins transactions from now on. */
  goOn(): void {
    this.#rests = false;
    this.#begin();
  }

  /** Resolves when some more have been acknowledged; throws where one fails. */
  async acknowledges(more: number): Promise<void> {
    const wanted = this.acknowledged + more;
    while (this.acknowledged < wanted) await this.#hears();
  }

  /** Begins no more; resolves when the last has been acknowledged. */
  async rest(): Promise<void> {
    this.#rests = true;
    while (this.acknowledged < this.begun) await this.#hears();
  }

  async end(): Promise<void> {
    await this.rest();
    this.#shell.stdin.end();
    await this.#ended.catch(() => undefined);
  }
}
