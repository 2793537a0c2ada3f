/**
 * npm run mutants [-- NAME...]: breaks the engine on purpose, one fault at a time, and demands that the simulator finds
 * each of them. A fault is an edit of one source file, made in a copy of the tree.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { WorldName } from "./worlds.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const COPIES = join(ROOT, "build/mutants");
const SEEDS = 4000;
const AT_ONCE = 2;
/** All that the worlds need. */
const FOLDERS = ["src/ublk", "src/nvram", "src/targets", "src/copy", "src/replication", "test/sim", "test/replication"];

interface Mutant {
  /** Whose seeds are to find it; those of the record unless given. */
  readonly world?: WorldName;
  readonly name: string;
  readonly file: string;
  /** Stands in the file exactly once. */
  readonly from: string;
  readonly to: string;
  /** The seed to begin with, where chance needs longer than usual; otherwise the first. */
  readonly firstSeed?: number;
}

const MUTANTS: readonly Mutant[] = [
  {
    world: "mirror",
    name: "transfers of two logs of a source count as one",
    file: "src/replication/transfer-index.ts",
    from: "if (this.find(id)?.log !== log) return last;",
    to: "if (this.find(id) === undefined) return last;",
  },
  {
    world: "mirror",
    name: "a receiver that is promoted leaves out what its log has behind the last point",
    file: "src/replication/receiver.ts",
    from: "      this.#makePoint(Infinity);\n",
    to: "",
  },
  {
    world: "mirror",
    name: "the receiver's log is told to be durable when it is written",
    file: "src/replication/receiver-log.ts",
    from: "address, length, RWF_DSYNC, this.#handler",
    to: "address, length, 0, this.#handler",
  },
  {
    world: "mirror",
    name: "what became durable with what came before it is not acknowledged",
    file: "src/replication/receiver.ts",
    from: "received !== this.#received || ",
    to: "",
  },
  {
    world: "mirror",
    name: "writes to one place are done again at once",
    file: "src/replication/log-replay.ts",
    from: "    if (this.#isUnderWay(from, end)) return false;\n",
    to: "",
  },
  {
    world: "mirror",
    name: "of a block that is written in part the rest is not what it was",
    file: "src/replication/log-replay.ts",
    from: "if (piece.data === undefined) request.buffer.fill(0, at, at + piece.sectors * SECTOR_BYTES);",
    to: "if (piece.data === undefined) request.buffer.fill(0);",
  },
  {
    world: "mirror",
    name: "a point is read before its writes have ended",
    file: "src/targets/mirror/mirror-target.ts",
    from: "    this.#whenDrained = () => {\n      done(cut);\n    };\n    this.#drained();",
    to: "    done(cut);",
  },
  {
    world: "mirror",
    name: "writes that overlap go on at once",
    file: "src/targets/mirror/mirror-target.ts",
    from: "    if (this.#active.overlaps(request)) return false;\n",
    to: "",
  },
  {
    world: "mirror",
    name: "what travels with a point is overwritten before it was read",
    file: "src/targets/mirror/mirror-target.ts",
    from: "    if (this.#isFrozen && this.#frozen.hasUnread(sector, sectors)) return false;\n",
    to: "",
  },
  {
    world: "mirror",
    name: "a point that was lost does not go into the next one",
    file: "src/targets/mirror/mirror-target.ts",
    from: "    if (!isCommitted) this.#building.absorb(this.#frozen);\n",
    to: "",
  },
  {
    world: "mirror",
    name: "a log is given up, and nothing is copied for it",
    file: "src/targets/mirror/mirror-target.ts",
    from: "    this.#parts.owed.copyAll();\n",
    to: "",
  },
  {
    world: "mirror",
    name: "a log is given up, and what was being copied is forgotten",
    file: "src/targets/mirror/owed-chunks.ts",
    from: "    for (const run of [...this.#taken]) this.giveBack(run);\n",
    to: "",
  },
  {
    world: "mirror",
    name: "a receiver whose log is full never says that it is at rest",
    file: "src/replication/receiver.ts",
    from: "isAtRest: this.#isAtRest,",
    to: "isAtRest: false,",
  },
  {
    world: "mirror",
    name: "a write goes on while the host is held back",
    file: "src/targets/mirror/mirror-target.ts",
    from: "    if (this.#isHeldBack) return false;\n",
    to: "",
  },
  {
    world: "mirror",
    name: "what was read for a point that is over counts for the next one",
    file: "src/replication/point-parts.ts",
    from: "      if (!this.#isOver) {",
    to: "      {",
  },
  {
    world: "mirror",
    name: "a first copy counts as done with its first part",
    file: "src/replication/receiver.ts",
    from: "const of = isClosed ? generation : (this.#lastEnd?.generation ?? NO_GENERATION);",
    to: "const of = generation;",
  },
  {
    world: "mirror",
    name: "the last closed point is not kept",
    file: "src/replication/receiver.ts",
    from: "    else image.keep(this.#lastClosed, then(apply));",
    to: "    else apply();",
  },
  {
    world: "mirror",
    name: "a point lets go of what the next one needs",
    file: "src/replication/receiver.ts",
    from: "index.firstAfter(begin.cut)?.place ?? log.head",
    to: "log.head",
  },
  {
    world: "mirror",
    name: "a closed point counts for the next one when it is committed, not when it has ended",
    file: "src/replication/receiver.ts",
    from: "this.#end({ ...what, next, log, lastClosed: this.#lastEnded, point, records });",
    to: "const lastClosed = this.#committed.reduce((last, each) => (each.isClosed ? each.point : last), this.#lastClosed);\n    this.#end({ ...what, next, log, lastClosed, point, records });",
  },
  {
    world: "mirror",
    name: "the image is compared while it is brought to a point",
    file: "src/replication/receiver.ts",
    from: "const isBehind = this.#ending > 0 || this.#committed.length > 0;",
    to: "const isBehind = false;",
  },
  {
    world: "mirror",
    name: "what goes with the point that is under way counts as there already",
    file: "src/targets/mirror/mirror-target.ts",
    from: "building.has(block) || (this.#isFrozen && this.#frozen.has(block))",
    to: "building.has(block)",
  },
  {
    world: "mirror",
    name: "of what is copied and differs, a run's last block is left out",
    file: "src/replication/point-parts.ts",
    from: "while (index + 1 < run.blocks && hasBit(differs, index + 1)) index++;\n      const data",
    to: "while (index + 1 < run.blocks && hasBit(differs, index + 1)) index++;\n      if (index > first) continue;\n      const data",
  },
  {
    world: "mirror",
    name: "what differs is told, and not copied",
    file: "src/replication/verification.ts",
    from: "    if (isRepairing) volume.lacks(sector, sectors);\n",
    to: "",
  },
  {
    world: "snapshots",
    name: "a torn catalogue is not cleared",
    file: "src/targets/cow/catalog-file.ts",
    from: "    this.#isTorn = isCatalogTorn;",
    to: "    this.#isTorn = isCatalogTorn && false;",
    firstSeed: 79_097,
  },
  {
    name: "data before record",
    file: "src/targets/record.ts",
    from: "if (this.#record.admits(this.#first(request), this.#last(request))) {",
    to: "if (this.#record.admits(this.#first(request), this.#first(request))) {",
  },
  {
    name: "data when the update begins, not when it ends",
    file: "src/nvram/record.ts",
    from: "this.#store.commit(this.#done);",
    to: "this.#store.commit(() => undefined); this.#done(0);",
  },
  {
    name: "failed update taken for a good one",
    file: "src/nvram/record.ts",
    from: "if (result === 0) this.places.settle(chunk);",
    to: "if (result <= 0) this.places.settle(chunk);",
  },
  {
    name: "removal of what is owed",
    file: "src/nvram/places.ts",
    from: "const BUSY = STATE.ADDING | STATE.OWED | STATE.COPYING | STATE.IN_FLIGHT;",
    to: "const BUSY = STATE.ADDING | STATE.COPYING | STATE.IN_FLIGHT;",
  },
  {
    name: "removal while it is copied",
    file: "src/nvram/places.ts",
    from: "const BUSY = STATE.ADDING | STATE.OWED | STATE.COPYING | STATE.IN_FLIGHT;",
    to: "const BUSY = STATE.ADDING | STATE.OWED | STATE.IN_FLIGHT;",
  },
  {
    name: "removal before the store was flushed",
    file: "src/nvram/eviction.ts",
    from: "if (places.isDurable(chunk)) this.#victims",
    to: "if (places.isDurable(chunk) || true) this.#victims",
  },
  {
    name: "flush counts for what was written while it ran",
    file: "src/targets/record.ts",
    from: "if (result === 0) this.#record.places.endFlush(this.#periods[request.slot] as number);",
    to: "if (result === 0) this.#record.places.endFlush(this.#record.places.beginFlush());",
  },
  {
    name: "a clean stop without a flush",
    file: "src/targets/record.ts",
    from: "    this.#startFlush();\n    this.#io.waitUntil",
    to: "    this.#record.places.endFlush(this.#record.places.beginFlush());\n    this.#io.waitUntil",
  },
  {
    name: "a clean stop relies on a flush that began before it",
    file: "src/targets/record.ts",
    from: "    this.#io.waitUntil(() => !this.#flushing);\n    this.#startFlush();",
    to: "    this.#startFlush();",
    firstSeed: 13_000,
  },
  {
    name: "failed flush counts",
    file: "src/targets/record.ts",
    from: "if (result === 0) this.#record.places.endFlush(",
    to: "if (result <= 0) this.#record.places.endFlush(",
  },
  {
    name: "a write during the copy is forgotten",
    file: "src/nvram/places.ts",
    from: "this.states[chunk] = (state & ~STATE.COPYING) | (copied ? 0 : STATE.OWED);",
    to: "this.states[chunk] = (state & ~STATE.COPYING & (copied ? ~STATE.OWED : ~0)) | (copied ? 0 : STATE.OWED);",
  },
  {
    name: "a failed copy counts",
    file: "src/nvram/places.ts",
    from: "(copied ? 0 : STATE.OWED)",
    to: "0",
  },
  {
    name: "copy begins while a write is in flight",
    file: "src/nvram/places.ts",
    from: "if ((state & (STATE.IN_FLIGHT | STATE.COPYING)) !== 0) return false;",
    to: "if ((state & STATE.COPYING) !== 0) return false;",
  },
  {
    name: "what was recorded before the crash is not owed",
    file: "src/nvram/places.ts",
    from: "this.states[chunk] = STATE.RECORDED | STATE.OWED;",
    to: "this.states[chunk] = STATE.RECORDED;",
  },
  {
    name: "what was recorded before the crash counts as flushed",
    file: "src/nvram/places.ts",
    from: "    this.#writtenIn[chunk] = this.#period;\n  }\n\n  /** Out of the record",
    to: "  }\n\n  /** Out of the record",
  },
  {
    name: "missing write-back of a line",
    file: "src/nvram/dax-persistence.ts",
    from: "index += length;",
    to: "index += length + 1;",
  },
  {
    name: "missing write-back and fence",
    file: "src/nvram/dax-persistence.ts",
    from: "this.#persist(first * LINE_BYTES, length * LINE_BYTES);",
    to: "void this.#persist;",
  },
  {
    name: "update of a file without durability",
    file: "src/nvram/file-persistence.ts",
    from: "address, length, RWF_DSYNC,",
    to: "address, length, 0 * RWF_DSYNC,",
  },
  {
    name: "update ends with its first page",
    file: "src/nvram/file-persistence.ts",
    from: "if (--this.#outstanding === 0) this.#done(this.#result);",
    to: "this.#outstanding--; this.#done(this.#result); this.#done = () => undefined;",
  },
  {
    name: "an error of a page is forgotten",
    file: "src/nvram/file-persistence.ts",
    from: "if (result !== length) this.#result =",
    to: "if (result !== length && result >= 0) this.#result =",
  },
  {
    name: "damaged line read as it is",
    file: "src/nvram/record-lines.ts",
    from: "const isWhole = this.isWhole(line);",
    to: "const isWhole = true;",
  },
  {
    name: "damaged line read as empty",
    file: "src/nvram/record-lines.ts",
    from: "if (!isWhole || (byte & (1 << (bit & 7))) !== 0) found(chunk);",
    to: "if (isWhole && (byte & (1 << (bit & 7))) !== 0) found(chunk);",
  },
  {
    name: "damaged line relied upon before it is repaired",
    file: "src/targets/open-record.ts",
    from: "if (damagedLines > 0) record.repair();",
    to: "",
    firstSeed: 50_000,
  },
  {
    name: "only the first chunk of a write",
    file: "src/targets/record.ts",
    from: "= (request.offset + request.length - 1) * this.#chunksPerByte;",
    to: "= request.offset * this.#chunksPerByte;",
  },
  {
    name: "discards and zeroes pass unrecorded",
    file: "src/targets/record.ts",
    from: "if (request.operation === Operation.READ) {",
    to: "if (request.operation !== Operation.WRITE && request.operation !== Operation.FLUSH) {",
  },
  {
    name: "acknowledgement before the flush",
    file: "src/targets/file.ts",
    from: "this.#ring.syncData(this.#file, this.#handler, slot);",
    to: "request.succeed();",
  },
  {
    name: "FUA forgotten",
    file: "src/targets/file.ts",
    from: "const flags = request.fua ? RWF_DSYNC : 0;\n        this.#ring.transfer(\n          OPCODE.WRITE,\n          this.#file,\n          offset + done,\n          request.address",
    to: "const flags = 0 * RWF_DSYNC;\n        this.#ring.transfer(\n          OPCODE.WRITE,\n          this.#file,\n          offset + done,\n          request.address",
  },
  {
    name: "short transfer taken for a whole one",
    file: "src/targets/file.ts",
    from: "if (done === request.length) request.succeed();",
    to: "if (done > 0) request.succeed();",
  },
  {
    name: "rest of a short transfer from the wrong place",
    file: "src/targets/file.ts",
    from: "request.address + done,\n          length - done,\n          flags,",
    to: "request.address,\n          length - done,\n          flags,",
  },
  {
    name: "header over the newest one",
    file: "src/nvram/nvram-file.ts",
    from: "SLOT_OFFSETS[header.sequence % 2]",
    to: "SLOT_OFFSETS[1]",
  },
  {
    name: "header before the region that it names",
    file: "src/nvram/nvram-file.ts",
    from: "  writeLines(storage, region, lines);\n  const regions",
    to: "  const regions",
  },
  {
    name: "what a volume gains is taken for equal",
    file: "src/nvram/nvram-file.ts",
    from: "for (let chunk = from.chunks; chunk < chunks; chunk++) lines.set(chunk, true);",
    to: "for (let chunk = from.chunks; chunk < chunks; chunk++) lines.set(chunk, false);",
  },
  {
    name: "what a killed process left in a cache counts as durable",
    file: "src/nvram/nvram-file.ts",
    from: "  storage.sync();\n  const header = readOwnHeader(storage, owner);\n  const current",
    to: "  const header = readOwnHeader(storage, owner);\n  const current",
  },
  {
    world: "snapshots",
    name: "an overwrite goes while its original is on its way",
    file: "src/targets/cow/cow-target.ts",
    from: "return !this.#map.isPending(version) && this.#map.epoch(version) >= this.#points.newestFor(block);",
    to: "return this.#map.epoch(version) >= this.#points.newestFor(block);",
  },
  {
    world: "snapshots",
    name: "originals and tables are written without durability",
    file: "src/targets/cow/original-store.ts",
    from: "address, length, RWF_DSYNC, this.#handler, length);",
    to: "address, length, RWF_DSYNC & 0, this.#handler, length);",
  },
  {
    world: "snapshots",
    name: "an append ends before its last write",
    file: "src/targets/cow/original-store.ts",
    from: "if (--this.#outstanding > 0) return;",
    to: "if (--this.#outstanding > 1) return;",
  },
  {
    world: "snapshots",
    name: "a table sector over the newest one",
    file: "src/targets/cow/original-store.ts",
    from: "this.#partialPlace = 1 - this.#partialPlace;",
    to: "this.#partialPlace = 0;",
  },
  {
    world: "snapshots",
    name: "a point is taken before what is under way has ended",
    file: "src/targets/cow/cow-target.ts",
    from: "    this.#draining = this.#inFlight;",
    to: "    this.#draining = 0;",
  },
  {
    world: "snapshots",
    name: "an epoch is given out twice",
    file: "src/targets/cow/recovery.ts",
    from: "Math.max(most, epoch), catalog.lastEpoch)",
    to: "Math.max(most, epoch * 0), catalog.lastEpoch)",
  },
  {
    world: "snapshots",
    name: "what is torn counts as whole",
    file: "src/targets/cow/recovery.ts",
    from: "return crc32(file.read(layout.slotOffset(slot), layout.geometry.blockBytes)) === checksum;",
    to: "return checksum === checksum;",
  },
  {
    world: "snapshots",
    name: "what is torn is not moved again",
    file: "src/targets/cow/cow-target.ts",
    from: "this.#torn = [...recovered.torn];",
    to: "this.#torn = [];",
  },
  {
    world: "snapshots",
    name: "what is torn is overwritten before it is moved again",
    file: "src/targets/cow/cow-target.ts",
    from: "for (const { block, source } of this.#torn) if (source === FROM_VOLUME) this.#map.begin(block);",
    to: "",
  },
  {
    world: "snapshots",
    name: "what is torn counts as settled before it is moved again",
    file: "src/targets/cow/original-store.ts",
    from: "if (!this.hasRepairs) this.#settled",
    to: "this.#settled",
  },
  {
    world: "snapshots",
    name: "what a killed process left in a cache counts as durable",
    file: "src/targets/cow/recovery.ts",
    from: "  file.sync();\n  const { catalog",
    to: "  const { catalog",
  },
  {
    world: "snapshots",
    name: "a read of a point does not look again",
    file: "src/targets/cow/point-reader.ts",
    from: "while (end < piece.offset + piece.runBytes && this.#version(end, job) === NONE) end",
    to: "while (end < piece.offset + piece.runBytes) end",
  },
  {
    world: "snapshots",
    name: "originals are given up before that is durable",
    file: "src/targets/cow/points.ts",
    from: "if (this.isKept(epoch)) this.#leaving.add(epoch);",
    to: "",
  },
  {
    world: "snapshots",
    name: "a point finds a version that is too new",
    file: "src/targets/cow/version-map.ts",
    from: "      found = version;\n      version = this.older(version);",
    to: "      if (found === NONE) found = version;\n      version = this.older(version);",
  },
  {
    world: "snapshots",
    name: "a segment is used again while it is wanted",
    file: "src/targets/cow/segments.ts",
    from: "State.SEALED && this.#wanted[segment] === 0)",
    to: "State.SEALED && this.#wanted[segment] <= 1)",
  },
  {
    world: "snapshots",
    name: "what was held for a torn block is forgotten",
    file: "src/targets/cow/cow-target.ts",
    from: "      this.#rescanUntil = this.#mover.taken;\n    }",
    to: "    }",
    firstSeed: 19_800,
  },
  {
    world: "snapshots",
    name: "the sweeper drops what is wanted",
    file: "src/targets/cow/points.ts",
    from: "(valid[low] as number) <= epoch; low++",
    to: "(valid[low] as number) < epoch; low++",
  },
  {
    world: "snapshots",
    name: "an original gets the epoch of the newest point",
    file: "src/targets/cow/mover.ts",
    from: "count, this.#parts.points.lastEpoch, this",
    to: "count, this.#parts.points.all.at(-1)?.epoch ?? 0, this",
  },
  {
    world: "snapshots",
    name: "the catalogue tells of a point that is being taken",
    file: "src/targets/cow/catalog-file.ts",
    from: "points: joined };",
    to: "points: this.#points.all };",
  },
  {
    world: "snapshots",
    name: "the catalogue over the newest one",
    file: "src/targets/cow/catalog-file.ts",
    from: "catalogOffset(sequence % 2)",
    to: "catalogOffset(0)",
  },
  {
    world: "snapshots",
    name: "a point is taken without a flush",
    file: "src/targets/cow/cow-target.ts",
    from: "this.#flushVolume((result) => this.#savePoint(point, result, done));",
    to: "this.#savePoint(point, 0, done);",
  },
  {
    world: "snapshots",
    name: "a held write is not looked at again when a point is taken",
    file: "src/targets/cow/cow-target.ts",
    from: "      this.#settledTo[slot] = Math.floor(offset * this.#blocksPerByte);\n    }",
    to: "    }",
  },
  {
    world: "snapshots",
    name: "a write goes on while the volume is held back",
    file: "src/targets/cow/cow-target.ts",
    from: "const isFree = !this.#isHeldBack && this.#isSettled(request);",
    to: "const isFree = this.#isSettled(request);",
  },
  {
    world: "snapshots",
    name: "a flush goes on while the volume is held back",
    file: "src/targets/cow/cow-target.ts",
    from: "if (this.#held.writes > 0 || this.#isHeldBack) this.#held.hold(request);",
    to: "if (this.#held.writes > 0) this.#held.hold(request);",
  },
  {
    world: "snapshots",
    name: "what waited is let go while the volume is held back",
    file: "src/targets/cow/cow-target.ts",
    from: "if (!this.#isHeldBack) this.#held.release(this.#isReady, this.#go);",
    to: "this.#held.release(this.#isReady, this.#go);",
  },
  {
    world: "snapshots",
    name: "what was held back is not let go",
    file: "src/targets/cow/cow-target.ts",
    from: "    this.#isHeldBack = false;\n    this.#release();",
    to: "    this.#isHeldBack = false;",
  },
  {
    world: "snapshots",
    name: "a rollback is not flushed",
    file: "src/targets/cow/rollback.ts",
    from: "      request.length = 0;\n      request.pass(this.#cow, this);",
    to: "      this.answered(request, 0);",
  },
  {
    world: "snapshots",
    name: "a rollback leaves out what was overwritten first",
    file: "src/targets/cow/rollback.ts",
    from: "this.#cow.diff(this.#point.epoch,",
    to: "this.#cow.diff(this.#point.epoch + 1,",
  },
  {
    world: "snapshots",
    name: "a rollback does not look whether there is room",
    file: "src/targets/cow/cow-target.ts",
    from: "return missing === 0 || this.#cleaner.canMake(missing);",
    to: "return true;",
  },
  {
    world: "snapshots",
    name: "the cleaner waits for a batch that does not come",
    file: "src/targets/cow/cleaner.ts",
    from: "there is no next batch.\n    this.#choose(isShort);",
    to: "there is no next batch.",
    firstSeed: 18_000,
  },
  {
    world: "snapshots",
    name: "discards are no overwrites",
    file: "src/targets/cow/cow-target.ts",
    from: "if (request.operation === Operation.READ) {",
    to: "if (request.operation === Operation.READ || request.operation === Operation.DISCARD) {",
  },
  {
    world: "snapshots",
    name: "only the first block of a write",
    file: "src/targets/cow/cow-target.ts",
    from: "(request.offset + request.length - 1) * this.#blocksPerByte",
    to: "request.offset * this.#blocksPerByte",
  },
  {
    world: "snapshots",
    name: "a loss is not noted",
    file: "src/targets/cow/cow-target.ts",
    from: "if (result !== 0) lossNote.write();",
    to: "if (result !== 0) lossNote.clear();",
  },
  {
    world: "snapshots",
    name: "a lost original reads as zeroes",
    file: "src/targets/cow/point-reader.ts",
    from: "(map.flags(version) & ENTRY_FLAG.LOST) !== 0",
    to: "(map.flags(version) & ENTRY_FLAG.LOST) > 1",
  },
  {
    world: "snapshots",
    name: "the older of two copies counts",
    file: "src/targets/cow/recovery.ts",
    from: "one.sequence - other.sequence",
    to: "other.sequence - one.sequence",
  },
  {
    world: "snapshots",
    name: "a copy passes what is only written",
    file: "src/copy/copy-job.ts",
    from: "      this.#written.push(segment);\n",
    to: "      this.#written.push(segment);\n      this.#pass(segment);\n",
  },
  {
    world: "snapshots",
    name: "a copy relies on what is not durable",
    file: "src/copy/copy-job.ts",
    from: "      this.#sync(this.#written, 0);",
    to: "      this.#save(this.#written);",
  },
  {
    world: "snapshots",
    name: "a failed barrier of a copy counts",
    file: "src/copy/copy-job.ts",
    from: "      if (error === undefined) this.#sync(written, at + 1);",
    to: "      if (error === undefined || at === 0) this.#sync(written, at + 1);",
  },
  {
    world: "snapshots",
    name: "a copy passes more than it has copied",
    file: "src/copy/copy-job.ts",
    from: "    this.#parts.source.pass(this.#rangesOf(segment));",
    to: "    this.#parts.source.pass(this.#rangesOf(segment.map((run) => ({ first: run.first, end: run.end + 1 }))));",
  },
  {
    world: "snapshots",
    name: "what one copy has passed nobody wants",
    file: "src/targets/cow/points.ts",
    from: "      if (this.#markOf[index] === Infinity && this.#needs(index, block)) return this.#valid[index] as number;",
    to: "      return this.#needs(index, block) ? (this.#valid[index] as number) : 0;",
  },
  {
    world: "snapshots",
    name: "a version is wanted by the oldest of its points alone",
    file: "src/targets/cow/points.ts",
    from: "      if (epoch < (this.#markOf[low] as number) && this.#needs(low, block)) return true;",
    to: "      return epoch < (this.#markOf[low] as number) && this.#needs(low, block);",
  },
  {
    world: "snapshots",
    name: "a difference leaves out the newest of what changed",
    file: "src/targets/cow/differ.ts",
    from: "epoch >= to) continue;",
    to: "epoch >= to - 1) continue;",
  },
  {
    world: "snapshots",
    name: "a difference leaves out blocks that have older versions",
    file: "src/targets/cow/differ.ts",
    from: "if (older === NONE || map.epoch(older) < from) found",
    to: "if (older === NONE) found",
  },
  {
    world: "bulk",
    name: "a mark counts before it is durable",
    file: "src/targets/cow/cow-target.ts",
    from: "    const mark = this.#points.mark(epoch);",
    to: "    const mark = this.#points.mark(epoch);\n    this.#points.endMarking(epoch, mark);",
  },
  {
    world: "bulk",
    name: "the catalogue does not tell of a mark",
    file: "src/targets/cow/catalog.ts",
    from: "view.setUint32(at + MARK_AT, point.mark, true);",
    to: "",
  },
  {
    world: "bulk",
    name: "a mark gets the last epoch, not one of its own",
    file: "src/targets/cow/points.ts",
    from: "    const mark = ++this.#lastEpoch;",
    to: "    const mark = this.#lastEpoch;",
  },
  {
    world: "bulk",
    name: "what was moved before a mark is given up",
    file: "src/targets/cow/points.ts",
    from: "epoch < (this.#markOf[low] as number) && this.#needs(low, block)",
    to: "(this.#markOf[low] as number) === Infinity && this.#needs(low, block)",
  },
  {
    world: "bulk",
    name: "what was moved after a mark is taken for an original",
    file: "src/targets/cow/differ.ts",
    from: "epoch < from || epoch >= to) continue;",
    to: "epoch < from) continue;",
  },
  {
    world: "bulk",
    name: "a copy of parts keeps originals of everything",
    file: "src/targets/cow/cow-target.ts",
    from: "for (const { first, end } of passed) this.#points.pass(point.epoch, first, end);",
    to: "",
  },
  {
    world: "bulk",
    name: "a copy of parts passes the first block of a part",
    file: "src/targets/cow/cow-target.ts",
    from: "for (const { first, end } of passed) this.#points.pass(point.epoch, first, end);",
    to: "for (const { first, end } of passed) this.#points.pass(point.epoch, first, end + 1);",
  },
];

/** What the simulator said of a mutant; undefined when it found nothing. */
async function hunt(mutant: Mutant): Promise<string | undefined> {
  const copy = join(COPIES, `${mutant.world ?? "record"}-${mutant.name.replaceAll(/[^a-z]+/g, "-")}`);
  await rm(copy, { recursive: true, force: true });
  await mkdir(copy, { recursive: true });
  for (const folder of FOLDERS)
    await cp(join(ROOT, folder), join(copy, folder), {
      recursive: true,
      filter: (path) => !/native\/|node_modules|dist/.test(path),
    });
  await cp(join(ROOT, "package.json"), join(copy, "package.json"));
  const path = join(copy, mutant.file);
  const text = await readFile(path, "utf8");
  if (text.split(mutant.from).length !== 2)
    throw new Error(`${mutant.name}: "${mutant.from}" does not stand once in ${mutant.file}`);
  await writeFile(path, text.replace(mutant.from, mutant.to));
  const world = mutant.world ?? "record";
  const range = ["--world", world, "--seeds", String(SEEDS), "--from", String(mutant.firstSeed ?? 1)];
  const child = spawn(process.execPath, [join(copy, "test/sim/soak.ts"), ...range], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (part: string) => (output += part));
  const [status] = (await once(child, "close")) as [number | null];
  await rm(copy, { recursive: true });
  return status === 0
    ? undefined
    : (/^seed \d+ failed: .*$/m.exec(output)?.[0] ?? `ended with ${String(status)} and no finding`);
}

const names = process.argv.slice(2);
const queue = MUTANTS.filter(({ name }) => names.length === 0 || names.includes(name));
const survivors: string[] = [];
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (let mutant = queue.shift(); mutant !== undefined; mutant = queue.shift()) {
      const finding = await hunt(mutant);
      if (finding === undefined || !finding.startsWith("seed")) survivors.push(mutant.name);
      process.stdout.write(
        `${finding === undefined ? "SURVIVED" : "found"}  ${mutant.name}: ${finding ?? `${SEEDS} seeds passed`}\n`,
      );
    }
  }),
);
if (survivors.length > 0) {
  process.stdout.write(`${survivors.length} survived: ${survivors.join("; ")}\n`);
  process.exitCode = 1;
}
